"""An existing link as an endpoint (a tap, a macvtap, a physical port): what is put on it, and taken from it again.

The link stays what it is: name, MAC, MTU and state are its owner's. Our mark is the group, and what hangs on it is
gone with `release`. Proxy ARP is for machines that take the whole subnet for a link of theirs.
"""

from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from netfabric.agent.datapath import address, host_end, link, neighbour, route, sysctl
from netfabric.agent.datapath.address import LinkAddress
from netfabric.agent.datapath.host_end import GATEWAYS, Parts
from netfabric.agent.datapath.link import Link
from netfabric.agent.datapath.message import Message
from netfabric.agent.datapath.netlink import Netlink
from netfabric.fabric.endpoint import PORT_GATEWAYS_LABEL, Endpoint
from netfabric.fabric.errors import ConflictError, KernelError
from netfabric.fabric.kernel import EndpointLink
from netfabric.fabric.prefix import Address, family_of, host_prefix


def attach(netlink: Netlink, found: Link | None, endpoint: Endpoint) -> None:
    """Make a link the endpoint's, or mend what is missing; raise KernelError or ConflictError."""
    what = f"endpoint {endpoint.key}: link {endpoint.link}"
    if found is None:
        raise KernelError(f"{what} is not there", "it is attached when it appears")
    if not found.port:
        _refuse_others(netlink, found, endpoint, what)
    parts = host_end.read(netlink, found.index, sysctl.has_ipv6())
    refused = netlink.send(
        [
            link.change(found.index, link.grouped(link.GROUP), link.proxying(True)),
            *_removals(found, parts, endpoint),
            *(address.put_gateway(found.index, one) for one in gateways(endpoint)),
            *_own(found, parts, endpoint),
        ]
    )
    if refused:
        if not found.port:
            release(netlink, found, endpoint)
        raise min(refused.items())[1].error(what)


def _refuse_others(netlink: Netlink, found: Link, endpoint: Endpoint, what: str) -> None:
    """A link that is the host's own, or somebody else's, is no port."""
    if found.group or found.master:
        raise ConflictError(
            f"{what} belongs to a bridge or to a group", "take it out: ip link set LINK nomaster"
        )
    there = list(map(address.parse, netlink.dump(address.get_all(found.index))))
    ours = gateways(endpoint)
    if own := [one.address for one in there if not _bearable(one, ours)]:
        raise ConflictError(
            f"{what} has the host's address {own[0]}",
            "the addresses of a port are on its other end; uplinks are no ports",
        )


def _bearable(found: LinkAddress, ours: Sequence[Address]) -> bool:
    """Return whether an address may be on a link that becomes a port: ours is as we make it."""
    if found.address in ours:
        return found.only_answers and found.alone
    return found.address.is_link_local


def _removals(found: Link, parts: Parts, endpoint: Endpoint) -> Iterator[Message]:
    for one in parts.routes:
        if (
            not host_end.proper(one, endpoint.table)
            or one.prefix.network_address not in endpoint.addresses
        ):
            yield route.not_to_endpoint(one)
    for other in parts.neighbours:
        kept = other.address in endpoint.addresses and endpoint.mac
        if other.address in parts.routed(endpoint.table) and not kept:
            yield neighbour.remove(found.index, other.address)


def _own(found: Link, parts: Parts, endpoint: Endpoint) -> Iterator[Message]:
    routed = parts.routed(endpoint.table)
    for one in endpoint.addresses:
        if endpoint.mac:
            yield neighbour.put(found.index, one, endpoint.mac)
        if one not in routed:
            yield route.to_endpoint(host_prefix(one), found.index, endpoint.table)


def gateways(endpoint: Endpoint) -> list[Address]:
    """Return what the host answers for on the link: our gateways, and the network's own."""
    named = dict(endpoint.labels).get(PORT_GATEWAYS_LABEL, "")
    fabric = [GATEWAYS[family_of(own) == 6] for own in endpoint.addresses]
    return fabric + [ip_address(one) for one in named.split()]


def release(netlink: Netlink, found: Link, endpoint: Endpoint | None) -> None:
    """Take everything of ours from a link, the mark last; raise KernelError.

    `endpoint`: whose it was, None where nobody knows any more.
    """
    parts = host_end.read(netlink, found.index, sysctl.has_ipv6())
    beside = [one.address for one in parts.neighbours if one.address in parts.routed(parts.table())]
    there = map(address.parse, netlink.dump(address.get_all(found.index)))
    marked = [one.address for one in there if one.only_answers and one.alone]
    ours = gateways(endpoint) if endpoint is not None else marked
    requests = [
        *host_end.farewell(parts.routes),
        *(neighbour.remove(found.index, one) for one in beside),
        *(address.remove(found.index, one) for one in marked if one in ours),
        link.change(found.index, link.grouped(0), link.proxying(False)),
    ]
    refused = netlink.send(requests)
    if len(requests) - 1 in refused and isinstance(netlink.ask(link.get_index(found.index)), bytes):
        raise refused[len(requests) - 1].error(f"link {found.name}: cannot be released")


def observed(found: Link, parts: Parts) -> EndpointLink:
    """Return what of an endpoint is really on a link."""
    table = parts.table()
    routed = parts.routed(table)
    known = {n.address: n.mac for n in parts.neighbours}
    macs = {known.get(one, "") for one in routed}
    return EndpointLink(
        name=found.name,
        mac=macs.pop() if len(macs) == 1 else "",
        addresses=tuple(sorted(routed, key=lambda one: (one.version, int(one)))),
        mtu=0,
        table=table,
    )


def problems(netlink: Netlink, found: Link, endpoint: Endpoint) -> Sequence[str]:
    """Return what is wrong with a link that should be the endpoint's, in words."""
    parts = host_end.read(netlink, found.index, sysctl.has_ipv6())
    there = {a.address for a in map(address.parse, netlink.dump(address.get_all(found.index)))}
    now = observed(found, parts)
    wrong = [
        (not found.up, f"link {found.name} is down"),
        (now.addresses != endpoint.addresses, f"link {found.name} has not the endpoint's routes"),
        (now.mac != endpoint.mac, f"link {found.name} has not the endpoint's neighbours"),
        *(
            (one not in there, f"link {found.name} does not answer for {one}")
            for one in gateways(endpoint)
        ),
    ]
    return [words for is_wrong, words in wrong if is_wrong]
