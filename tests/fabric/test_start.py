"""Starts: on a fresh host, after a crash, after a reboot, and with the journal lost."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from netfabric.fabric.effects import (
    Announce,
    Attach,
    AttachAnswer,
    Audit,
    ConfigureSpeaker,
    Detach,
    DetachAnswer,
    EndReplay,
    Program,
    Record,
    Refuse,
    Tell,
)
from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.errors import KernelError, NamespaceGoneError, ShapingError
from netfabric.fabric.events import (
    Advertised,
    Attached,
    JournalState,
    KernelObserved,
    MasterLost,
    MasterSaid,
    PeerDown,
    PeerUp,
)
from netfabric.fabric.filter import GroupFilter
from netfabric.fabric.kernel import EndpointLink, Operation
from netfabric.fabric.profile import Bandwidth, Limit, Profile
from netfabric.fabric.session import (
    BlockReturned,
    BlockWanted,
    EndpointsChanged,
    HeldBlock,
    HeldLoan,
    Hello,
    Version,
)
from netfabric.fabric.upkeep import link_of
from tests.fabric.script import (
    BLUE,
    BLUE_BLOCK,
    DUAL,
    NOW,
    SETTINGS,
    TORS,
    Script,
    announced,
    intent,
    kernel,
    key,
    names,
    of,
    request,
    told,
    withdrawn,
)


def endpoint(number: int) -> Endpoint:
    """Return what `Script.up` makes of container c<number> alone on its host."""
    script = Script().ready(BLUE, blocks=[BLUE_BLOCK])
    return script.up(request(f"c{number}", BLUE, f"10.1.0.{number}"))


ONE, TWO = endpoint(1), endpoint(2)
JOURNAL = JournalState((ONE, TWO), blocks=(BLUE_BLOCK,), intent=intent(BLUE))
BOTH = kernel(link_of(ONE), link_of(TWO))
SECOND = ip_network("10.1.0.64/26")
UNKNOWN = EndpointLink("nf0000000000ff", "02:02:0a:01:00:09", (ip_address("10.1.0.9"),), 1500)


def test_a_restart_offers_everything_again_and_changes_nothing() -> None:
    script = Script()
    effects = script.start(JOURNAL, BOTH)
    said = [name for name in names(effects) if name != "Tell"]
    assert said == ["ConfigureSpeaker", "Announce", "EndReplay"]
    assert announced(effects) == {"10.1.0.1/32", "10.1.0.2/32"}
    assert str(script.up(request("c3")).addresses[0]) == "10.1.0.3"


def test_a_restart_leaves_the_limits_of_a_group_and_one_that_fails_takes_nobody_off() -> None:
    limit = Limit(20_000_000)
    slow = GroupFilter("default:slow", network=BLUE.key, profile=Profile(Bandwidth(limit, limit)))
    member = replace(ONE, group="slow")
    limited = replace(member, bandwidth=slow.profile.bandwidth)
    known = replace(intent(BLUE), filters=(slow,))
    script = Script()
    journal = replace(JOURNAL, endpoints=(member,), intent=known)
    effects = script.start(journal, kernel(link_of(limited)))
    assert not of(effects, Attach)
    assert announced(effects) == {"10.1.0.1/32"}
    faster = replace(slow, profile=Profile(Bandwidth(send=limit)))
    change = replace(known, full=False, version=Version("e", 9), networks=(), filters=(faster,))
    (again,) = of(script(MasterSaid(change)), Attach)
    assert again.endpoint.bandwidth == Bandwidth(send=limit)
    failed = script(Attached(member.key, ShapingError("no ifb")))
    assert not withdrawn(failed)
    assert names(failed) == ["Warn"]


def test_a_damaged_endpoint_is_mended_first_and_the_replay_waits_for_it() -> None:
    script = Script()
    effects = script.start(JOURNAL, kernel(link_of(ONE)))
    assert [attach.endpoint for attach in of(effects, Attach)] == [TWO]
    assert announced(effects) == {"10.1.0.1/32"}
    assert not of(effects, EndReplay)
    mended = script.attached("c2")
    assert announced(mended) == {"10.1.0.2/32"}
    assert names(mended)[-1] == "EndReplay"


def test_after_a_reboot_nothing_is_announced_that_is_not_there() -> None:
    script = Script()
    effects = script.start(JOURNAL, kernel())
    assert not of(effects, Announce)
    assert len(of(effects, Attach)) == 2
    for name in ("c1", "c2"):
        effects = script.attached(name, NamespaceGoneError(f"/run/netns/{name}", ""))
        assert not of(effects, Announce)
    assert of(effects, EndReplay)  # with it goes what was announced before the reboot
    script.left([*ONE.prefixes, *TWO.prefixes], withdrawn=True)
    assert len(of(script.later(SETTINGS.drain), Detach)) == 2
    script.detached("c1")
    assert str(script.up(request("new")).addresses[0]) == "10.1.0.3"  # c1's cools down


def test_an_endpoint_that_cannot_be_mended_stays_and_is_tried_again() -> None:
    script = Script()
    script.start(JOURNAL, kernel(link_of(ONE)))
    failed = script.attached("c2", KernelError("netlink", ""))
    assert of(failed, EndReplay)
    assert not announced(failed)
    assert of(script(KernelObserved(kernel(link_of(ONE)))), Attach)
    assert announced(script.attached("c2")) == {"10.1.0.2/32"}


def test_an_add_of_what_is_being_mended_is_answered_when_it_stands() -> None:
    script = Script()
    script.start(JOURNAL, kernel(link_of(ONE)))
    assert script.add(request("c2")) == []
    assert names(script.attached("c2"))[-2:] == ["AttachAnswer", "EndReplay"]


def test_a_begun_del_goes_on_and_still_withdraws_before_it_breaks() -> None:
    script = Script()
    journal = replace(JOURNAL, detaching=frozenset({key("c2")}))
    effects = script.start(journal, BOTH)
    assert announced(effects) == {"10.1.0.1/32"}
    assert not of(effects, Detach)  # the peers may still have its route
    for tor in TORS:
        script(Advertised(tor, (), (ip_network("10.1.0.2/32"),)))
    assert of(script.later(SETTINGS.drain), Detach)
    script.delete("c2")
    assert of(script.recorded(script.detached("c2")), DetachAnswer)


def test_a_begun_del_is_not_held_up_by_peers_that_are_away() -> None:
    script = Script()
    script.start(replace(JOURNAL, detaching=frozenset({key("c2")})), BOTH)
    for tor in TORS:
        script(PeerDown(tor, "no route"))
    assert of(script.later(SETTINGS.drain), Detach)


def test_a_link_that_the_journal_does_not_know_is_removed() -> None:
    """An ADD was interrupted. Peers may have its route until the replay has withdrawn it."""
    script = Script()
    found = kernel(link_of(ONE), link_of(TWO), UNKNOWN)
    assert not of(script.start(JOURNAL, found), Program)
    script.later(SETTINGS.advertise_timeout)
    assert not of(script(KernelObserved(found)), Program)
    script.later(SETTINGS.drain)
    assert of(script(KernelObserved(found)), Program) == [Program((Operation("remove", UNKNOWN),))]
    # its address was not given out meanwhile, not even to who asked for it
    for address in UNKNOWN.addresses:
        assert of(script.add(request("named", BLUE, str(address))), Refuse)
    given = [script.up(request(f"x{n}")).addresses[0] for n in range(10)]
    assert not {*UNKNOWN.addresses} & {*given}


def test_cooling_loans_and_blocks_outlive_a_restart() -> None:
    loans = (
        HeldLoan("lent", BLUE.key, BLUE_BLOCK.prefix, "h1", "h2", ip_address("10.1.0.4")),
        HeldLoan("mine", BLUE.key, ip_network("10.1.7.0/26"), "h2", "h1", ip_address("10.1.7.7")),
    )
    script = Script()
    script.start(
        replace(JOURNAL, cooling=(((BLUE.key, ip_address("10.1.0.3")), NOW + 5),), loans=loans),
        BOTH,
    )
    assert str(script.up(request("x")).addresses[0]) == "10.1.0.5"
    assert str(script.up(request("y", BLUE, "10.1.7.7")).addresses[0]) == "10.1.7.7"
    script.later(5)
    assert str(script.up(request("z")).addresses[0]) == "10.1.0.3"


def test_a_speaker_that_is_not_wanted_any_more_is_told_so() -> None:
    effects = Script().start(replace(JOURNAL, intent=intent(BLUE, peers=())), BOTH)
    assert of(effects, ConfigureSpeaker) == [ConfigureSpeaker(None)]


def test_hello_says_all_that_is_here() -> None:
    script = Script()
    script.start(JOURNAL, BOTH)
    (hello,) = told(script.connect(), Hello)
    assert (hello.blocks, hello.endpoints, hello.fresh) == ((BLUE_BLOCK,), (ONE, TWO), False)
    assert hello.seen == intent().version


def test_endpoints_that_only_the_store_knows_are_forgotten_there() -> None:
    script = Script()
    script.start(replace(JOURNAL, endpoints=(ONE,)), kernel(link_of(ONE)))
    script.connect()
    effects = script.welcome(BLUE_BLOCK, endpoints=[ONE, TWO])
    assert told(effects, EndpointsChanged) == [EndpointsChanged(down=(TWO.key,))]


# the journal is lost


def lost(*links: EndpointLink) -> Script:
    script = Script()
    assert script.start(None, kernel(*links)) == []
    (hello,) = told(script.connect(), Hello)
    assert hello.fresh
    return script


@pytest.mark.parametrize("intent_first", [True, False])
def test_what_the_store_and_the_kernel_know_is_adopted(intent_first: bool) -> None:
    script = lost(link_of(ONE), UNKNOWN)
    effects = list(script.says(intent(BLUE))) if intent_first else []
    assert not of(effects, Announce)
    assert not of(effects, Record)
    effects += script.welcome(BLUE_BLOCK, endpoints=[ONE, TWO])
    if not intent_first:
        assert not of(effects, EndReplay)
        effects += script.says(intent(BLUE))
    assert announced(effects) == {"10.1.0.1/32"}
    assert len(of(effects, EndReplay)) == 1
    assert told(effects, EndpointsChanged) == [EndpointsChanged(down=(TWO.key,))]
    assert of(effects, Audit)
    recorded = [record.change for record in of(effects, Record)]
    assert [c.endpoint for c in recorded if c.endpoint] == [ONE]
    assert recorded[-1].intent is not None, "intent is last: it says that the rest is there"
    # neither the adopted address nor the unknown link's is given out, nor TWO's taken for used
    assert str(script.up(request("x")).addresses[0]) == "10.1.0.2"
    for name in ("d", "e", "f", "g", "h", "i", "j"):
        assert script.up(request(name)).addresses[0] not in (*ONE.addresses, *UNKNOWN.addresses)
    script.later(SETTINGS.cool_down)
    assert str(script.up(request("k", BLUE, "10.1.0.9")).addresses[0]) == "10.1.0.9"


def test_unknown_links_are_removed_only_once_it_is_known_what_is_here() -> None:
    script = lost(link_of(ONE), UNKNOWN)
    everything = kernel(link_of(ONE), UNKNOWN)
    assert not of(script(KernelObserved(everything)), Program)
    script.welcome(BLUE_BLOCK, endpoints=[ONE])
    script.says(intent(BLUE))
    assert not of(script(KernelObserved(everything)), Program)
    script.later(SETTINGS.advertise_timeout + SETTINGS.drain)
    assert of(script(KernelObserved(everything)), Program) == [
        Program((Operation("remove", UNKNOWN),))
    ]


def test_a_crash_before_the_first_welcome_leaves_the_journal_as_lost_as_it_was() -> None:
    script = Script()
    script.start(JournalState(), kernel(link_of(ONE)))
    assert told(script.connect(), Hello)[0].fresh
    assert not of(script(KernelObserved(kernel(link_of(ONE)))), Program)
    effects = [*script.welcome(BLUE_BLOCK, endpoints=[ONE]), *script.says(intent(BLUE))]
    assert announced(effects) == {"10.1.0.1/32"}


def test_a_damaged_endpoint_of_the_store_is_mended_before_it_is_announced() -> None:
    script = lost(replace(link_of(ONE), addresses=()))
    effects = [*script.welcome(BLUE_BLOCK, endpoints=[ONE]), *script.says(intent(BLUE))]
    assert not of(effects, Announce)
    assert of(script(KernelObserved(kernel())), Attach)
    assert announced(script.attached("c1")) == {"10.1.0.1/32"}


def test_an_add_that_waits_gets_the_endpoint_that_is_there_once_it_is_durable() -> None:
    script = lost(link_of(ONE))
    assert script.add(request("c1")) == []
    welcomed = script.welcome(BLUE_BLOCK, endpoints=[ONE])
    assert not of(welcomed, AttachAnswer)
    (answer,) = of(script.recorded(welcomed), AttachAnswer)
    assert answer.endpoint == ONE
    assert not of(script.says(intent(BLUE)), Attach)


def test_an_add_that_waits_for_a_new_container_of_the_same_name_is_told_so() -> None:
    script = lost(link_of(ONE))
    script.add(request("c1", namespace="/run/netns/another"))
    (refused,) = of(script.welcome(BLUE_BLOCK, endpoints=[ONE]), Refuse)
    assert ONE.namespace in str(refused.error)


def test_the_store_forgets_an_endpoint_that_is_about_to_be_made_anew() -> None:
    script = lost()
    script.add(request("c1"))
    assert told(script.welcome(BLUE_BLOCK, endpoints=[ONE]), EndpointsChanged) == [
        EndpointsChanged(down=(ONE.key,))
    ]


# netmaster comes and goes


def test_endpoints_are_reported_gone_before_their_block_goes_back() -> None:
    script = Script().ready(BLUE, blocks=[BLUE_BLOCK, HeldBlock(BLUE.key, SECOND)])
    script.up(request("x", BLUE, "10.1.0.65"))
    script(MasterLost("gone"))
    script.gone("x")
    script.recorded(script.later(SETTINGS.cool_down))
    script.connect()
    stale = replace(ONE, key=key("x"), addresses=(ip_address("10.1.0.65"),))
    effects = script.welcome(BLUE_BLOCK, HeldBlock(BLUE.key, SECOND), endpoints=[stale])
    said = [type(m) for m in (*told(effects, EndpointsChanged), *told(effects, BlockReturned))]
    order = [type(t.message) for t in of(effects, Tell)]
    assert [kind for kind in order if kind in said] == [EndpointsChanged, BlockReturned]


def test_what_was_asked_is_asked_anew_of_another_netmaster() -> None:
    script = Script().ready(BLUE, DUAL)
    script.add(request("a"))
    script(MasterLost("gone"))
    script.connect()
    assert told(script.welcome(), BlockWanted) == [BlockWanted(BLUE.key, 4)]


def test_the_first_tick_of_a_start_at_rest_says_nothing() -> None:
    script = Script()
    script.start(JOURNAL, BOTH)
    script(PeerUp(TORS[0]))
    script.later(2)
    assert not [e for e in script.later(1) if not isinstance(e, Tell)]
    assert withdrawn(script.later(1)) == set()
