"""The fabric's routes: what hosts may report, and what changed since somebody looked."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import islice

from netfabric.fabric.endpoint import EndpointKey
from netfabric.fabric.intent import contains
from netfabric.fabric.ipam import block_of
from netfabric.fabric.network import Network
from netfabric.fabric.prefix import Prefix, family_of
from netfabric.fabric.route import LearnedRoute
from netfabric.fabric.view import View, ViewChange

RouteKey = tuple[str, str, str, Prefix]
LOGGED = 50_000
"""Changed routes that are remembered for those who follow."""


def key_of(route: LearnedRoute) -> RouteKey:
    """Return what makes a route the same route: host, tenant, origin, prefix."""
    return (route.host, route.tenant, route.origin, route.prefix)


class Subnets:
    """The networks' subnets, for the question in which a prefix lies. Costs one look-up a prefix length."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._found: dict[tuple[int, int], dict[int, list[Network]]] = {}
        for network in networks:
            for range_ in network.ranges:
                subnet = range_.subnet
                of_length = self._found.setdefault((subnet.version, subnet.prefixlen), {})
                shift = subnet.max_prefixlen - subnet.prefixlen
                of_length.setdefault(int(subnet.network_address) >> shift, []).append(network)

    def holding(self, prefix: Prefix) -> list[Network]:
        """Return the networks in whose subnet a prefix lies, or whose subnet it is."""
        number, bits = int(prefix.network_address), prefix.max_prefixlen
        return [
            network
            for (version, length), of_length in self._found.items()
            if version == prefix.version and length <= prefix.prefixlen
            for network in of_length.get(number >> (bits - length), ())
        ]


def admit(
    view: View, subnets: Subnets, host: str, routes: Iterable[LearnedRoute]
) -> tuple[list[LearnedRoute], list[LearnedRoute]]:
    """Return the learned routes that a host may report, as its own, and those that are refused.

    A prefix inside a network's subnet is a container's or a block's, known from its host; learned from a
    switch it is taken only from the host that holds the block. Everything else is what switches announce.
    """
    taken, refused = [], []
    for route in routes:
        inside = subnets.holding(route.prefix)
        if route.origin == "bgp" and all(_holds(view, n, host, route.prefix) for n in inside):
            taken.append(route if route.host == host else replace(route, host=host))
        else:
            refused.append(route)
    return taken, refused


def _holds(view: View, network: Network, host: str, prefix: Prefix) -> bool:
    range_ = network.range_of(family_of(prefix))
    if range_ is None:
        return False
    block = block_of(range_, prefix.network_address)
    return view.blocks.get((network.key, block)) == host and contains(block, prefix)


@dataclass(frozen=True, slots=True)
class RouteFilter:
    """Which routes somebody wants: of a tenant, inside a prefix, of a host, of an origin; empty: all."""

    tenant: str = ""
    inside: Prefix | None = None
    host: str = ""
    origin: str = ""

    def passes(self, key: RouteKey) -> bool:
        """Return whether a route is wanted."""
        host, tenant, origin, prefix = key
        return (
            self.tenant in ("", tenant)
            and self.host in ("", host)
            and self.origin in ("", origin)
            and (self.inside is None or contains(self.inside, prefix))
        )


@dataclass(slots=True)
class RouteTable:
    """Every route of the fabric, and a log of changes that whoever follows reads at a pace of its own."""

    view: View
    routes: dict[RouteKey, LearnedRoute] = field(default_factory=dict)
    serial: int = 0
    """Counts the log's entries; the last one's number."""
    log: deque[tuple[RouteKey, LearnedRoute | None]] = field(default_factory=deque)
    limit: int = LOGGED
    _of_endpoint: dict[tuple[str, EndpointKey], tuple[RouteKey, ...]] = field(default_factory=dict)
    _of_host: dict[str, set[RouteKey]] = field(default_factory=dict)
    _users: Counter[RouteKey] = field(default_factory=Counter)
    """How many endpoints make a route: an address may be on its way from one to another."""

    def follow(self, change: ViewChange) -> bool:
        """Take a change of the view; return whether routes changed."""
        before = self.serial
        for where in change.endpoints:
            self._endpoint(where)
        for host in change.learned:
            self._learned(host)
        while len(self.log) > self.limit:
            self.log.popleft()
        return self.serial != before

    def _endpoint(self, where: tuple[str, EndpointKey]) -> None:
        endpoint = self.view.endpoints.get(where)
        routes = {}
        if endpoint is not None:
            for prefix in endpoint.prefixes:
                route = LearnedRoute(
                    prefix, endpoint.host, (), origin="endpoint", tenant=endpoint.tenant
                )
                routes[key_of(route)] = route
        before = self._of_endpoint.pop(where, ())
        self._users.update(routes.keys())
        self._users.subtract(before)
        if routes:
            self._of_endpoint[where] = tuple(routes)
        for key, route in routes.items():
            self._change(key, route)
        for key in before:
            if not self._users[key]:
                del self._users[key]
                self._change(key, None)

    def _learned(self, host: str) -> None:
        now = {key_of(route): route for route in self.view.learned.get(host, ())}
        for key in self._of_host.get(host, set()) - now.keys():
            self._change(key, None)
        for key, route in now.items():
            self._change(key, route)
        self._of_host[host] = set(now)

    def _change(self, key: RouteKey, route: LearnedRoute | None) -> None:
        if self.routes.get(key) == route:
            return
        if route is None:
            del self.routes[key]
        else:
            self.routes[key] = route
        self.serial += 1
        self.log.append((key, route))

    def wanted(self, filter_: RouteFilter) -> list[LearnedRoute]:
        """Return the routes that a filter lets through."""
        return [route for key, route in self.routes.items() if filter_.passes(key)]

    def since(self, serial: int) -> dict[RouteKey, LearnedRoute | None] | None:
        """Return what became of each route changed after an entry (None: gone), or None: list again."""
        count = self.serial - serial
        if count > len(self.log):
            return None
        newest_first = list(islice(reversed(self.log), count))
        return dict(reversed(newest_first))
