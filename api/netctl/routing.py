"""netctl bgp, peer, route, host: the routed fabric."""

import time
from ipaddress import IPv4Address, IPv4Interface, ip_address
from typing import Any

import click

from netfabric.api.netctl import output
from netfabric.api.netctl.client import Netmaster, RefusedError
from netfabric.api.netctl.kind import Kind, Words, filled, form_options
from netfabric.fabric.errors import InvalidError, NotFoundError

BGP = Kind(
    "bgps",
    "hostname",
    [
        ("HostName", "hostname"),
        ("RouterIP", "routerip"),
        ("AS", "as"),
        ("Neighbor", "neighbor"),
        ("NeighborAS", "neighbor-as"),
    ],
    lambda _, name: f"Deleting Bgp router config: {name}",
    in_tenant=False,
)
PEER = Kind(
    "peers",
    "key",
    [
        ("Host", "hostname"),
        ("Peer", "peerName"),
        ("Address", "address"),
        ("AS", "as"),
        ("Hold", lambda item: item.get("holdTime", 9)),
        ("MD5", lambda item: "yes" if item.get("passwordSet") else ""),
    ],
    lambda _, name: f"Deleting peer {name}",
    in_tenant=False,
)
SESSIONS: list[output.Column] = [
    ("Host", "host"),
    ("Peer", "peer"),
    ("Address", "address"),
    ("AS", "asn"),
    ("State", "state"),
    ("For", lambda item: ago(item.get("since", 0.0))),
    ("Received", "received"),
    ("Advertised", "advertised"),
    ("Reason", "reason"),
]
ROUTES: list[output.Column] = [
    ("Prefix", "prefix"),
    ("Host", "host"),
    ("Origin", "origin"),
    ("Next hops", lambda item: " ".join(item.get("nextHops", []))),
    ("AS path", lambda item: " ".join(map(str, item.get("asPath", [])))),
    ("Tenant", "tenant"),
]
HOSTS: list[output.Column] = [
    ("Host", "name"),
    ("Address", "address"),
    ("State", "state"),
    ("Endpoints", "endpoints"),
    ("Blocks", lambda item: len(item.get("blocks", []))),
    ("Sessions", lambda item: sessions_up(item)),
    ("Version", "software"),
]


def ago(since: float) -> str:
    """Return how long something has lasted, as `3d4h`, `5m10s` or `7s`."""
    seconds = max(0, int(time.time() - since)) if since else 0
    for unit, size, lower, lower_size in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "m", 60),
        ("m", 60, "s", 1),
    ):
        if seconds >= size:
            return f"{seconds // size}{unit}{seconds % size // lower_size}{lower}"
    return f"{seconds}s"


def sessions_up(host: output.Item) -> str:
    """Return `established/all` of a host's BGP sessions."""
    states = [session.get("state") for session in host.get("sessions", [])]
    return f"{states.count('established')}/{len(states)}"


@click.group(cls=Words)
def bgp() -> None:
    """A host's own BGP speaker, and the state of its sessions."""


@click.group(cls=Words)
def peer() -> None:
    """BGP peers of hosts: the switches."""


@click.group(cls=Words)
def route() -> None:
    """Routes of the fabric: endpoints and what the switches announced."""


@click.group(cls=Words)
def host() -> None:
    """Hosts that run the agent."""


BGP.add_to(bgp)
PEER.add_to(peer)


@bgp.command("create")
@click.argument("hostname", metavar="HOST")
@click.option(
    "--router-ip", default="", help="The host's address towards its switches, a.b.c.d/len."
)
@click.option("--as", "asn", default="", help="The host's AS.")
@click.option("--neighbor-as", default="", help="The switch's AS.")
@click.option("--neighbor", default="", help="The switch's IPv4 address.")
@click.pass_obj
def bgp_create(
    netmaster: Netmaster, hostname: str, router_ip: str, asn: str, neighbor_as: str, neighbor: str
) -> None:
    """Give a host its AS, its router address, and optionally a first neighbour.

    More neighbours, and IPv6 ones, are added by `netctl peer create`.
    """
    if not router_ip or not asn or bool(neighbor) != bool(neighbor_as):
        raise InvalidError(
            "Missing attributes",
            "give --router-ip and --as, and --neighbor together with --neighbor-as",
        )
    _check(IPv4Interface, router_ip, "Wrong CIDR format. Enter in x.x.x.x/len format", "/")
    if neighbor:
        _check(IPv4Address, neighbor, "Wrong IP format. Enter in x.x.x.x format")
    body = filled(hostname=hostname, routerip=router_ip, neighbor=neighbor) | {"as": asn}
    if neighbor_as:
        body["neighbor-as"] = neighbor_as
    netmaster.put("bgps", hostname, body)


def _check(form: type[Any], text: str, complaint: str, needs: str = "") -> None:
    try:
        if needs not in text:
            raise ValueError(text)
        form(text)
    except ValueError:
        raise InvalidError(complaint) from None


@bgp.command("status")
@click.argument("hostname", metavar="[HOST]", default="")
@form_options
@click.pass_obj
def bgp_status(netmaster: Netmaster, hostname: str, form: str) -> None:
    """Show every BGP session, with the reason and remedy where one is down."""
    output.show(netmaster.items("sessions", host=hostname), SESSIONS, form)


@peer.command("create")
@click.argument("hostname", metavar="HOST")
@click.argument("name")
@click.option("--address", required=True, help="The switch's address, IPv4 or IPv6.")
@click.option("--as", "asn", required=True, help="The switch's AS.")
@click.option("--local-address", default="", help="Ours; found by itself where not given.")
@click.option(
    "--family", "families", multiple=True, type=click.Choice(["4", "6"]), help="May be repeated."
)
@click.option("--password", default="", envvar="NETCTL_PEER_PASSWORD", help="TCP MD5 (RFC 2385).")
@click.option("--hold-time", type=int, default=0, help="Seconds.  [default: 9]")
@click.option("--multihop", type=int, default=0, help="TTL of what we send.  [default: 1]")
@click.option("--ttl-security", is_flag=True, help="GTSM (RFC 5082).")
@click.option(
    "--graceful-restart", type=int, default=None, help="Seconds; 0 is off.  [default: 120]"
)
@click.option("--community", "communities", multiple=True, help="65000:1; may be repeated.")
@click.option("--large-community", "large", multiple=True, help="65000:1:2; may be repeated.")
@click.option("--med", type=int, default=None, help="MULTI_EXIT_DISC of our routes.")
@click.option(
    "--prepend", type=int, default=0, help="How many more times our AS stands in the path."
)
@click.option(
    "--local-preference", type=int, default=0, help="Of what this peer says. [default: 100]"
)
@click.option("--import-prefix", "exact", multiple=True, help="Taken if exactly this.")
@click.option(
    "--import-within", "within", multiple=True, help="prefix/len-LONGEST; taken if inside."
)
@click.option("--max-prefixes", type=int, default=0, help="More end the session.  [default: 10000]")
@click.pass_obj
def peer_create(netmaster: Netmaster, /, hostname: str, name: str, **given: Any) -> None:
    """Add a BGP peer to a host, or change it."""
    body = filled(
        hostname=hostname,
        peerName=name,
        address=given["address"],
        localAddress=given["local_address"],
        families=[int(family) for family in given["families"]],
        password=given["password"],
        holdTime=given["hold_time"],
        multihop=given["multihop"],
        ttlSecurity=given["ttl_security"] or None,
        communities=list(given["communities"]),
        largeCommunities=list(given["large"]),
        prepend=given["prepend"],
        localPreference=given["local_preference"],
        importPrefixes=list(given["exact"]),
        importWithin=list(given["within"]),
        maxPrefixes=given["max_prefixes"],
    )
    body["as"] = given["asn"]
    for option, field in (("graceful_restart", "gracefulRestart"), ("med", "med")):
        if given[option] is not None:
            body[field] = given[option]
    netmaster.put("peers", f"{hostname}:{name}", body)


@route.command("ls")
@click.option("--host", "hostname", default="", help="Only of this host.")
@click.option("--prefix", default="", help="Only inside this prefix.")
@click.option("--tenant", "-t", default="", help="Only of this tenant.")
@click.option("--origin", type=click.Choice(["bgp", "endpoint"]), default=None, help="Only these.")
@form_options
@click.pass_obj
def route_ls(
    netmaster: Netmaster,
    hostname: str,
    prefix: str,
    tenant: str,
    origin: str | None,
    form: str,
) -> None:
    """List routes."""
    asked = {"host": hostname, "prefix": prefix, "tenant": tenant, "origin": origin or ""}
    output.show(netmaster.items("routes", **asked), ROUTES, form)


@route.command("get")
@click.argument("address")
@click.option("--host", "hostname", default="", help="As seen from this host.")
@form_options
@click.pass_obj
def route_get(netmaster: Netmaster, address: str, hostname: str, form: str) -> None:
    """Show the routes that decide for an address: the longest match."""
    _check(ip_address, address, f"Not an address: {address}")  # type: ignore[arg-type]
    found = netmaster.items("routes", covers=address, host=hostname)
    if not found:
        raise NotFoundError(
            f"no route to {address}", "netctl bgp status shows which sessions are up"
        )
    output.show(found, ROUTES, form)


@host.command("ls")
@click.option("--quiet", "-q", is_flag=True, help="Names only.")
@form_options
@click.pass_obj
def host_ls(netmaster: Netmaster, quiet: bool, form: str) -> None:
    """List hosts, with their sessions, blocks and endpoints."""
    output.show(netmaster.items("hosts"), HOSTS, form, "name", quiet)


@host.command("inspect")
@click.argument("name")
@form_options
@click.pass_obj
def host_inspect(netmaster: Netmaster, name: str, form: str) -> None:
    """Show a host: what its kernel can do, its blocks, its sessions."""
    for item in netmaster.items("hosts"):
        if item.get("name") == name:
            output.dump(item, form)
            return
    raise RefusedError(404, f"host {name}: unknown", "netctl host ls lists the hosts")


@host.command("rm")
@click.argument("name")
@click.option("--force", is_flag=True, help="Also while its agent is connected: its session ends.")
@click.option("--with-intent", is_flag=True, help="Its Bgp and its peers, too.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@form_options
@click.pass_obj
def host_rm(
    netmaster: Netmaster, name: str, force: bool, with_intent: bool, dry_run: bool, form: str
) -> None:
    """Remove a host that is gone for good: its endpoints, blocks and loans.

    Its addresses may be given to others from then on, so its containers have to be gone. Refused while its agent
    is connected. Its Bgp and peers stay, for a machine that takes its place, unless --with-intent is given.
    """
    said = netmaster.remove_host(name, force=force, withIntent=with_intent, dryRun=dry_run)
    if form != "table":
        output.dump(said, form)
        return
    for line in removal_lines(said):
        click.echo(line)


def removal_lines(said: output.Item) -> list[str]:
    """Return what became of a host's removal, in words."""
    done = "would be removed" if said["dryRun"] else "removed"
    held = ", ".join(f"{what}: {said[what]}" for what in ("endpoints", "blocks", "loans"))
    lines = [f"host {said['key']}: {done} ({held})"]
    lines += [f"{done}: {name}" for name in said["objects"]]
    lines += [
        f"kept: block {block['prefix']} of {block['network']}: {block['reason']};"
        " run this again when that has ended"
        for block in said["kept"]
    ]
    if said["objectsKept"]:
        lines.append(f"kept: {', '.join(said['objectsKept'])} (--with-intent removes them)")
    return lines
