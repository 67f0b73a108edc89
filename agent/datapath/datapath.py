"""The routed datapath: containers attached at layer 3, the fabric's routes by nexthop objects."""

import os
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from errno import EBUSY, EEXIST, ENOENT
from itertools import groupby
from pathlib import Path

from netfabric.agent.datapath import (
    container,
    feature,
    handover,
    host_end,
    link,
    nexthop,
    overlay,
    port,
    route,
    shaping,
    sysctl,
    vlan,
)
from netfabric.agent.datapath.base import Prepared
from netfabric.agent.datapath.graveyard import Graveyard
from netfabric.agent.datapath.link import Link
from netfabric.agent.datapath.message import Message
from netfabric.agent.datapath.namespace import inside, opened
from netfabric.agent.datapath.netlink import Netlink
from netfabric.agent.datapath.nftables import Nftables
from netfabric.agent.datapath.nftables_counts import rule_counts
from netfabric.agent.datapath.observation import observe
from netfabric.agent.datapath.route_book import DEFAULT_METRIC, RouteBook
from netfabric.agent.datapath.settling import settle
from netfabric.agent.datapath.uplink import uplinks
from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.errors import ConflictError, FabricError, InvalidError, KernelError
from netfabric.fabric.kernel import (
    EndpointLink,
    ForwardingEntry,
    KernelKey,
    KernelObject,
    KernelRoute,
    KernelState,
    Neighbour,
    Nexthop,
    NexthopGroup,
    Operation,
    ProxyNeighbour,
    TableRule,
    Uplink,
    VlanLink,
    VxlanLink,
    key_of,
)
from netfabric.fabric.prefix import Address
from netfabric.fabric.ruleset import Element
from netfabric.fabric.ruleset_plan import Transaction
from netfabric.fabric.session import RuleCount

_INDEXES = range(0x10000, 0x100000, 2)
"""Interface indexes that we give to host ends; the container's end has the next one.

Chosen here, so that everything about a pair goes out without a look-up in between.
"""
_ATTEMPTS = 8
_OWN_NAMESPACE = "/proc/thread-self/ns/net"
_LOWEST_METRIC = 2
"""Endpoints' own routes have 0 (IPv4) and 1 (IPv6), and always win."""


class RoutedDatapath:
    """Implements `base.Datapath` on a host whose endpoints are all routed."""

    def __init__(self, namespace: str | Path | None = None, metric: int = DEFAULT_METRIC) -> None:
        """Work in the host's namespace at a path, or in the process's own.

        `metric` is the fabric's routes'; a foreign route with a smaller one wins. Raise InvalidError.
        """
        if metric < _LOWEST_METRIC:
            raise InvalidError(
                f"route metric {metric} is too small", f"use {_LOWEST_METRIC} or more"
            )
        self._namespace = namespace
        self._lock = threading.RLock()
        self._routes = RouteBook(metric)
        self._next = random.randrange(len(_INDEXES))
        with self._home():
            self._inode = os.stat(_OWN_NAMESPACE).st_ino
            self._netlink = Netlink()
            self._graveyard = Graveyard(Netlink())
        self._netlink.enlarge()
        self._nftables: Nftables | None = None
        self._counting: Nftables | None = None
        """Of its own, so that nobody waits while counters are read."""
        self.port = self._netlink.port
        """The number by which kernel notifications name our own changes."""

    @contextmanager
    def _home(self) -> Iterator[None]:
        """Be in the host's namespace."""
        if self._namespace is None:
            yield
            return
        with opened(self._namespace) as descriptor, inside(descriptor, self._namespace):
            yield

    def close(self) -> None:
        """Let go of sockets and threads; what was built stays and forwards."""
        self._graveyard.close()
        self._netlink.close()
        if self._nftables is not None:
            self._nftables.close()
        if self._counting is not None:
            self._counting.close()

    def prepare(self) -> Prepared:
        """See `base.Datapath`."""
        features = feature.probe()
        with self._home():
            changed = sysctl.set_for_host()
            if feature.NFTABLES in features:
                self._nftables = self._nftables or Nftables()
                self._counting = self._counting or Nftables()
        return Prepared(changed, features)

    # endpoints

    def attach(self, endpoint: Endpoint) -> None:
        """See `base.Datapath`."""
        if endpoint.is_port:
            with self._lock:
                port.attach(self._netlink, self._find(endpoint.link), endpoint)
            return
        if endpoint.handed_over:
            with self._lock, opened(self._namespace or _OWN_NAMESPACE) as home:
                self._attach_ahead(endpoint, home)
            return
        with self._lock, opened(endpoint.namespace) as descriptor:
            if os.fstat(descriptor).st_ino == self._inode:
                raise InvalidError(
                    f"endpoint {endpoint.key}: {endpoint.namespace} is the host's own namespace",
                    "a container on the host's network has no endpoint",
                )
            with inside(descriptor, endpoint.namespace):
                within = Netlink()
            try:
                self._attach(endpoint, descriptor, within)
            finally:
                within.close()

    def _attach(self, endpoint: Endpoint, descriptor: int, within: Netlink) -> None:
        found = self._find_ours(endpoint)
        if found is not None and self._inner(found, endpoint, within) is None:
            self._bury(found)  # its other end was taken away
            found = None
        if found is not None:
            self._build(endpoint, found.index, descriptor, within, found)
            return
        index = self._create(endpoint, descriptor, within)
        try:
            self._build(endpoint, index, descriptor, within, None)
        except FabricError:
            self._remove(index)
            raise

    def _attach_ahead(self, endpoint: Endpoint, home: int) -> None:
        """Make a pair with both ends here: the engine moves the inner one, and sets it up itself."""
        found = self._find_ours(endpoint)
        index = found.index if found else self._create(endpoint, home, self._netlink)
        try:
            self._build_outer(endpoint, index, host_end.wants_ipv6(endpoint), found)
            refused = self._netlink.send(handover.answering(endpoint, index))
            for refusal in refused.values():
                raise refusal.error(f"endpoint {endpoint.key}: gateway on {endpoint.link}")
        except FabricError:
            if found is None:
                self._remove(index)
            raise

    def _find_ours(self, endpoint: Endpoint) -> Link | None:
        """Return an endpoint's link if there is one; raise ConflictError where it is not ours."""
        found = self._find(endpoint.link)
        if found is not None and not found.ours:
            raise ConflictError(
                f"endpoint {endpoint.key}: link {endpoint.link} on the host is not ours",
                f"ip link delete {endpoint.link}",
            )
        return found

    def _find(self, name: str) -> Link | None:
        return container.find(self._netlink, name)

    def _inner(self, found: Link, endpoint: Endpoint, within: Netlink) -> Link | None:
        """Return the other end of a link of ours, if it is in the container under its name."""
        inner = container.find(within, endpoint.key.interface)
        joined = inner is not None and (inner.index, inner.peer) == (found.peer, found.index)
        return inner if joined else None

    def _create(self, endpoint: Endpoint, descriptor: int, within: Netlink) -> int:
        """Make the pair; return the host end's index, which the container's end's follows."""
        for _ in range(_ATTEMPTS):
            self._next = (self._next + 1) % len(_INDEXES)
            index = _INDEXES[self._next]
            refusal = self._netlink.send([self._pair(endpoint, index, descriptor)]).get(0)
            if refusal is None:
                return index
            if refusal.number == EBUSY or isinstance(
                self._netlink.ask(link.get_index(index)), bytes
            ):
                continue  # that index is taken, on one side or the other
            if refusal.number != EEXIST:
                raise refusal.error(f"endpoint {endpoint.key}: veth {endpoint.link}")
            self._make_room(endpoint, within)
        raise KernelError(f"endpoint {endpoint.key}: no free interface index", "try again")

    @staticmethod
    def _pair(endpoint: Endpoint, index: int, descriptor: int) -> Message:
        return link.veth(
            endpoint.link,
            index,
            host_end.MAC,
            endpoint.inner,
            endpoint.mac,
            descriptor,
            endpoint.mtu,
        )

    def _make_room(self, endpoint: Endpoint, within: Netlink) -> None:
        """Free the interface's name where a detached pair still holds it; else raise ConflictError."""
        inner = container.find(within, endpoint.inner)
        if inner is None:
            return
        body = self._netlink.ask(link.get_index(inner.peer)) if inner.peer else None
        outer = link.parse(body) if isinstance(body, bytes) else None
        if outer is not None and outer.buried and outer.peer == inner.index:
            self._remove(outer.index)
            return
        if outer is None and container.find(within, endpoint.inner) is None:
            return  # it has just been removed
        raise ConflictError(
            f"endpoint {endpoint.key}: {endpoint.namespace} has an interface"
            f" {endpoint.inner} already",
            "choose another interface name, or remove that interface",
        )

    def _build(
        self, endpoint: Endpoint, index: int, descriptor: int, within: Netlink, found: Link | None
    ) -> None:
        """Make both ends as they should be; `found` is a pair that was there before.

        The host's routes come last: who finds them after a crash knows that the inside was finished.
        """
        ipv6 = host_end.wants_ipv6(endpoint)
        self._netlink.send([link.change(index, link.forwarding(ipv6)), link.set_up(index)])
        inner = found.peer if found is not None else index + 1
        if container.build(within, endpoint, inner, ipv6, reshape=found is not None):
            with inside(descriptor, endpoint.namespace):
                sysctl.enable_ipv6(endpoint.key.interface)
            if container.build(within, endpoint, inner, ipv6, reshape=False):
                raise _without_ipv6(endpoint, endpoint.namespace)
        self._build_outer(endpoint, index, ipv6, found)
        settle((self._netlink, index), (within, inner), endpoint)

    def _build_outer(self, endpoint: Endpoint, index: int, ipv6: bool, found: Link | None) -> None:
        parts = host_end.Parts()
        if found is not None:
            parts = host_end.read(self._netlink, index, ipv6)
            if (found.mac, found.mtu) != (host_end.MAC, endpoint.mtu):
                shape = link.shaped(host_end.MAC, endpoint.mtu)
                self._netlink.send([link.change(index, shape)])
        if host_end.build(self._netlink, endpoint, index, parts, ipv6):
            with self._home():
                sysctl.enable_ipv6(endpoint.link)
            parts = host_end.read(self._netlink, index, ipv6)
            if host_end.build(self._netlink, endpoint, index, parts, ipv6):
                raise _without_ipv6(endpoint, f"host {endpoint.host}")
        shaping.put(self._netlink, endpoint, index, fresh=found is None)

    def _remove(self, index: int) -> None:
        """Remove a pair at once (16 ms): only where something went wrong, or is in the way."""
        self._netlink.send([link.delete(index)])

    def filter(self, rules: Transaction) -> None:
        """See `base.Datapath`."""
        if self._nftables is None:
            raise KernelError("this kernel lacks nftables", "load the module nf_tables")
        with self._lock:
            self._nftables.apply(rules)

    def detach(self, endpoint: Endpoint) -> None:
        """See `base.Datapath`."""
        with self._lock:
            self._take_away(self._find(endpoint.link), endpoint)

    def _take_away(self, found: Link | None, endpoint: Endpoint | None = None) -> None:
        """End whatever endpoint a link is of."""
        if found is not None and found.port:
            port.release(self._netlink, found, endpoint)
        elif found is not None and found.ours:
            self._bury(found)

    def _bury(self, found: Link) -> None:
        parts = host_end.read(self._netlink, found.index, sysctl.has_ipv6())
        farewell = host_end.farewell(parts.routes)
        requests = self._graveyard.burial(found.index, farewell)
        if device := shaping.find(self._netlink, found.name):
            requests += self._graveyard.burial(device.index)
        refused = self._netlink.send(requests)
        self._graveyard.kick()
        if refused and self._find(found.name) is not None:
            raise min(refused.items())[1].error(f"link {found.name}: cannot be detached")

    def check(self, endpoint: Endpoint, guards: Sequence[Element] = ()) -> tuple[str, ...]:
        """See `base.Datapath`."""
        with self._lock:
            found = self._find(endpoint.link)
            if found is None:
                return (f"link {endpoint.link} is gone",)
            if endpoint.is_port and found.port:
                wrong = port.problems(self._netlink, found, endpoint)
                return (*wrong, *self._missing(guards))
            if not found.ours:
                return (f"link {endpoint.link} is not ours",)
            parts = host_end.read(self._netlink, found.index, host_end.wants_ipv6(endpoint))
            return (
                *host_end.problems(found, parts, endpoint),
                *shaping.problems(self._netlink, found, endpoint),
                *self._problems_inside(found, endpoint),
                *self._missing(guards),
            )

    def _missing(self, guards: Sequence[Element]) -> Iterator[str]:
        for guard in guards:
            if self._nftables is None or not self._nftables.has(guard):
                yield f"the packet filter lacks an element of its set {guard.set}"

    def _problems_inside(self, found: Link, endpoint: Endpoint) -> Sequence[str]:
        if endpoint.handed_over:
            return handover.problems(self._netlink, endpoint, found.index)
        try:
            with opened(endpoint.namespace) as descriptor, inside(descriptor, endpoint.namespace):
                within = Netlink()
        except KernelError as error:
            return (str(error),)
        try:
            inner = self._inner(found, endpoint, within)
            if inner is None:
                name = endpoint.key.interface
                return (f"{name} in {endpoint.namespace} is not the other end of {found.name}",)
            return container.problems(within, inner, endpoint)
        finally:
            within.close()

    # the fabric's routes

    def apply(self, operations: Sequence[Operation]) -> tuple[tuple[KernelKey, FabricError], ...]:
        """See `base.Datapath`."""
        failures: list[tuple[KernelKey, FabricError]] = []
        with self._lock:
            for routes, run in groupby(operations, lambda o: isinstance(o.thing, KernelRoute)):
                if routes:
                    failures += self._routes.apply(self._netlink, list(run))
                    continue
                for operation in run:
                    try:
                        self._apply_one(operation)
                    except FabricError as error:
                        failures.append((key_of(operation.thing), error))
        return tuple(failures)

    def _apply_one(self, operation: Operation) -> None:
        match operation.action, operation.thing:
            case "remove", EndpointLink(name=name):
                self._take_away(self._find(name))
            case "put", EndpointLink(name=name):
                raise InvalidError(f"link {name}: cannot be put", "attach its endpoint")
            case "put", VxlanLink() | ForwardingEntry() | Neighbour() | TableRule() as thing:
                overlay.put(self._netlink, thing, sysctl.has_ipv6())
            case "remove", VxlanLink() | ForwardingEntry() | Neighbour() | TableRule() as thing:
                overlay.remove(self._netlink, thing)
            case "put", VlanLink() | ProxyNeighbour() as thing:
                with self._home():
                    vlan.put(self._netlink, thing)
            case "remove", VlanLink() | ProxyNeighbour() as thing:
                vlan.remove(self._netlink, thing)
            case "put", Nexthop() | NexthopGroup() as thing:
                self._put_nexthop(thing)
            case "remove", Nexthop(id=identity) | NexthopGroup(id=identity):
                self._remove_nexthop(identity)

    def _nexthop(self, identity: int) -> nexthop.NexthopObject | None:
        body = self._netlink.ask(nexthop.get(identity))
        return nexthop.parse(body) if isinstance(body, bytes) else None

    def _put_nexthop(self, thing: Nexthop | NexthopGroup) -> None:
        what = " ".join(key_of(thing))
        found = self._nexthop(thing.id)
        if found is not None and not found.ours:
            raise ConflictError(
                f"{what}: protocol {found.protocol} uses that id",
                f"ip nexthop delete id {thing.id}",
            )
        if isinstance(thing, NexthopGroup):
            request = nexthop.put_group(thing)
        else:
            outgoing = self._find(thing.link)
            if outgoing is None:
                raise KernelError(f"{what}: link {thing.link} is gone", "bring the uplink back")
            request = nexthop.put(thing.id, thing.gateway, outgoing.index)
        for refusal in self._netlink.send([request]).values():
            raise refusal.error(what)

    def _remove_nexthop(self, identity: int) -> None:
        found = self._nexthop(identity)
        if found is None or not found.ours:
            return
        for refusal in self._netlink.send([nexthop.remove(identity)]).values():
            if refusal.number != ENOENT:
                raise refusal.error(f"nexthop {identity}")

    # what is there

    def observe(self) -> KernelState:
        """See `base.Datapath`; links that an earlier process has detached are removed, too."""
        with self._lock:
            links = [link.parse(body) for body in self._netlink.dump(link.get_all())]
            self._graveyard.found(links)
            self._bury_strays(links)
            objects: dict[KernelKey, KernelObject] = observe(self._netlink, links, self._routes)
            ruleset = self._nftables.read() if self._nftables is not None else None
        return KernelState(objects, ruleset)

    def _bury_strays(self, links: Sequence[Link]) -> None:
        """Remove what was left of endpoints' bandwidth when an earlier process died over it."""
        for device in shaping.strays(links):
            self._netlink.send(self._graveyard.burial(device.index))
            self._graveyard.kick()

    def count(self, groups: Sequence[str]) -> tuple[RuleCount, ...]:
        """See `base.Datapath`."""
        if self._counting is None:
            return ()
        return tuple(one for group in groups for one in rule_counts(self._counting, group))

    def uplinks(self) -> tuple[Uplink, ...]:
        """See `base.Datapath`."""
        with self._lock:
            return uplinks(self._netlink)

    def local_address_for(self, peer: Address) -> Address | None:
        """See `base.Datapath`."""
        with self._lock:
            body = self._netlink.ask(route.look_up(peer))
        return route.source_of(body) if isinstance(body, bytes) else None


def _without_ipv6(endpoint: Endpoint, where: str) -> KernelError:
    return KernelError(
        f"endpoint {endpoint.key}: IPv6 is turned off on {where}",
        "set net.ipv6.conf.all.disable_ipv6=0 there, or use a network without IPv6",
    )
