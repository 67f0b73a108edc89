"""A kernel that executes: the datapath on dictionaries, with the same refusals, and a way for each packet."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Literal

from netfabric.agent.datapath.base import Prepared
from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.errors import (
    ConflictError,
    FabricError,
    InvalidError,
    KernelError,
    NamespaceGoneError,
)
from netfabric.fabric.kernel import (
    MAIN_TABLE,
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
    TableRule,
    Uplink,
    VxlanLink,
    key_of,
)
from netfabric.fabric.prefix import Address, Prefix, host_prefix
from netfabric.fabric.profile import NO_LIMITS, Bandwidth
from netfabric.fabric.ruleset import Element
from netfabric.fabric.ruleset_plan import Transaction
from netfabric.fabric.session import RuleCount

OUR_METRIC = 20
Owner = Literal["ours", "foreign"]
Behind = ForwardingEntry | Neighbour


@dataclass(slots=True)
class Inside:
    """A container's end."""

    link: str
    addresses: set[Address] = field(default_factory=set)
    gateway_known: bool = True
    default_route: bool = True


@dataclass(slots=True)
class HostLink:
    """A link in the host's namespace: an uplink, a foreign one, or an endpoint's."""

    up: bool = True
    ours: bool = False
    mac: str = ""
    mtu: int = 1500
    table: int = MAIN_TABLE
    namespace: str = ""
    interface: str = ""
    neighbours: dict[Address, str] = field(default_factory=dict)
    addresses: tuple[Uplink, ...] = ()
    bandwidth: Bandwidth = NO_LIMITS


@dataclass(slots=True)
class FakeKernel:
    """Implements `agent.datapath.base.Datapath`. Tests reach into the dictionaries to do damage."""

    namespaces: dict[str, dict[str, Inside]] = field(default_factory=dict)
    links: dict[str, HostLink] = field(default_factory=dict)
    endpoint_routes: dict[tuple[int, Address], str] = field(default_factory=dict)
    """/32s and /128s of ours by table, to links."""
    devices: dict[str, VxlanLink] = field(default_factory=dict)
    behind: dict[KernelKey, Behind] = field(default_factory=dict)
    """What stands on the devices."""
    rules: dict[KernelKey, TableRule] = field(default_factory=dict)
    nexthops: dict[int, tuple[Nexthop | NexthopGroup, Owner]] = field(default_factory=dict)
    routes: dict[tuple[int, Prefix, int], tuple[KernelRoute | str, Owner]] = field(
        default_factory=dict
    )
    """(table, prefix, metric) to a route of ours, or to a foreign one's link."""
    transactions: list[Transaction] = field(default_factory=list)
    """What the packet filter was told."""
    failures: list[KernelError] = field(default_factory=list)
    """Errors that the next operations end with, one each."""
    operations: int = 0
    counts: tuple[RuleCount, ...] = ()
    """What rules are said to have counted."""
    watch: Callable[[], None] = lambda: None
    """Called after every change."""

    def fail_next(self, *errors: KernelError) -> None:
        """Let the next attach, detach or applied operation fail."""
        self.failures += errors or (KernelError("fake kernel: told to fail", ""),)

    def _may_fail(self) -> None:
        self.operations += 1
        if self.failures:
            raise self.failures.pop(0)

    def prepare(self) -> Prepared:
        return Prepared((), ("nexthop", "veth"))

    def close(self) -> None:
        pass

    def count(self, groups: Sequence[str]) -> tuple[RuleCount, ...]:
        return tuple(one for one in self.counts if one.group in groups)

    # endpoints

    def attach(self, endpoint: Endpoint) -> None:
        self._may_fail()
        inside = {} if endpoint.handed_over else self.namespaces.get(endpoint.namespace)
        if inside is None:
            raise NamespaceGoneError(
                f"network namespace {endpoint.namespace}: there is none", "the container has ended"
            )
        self._refuse_conflicts(endpoint, inside)
        self.links[endpoint.link] = HostLink(
            ours=True,
            mac=endpoint.mac,
            mtu=endpoint.mtu,
            table=endpoint.table,
            namespace=endpoint.namespace,
            interface=endpoint.key.interface,
            neighbours=dict.fromkeys(endpoint.addresses, endpoint.mac),
            bandwidth=endpoint.bandwidth.kept,
        )
        for place in [p for p, link in self.endpoint_routes.items() if link == endpoint.link]:
            del self.endpoint_routes[place]
        for address in endpoint.addresses:
            self.endpoint_routes[endpoint.table, address] = endpoint.link
        inside[endpoint.key.interface] = Inside(endpoint.link, set(endpoint.addresses))
        self.watch()

    def _refuse_conflicts(self, endpoint: Endpoint, inside: Mapping[str, Inside]) -> None:
        link = self.links.get(endpoint.link)
        if link is not None and not link.ours:
            raise ConflictError(f"link {endpoint.link} is not ours", "remove it")
        other = inside.get(endpoint.key.interface)
        if other is not None and other.link != endpoint.link:
            raise ConflictError(
                f"{endpoint.namespace} has an interface {endpoint.key.interface} already",
                "choose another interface name",
            )
        for address in endpoint.addresses:
            place = (endpoint.table, address)
            if self.endpoint_routes.get(place, endpoint.link) != endpoint.link:
                raise ConflictError(f"the host has a route to {address} already", "remove it")

    def filter(self, rules: Transaction) -> None:
        self._may_fail()
        self.transactions.append(rules)

    def detach(self, endpoint: Endpoint) -> None:
        self._may_fail()
        self._remove_link(endpoint.link)

    def _remove_link(self, name: str) -> None:
        link = self.links.get(name)
        if link is None or not link.ours:
            return
        del self.links[name]
        for place in [p for p, on in self.endpoint_routes.items() if on == name]:
            del self.endpoint_routes[place]
        self.namespaces.get(link.namespace, {}).pop(link.interface, None)
        self.watch()

    def end_namespace(self, path: str) -> None:
        """A container ends: its links go with its namespace."""
        for inside in self.namespaces.pop(path, {}).values():
            self._remove_link(inside.link)

    def check(self, endpoint: Endpoint, guards: Sequence[Element] = ()) -> tuple[str, ...]:
        wanted = EndpointLink(
            endpoint.link,
            endpoint.mac,
            endpoint.addresses,
            endpoint.mtu,
            table=endpoint.table,
            bandwidth=endpoint.bandwidth.kept,
        )
        if self.links.get(endpoint.link) is None:
            return (f"link {endpoint.link} is gone",)
        if self._endpoint_link(endpoint.link) != wanted:
            return (f"link {endpoint.link} is not as it should be",)
        inside = self.namespaces.get(endpoint.namespace, {}).get(endpoint.key.interface)
        if inside is None or inside.link != endpoint.link:
            return (f"{endpoint.key.interface} is not the other end of {endpoint.link}",)
        whole = inside.gateway_known and inside.default_route
        if inside.addresses != set(endpoint.addresses) or not whole:
            return (f"{endpoint.key.interface} in the container is not as it should be",)
        return ()

    # the fabric's routes

    def apply(self, operations: Sequence[Operation]) -> tuple[tuple[KernelKey, FabricError], ...]:
        failed: list[tuple[KernelKey, FabricError]] = []
        for operation in operations:
            try:
                self._may_fail()
                self._put(operation.thing) if operation.action == "put" else self._remove(
                    operation.thing
                )
            except FabricError as error:
                failed.append((key_of(operation.thing), error))
        self.watch()
        return tuple(failed)

    def _put(self, thing: KernelObject) -> None:
        match thing:
            case EndpointLink():
                raise InvalidError(f"link {thing.name}: cannot be put", "attach its endpoint")
            case Nexthop() | NexthopGroup():
                self._put_nexthop(thing)
            case KernelRoute():
                self._put_route(thing)
            case VxlanLink():
                self._put_device(thing)
            case ForwardingEntry() | Neighbour():
                if thing.link not in self.devices:
                    raise KernelError(f"{key_of(thing)}: link {thing.link} is gone")
                self.behind[key_of(thing)] = thing
            case TableRule():
                self.rules[key_of(thing)] = thing

    def _put_device(self, thing: VxlanLink) -> None:
        """As the kernel does: another VNI is another device, and what stood on the first goes."""
        if thing.name in self.links:
            raise ConflictError(f"link {thing.name} is not ours", "remove it")
        found = self.devices.get(thing.name)
        if found is not None and (found.vni, found.local) != (thing.vni, thing.local):
            self.remove_device(thing.name)
        self.devices[thing.name] = thing

    def remove_device(self, name: str) -> None:
        """With a device go its entries, its neighbours, and the routes over it."""
        del self.devices[name]
        for key in [key for key, thing in self.behind.items() if thing.link == name]:
            del self.behind[key]
        for place, (route, _) in list(self.routes.items()):
            if isinstance(route, KernelRoute) and route.link == name:
                del self.routes[place]

    def _put_nexthop(self, thing: Nexthop | NexthopGroup) -> None:
        found = self.nexthops.get(thing.id)
        if found is not None and found[1] == "foreign":
            raise ConflictError(f"nexthop {thing.id}: somebody else uses that id", "remove it")
        if isinstance(thing, Nexthop):
            link = self.links.get(thing.link)
            if link is None or not link.up:
                raise KernelError(f"nexthop {thing.id}: link {thing.link} is down or gone")
        elif not set(thing.members) <= self.nexthops.keys():
            raise KernelError(f"group {thing.id}: Invalid argument")
        if found is not None and type(found[0]) is not type(thing):
            raise KernelError(f"nexthop {thing.id}: Invalid argument")
        self.nexthops[thing.id] = (thing, "ours")

    def _put_route(self, thing: KernelRoute) -> None:
        place = (thing.table, thing.prefix, OUR_METRIC)
        if self.routes.get(place, ("", "ours"))[1] == "foreign":
            raise ConflictError(f"route {thing.prefix}: somebody else's is there", "remove it")
        if thing.nexthop and thing.nexthop not in self.nexthops:
            raise KernelError(f"route {thing.prefix}: Nexthop id does not exist")
        if thing.link and thing.link not in self.devices | self.links:
            raise KernelError(f"route {thing.prefix}: link {thing.link} is gone")
        self.routes[place] = (thing, "ours")

    def _remove(self, thing: KernelObject) -> None:
        match thing:
            case EndpointLink(name=name):
                self._remove_link(name)
            case Nexthop(id=number) | NexthopGroup(id=number):
                if self.nexthops.get(number, (thing, "foreign"))[1] == "ours":
                    self._drop_nexthop(number)
            case KernelRoute(prefix=prefix, table=table):
                if self.routes.get((table, prefix, OUR_METRIC), ("", "foreign"))[1] == "ours":
                    del self.routes[table, prefix, OUR_METRIC]
            case VxlanLink(name=name):
                if name in self.devices:
                    self.remove_device(name)
            case ForwardingEntry() | Neighbour():
                self.behind.pop(key_of(thing), None)
            case TableRule():
                self.rules.pop(key_of(thing), None)

    def _drop_nexthop(self, number: int) -> None:
        """As the kernel does: routes by it go, groups lose a member, and go with their last."""
        del self.nexthops[number]
        for place, (route, _) in list(self.routes.items()):
            if isinstance(route, KernelRoute) and route.nexthop == number:
                del self.routes[place]
        for other, (thing, owner) in list(self.nexthops.items()):
            if isinstance(thing, NexthopGroup) and number in thing.members:
                rest = tuple(m for m in thing.members if m != number)
                if rest:
                    self.nexthops[other] = (replace(thing, members=rest), owner)
                else:
                    self._drop_nexthop(other)

    def set_link(self, name: str, *, up: bool) -> None:
        """Set a link up or down; with it go the nexthops on it."""
        self.links[name].up = up
        if not up:
            on_it = [
                t.id for t, _ in self.nexthops.values() if isinstance(t, Nexthop) and t.link == name
            ]
            for number in on_it:
                self._drop_nexthop(number)
        self.watch()

    # what is there

    def _endpoint_link(self, name: str) -> EndpointLink:
        link = self.links[name]
        macs = set(link.neighbours.values())
        good = [
            a
            for (table, a), on in self.endpoint_routes.items()
            if on == name and table == link.table and a in link.neighbours
        ]
        return EndpointLink(
            name,
            macs.pop() if len(macs) == 1 else "",
            tuple(sorted(good, key=lambda a: (a.version, int(a)))) if link.up else (),
            link.mtu,
            table=link.table,
            bandwidth=link.bandwidth,
        )

    def observe(self) -> KernelState:
        things: list[KernelObject] = [
            self._endpoint_link(name) for name, link in self.links.items() if link.ours
        ]
        things += [thing for thing, owner in self.nexthops.values() if owner == "ours"]
        things += [r for r, owner in self.routes.values() if isinstance(r, KernelRoute)]
        things += [*self.devices.values(), *self.behind.values(), *self.rules.values()]
        return KernelState({key_of(thing): thing for thing in things})

    def uplinks(self) -> tuple[Uplink, ...]:
        return tuple(
            uplink
            for _, link in sorted(self.links.items())
            if link.up and not link.ours
            for uplink in link.addresses
        )

    def local_address_for(self, peer: Address) -> Address | None:
        return next((u.address for u in self.uplinks() if peer in u.subnet), None)

    def way(self, address: Address | str, mark: int = 0) -> str:
        """Return where a packet to an address leaves: links joined by "+", "unreachable", or ""."""
        target = ip_address(address) if isinstance(address, str) else address
        table = self._table(target, mark)
        if link := self.endpoint_routes.get((table, target)):
            return link if self.links[link].up else ""
        on_main = self.uplinks() if table == MAIN_TABLE else ()
        on_link = next((u.link for u in on_main if target in u.subnet), "")
        fitting = [
            (-prefix.prefixlen, metric, route)
            for (own, prefix, metric), (route, _) in self.routes.items()
            if own == table and target in prefix
        ]
        if on_link or not fitting:
            return on_link
        route = min(fitting, key=lambda found: found[:2])[2]
        if isinstance(route, str):
            return route
        if route.link:
            return route.link
        return "+".join(self._leaves(route.nexthop)) if route.nexthop else "unreachable"

    def _table(self, target: Address, mark: int) -> int:
        for rule in sorted(self.rules.values(), key=lambda rule: rule.priority):
            marked = rule.mask and mark & rule.mask == rule.mark
            if rule.family == target.version and marked:
                return rule.table
        return MAIN_TABLE

    def _leaves(self, number: int) -> list[str]:
        thing = self.nexthops[number][0]
        if isinstance(thing, Nexthop):
            return [thing.link]
        return sorted(link for member in thing.members for link in self._leaves(member))

    def reaches(self, prefix: Prefix) -> bool:
        """Return whether the address of a /32 or /128 is attached here."""
        return host_prefix(prefix.network_address) == prefix and (
            (MAIN_TABLE, prefix.network_address) in self.endpoint_routes
        )
