"""Desired, observed, difference: after a plan is applied nothing is left to do, whatever came before."""

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from netfabric.fabric.effects import Effect, Program
from netfabric.fabric.kernel import (
    NEXTHOP_BASE,
    KernelKey,
    KernelObject,
    KernelRoute,
    Nexthop,
    NexthopGroup,
    Uplink,
    key_of,
)
from netfabric.fabric.plan import plan
from netfabric.fabric.prefix import Address, Prefix
from netfabric.fabric.reconcile import difference
from netfabric.fabric.route import Path, PathAttributes
from netfabric.fabric.upkeep import Upkeep
from tests.fabric.fake_kernel import FakeKernel, HostLink
from tests.fabric.script import of

LINKS = ("up0", "up1", "up2")
HOPS: list[Address] = [ip_address(f"10.90.{n}.{m}") for n in range(3) for m in (2, 3)]
PREFIXES: list[Prefix] = [ip_network(f"10.{n}.0.0/16") for n in range(4)]
State: TypeAlias = dict[KernelKey, KernelObject]
AGGREGATE = ip_network("10.1.0.0/26")


def uplink(number: int) -> Uplink:
    return Uplink(
        LINKS[number], ip_address(f"10.90.{number}.1"), ip_network(f"10.90.{number}.0/24")
    )


def machine() -> FakeKernel:
    kernel = FakeKernel()
    for number, name in enumerate(LINKS):
        kernel.links[name] = HostLink(addresses=(uplink(number),))
    return kernel


# any two states


@st.composite
def states(draw: st.DrawFn) -> State:
    """Draw a state that could be: groups of nexthops that are there, routes by what is there."""
    hops = draw(st.dictionaries(st.integers(1, 4), st.sampled_from(HOPS), max_size=4))
    things: list[KernelObject] = [
        Nexthop(NEXTHOP_BASE + n, hop, f"up{str(hop)[6]}") for n, hop in hops.items()
    ]
    if hops:
        members = st.sets(st.sampled_from(sorted(hops)), min_size=1)
        for number in draw(st.sets(st.integers(11, 13))):
            ids = tuple(sorted(NEXTHOP_BASE + n for n in draw(members)))
            things.append(NexthopGroup(NEXTHOP_BASE + number, ids))
    targets = [0, *(t.id for t in things if isinstance(t, Nexthop | NexthopGroup))]
    for prefix in draw(st.sets(st.sampled_from(PREFIXES))):
        target = draw(st.sampled_from(targets))
        things.append(KernelRoute(prefix, "unicast" if target else "unreachable", target))
    return {key_of(thing): thing for thing in things}


@settings(deadline=None)
@given(states(), states())
def test_a_plan_leads_from_any_state_to_any_other(before: State, wanted: State) -> None:
    kernel = machine()
    assert kernel.apply(plan(difference(wanted, {}))) == ()
    assert dict(kernel.observe().objects) == wanted
    assert kernel.apply(plan(difference(before, kernel.observe().objects))) == ()
    assert dict(kernel.observe().objects) == before
    assert not difference(before, kernel.observe().objects)


@given(states(), states())
def test_no_step_of_a_plan_takes_a_way_that_is_kept(before: State, wanted: State) -> None:
    """Make before break: a prefix that is routed in both states is routed at every step."""
    kernel = machine()
    kernel.apply(plan(difference(before, {})))
    kept = [t.prefix for k, t in before.items() if isinstance(t, KernelRoute) and k in wanted]
    for operation in plan(difference(wanted, before)):
        assert kernel.apply([operation]) == ()
        for prefix in kept:
            assert kernel.way(prefix[9]), f"{prefix} was lost at {operation}"


# what happens to a host


@dataclass(slots=True)
class Believer:
    """An upkeep and the kernel that it keeps."""

    kernel: FakeKernel = field(default_factory=machine)
    out: list[Effect] = field(default_factory=list)
    table: dict[Prefix, tuple[Path, ...]] = field(default_factory=dict)
    blocks: set[Prefix] = field(default_factory=set)

    def start(self) -> "Believer":
        self.upkeep = Upkeep(self.out)
        self.upkeep.start(self.kernel.observe(), self.kernel.uplinks())
        return self

    def carry_out(self) -> int:
        programs = of(self.out, Program)
        self.out.clear()
        for program in programs:
            self.upkeep.failed(self.kernel.apply(program.operations))
        return sum(len(program.operations) for program in programs)

    upkeep: Upkeep = field(init=False)


def paths(prefix: Prefix, hops: set[Address]) -> tuple[Path, ...]:
    return tuple(Path(prefix, str(hop), PathAttributes(hop)) for hop in sorted(hops, key=int))


class Routes(RuleBasedStateMachine):
    """Paths, links, failures, audits and restarts, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.it = Believer().start()
        self.failing = False

    @rule(prefix=st.sampled_from(PREFIXES), hops=st.sets(st.sampled_from(HOPS), max_size=4))
    def say(self, prefix: Prefix, hops: set[Address]) -> None:
        self.it.table.pop(prefix, None)
        if hops:
            self.it.table[prefix] = paths(prefix, hops)
        self.it.upkeep.paths_changed([prefix], self.it.table)
        self.it.carry_out()

    @rule(link=st.sampled_from(LINKS))
    def flip(self, link: str) -> None:
        self.it.kernel.set_link(link, up=not self.it.kernel.links[link].up)
        self.it.upkeep.uplinks_changed(self.it.kernel.uplinks(), self.it.table)
        self.it.carry_out()

    @rule(wanted=st.booleans())
    def aggregate(self, wanted: bool) -> None:
        (self.it.blocks.add if wanted else self.it.blocks.discard)(AGGREGATE)
        self.it.upkeep.aggregate(AGGREGATE, wanted)
        self.it.carry_out()

    @rule()
    def fail(self) -> None:
        self.it.kernel.fail_next()
        self.failing = True

    @rule(what=st.sampled_from(["routes", "nexthops"]))
    def flush(self, what: str) -> None:
        if what == "routes":
            self.it.kernel.routes.clear()
        else:
            for number in list(self.it.kernel.nexthops):
                if number in self.it.kernel.nexthops:
                    self.it.kernel._drop_nexthop(number)
        self.failing = True

    @rule()
    def audit(self) -> None:
        self.it.kernel.failures.clear()
        self.it.upkeep.audit(self.it.kernel.observe(), {}, set())
        self.it.carry_out()
        self.failing = False

    @rule()
    def restart(self) -> None:
        """The agent starts anew, hears the same again, and settles."""
        self.it.out.clear()
        self.it.start()
        for block in self.it.blocks:
            self.it.upkeep.aggregate(block, True)
        self.it.upkeep.paths_changed(self.it.table, self.it.table)
        changed = self.it.carry_out()
        self.it.upkeep.settle()
        changed += self.it.carry_out()
        assert self.failing or not changed, "a restart reprogrammed what was right"

    @invariant()
    def the_kernel_does_as_the_table_says(self) -> None:
        if self.failing:
            return
        kernel = self.it.kernel
        links = {u.link for u in kernel.uplinks()}
        for prefix in PREFIXES:
            hops = [path.attributes.next_hop for path in self.it.table.get(prefix, ())]
            ways = sorted(f"up{str(hop)[6]}" for hop in hops if f"up{str(hop)[6]}" in links)
            assert kernel.way(prefix[9 << 8]) == "+".join(ways)
        shown = kernel.way(AGGREGATE[5]) == "unreachable"
        assert shown == (AGGREGATE in self.it.blocks)
        self.it.upkeep.audit(kernel.observe(), {}, set())
        assert not self.it.carry_out(), "an audit found something to do"
        used = {t.nexthop for t, _ in kernel.routes.values() if isinstance(t, KernelRoute)}
        used |= {m for t, _ in kernel.nexthops.values() for m in getattr(t, "members", ())}
        assert used - {0} == kernel.nexthops.keys(), "a nexthop that nobody uses was left"
        assert len(self.it.upkeep.resolver.ids.ids) <= 40


TestRoutes = Routes.TestCase
TestRoutes.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
