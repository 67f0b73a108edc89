"""Any sequence of changes ends in the same table as the end state compiled from scratch, step by step executable."""

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.filter import FilterRule, GroupFilter, Members, PeerMatch, PortRange
from netfabric.fabric.network import Network, whole_range
from netfabric.fabric.prefix import Address
from netfabric.fabric.ruleset import RulesetKey
from netfabric.fabric.ruleset_desired import DesiredRuleset
from netfabric.fabric.ruleset_plan import transaction
from tests.fabric.fake_table import FakeTable, same

GROUPS = ["red:web", "red:db", "blue:web"]


def address(number: int, version: Literal[4, 6] = 4) -> Address:
    return IPv4Address(0x0A010000 + number) if version == 4 else IPv6Address(f"fd01::{number}")


def endpoint(number: int, group: str) -> Endpoint:
    tenant, _, name = group.partition(":")
    return Endpoint(
        key=EndpointKey(f"c{number}", "eth0"),
        host="h1",
        tenant=tenant,
        network="net",
        group=name,
        namespace=f"/run/netns/c{number}",
        link=f"nf{number:012x}",
        mac=f"02:02:0a:01:00:{number:02x}",
        addresses=(address(number), address(number, 6)),
    )


def network(number: int) -> Network:
    tenant = ("red", "blue")[number % 2]
    ranges = (f"10.{number}.0.0/16", f"fd0{number}::/64")
    return Network(
        tenant, f"net{number}", "routed", tuple(whole_range(ip_network(r)) for r in ranges)
    )


PREFIXES = [
    ip_network(p) for p in ("10.0.0.0/8", "10.1.0.0/17", "192.0.2.1/32", "fd01::/64", "::/0")
]
prefixes = st.lists(st.sampled_from(PREFIXES), max_size=3, unique=True).map(tuple)
peers = st.builds(
    PeerMatch, group=st.sampled_from(["", *GROUPS]), prefixes=prefixes, without=prefixes
)
port_ranges = st.builds(
    lambda first, length: PortRange(first, min(first + length, 65535)),
    st.integers(1, 65535),
    st.integers(0, 300),
)
rules = st.builds(
    FilterRule,
    id=st.sampled_from(["1", "2", "3"]),
    policy=st.sampled_from(["red:p", "red:q"]),
    direction=st.sampled_from(["in", "out"]),
    action=st.sampled_from(["allow", "deny"]),
    priority=st.integers(1, 3),
    protocol=st.sampled_from(["", "tcp", "udp", "icmp", "47"]),
    ports=st.lists(port_ranges, max_size=3).map(tuple),
    icmp_types=st.lists(st.integers(0, 20), max_size=2, unique=True).map(tuple),
    peer=peers,
    own=prefixes,
    log=st.booleans(),
)
filters = st.builds(
    GroupFilter,
    group=st.sampled_from(GROUPS),
    default=st.sampled_from(["allow", "deny"]),
    rules=st.lists(rules, max_size=5, unique_by=lambda r: (r.policy, r.id)).map(tuple),
)
members = st.builds(
    Members,
    group=st.sampled_from(GROUPS),
    addresses=st.frozensets(
        st.builds(address, st.integers(1, 8), st.sampled_from([4, 6])), max_size=4
    ),
)


@dataclass
class World:
    """The end state, as plain as can be."""

    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    filters: dict[str, GroupFilter] = field(default_factory=dict)
    members: dict[str, frozenset[Address]] = field(default_factory=dict)
    networks: dict[str, Network] = field(default_factory=dict)

    def compiled(self) -> DesiredRuleset:
        made = DesiredRuleset()
        made.set_networks(self.networks.values())
        made.set_filters(self.filters)
        made.set_members(True, [Members(g, a) for g, a in sorted(self.members.items())])
        for link in sorted(self.endpoints):
            made.put_endpoint(self.endpoints[link])
        return made


Change = Callable[[World, DesiredRuleset], set[RulesetKey]]


def attach(number: int, group: str) -> Change:
    def change(world: World, desired: DesiredRuleset) -> set[RulesetKey]:
        made = endpoint(number, group)
        world.endpoints[made.link] = made
        return desired.put_endpoint(made)

    return change


def detach(number: int) -> Change:
    def change(world: World, desired: DesiredRuleset) -> set[RulesetKey]:
        link = f"nf{number:012x}"
        world.endpoints.pop(link, None)
        return desired.remove_endpoint(link)

    return change


def set_filter(wanted: GroupFilter) -> Change:
    def change(world: World, desired: DesiredRuleset) -> set[RulesetKey]:
        world.filters[wanted.group] = wanted
        return desired.set_filters(world.filters)

    return change


def drop_filter(group: str) -> Change:
    def change(world: World, desired: DesiredRuleset) -> set[RulesetKey]:
        world.filters.pop(group, None)
        return desired.set_filters(world.filters)

    return change


def join(some: Members) -> Change:
    def change(world: World, desired: DesiredRuleset) -> set[RulesetKey]:
        known = world.members.get(some.group, frozenset())
        world.members[some.group] = known | some.addresses
        return desired.set_members(False, [some])

    return change


def leave(some: Members) -> Change:
    def change(world: World, desired: DesiredRuleset) -> set[RulesetKey]:
        known = world.members.get(some.group, frozenset())
        world.members[some.group] = known - some.addresses
        return desired.set_members(False, [], [some])

    return change


def all_members(some: list[Members]) -> Change:
    def change(world: World, desired: DesiredRuleset) -> set[RulesetKey]:
        world.members = {one.group: one.addresses for one in some}
        return desired.set_members(True, some)

    return change


def set_networks(numbers: frozenset[int]) -> Change:
    def change(world: World, desired: DesiredRuleset) -> set[RulesetKey]:
        world.networks = {network(n).key: network(n) for n in numbers}
        return desired.set_networks(world.networks.values())

    return change


changes = st.one_of(
    st.builds(attach, st.integers(0, 4), st.sampled_from([*GROUPS, "red:"])),
    st.builds(detach, st.integers(0, 4)),
    st.builds(set_filter, filters),
    st.builds(set_filter, filters),
    st.builds(drop_filter, st.sampled_from(GROUPS)),
    st.builds(join, members),
    st.builds(leave, members),
    st.builds(all_members, st.lists(members, max_size=3, unique_by=lambda m: m.group)),
    st.builds(set_networks, st.frozensets(st.integers(1, 4))),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(changes, max_size=15))
def test_changes_end_where_compiling_the_end_would(sequence: list[Change]) -> None:
    world, desired, table = World(), DesiredRuleset(), FakeTable()
    for number, group in enumerate(GROUPS):
        attach(number, group)(world, desired)
    table.apply(transaction(desired.objects, {}))
    for change in sequence:
        before = dict(table.objects)
        keys = change(world, desired)
        step = transaction(desired.objects, before, keys)
        table.apply(step)
        assert same(table.objects, desired.objects), "the keys told of all that changed"
    compiled = world.compiled().objects
    assert same(compiled, desired.objects)
    assert not transaction(compiled, table.objects)


@settings(deadline=None, max_examples=60)
@given(st.lists(changes, max_size=8), st.lists(changes, max_size=8))
def test_any_table_becomes_any_other_in_one_transaction(
    here: list[Change], there: list[Change]
) -> None:
    ends = []
    for sequence in (here, there):
        world, desired = World(), DesiredRuleset()
        for change in sequence:
            change(world, desired)
        ends.append(desired.objects)
    table = FakeTable()
    table.apply(transaction(ends[0], {}))
    table.apply(transaction(ends[1], table.objects))
    assert same(table.objects, ends[1])


def test_one_changed_rule_is_one_small_transaction() -> None:
    world, desired, table = World(), DesiredRuleset(), FakeTable()
    attach(1, "red:web")(world, desired)
    several = [FilterRule(str(n), "red:p", "in", "allow", n, "tcp") for n in range(1, 101)]
    set_filter(GroupFilter("red:web", "deny", tuple(several)))(world, desired)
    table.apply(transaction(desired.objects, {}))
    several[50] = FilterRule("51", "red:p", "in", "allow", 51, "udp")
    keys = set_filter(GroupFilter("red:web", "deny", tuple(several)))(world, desired)
    step = transaction(desired.objects, table.objects, keys)
    assert [type(one).__name__ for one in step.steps] == ["RemoveRule", "PutRule"]
    table.apply(step)
    assert same(table.objects, desired.objects)


def test_one_member_is_one_element() -> None:
    world, desired, table = World(), DesiredRuleset(), FakeTable()
    attach(1, "red:web")(world, desired)
    rule = FilterRule("1", "red:p", "in", "allow", peer=PeerMatch("red:db"))
    set_filter(GroupFilter("red:web", "deny", (rule,)))(world, desired)
    table.apply(transaction(desired.objects, {}))
    keys = join(Members("red:db", frozenset({address(77)})))(world, desired)
    step = transaction(desired.objects, table.objects, keys)
    assert [type(one).__name__ for one in step.steps] == ["PutElement"]
