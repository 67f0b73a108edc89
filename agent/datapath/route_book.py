"""The fabric's routes in the kernel: written in bulk, read back, and never at a foreign route's cost."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from errno import EEXIST, ESRCH

from netfabric.agent.datapath import link, route
from netfabric.agent.datapath.host_end import beside
from netfabric.agent.datapath.message import Message
from netfabric.agent.datapath.netlink import Netlink
from netfabric.agent.datapath.route import Route
from netfabric.fabric.errors import ConflictError, FabricError, KernelError
from netfabric.fabric.kernel import MAIN_TABLE, KernelKey, KernelRoute, Operation, key_of

DEFAULT_METRIC = 20


@dataclass(slots=True)
class _Entry:
    route: Route
    key: KernelKey
    thing: KernelRoute


@dataclass(slots=True)
class RouteBook:
    """Knows which routes are ours, so that only those are replaced.

    A kernel replaces any route with the same prefix and metric, whoever made it.
    """

    metric: int = DEFAULT_METRIC
    known: set[KernelKey] = field(default_factory=set)
    strays: dict[KernelKey, list[Message]] = field(default_factory=dict)
    """How to remove ours that have another metric: left by an agent with another setting."""
    _links: dict[str, int] = field(default_factory=dict)
    """Indexes of the links that the routes at hand go over."""
    _memo: dict[bytes, _Entry] = field(default_factory=dict)
    """What a message's bytes mean: an audit reads thousands that have not changed."""

    def apply(
        self, netlink: Netlink, operations: Sequence[Operation]
    ) -> list[tuple[KernelKey, FabricError]]:
        """Put and remove routes; return those that failed."""
        keyed = [(key_of(o.thing), o.thing, o.action == "put") for o in operations]
        work = [(k, t, put) for k, t, put in keyed if isinstance(t, KernelRoute)]
        failures: list[tuple[KernelKey, FabricError]] = []
        self._find_links(netlink, [t.link for _, t, put in work if put and t.link])
        for item in [i for i in work if i[2] and i[1].link and not self._links[i[1].link]]:
            work.remove(item)
            gone = KernelError(f"route {item[1].prefix}: link {item[1].link} is gone")
            failures.append((item[0], gone))
        refused = netlink.send([self._request(*item) for item in work])
        again: list[int] = []
        for position, refusal in sorted(refused.items()):
            key, thing, put = work[position]
            if put and refusal.number == EEXIST:
                again.append(position)
            elif put or refusal.number != ESRCH:
                failures.append((key, refusal.error(f"route {thing.prefix}")))
        missed = {key for key, _ in failures} | {work[position][0] for position in again}
        for key, _, put in work:
            if put and key not in missed:
                self.known.add(key)
            elif not put and key not in missed:
                self.known.discard(key)
        if again:
            failures += self._replace(netlink, [work[position][:2] for position in again])
        self._clear_strays(netlink, [item[:2] for item in work])
        return failures

    def _request(self, key: KernelKey, thing: KernelRoute, put: bool) -> Message:
        if not put:
            return route.remove(thing.prefix, thing.table, self.metric)
        if thing.link:
            index, known = self._links[thing.link], key in self.known
            gateway = thing.gateway
            return route.over_link(thing.prefix, index, gateway, thing.table, self.metric, known)
        return route.by_nexthop(
            thing.prefix, thing.nexthop, thing.table, self.metric, key in self.known
        )

    def _find_links(self, netlink: Netlink, names: Sequence[str]) -> None:
        """Look up the indexes of links, each once; 0 for one that is gone."""
        self._links = {}
        for name in dict.fromkeys(names):
            body = netlink.ask(link.get(name))
            self._links[name] = link.parse(body).index if isinstance(body, bytes) else 0

    def _replace(
        self, netlink: Netlink, work: Sequence[tuple[KernelKey, KernelRoute]]
    ) -> list[tuple[KernelKey, FabricError]]:
        """Put what is there already, where it turns out to be ours."""
        self.known |= self._ours(netlink)
        ours = [item for item in work if item[0] in self.known]
        refused = netlink.send([self._request(key, thing, True) for key, thing in ours])
        failures: list[tuple[KernelKey, FabricError]] = [
            (ours[position][0], refusal.error(f"route {ours[position][1].prefix}"))
            for position, refusal in refused.items()
        ]
        for key, thing in work:
            if key not in self.known:
                failures.append((key, self._conflict(thing)))
        return failures

    def _ours(self, netlink: Netlink) -> set[KernelKey]:
        """Return what is there with our mark and our metric."""
        entries = filter(None, (self._entry(body, {}) for body in self.dump(netlink)))
        return {entry.key for entry in entries if entry.route.metric == self.metric}

    def _conflict(self, thing: KernelRoute) -> ConflictError:
        return ConflictError(
            f"route {thing.prefix}: somebody else's has metric {self.metric}, too",
            f"see: ip route show {thing.prefix}; remove it, or set another route metric for netfabric",
        )

    def _clear_strays(
        self, netlink: Netlink, work: Sequence[tuple[KernelKey, KernelRoute]]
    ) -> None:
        netlink.send([request for key, _ in work for request in self.strays.pop(key, ())])

    def dump(self, netlink: Netlink, ipv6: bool = True) -> list[bytes]:
        """Return every route message of our protocol."""
        found = netlink.dump(route.get_ours(4))
        return found + netlink.dump(route.get_ours(6)) if ipv6 else found

    def read(
        self, bodies: Iterable[bytes], links: Container[int], names: Mapping[int, str]
    ) -> tuple[dict[KernelKey, KernelRoute], list[Route]]:
        """Return the fabric's routes, and those on our endpoints' links (by index), out of a full dump."""
        memo, self._memo = self._memo, {}
        self.strays, self.known = {}, set()
        found: dict[KernelKey, KernelRoute] = {}
        odd: dict[KernelKey, KernelRoute] = {}
        on_links: list[Route] = []
        for body in bodies:
            entry = memo.get(body) or self._entry(body, names)
            if entry is None:
                continue
            if not entry.thing.link:  # the same index may be another link's by then
                self._memo[body] = entry
            if entry.route.index in links and not beside(entry.route):
                on_links.append(entry.route)
            elif entry.route.metric == self.metric:
                found[entry.key] = entry.thing
                self.known.add(entry.key)
            else:
                self.strays.setdefault(entry.key, []).append(route.remove_exactly(entry.route))
                odd[entry.key] = KernelRoute(entry.route.prefix, table=entry.route.table)
        # Equal to no desired route: put anew or removed, and with that the stray goes.
        return {**found, **odd}, on_links

    @staticmethod
    def _entry(body: bytes, names: Mapping[int, str]) -> _Entry | None:
        parsed = route.parse(body)
        if parsed is None:
            return None
        if parsed.kind == route.UNREACHABLE:
            thing = KernelRoute(parsed.prefix, "unreachable", table=parsed.table)
        elif not parsed.nexthop and parsed.table != MAIN_TABLE:
            name, gateway = names.get(parsed.index, "?"), parsed.gateway
            thing = KernelRoute(parsed.prefix, table=parsed.table, link=name, gateway=gateway)
        else:
            thing = KernelRoute(parsed.prefix, nexthop=parsed.nexthop, table=parsed.table)
        return _Entry(parsed, key_of(thing), thing)
