from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from netfabric.fabric.effects import Announce, Attach, AttachAnswer, Detach, Record, Refuse, Warn
from netfabric.fabric.errors import (
    ConflictError,
    ExhaustedError,
    FabricError,
    InvalidError,
    KernelError,
    NamespaceGoneError,
    NotFoundError,
    UnauthorizedError,
    UnavailableError,
)
from netfabric.fabric.events import AttachRequested, MasterLost, PeerDown
from netfabric.fabric.filter import GroupFilter
from netfabric.fabric.network import Network
from netfabric.fabric.prefix import host_prefix
from netfabric.fabric.session import (
    BlockAnswered,
    BlockWanted,
    EndpointsAnswered,
    EndpointsChanged,
    HeldLoan,
    RefusedEndpoint,
    StoredEndpoint,
)
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
    intent,
    key,
    names,
    of,
    request,
    told,
    withdrawn,
)

BROKEN = KernelError("disk", "mend it")


@pytest.fixture
def script() -> Script:
    return Script().ready(BLUE, DUAL, blocks=[BLUE_BLOCK, *DUAL_BLOCKS])


def refusal(effects: Effects) -> FabricError:
    (refused,) = of(effects, Refuse)
    return refused.error


def test_an_add_is_recorded_and_attached_before_anything_else(script: Script) -> None:
    begun = script.add(request("a"))
    assert names(begun) == ["Record", "Attach"]
    (record,), (attach,) = of(begun, Record), of(begun, Attach)
    assert record.change.endpoint == attach.endpoint
    assert attach.endpoint.addresses == (ip_address("10.1.0.1"),)
    assert attach.endpoint.mac == "02:02:0a:01:00:01"
    assert len(attach.endpoint.link) <= 15


@pytest.mark.parametrize("attached_first", [True, False])
def test_it_is_announced_and_answered_only_after_both_outcomes(
    script: Script, attached_first: bool
) -> None:
    begun = script.add(request("a"))
    if attached_first:
        assert script.attached("a") == []
        done = script.recorded(begun)
    else:
        assert script.recorded(begun) == []
        done = script.attached("a")
    assert announced(done) == {"10.1.0.1/32"}
    assert names(done).index("Announce") < names(done).index("AttachAnswer")
    (change,) = told(done, EndpointsChanged)
    (answer,) = of(done, AttachAnswer)
    assert change.up == (answer.endpoint,)


def test_the_same_request_again_has_the_same_answer(script: Script) -> None:
    first = script.up(request("a"))
    again = script.add(request("a"))
    (answer,) = of(again, AttachAnswer)
    assert answer.endpoint == first
    assert names(again) == ["AttachAnswer"]


def test_a_request_that_comes_twice_at_once_is_built_once_and_answered_twice(
    script: Script,
) -> None:
    begun = script.add(request("a"))
    assert script.add(request("a")) == []
    script.attached("a")
    assert len(of(script.recorded(begun), AttachAnswer)) == 2


@pytest.mark.parametrize("up", [True, False])
def test_the_same_key_in_another_namespace_is_refused(script: Script, up: bool) -> None:
    if up:
        script.up(request("a"))
    else:
        script.add(request("a"))
    error = refusal(script.add(request("a", namespace="/run/netns/other")))
    assert isinstance(error, ConflictError)
    assert "/run/netns/a" in str(error)


def test_both_families_come_together(script: Script) -> None:
    endpoint = script.up(request("a", DUAL))
    assert [str(a) for a in endpoint.addresses] == ["10.2.0.1", "fd10:2::1"]


# requested addresses


def test_a_free_address_may_be_asked_for(script: Script) -> None:
    assert str(script.up(request("a", BLUE, "10.1.0.40")).addresses[0]) == "10.1.0.40"
    assert str(script.up(request("b")).addresses[0]) == "10.1.0.1"


def test_an_address_in_use_is_refused(script: Script) -> None:
    script.up(request("a", BLUE, "10.1.0.40"))
    error = refusal(script.add(request("b", BLUE, "10.1.0.40")))
    assert isinstance(error, ConflictError)
    assert "10.1.0.40" in str(error)


def test_an_address_that_cools_down_is_given_to_who_asks_for_it_and_to_nobody_else(
    script: Script,
) -> None:
    """A reload of a container's network: DEL, and at once ADD with the address that it had."""
    script.up(request("a"))
    script.gone("a")
    assert str(script.up(request("other")).addresses[0]) == "10.1.0.2"
    begun = script.add(request("a", BLUE, "10.1.0.1"))
    assert of(begun, Record)[0].change.cooled == ((BLUE.key, ip_address("10.1.0.1")),)
    stands = [*script.recorded(begun), *script.attached("a")]
    assert announced(stands) == {"10.1.0.1/32"}
    # its first cooling down ends, and does not free what is in use again
    script.later(SETTINGS.cool_down)
    assert isinstance(refusal(script.add(request("b", BLUE, "10.1.0.1"))), ConflictError)
    script.gone("a")
    assert str(script.up(request("next")).addresses[0]) == "10.1.0.3"
    script.later(SETTINGS.cool_down)
    assert str(script.up(request("last")).addresses[0]) == "10.1.0.1"


def test_an_address_given_again_in_vain_cools_for_the_rest_of_its_time(script: Script) -> None:
    script.up(request("a"))
    script.gone("a")
    until = script.now + SETTINGS.cool_down
    begun = script.add(request("a", BLUE, "10.1.0.1"))
    script.recorded(begun)
    script.attached("a", BROKEN)
    gone = script.detached("a")
    assert of(gone, Record)[0].change.cooling == (((BLUE.key, ip_address("10.1.0.1")), until),)
    script.recorded(gone)
    assert str(script.up(request("b")).addresses[0]) == "10.1.0.2"
    script.later(SETTINGS.cool_down)
    assert str(script.up(request("c")).addresses[0]) == "10.1.0.1"


def test_an_add_that_gave_up_with_an_address_that_cools_down_leaves_it_cooling() -> None:
    script = Script().ready(DUAL, blocks=DUAL_BLOCKS[:1])
    script.host.addresses.cool(DUAL.key, [ip_address("10.2.0.1")], script.now + 20)
    script.add(request("a", DUAL, "10.2.0.1"))  # and there is no IPv6 block
    refusal(script.later(SETTINGS.block_timeout))
    script.give(DUAL, "fd10:2::/122")
    assert str(script.up(request("b", DUAL)).addresses[0]) == "10.2.0.2"
    script.later(SETTINGS.cool_down)
    assert str(script.up(request("c", DUAL)).addresses[0]) == "10.2.0.1"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("10.9.0.1", "10.1.0.0/16"),
        ("fd10:2::5", "not in network default:blue"),
        ("10.1.0.0", "never given out"),
        ("10.1.255.255", "never given out"),
    ],
)
def test_an_address_that_is_never_given_out_is_refused(
    script: Script, address: str, words: str
) -> None:
    error = refusal(script.add(request("b", BLUE, address)))
    assert isinstance(error, InvalidError)
    assert words in str(error)
    assert error.remedy


def test_the_gateway_and_what_is_reserved_are_refused() -> None:
    network = replace(
        BLUE,
        ranges=(replace(BLUE.ranges[0], gateway=ip_address("10.1.0.9")),),
        reserved=(ip_network("10.1.0.16/28"),),
    )
    script = Script().ready(network, blocks=[BLUE_BLOCK])
    for address in ("10.1.0.9", "10.1.0.20"):
        assert isinstance(refusal(script.add(request("b", network, address))), InvalidError)


def test_an_address_of_another_hosts_block_is_asked_for_and_borrowed(script: Script) -> None:
    asked = script.add(request("a", BLUE, "10.1.7.7"))
    assert told(asked, BlockWanted) == [BlockWanted(BLUE.key, 4, ip_address("10.1.7.7"))]
    loan = HeldLoan("l1", BLUE.key, ip_network("10.1.7.0/26"), "h2", "h1", ip_address("10.1.7.7"))
    given = script.says(BlockAnswered(BLUE.key, 4, loan=loan))
    assert [str(attach.endpoint.addresses[0]) for attach in of(given, Attach)] == ["10.1.7.7"]


def test_a_refused_address_leaves_nothing_of_the_other_family_taken(script: Script) -> None:
    script.up(request("a", DUAL, "10.2.0.5", "fd10:2::5"))
    assert isinstance(refusal(script.add(request("b", DUAL, "10.2.0.5"))), ConflictError)
    assert isinstance(refusal(script.add(request("b", DUAL, "fd10:2::5"))), ConflictError)
    endpoint = script.up(request("c", DUAL))
    assert [str(a) for a in endpoint.addresses] == ["10.2.0.1", "fd10:2::1"]


# waiting


def test_it_waits_for_a_block_and_asks_once_in_a_while() -> None:
    script = Script().ready(BLUE)
    assert told(script.add(request("a")), BlockWanted) == [BlockWanted(BLUE.key, 4)]
    assert told(script.add(request("b")), BlockWanted) == []
    assert told(script.later(1), BlockWanted) == []
    assert told(script.later(1), BlockWanted) == [BlockWanted(BLUE.key, 4)]
    given = script.give(BLUE, "10.1.0.0/26")
    assert [str(a.endpoint.addresses[0]) for a in of(given, Attach)] == ["10.1.0.1", "10.1.0.2"]


def test_it_waits_for_the_missing_family_only() -> None:
    script = Script().ready(DUAL, blocks=DUAL_BLOCKS[:1])
    assert told(script.add(request("a", DUAL)), BlockWanted) == [BlockWanted(DUAL.key, 6)]
    given = script.give(DUAL, "fd10:2::/122")
    assert [str(a) for a in of(given, Attach)[0].endpoint.addresses] == ["10.2.0.1", "fd10:2::1"]


def test_no_answer_is_an_error_in_the_end_and_frees_what_was_taken() -> None:
    script = Script().ready(DUAL, blocks=DUAL_BLOCKS[:1])
    script.add(request("a", DUAL))
    error = refusal(script.later(SETTINGS.block_timeout))
    assert isinstance(error, UnavailableError)
    assert "default:dual" in str(error)
    script.give(DUAL, "fd10:2::/122")
    assert str(script.up(request("b", DUAL)).addresses[0]) == "10.2.0.1"


def test_exhaustion_is_told_to_those_that_wait_for_it() -> None:
    script = Script().ready(BLUE, DUAL, blocks=DUAL_BLOCKS[:1])
    script.add(request("a"))
    script.add(request("b", DUAL))
    none = BlockAnswered(BLUE.key, 4, error="network default:blue is full", remedy="grow it")
    told_no = script.says(none)
    assert [refused.token for refused in of(told_no, Refuse)] == [1]
    assert isinstance(refusal(told_no), ExhaustedError)
    assert key("b") in script.host.attachments.known


def test_exhaustion_of_one_address_says_nothing_of_others() -> None:
    script = Script().ready(BLUE)
    script.add(request("a", BLUE, "10.1.7.7"))
    script.add(request("b"))
    no = script.says(BlockAnswered(BLUE.key, 4, error="10.1.7.7 is in use on h2", remedy="-"))
    assert [refused.token for refused in of(no, Refuse)] == [1]
    assert told(no, BlockWanted) == [BlockWanted(BLUE.key, 4)]  # now it is b's turn


def test_a_family_without_addresses_does_not_refuse_who_has_one() -> None:
    script = Script().ready(DUAL, blocks=DUAL_BLOCKS[:1])
    script.add(request("a", DUAL))
    script.says(BlockAnswered(DUAL.key, 4, error="no v4 left", remedy="-"))
    assert key("a") in script.host.attachments.known


def test_cooled_addresses_serve_those_that_wait() -> None:
    tiny = Network("default", "tiny", "routed", (replace(BLUE.ranges[0], block_length=32),))
    script = Script(replace(SETTINGS, cool_down=3.0)).ready(tiny)
    script.give(tiny, "10.1.0.1/32")
    script.up(request("a", tiny))
    script.gone("a")
    assert told(script.add(request("b", tiny)), BlockWanted)
    assert [str(a.endpoint.addresses[0]) for a in of(script.later(3), Attach)] == ["10.1.0.1"]


def test_another_block_is_asked_for_ahead_of_need() -> None:
    script = Script(replace(SETTINGS, low_water=8)).ready(BLUE, blocks=[BLUE_BLOCK])
    asked = [told(script.add(request(f"c{n}")), BlockWanted) for n in range(63)]
    assert not any(asked[:55])
    assert asked[55] == [BlockWanted(BLUE.key, 4)]
    assert sum(map(len, asked)) == 1


def test_all_addresses_of_a_block_are_given_before_the_next_one_is_asked_for(
    script: Script,
) -> None:
    given = [script.up(request(f"c{n}")).addresses[0] for n in range(63)]
    assert sorted(map(int, given)) == [
        int(a) for a in ip_network("10.1.0.0/26") if str(a) != "10.1.0.0"
    ]
    assert told(script.add(request("one-more")), BlockWanted)


# what can be wrong


def test_an_unknown_network_is_refused(script: Script) -> None:
    error = refusal(script.add(request("a", replace(BLUE, name="red"))))
    assert isinstance(error, NotFoundError)
    assert "default:red" in str(error)


def test_a_group_must_exist_and_belong_to_the_network(script: Script) -> None:
    groups = (GroupFilter("default:web", network=BLUE.key), GroupFilter("default:db", network="x"))
    script.says(intent(full=False, filters=groups))
    unknown = refusal(script.add(replace(request("a"), group="no")))
    assert isinstance(unknown, NotFoundError)
    assert "endpoint group default:no: not known on host h1" in str(unknown)
    foreign = refusal(script.add(replace(request("b"), group="db")))
    assert isinstance(foreign, InvalidError)
    assert "belongs to network x" in str(foreign)
    assert names(script.add(replace(request("c"), group="web"))) == ["Record", "Attach"]


def test_an_encap_that_this_host_cannot_carry_is_refused() -> None:
    network = replace(BLUE, encap="vxlan")
    script = Script().ready(network, blocks=[BLUE_BLOCK])
    assert isinstance(refusal(script.add(request("a", network))), InvalidError)


def test_before_any_intent_an_add_waits() -> None:
    script = Script()
    script.start()
    assert script.add(request("a")) == []
    script.connect()
    assert not of(script.welcome(BLUE_BLOCK), Refuse)  # Welcome comes before the intent
    assert of(script.says(intent(BLUE)), Attach)


def test_nothing_is_given_out_before_welcome_when_the_journal_is_lost() -> None:
    script = Script()
    script.start()
    script.connect()
    script.says(intent(BLUE))
    script.give(BLUE, "10.1.0.0/26")
    assert not of(script.add(request("a")), Attach)
    assert of(script.welcome(BLUE_BLOCK), Attach)


def test_without_netmaster_a_lost_journal_is_an_error_in_words() -> None:
    script = Script()
    script.start()
    script.add(request("a"))
    error = refusal(script.later(SETTINGS.block_timeout))
    assert isinstance(error, UnavailableError)
    assert "journal" in str(error)


@pytest.mark.parametrize("also_attached", [True, False])
def test_an_add_that_cannot_be_recorded_leaves_nothing(script: Script, also_attached: bool) -> None:
    begun = script.add(request("a"))
    if also_attached:
        script.attached("a")
        undone = script.recorded(begun, BROKEN)
    else:
        assert script.recorded(begun, BROKEN) == []  # the Attach is still under way
        undone = script.attached("a")
    assert names(undone) == ["Detach"]
    gone = script.detached("a")
    assert of(gone, Record)[0].change.gone == key("a")
    assert of(gone, Record)[0].change.cooling == ()
    assert refusal(script.recorded(gone)) is BROKEN
    assert script.host.attachments.known == {}
    assert str(script.up(request("b")).addresses[0]) == "10.1.0.1"


@pytest.mark.parametrize("error", [BROKEN, NamespaceGoneError("/run/netns/a", "")])
def test_an_add_that_cannot_be_attached_leaves_nothing(script: Script, error: FabricError) -> None:
    begun = script.add(request("a"))
    script.recorded(begun)
    undone = script.attached("a", error)
    assert names(undone) == ["Detach"]
    end = script.recorded(script.detached("a"))
    assert refusal(end) is error
    assert not announced(end)


def test_a_failed_add_that_cannot_be_cleaned_up_keeps_its_address(script: Script) -> None:
    begun = script.add(request("a"))
    script.recorded(begun)
    script.attached("a", BROKEN)
    assert refusal(script.detached("a", KernelError("busy", ""))) is BROKEN
    assert str(script.up(request("b")).addresses[0]) == "10.1.0.2"
    assert of(script.delete("a"), Detach)
    assert of(script.recorded(script.detached("a")), Record) == []
    assert str(script.up(request("c")).addresses[0]) == "10.1.0.1"


# ready: fabric

FABRIC = replace(BLUE, ready="fabric")


def test_ready_fabric_waits_for_the_route_to_leave_for_every_peer() -> None:
    script = Script().ready(FABRIC, blocks=[BLUE_BLOCK])
    begun = script.add(request("a", FABRIC))
    script.attached("a")
    built = script.recorded(begun)
    assert announced(built) == {"10.1.0.1/32"}
    assert not of(built, AttachAnswer)
    assert of(script.left([host_prefix(ip_address("10.1.0.1"))]), AttachAnswer)


def test_ready_fabric_does_not_wait_for_a_peer_that_went_away() -> None:
    script = Script().ready(FABRIC, blocks=[BLUE_BLOCK])
    begun = script.add(request("a", FABRIC))
    script.attached("a")
    script.recorded(begun)
    assert not of(script(PeerDown(TORS[0], "hold time")), AttachAnswer)
    assert of(script(PeerDown(TORS[1], "hold time")), AttachAnswer)


def test_ready_fabric_is_bounded() -> None:
    script = Script().ready(FABRIC, blocks=[BLUE_BLOCK])
    begun = script.add(request("a", FABRIC))
    script.attached("a")
    script.recorded(begun)
    late = script.later(SETTINGS.advertise_timeout)
    assert of(late, AttachAnswer)
    assert of(late, Warn)[0].text


def test_ready_fabric_without_peers_is_answered_at_once() -> None:
    script = Script().ready(FABRIC, blocks=[BLUE_BLOCK], peers=())
    assert script.up(request("a", FABRIC))


def test_ready_fabric_under_an_aggregate_has_nothing_to_wait_for() -> None:
    network = replace(FABRIC, announce="blocks")
    script = Script().ready(network, blocks=[BLUE_BLOCK])
    assert script.up(request("a", network))


# netmaster's word


def test_an_endpoint_that_netmaster_refuses_is_withdrawn_and_offered_when_it_is_stored(
    script: Script,
) -> None:
    script.up(request("a"))
    refused = script.says(EndpointsAnswered(refused=(RefusedEndpoint(key("a"), "h2 has it"),)))
    assert withdrawn(refused) == {"10.1.0.1/32"}
    assert of(refused, Warn)[0].text == "h2 has it"
    stored = script.says(EndpointsAnswered(stored=(StoredEndpoint(key("a"), 3),)))
    assert announced(stored) == {"10.1.0.1/32"}
    assert of(stored, Warn)[0].text == ""
    (record,) = of(stored, Record)
    assert record.change.endpoint is not None
    assert record.change.endpoint.sequence == 3


def test_an_add_that_waits_for_the_fabric_fails_where_netmaster_refuses_it() -> None:
    script = Script().ready(FABRIC, blocks=[BLUE_BLOCK])
    begun = script.add(request("a", FABRIC))
    script.attached("a")
    script.recorded(begun)
    refused = script.says(EndpointsAnswered(refused=(RefusedEndpoint(key("a"), "h2 has it"),)))
    assert isinstance(refusal(refused), UnauthorizedError)
    assert withdrawn(refused) == {"10.1.0.1/32"}


def test_a_held_block_serves_an_add_without_netmaster(script: Script) -> None:
    script(MasterLost("gone"))
    assert script.up(request("a"))


def test_a_token_is_answered_once(script: Script) -> None:
    begun = script(AttachRequested(77, request("a")))
    script.attached("a")
    done = [*script.recorded(begun), *script.attached("a"), *script.recorded(begun)]
    assert [answer.token for answer in of(done, AttachAnswer)] == [77]
    assert len(of(done, Announce)) == 1
