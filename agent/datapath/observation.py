"""Everything of ours in a kernel, read with a handful of dumps."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from netfabric.agent.datapath import (
    neighbour,
    nexthop,
    overlay,
    port,
    shaping,
    sysctl,
    vlan,
)
from netfabric.agent.datapath.host_end import Parts, observed
from netfabric.agent.datapath.link import Link
from netfabric.agent.datapath.neighbour import Neighbour
from netfabric.agent.datapath.netlink import Netlink
from netfabric.agent.datapath.route import Route
from netfabric.agent.datapath.route_book import RouteBook
from netfabric.fabric.kernel import KernelKey, KernelObject, Nexthop, NexthopGroup, key_of
from netfabric.fabric.profile import NO_LIMITS, Bandwidth


def observe(
    netlink: Netlink, links: Sequence[Link], routes: RouteBook
) -> dict[KernelKey, KernelObject]:
    """Return our endpoint links, nexthops, groups and routes, given all links of the host."""
    ours = {found.index: found for found in links if found.ours or found.port}
    buried = {found.index for found in links if found.buried}
    bodies = routes.dump(netlink, sysctl.has_ipv6())
    names = {found.index: found.name for found in links}
    fabric, on_links = routes.read(bodies, ours.keys() | buried, names)
    things: list[KernelObject] = [
        *_endpoint_links(
            ours, on_links, _neighbours(netlink, ours), shaping.observed(netlink, links)
        ),
        *_nexthops(netlink, names),
        *overlay.observe(netlink, links, sysctl.has_ipv6()),
        *vlan.observe(netlink, links),
    ]
    objects: dict[KernelKey, KernelObject] = {key_of(thing): thing for thing in things}
    objects.update(fabric)
    return objects


def _neighbours(netlink: Netlink, ours: dict[int, Link]) -> list[Neighbour]:
    bodies = netlink.dump(neighbour.get_all()) if ours else []
    found = (neighbour.parse(body) for body in bodies if neighbour.index_of(body) in ours)
    return [one for one in found if one is not None]


def _endpoint_links(
    ours: dict[int, Link],
    routes: Sequence[Route],
    neighbours: Sequence[Neighbour],
    limits: Mapping[int, Bandwidth],
) -> list[KernelObject]:
    by_link: defaultdict[int, tuple[list[Route], list[Neighbour]]] = defaultdict(lambda: ([], []))
    for one in routes:
        by_link[one.index][0].append(one)
    for other in neighbours:
        by_link[other.index][1].append(other)
    return [
        port.observed(found, Parts(*by_link[index]))
        if found.port
        else observed(found, Parts(*by_link[index]), limits.get(index, NO_LIMITS))
        for index, found in ours.items()
    ]


def _nexthops(netlink: Netlink, names: dict[int, str]) -> list[KernelObject]:
    """Return our nexthop objects."""
    things: list[KernelObject] = []
    for found in map(nexthop.parse, netlink.dump(nexthop.get_all())):
        if not found.ours:
            continue
        if found.members:
            things.append(NexthopGroup(found.id, found.members))
        elif found.gateway is not None:
            things.append(Nexthop(found.id, found.gateway, names.get(found.index, "")))
    return things
