"""What rules have counted: added up by rule, told when it moves, and added up over hosts."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from netfabric.fabric.counts import (
    INTERVAL,
    LIMIT,
    Counting,
    Reading,
    Tally,
    counted,
    dump_counts,
    load_counts,
)
from netfabric.fabric.effects import Count
from netfabric.fabric.events import Counted
from netfabric.fabric.filter import GroupFilter
from netfabric.fabric.guard import FEATURE
from netfabric.fabric.session import CountsChanged, RuleCount
from tests.fabric.script import BLUE, BLUE_BLOCK, SETTINGS, Script, intent, of, request, told

WEB = "default:web"
ONE = RuleCount(WEB, "in", "default:p/1", 3, 180)
counts = st.builds(
    RuleCount,
    st.sampled_from([WEB, "red:web"]),
    st.sampled_from(["in", "out"]),
    st.sampled_from(["default", "default:p/1"]),
    st.integers(1, 9),
    st.integers(40, 99),
)
of_host = st.lists(counts, unique_by=lambda one: (one.group, one.direction, one.rule)).map(tuple)


def ready() -> Script:
    script = Script(replace(SETTINGS, features=(FEATURE,)))
    script.ready(BLUE, blocks=(BLUE_BLOCK,))
    script.says(intent(BLUE, full=False, filters=(GroupFilter(WEB, "deny", network=BLUE.key),)))
    script.up(replace(request("c1"), group="web"))
    return script


def test_the_variants_of_a_rule_are_one() -> None:
    own = [
        Reading("default:p/1#4", 1, 60),
        Reading("default:p/1#6", 2, 160),
        Reading("default:p/2#4.8", 0, 0),
        Reading("default", 5, 300),
    ]
    assert counted(WEB, "in", own, []) == [
        RuleCount(WEB, "in", "default:p/1", 3, 220),
        RuleCount(WEB, "in", "default", 5, 300),
    ]


def test_another_tenants_packets_are_counted_where_they_end() -> None:
    own = [Reading("other tenant#4", 7, 420), Reading("default:p/1#4", 1, 60)]
    assert counted(WEB, "in", own, [])[0] == RuleCount(WEB, "in", "other tenant", 7, 420)
    others = [Reading("default:p/1#4", 3, 180), Reading("other tenant", 4, 240)]
    assert counted(WEB, "in", own, others) == [
        RuleCount(WEB, "in", "default:p/1", 4, 240),
        RuleCount(WEB, "in", "other tenant", 4, 240),
    ]


def test_a_host_counts_what_has_a_filter_and_tells_what_moved() -> None:
    script = ready()
    (count,) = of(script.later(INTERVAL + 1), Count)
    assert count.groups == (WEB,)
    assert told(script(Counted((ONE,))), CountsChanged) == [CountsChanged((ONE,))]
    assert not of(script.later(1), Count)
    assert of(script.later(INTERVAL + 1), Count)
    assert not told(script(Counted((ONE,))), CountsChanged), "nothing has moved"
    assert told(script.connect(), CountsChanged) == [CountsChanged((ONE,))]


def test_the_busiest_are_told_of_and_more_take_longer() -> None:
    out: list[object] = []
    counting = Counting(out)  # type: ignore[arg-type]
    many = tuple(RuleCount(WEB, "in", f"default:p/{n}", n, n) for n in range(1, LIMIT + 11))
    counting.counted(many, 0)
    assert len(counting.told) == LIMIT
    assert min(one.packets for one in counting.told) == 11
    assert counting.due > 4 * INTERVAL


@given(st.lists(st.tuples(st.sampled_from(["h1", "h2"]), of_host)))
def test_a_tally_is_the_sum_of_the_hosts(steps: list[tuple[str, tuple[RuleCount, ...]]]) -> None:
    tally, hosts = Tally(), dict[str, tuple[RuleCount, ...]]()
    for host, some in steps:
        tally.put(host, some)
        hosts[host] = some
    for one in (one for _, some in steps for one in some):
        same = [
            other
            for some in hosts.values()
            for other in some
            if (other.group, other.direction, other.rule) == (one.group, one.direction, one.rule)
        ]
        sums = (sum(o.packets for o in same), sum(o.octets for o in same))
        assert tally.of(one.group, one.direction, one.rule) == sums
    assert set(tally.packets) == {(o.group, o.direction, o.rule) for s in hosts.values() for o in s}


@given(of_host)
def test_counts_survive_the_store(some: tuple[RuleCount, ...]) -> None:
    assert set(load_counts(dump_counts(some))) == set(some)
