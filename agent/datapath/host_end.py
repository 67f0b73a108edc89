"""The host's end of an endpoint: its link, permanent neighbours and host routes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from errno import EACCES, EEXIST
from ipaddress import IPv4Address, IPv6Address

from netfabric.agent.datapath import link, neighbour, route, sysctl
from netfabric.agent.datapath.link import Link
from netfabric.agent.datapath.message import Message
from netfabric.agent.datapath.neighbour import Neighbour
from netfabric.agent.datapath.netlink import Netlink, Refusal
from netfabric.agent.datapath.route import Route
from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.errors import ConflictError, FabricError
from netfabric.fabric.kernel import MAIN_TABLE, EndpointLink
from netfabric.fabric.prefix import Address, Prefix, host_prefix
from netfabric.fabric.profile import Bandwidth

MAC = "02:4e:46:00:00:01"
"""Of every host end: the gateway's address in every container, so that none has to be looked up."""
GATEWAYS: tuple[Address, Address] = (IPv4Address("169.254.1.1"), IPv6Address("fe80::1"))


@dataclass(frozen=True, slots=True)
class Parts:
    """What of ours hangs on one link."""

    routes: Sequence[Route] = ()
    neighbours: Sequence[Neighbour] = ()

    def routed(self, table: int) -> set[Address]:
        """Return the addresses that have exactly the route of an endpoint, in that table."""
        return {r.prefix.network_address for r in self.routes if proper(r, table)}

    def table(self) -> int:
        """Return the table in which all its routes are, main's number if they are in several."""
        tables = {r.table for r in self.routes}
        return tables.pop() if len(tables) == 1 else MAIN_TABLE


def beside(found: Route) -> bool:
    """Return whether a route on an endpoint's link is another table's way to it: not the endpoint's own."""
    return found.table != MAIN_TABLE and found.metric != route.endpoint_metric(found.prefix)


def proper(found: Route, table: int) -> bool:
    """Return whether a route is as `route.to_endpoint` makes it."""
    return (
        found.prefix.prefixlen == found.prefix.max_prefixlen
        and found.table == table
        and found.kind == route.UNICAST
        and found.metric == route.endpoint_metric(found.prefix)
        and found.gateway is None
        and not found.nexthop
    )


def wants_ipv6(endpoint: Endpoint) -> bool:
    """Return whether its link has IPv6: the kernel gives none to a link with a smaller MTU."""
    return endpoint.mtu >= link.IPV6_MINIMUM_MTU and sysctl.has_ipv6()


def read(netlink: Netlink, index: int, ipv6: bool) -> Parts:
    """Return what of ours hangs on a link."""
    bodies = netlink.dump(route.get_ours(4, index))
    if ipv6:
        bodies += netlink.dump(route.get_ours(6, index))
    neighbours = map(neighbour.parse, netlink.dump(neighbour.get_all(index)))
    routes = [r for r in map(route.parse, bodies) if r and not beside(r)]
    return Parts(routes, [n for n in neighbours if n])


def build(netlink: Netlink, endpoint: Endpoint, index: int, parts: Parts, ipv6: bool) -> bool:
    """Make a link and what hangs on it as the endpoint wants it; raise ConflictError or KernelError.

    Return whether nothing is wrong but that IPv6 is turned off on the link.
    """
    refused = netlink.send(_requests(endpoint, index, parts, ipv6))
    if any(refusal.number == EACCES for refusal in refused.values()):
        return True
    if refused:
        raise _error(netlink, endpoint, refused)
    return False


def _requests(endpoint: Endpoint, index: int, parts: Parts, ipv6: bool) -> list[Message]:
    routed = parts.routed(endpoint.table)
    return [
        link.change(index, link.aliased(str(endpoint.key)), link.forwarding(ipv6)),
        link.set_up(index),
        *_removals(endpoint, index, parts),
        *(neighbour.put(index, address, endpoint.mac) for address in endpoint.addresses),
        *(
            route.to_endpoint(host_prefix(address), index, endpoint.table)
            for address in endpoint.addresses
            if address not in routed
        ),
    ]


def _removals(endpoint: Endpoint, index: int, parts: Parts) -> list[Message]:
    """Return the requests for what is there and should not be."""
    return [
        *(
            route.not_to_endpoint(found)
            for found in parts.routes
            if not proper(found, endpoint.table)
            or found.prefix.network_address not in endpoint.addresses
        ),
        *(
            neighbour.remove(index, found.address)
            for found in parts.neighbours
            if found.address not in endpoint.addresses
        ),
    ]


def farewell(endpoint_routes: Sequence[Route]) -> list[Message]:
    """Return the requests that take a link's routes away."""
    return [route.not_to_endpoint(r) for r in endpoint_routes]


def _error(netlink: Netlink, endpoint: Endpoint, refused: Mapping[int, Refusal]) -> FabricError:
    position, refusal = min(refused.items())
    if refusal.number != EEXIST:
        return refusal.error(f"endpoint {endpoint.key}: link {endpoint.link} (step {position})")
    for prefix in endpoint.prefixes:
        if owner := _owner(netlink, prefix, endpoint.link):
            return ConflictError(
                f"endpoint {endpoint.key}: the host has a route to {prefix} already, {owner}",
                f"see: ip route show {prefix}; remove it, or use another address",
            )
    return refusal.error(f"endpoint {endpoint.key}: route")


def _owner(netlink: Netlink, prefix: Prefix, name: str) -> str:
    """Return in words whose the best route to a prefix is, "" where it is this link's."""
    found = netlink.ask(route.look_up(prefix.network_address, entry=True))
    other = route.parse(found) if isinstance(found, bytes) else None
    if other is None:
        return ""
    body = netlink.ask(link.get_index(other.index))
    owner = link.parse(body).name if isinstance(body, bytes) else str(other.index)
    return f"on link {owner} (protocol {other.protocol})" if owner != name else ""


def observed(found: Link, parts: Parts, bandwidth: Bandwidth) -> EndpointLink:
    """Return the endpoint link that is really there: a missing part shows as a missing address or MAC."""
    macs = {n.address: n.mac for n in parts.neighbours}
    alike = set(macs.values())
    table = parts.table()
    good = {a for a in parts.routed(table) if a in macs}
    odd = {r.prefix.network_address for r in parts.routes if not proper(r, table)}
    usable = found.up and found.mac == MAC
    return EndpointLink(
        name=found.name,
        mac=alike.pop() if len(alike) == 1 else "",
        addresses=tuple(sorted(good | odd, key=_order)) if usable else (),
        mtu=found.mtu,
        table=table,
        bandwidth=bandwidth,
    )


def _order(address: Address) -> tuple[int, int]:
    return (address.version, int(address))


def problems(found: Link, parts: Parts, endpoint: Endpoint) -> list[str]:
    """Return what is wrong with a link of ours, in words."""
    name = f"link {found.name}"
    macs = {n.address: n.mac for n in parts.neighbours}
    wrong = [
        (not found.up, f"{name} is down"),
        (found.mtu != endpoint.mtu, f"{name} has MTU {found.mtu}, not {endpoint.mtu}"),
        (found.mac != MAC, f"{name} has MAC {found.mac}, not {MAC}"),
    ]
    for address in endpoint.addresses:
        mac = macs.get(address, "none")
        wrong.append(
            (mac != endpoint.mac, f"{name}: neighbour {address} has MAC {mac}, not {endpoint.mac}")
        )
        wrong.append(
            (
                address not in parts.routed(endpoint.table),
                f"the host has no route to {address} on {name}",
            )
        )
    return [words for is_wrong, words in wrong if is_wrong]
