"""`announce: blocks`: an aggregate a block with an unreachable rest, and what it does not cover."""

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from netfabric.fabric.effects import Announce, Program, Withdraw
from netfabric.fabric.kernel import KernelRoute, Operation
from netfabric.fabric.session import BlockReturned, HeldLoan
from tests.fabric.script import (
    BLUE,
    BLUE_BLOCK,
    SETTINGS,
    Script,
    announced,
    block,
    intent,
    names,
    of,
    request,
    told,
    withdrawn,
)

BLOCKS = replace(BLUE, announce="blocks")
SECOND = block(BLUE, "10.1.0.64/26")
REST = KernelRoute(BLUE_BLOCK.prefix, "unreachable")
BORROWED = HeldLoan("l1", BLUE.key, ip_network("10.1.7.0/26"), "h2", "h1", ip_address("10.1.7.7"))


@pytest.fixture
def script() -> Script:
    return Script().ready(BLOCKS, blocks=[BLUE_BLOCK])


def operations(effects: Iterable[object]) -> list[Operation]:
    return [o for one in effects if isinstance(one, Program) for o in one.operations]


def test_a_block_is_announced_after_its_unreachable_rest_stands() -> None:
    script = Script()
    script.start()
    script.connect()
    script.welcome(BLUE_BLOCK)
    effects = script.says(intent(BLOCKS))
    assert announced(effects) == {"10.1.0.0/26"}
    assert operations(effects) == [Operation("put", REST)]
    order = names(effects)
    assert order.index("Program") < order.index("Announce") < order.index("EndReplay")


def test_an_endpoint_in_it_is_not_announced_by_itself(script: Script) -> None:
    begun = script.add(request("a", BLOCKS))
    script.attached("a")
    assert names(script.recorded(begun)) == ["Tell", "AttachAnswer"]
    assert names(script.delete("a")) == ["Record", "Detach"]


def test_a_borrowed_address_is_announced_by_itself(script: Script) -> None:
    script.welcome(BLUE_BLOCK, loans=[BORROWED])
    begun = script.add(request("a", BLOCKS, "10.1.7.7"))
    script.attached("a")
    assert announced(script.recorded(begun)) == {"10.1.7.7/32"}
    assert withdrawn(script.delete("a")) == {"10.1.7.7/32"}


def test_a_returned_block_is_withdrawn_before_it_is_given_back(script: Script) -> None:
    assert announced(script.give(BLOCKS, "10.1.0.64/26")) == {"10.1.0.64/26"}
    script.up(request("x", BLOCKS, "10.1.0.65"))
    script.gone("x")
    cooled = script.later(SETTINGS.cool_down)
    assert withdrawn(cooled) == {"10.1.0.64/26"}
    assert operations(cooled) == [Operation("remove", KernelRoute(SECOND.prefix, "unreachable"))]
    assert told(script.recorded(cooled), BlockReturned)


def test_a_lost_block_in_use_is_no_aggregate_any_more_and_its_endpoints_stay_reachable(
    script: Script,
) -> None:
    script.up(request("a", BLOCKS))
    script.connect()
    effects = script.welcome()
    assert announced(effects) == {"10.1.0.1/32"}
    assert withdrawn(effects) == {"10.1.0.0/26"}
    order = names(effects)
    assert order.index("Announce") < order.index("Withdraw")
    back = script.welcome(BLUE_BLOCK)
    assert (announced(back), withdrawn(back)) == ({"10.1.0.0/26"}, {"10.1.0.1/32"})


def test_the_mode_may_change_both_ways_without_a_gap(script: Script) -> None:
    script.up(request("a", BLOCKS))
    to_hosts = script.says(intent(BLUE))
    assert [type(e) for e in to_hosts if isinstance(e, Announce | Withdraw)] == [
        Announce,
        Withdraw,
    ]
    assert (announced(to_hosts), withdrawn(to_hosts)) == ({"10.1.0.1/32"}, {"10.1.0.0/26"})
    to_blocks = script.says(intent(BLOCKS))
    assert [type(e) for e in to_blocks if isinstance(e, Announce | Withdraw)] == [
        Announce,
        Withdraw,
    ]
    assert (announced(to_blocks), withdrawn(to_blocks)) == ({"10.1.0.0/26"}, {"10.1.0.1/32"})


def test_an_endpoint_that_leaves_at_the_time_is_not_announced_again(script: Script) -> None:
    network = replace(BLUE, announce="host-routes")
    script = Script().ready(network, blocks=[BLUE_BLOCK])
    script.up(request("a", network))
    script.delete("a")
    script.says(intent(BLOCKS))
    assert announced(script.says(intent(network))) == set()
    assert of(script.later(SETTINGS.advertise_timeout), Program) == []
