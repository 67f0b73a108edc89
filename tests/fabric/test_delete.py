from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from netfabric.fabric.attachment import Phase
from netfabric.fabric.effects import (
    Attach,
    AttachAnswer,
    Detach,
    DetachAnswer,
    Record,
    Refuse,
)
from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.errors import ConflictError, KernelError, NamespaceGoneError
from netfabric.fabric.events import Attached, CollectRequested, KernelObserved, PeerDown
from netfabric.fabric.prefix import host_prefix
from netfabric.fabric.session import EndpointsChanged
from netfabric.fabric.upkeep import link_of
from tests.fabric.script import (
    BLUE,
    BLUE_BLOCK,
    DUAL,
    DUAL_BLOCKS,
    SETTINGS,
    TORS,
    Effects,
    Script,
    announced,
    kernel,
    key,
    names,
    of,
    request,
    told,
    withdrawn,
)

ROUTE = host_prefix(ip_address("10.1.0.1"))
BROKEN = KernelError("netlink", "try again")


@pytest.fixture
def script() -> Script:
    return Script().ready(BLUE, DUAL, blocks=[BLUE_BLOCK, *DUAL_BLOCKS])


@pytest.fixture
def endpoint(script: Script) -> Endpoint:
    return script.up(request("a"))


def tokens(effects: Effects, kind: type[DetachAnswer | Refuse | AttachAnswer]) -> list[int]:
    return [effect.token for effect in of(effects, kind)]


def test_withdraw_before_break(script: Script, endpoint: Endpoint) -> None:
    begun = script.delete("a")
    assert names(begun) == ["Record", "Withdraw"]
    assert of(begun, Record)[0].change.detaching == key("a")
    assert withdrawn(begun) == {"10.1.0.1/32"}
    assert not of(script.left([ROUTE], withdrawn=True), Detach)
    assert of(script.later(SETTINGS.drain), Detach)
    gone = script.detached("a")
    assert [change.down for change in told(gone, EndpointsChanged)] == [(key("a"),)]
    (record,) = of(gone, Record)
    assert record.change.gone == key("a")
    assert record.change.cooling == (
        ((BLUE.key, endpoint.addresses[0]), script.now + SETTINGS.cool_down),
    )
    assert not of(gone, DetachAnswer)
    assert of(script.recorded(gone), DetachAnswer)


def test_both_families_are_withdrawn_and_cool_down_together(script: Script) -> None:
    script.up(request("d", DUAL))
    begun = script.delete("d")
    assert withdrawn(begun) == {"10.2.0.1/32", "fd10:2::1/128"}
    script.left([ip_network("10.2.0.1/32")], withdrawn=True)
    assert not of(script.later(SETTINGS.drain), Detach)
    script.left([ip_network("fd10:2::1/128")], withdrawn=True)
    script.later(SETTINGS.drain)
    script.recorded(script.detached("d"))
    assert str(script.up(request("e", DUAL)).addresses[1]) == "fd10:2::2"
    script.later(SETTINGS.cool_down)
    assert [str(a) for a in script.up(request("f", DUAL)).addresses] == ["10.2.0.1", "fd10:2::1"]


def test_a_withdrawal_that_never_leaves_holds_up_nobody(script: Script, endpoint: Endpoint) -> None:
    script.delete("a")
    script.later(SETTINGS.advertise_timeout)
    assert of(script.later(SETTINGS.drain), Detach)


def test_the_announcement_that_leaves_late_is_no_withdrawal(
    script: Script, endpoint: Endpoint
) -> None:
    script.delete("a")
    script.left([ROUTE])
    assert not of(script.later(SETTINGS.drain), Detach)


def test_a_dead_peer_is_not_waited_for(script: Script, endpoint: Endpoint) -> None:
    script.delete("a")
    for tor in TORS:
        script(PeerDown(tor, "hold time"))
    assert of(script.later(SETTINGS.drain), Detach)


def test_without_peers_it_is_detached_at_once() -> None:
    script = Script().ready(BLUE, blocks=[BLUE_BLOCK], peers=())
    script.up(request("a"))
    assert names(script.delete("a")) == ["Record", "Withdraw", "Detach"]


def test_del_of_what_is_unknown_succeeds(script: Script) -> None:
    assert names(script.delete("never")) == ["DetachAnswer"]


def test_del_before_it_is_known_what_is_here_is_an_error() -> None:
    script = Script()
    script.start()
    (refused,) = of(script.delete("a"), Refuse)
    assert "journal" in str(refused.error)


def test_del_twice_is_done_once_and_answered_twice(script: Script, endpoint: Endpoint) -> None:
    script.delete("a")
    assert script.delete("a") == []
    script.left([ROUTE], withdrawn=True)
    script.later(SETTINGS.drain)
    assert len(of(script.recorded(script.detached("a")), DetachAnswer)) == 2


def test_del_during_the_waiting_ends_the_add() -> None:
    script = Script().ready(BLUE)
    script.add(request("a"))
    ended = script.delete("a")
    assert names(ended) == ["Refuse", "DetachAnswer"]
    assert not of(script.give(BLUE, "10.1.0.0/26"), Attach)


@pytest.mark.parametrize("recorded", [True, False])
def test_del_during_the_building_is_never_announced(script: Script, recorded: bool) -> None:
    begun = script.add(request("a"))
    if recorded:
        script.recorded(begun)
    assert isinstance(of(script.delete("a"), Refuse)[0].error, ConflictError)
    effects = [*script.attached("a"), *([] if recorded else script.recorded(begun))]
    assert names(effects) == ["Detach"]
    end = script.recorded(script.detached("a"))
    assert tokens(end, DetachAnswer) == [2]
    assert not announced([*effects, *end])


def test_add_during_del_is_refused_and_possible_afterwards(
    script: Script, endpoint: Endpoint
) -> None:
    script.delete("a")
    for _ in range(2):
        (refused,) = of(script.add(request("a")), Refuse)
        assert isinstance(refused.error, ConflictError)
        script.left([ROUTE], withdrawn=True)
    script.later(SETTINGS.drain)
    script.recorded(script.detached("a"))
    assert str(script.up(request("a")).addresses[0]) == "10.1.0.2"


def test_del_while_the_fabric_is_awaited() -> None:
    network = replace(BLUE, ready="fabric")
    script = Script().ready(network, blocks=[BLUE_BLOCK])
    begun = script.add(request("a", network))
    script.attached("a")
    script.recorded(begun)
    ended = script.delete("a")
    assert of(ended, Refuse)
    assert withdrawn(ended) == {"10.1.0.1/32"}
    assert not of(script.left([ROUTE]), AttachAnswer)
    script.left([ROUTE], withdrawn=True)
    assert of(script.later(SETTINGS.drain), Detach)


def test_a_datapath_that_stays_is_an_error_and_tried_again_by_the_next_del(
    script: Script, endpoint: Endpoint
) -> None:
    script.delete("a")
    script.later(SETTINGS.advertise_timeout)
    script.later(SETTINGS.drain)
    failed = script.detached("a", BROKEN)
    assert tokens(failed, Refuse) == [1 + 1]
    assert of(script.delete("a"), Detach)
    assert script.delete("a") == []  # under way already
    assert len(of(script.recorded(script.detached("a")), DetachAnswer)) == 2


def test_a_datapath_that_stays_is_tried_again_by_the_audit(
    script: Script, endpoint: Endpoint
) -> None:
    script.delete("a")
    script.later(SETTINGS.advertise_timeout)
    script.later(SETTINGS.drain)
    assert not of(script(KernelObserved(kernel(link_of(endpoint)))), Detach)
    script.detached("a", BROKEN)
    assert names(script(KernelObserved(kernel(link_of(endpoint))))) == ["Detach"]
    script.recorded(script.detached("a"))
    assert script.host.attachments.known == {}


def test_a_del_of_a_whole_container_ends_with_its_last_interface(script: Script) -> None:
    for interface in ("eth0", "eth1"):
        wanted = replace(request("a"), key=EndpointKey("a", interface))
        begun = script.add(wanted)
        script(Attached(wanted.key))
        script.recorded(begun)
    begun = script.delete("a", "")
    assert withdrawn(begun) == {"10.1.0.1/32", "10.1.0.2/32"}


def test_one_failure_of_a_gc_refuses_it_and_the_rest_goes_on(script: Script) -> None:
    for name in ("a", "b", "c"):
        script.up(request(name))
    begun = script(CollectRequested(99, frozenset({key("c")})))
    assert withdrawn(begun) == {"10.1.0.1/32", "10.1.0.2/32"}
    script.later(SETTINGS.advertise_timeout)
    script.later(SETTINGS.drain)
    assert tokens(script.detached("a", BROKEN), Refuse) == [99]
    end = script.recorded(script.detached("b"))
    assert not of(end, DetachAnswer)
    assert script.host.attachments.known.keys() == {key("a"), key("c")}


def test_a_container_that_is_gone_is_taken_down_without_a_del(
    script: Script, endpoint: Endpoint
) -> None:
    assert of(script(KernelObserved(kernel())), Attach)
    gone = script.attached("a", NamespaceGoneError("/run/netns/a", ""))
    assert withdrawn(gone) == {"10.1.0.1/32"}
    assert script.host.attachments.known[key("a")].phase is Phase.WITHDRAWING


def test_what_cannot_be_mended_is_withdrawn_until_it_is(script: Script, endpoint: Endpoint) -> None:
    assert of(script(KernelObserved(kernel())), Attach)
    assert withdrawn(script.attached("a", BROKEN)) == {"10.1.0.1/32"}
    assert script.host.endpoint(key("a")) == endpoint
    assert of(script(KernelObserved(kernel())), Attach)
    assert announced(script.attached("a")) == {"10.1.0.1/32"}


def test_a_journal_that_fails_at_the_end_does_not_hold_the_del_up(
    script: Script, endpoint: Endpoint
) -> None:
    script.delete("a")
    script.later(SETTINGS.advertise_timeout)
    script.later(SETTINGS.drain)
    assert of(script.recorded(script.detached("a"), BROKEN), DetachAnswer)
