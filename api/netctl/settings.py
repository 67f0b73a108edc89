"""netctl global, version, endpoint: what there is one of, and looking things up."""

from typing import Any

import click

from netfabric.api.netctl import output
from netfabric.api.netctl.client import Netmaster
from netfabric.api.netctl.kind import Words, filled, form_options, tenant_option
from netfabric.fabric.errors import FabricError

LINES = (
    ("Fabric mode: ", "networkInfraType"),
    ("Forward mode: ", "fwdMode"),
    ("ARP mode: ", "arpMode"),
    ("Vlan Range: ", "vlans"),
    ("Vxlan range: ", "vxlans"),
    ("Private subnet: ", "pvtSubnet"),
)
ENDPOINTS: list[output.Column] = [
    ("Tenant", "tenant"),
    ("Network", "network"),
    ("Group", "group"),
    ("Host", "host"),
    ("Container", lambda item: item.get("name") or item.get("container")),
    ("Interface", "interface"),
    ("Addresses", lambda item: " ".join(item.get("addresses", []))),
]

ASKED = ("ipAddress", "ipv6Address", "macAddress")
PORTS: list[output.Column] = [
    ("Host", "hostname"),
    ("Link", "linkName"),
    ("Tenant", "tenantName"),
    ("Network", "networkName"),
    ("Group", "groupName"),
    ("Asked for", lambda item: " ".join(filter(None, map(item.get, ASKED)))),
]


@click.group("global", cls=Words)
def global_() -> None:
    """Settings of the whole fabric."""


@click.group(cls=Words)
def endpoint() -> None:
    """Attached containers, and links of hosts that are endpoints: taps of virtual machines, bare-metal ports."""


@global_.command("info")
@form_options
@click.pass_obj
def global_info(netmaster: Netmaster, form: str) -> None:
    """Show the settings."""
    found = netmaster.items("globals")
    if form != "table":
        output.dump(found, form)
        return
    for item in found:
        for label, field in LINES:
            click.echo(label + str(item.get(field, "")))


@global_.command("inspect")
@form_options
@click.pass_obj
def global_inspect(netmaster: Netmaster, form: str) -> None:
    """Show the settings with their state."""
    output.dump(netmaster.inspect("globals", "global"), form)


@global_.command("set")
@click.option("--fabric-mode", "-f", default="", help="default, aci or aci-opflex.")
@click.option("--vlan-range", "-v", default="", help="Such as 1-4094.")
@click.option("--vxlan-range", "-x", default="", help="Such as 1-10000.")
@click.option("--fwd-mode", "-b", default="", help="bridge or routing.")
@click.option("--arp-mode", "-a", default="", help="proxy or flood.")
@click.option("--private-subnet", "-s", default="", help="Such as 172.19.0.0/16.")
@click.pass_obj
def global_set(netmaster: Netmaster, /, **given: Any) -> None:
    """Change what is given, and nothing else."""
    body = filled(
        networkInfraType=given["fabric_mode"],
        vlans=given["vlan_range"],
        vxlans=given["vxlan_range"],
        fwdMode=given["fwd_mode"],
        arpMode=given["arp_mode"],
        pvtSubnet=given["private_subnet"],
    )
    if body:
        netmaster.patch("globals", "global", body)


@endpoint.command("inspect")
@click.argument("name")
@form_options
@click.pass_obj
def endpoint_inspect(netmaster: Netmaster, name: str, form: str) -> None:
    """Show the endpoint whose id, container or name contains NAME."""
    output.dump(netmaster.inspect("endpoints", name), form)


@endpoint.command("ls")
@click.option("--host", "hostname", default="", help="Only of this host.")
@click.option("--quiet", "-q", is_flag=True, help="Container ids only.")
@form_options
@click.pass_obj
def endpoint_ls(netmaster: Netmaster, hostname: str, quiet: bool, form: str) -> None:
    """List attached containers."""
    items = netmaster.items("endpoints", host=hostname)
    output.show(items, ENDPOINTS, form, "container", quiet)


@endpoint.command("add")
@click.option("--host", "hostname", required=True, help="The host that has the link.")
@click.option(
    "--link", required=True, help="An existing tap, macvtap, veth or physical port of it."
)
@click.option("--network", required=True, help="Network.")
@tenant_option
@click.option("--group", default="", help="Endpoint group of that network.")
@click.option("--ip", default="", help="IPv4 address; one is chosen where none is given.")
@click.option("--ip6", default="", help="IPv6 address, likewise.")
@click.option("--mac", default="", help="What answers there; else it is asked for by ARP and ND.")
@click.option("--name", default="", help="For people.  [default: the link's]")
@click.pass_obj
def endpoint_add(netmaster: Netmaster, /, hostname: str, link: str, **given: str) -> None:
    """Make a link of a host an endpoint, or change it. It is attached when the host has it."""
    body = filled(
        hostname=hostname,
        linkName=link,
        tenantName=given["tenant"],
        networkName=given["network"],
        groupName=given["group"],
        ipAddress=given["ip"],
        ipv6Address=given["ip6"],
        macAddress=given["mac"].lower(),
        portName=given["name"],
    )
    netmaster.put("ports", f"{hostname}:{link}", body)


@endpoint.command("rm")
@click.option("--host", "hostname", required=True, help="The host that has the link.")
@click.option("--link", required=True, help="The link. It stays, and is no endpoint any more.")
@click.pass_obj
def endpoint_rm(netmaster: Netmaster, hostname: str, link: str) -> None:
    """End what `endpoint add` made."""
    netmaster.delete("ports", f"{hostname}:{link}")


@endpoint.command("ports")
@click.option("--quiet", "-q", is_flag=True, help="Keys only.")
@form_options
@click.pass_obj
def endpoint_ports(netmaster: Netmaster, quiet: bool, form: str) -> None:
    """List what `endpoint add` made, whether or not its link is there."""
    output.show(netmaster.items("ports"), PORTS, form, "key", quiet)


@click.command("version")
@click.pass_obj
def version(netmaster: Netmaster) -> None:
    """Show netctl's version and netmaster's."""
    from netfabric.api.version import version_info

    _block("Client", version_info())
    try:
        _block("Server", netmaster.get("/version"))
    except FabricError:
        click.echo("Unable to fetch version information")
        raise


def _block(title: str, found: Any) -> None:
    click.echo(f"{title} Version:")
    for name in ("Version", "GitCommit", "BuildTime"):
        click.echo(f"{name}: {found.get(name, '')}")
