"""Addresses ahead of their endpoints: durable before they are told, nobody else's, and free again in time."""

from dataclasses import replace
from ipaddress import ip_address
from itertools import count

import pytest

from netfabric.fabric.attachment import Phase
from netfabric.fabric.effects import Attach, Record, Refuse, ReserveAnswer
from netfabric.fabric.endpoint import DOCKER_LABEL
from netfabric.fabric.errors import (
    ConflictError,
    ExhaustedError,
    FabricError,
    InvalidError,
    KernelError,
    NotFoundError,
    UnavailableError,
)
from netfabric.fabric.events import (
    CollectRequested,
    JournalState,
    KernelObserved,
    ReleaseRequested,
    ReserveRequested,
)
from netfabric.fabric.kernel import KernelState
from netfabric.fabric.prefix import Address
from netfabric.fabric.reservations import RESERVED_FOR
from netfabric.fabric.session import BlockAnswered, BlockWanted, LendAnswered, LendAsked
from tests.fabric.script import (
    BLUE,
    BLUE_BLOCK,
    NOW,
    Effects,
    Script,
    intent,
    of,
    request,
    told,
    withdrawn,
)

FIRST, SECOND = ip_address("10.1.0.1"), ip_address("10.1.0.2")
_tokens = count(1000)


@pytest.fixture
def script() -> Script:
    return Script().ready(BLUE, blocks=[BLUE_BLOCK])


def ask(script: Script, wanted: Address | None = None, network: str = BLUE.key) -> Effects:
    return script(ReserveRequested(next(_tokens), network, 4, wanted))


def reserve(script: Script, wanted: Address | None = None) -> Address:
    """Reserve an address, with the journal at work."""
    asked = ask(script, wanted)
    assert not of(asked, ReserveAnswer)  # not before it is durable
    (answer,) = of(script.recorded(asked), ReserveAnswer)
    return answer.address


def refusal(effects: Effects) -> FabricError:
    (refused,) = of(effects, Refuse)
    return refused.error


def test_each_gets_another_one_and_no_add_gets_it(script: Script) -> None:
    assert [reserve(script), reserve(script)] == [FIRST, SECOND]
    (attached,) = of(script.add(request("one")), Attach)
    assert attached.endpoint.addresses == (ip_address("10.1.0.3"),)


def test_an_attach_by_name_takes_it_and_lets_it_go_cooling(script: Script) -> None:
    address = reserve(script)
    (attached,) = of(script.add(request("one", BLUE, str(address))), Attach)
    assert attached.endpoint.addresses == (address,)
    assert isinstance(refusal(ask(script, address)), ConflictError)
    script(ReleaseRequested(BLUE.key, address))  # as Docker does at the end: it is the endpoint's
    assert isinstance(refusal(ask(script, address)), ConflictError)


def test_one_that_is_given_back_is_free_at_once(script: Script) -> None:
    address = reserve(script)
    given_back = script(ReleaseRequested(BLUE.key, address))
    assert [r.change.cooled for r in of(given_back, Record)] == [((BLUE.key, address),)]
    assert not script.host.addresses.pools[BLUE.key, 4].is_taken(address)


def test_the_same_again_by_name_is_granted_again(script: Script) -> None:
    """An agent that dies before its answer is asked again."""
    assert reserve(script, SECOND) == reserve(script, SECOND) == SECOND


def test_one_that_nobody_came_for_lapses(script: Script) -> None:
    address = reserve(script)
    script.later(RESERVED_FOR - 1)
    assert script.host.addresses.pools[BLUE.key, 4].is_taken(address)
    script.later(1.5)
    assert not script.host.addresses.pools[BLUE.key, 4].is_taken(address)


@pytest.mark.parametrize(("seconds", "freed"), [(RESERVED_FOR, True), (20.0, False)])
def test_after_a_restart_only_what_was_reserved_is_freed_at_once(
    seconds: float, freed: bool
) -> None:
    journal = JournalState(
        blocks=(BLUE_BLOCK,), cooling=(((BLUE.key, FIRST), NOW + seconds),), intent=intent(BLUE)
    )
    script = Script()
    script.start(journal)
    script(ReleaseRequested(BLUE.key, FIRST))
    assert script.host.addresses.pools[BLUE.key, 4].is_taken(FIRST) is not freed


def test_a_disk_that_fails_reserves_nothing(script: Script) -> None:
    failed = script.recorded(ask(script), KernelError("disk", "mend it"))
    assert isinstance(refusal(failed), KernelError)
    assert not script.host.addresses.pools[BLUE.key, 4].is_taken(FIRST)


@pytest.mark.parametrize(
    ("network", "wanted", "error"),
    [
        ("default:none", None, NotFoundError),
        (BLUE.key, "10.9.0.1", InvalidError),
        (BLUE.key, "10.1.0.0", InvalidError),
    ],
)
def test_what_cannot_be_is_refused(
    script: Script, network: str, wanted: str | None, error: type[FabricError]
) -> None:
    asked = ask(script, ip_address(wanted) if wanted else None, network)
    assert isinstance(refusal(asked), error)


def test_without_a_block_it_waits_for_one() -> None:
    script = Script().ready(BLUE)
    (wanted,) = told(ask(script), BlockWanted)
    assert (wanted.network, wanted.address) == (BLUE.key, None)
    came = script.says(BlockAnswered(BLUE.key, 4, block=BLUE_BLOCK.prefix))
    assert of(script.recorded(came), ReserveAnswer)


def test_it_does_not_wait_for_ever() -> None:
    script = Script().ready(BLUE)
    ask(script)
    assert isinstance(refusal(script.later(9.0)), UnavailableError)


def test_netmaster_has_none_either() -> None:
    script = Script().ready(BLUE)
    ask(script)
    none = BlockAnswered(BLUE.key, 4, error="no block is free", remedy="enlarge it")
    assert isinstance(refusal(script.says(none)), ExhaustedError)


def test_a_reserved_one_is_lent_to_the_host_that_asks_for_it(script: Script) -> None:
    """A swarm's manager reserves, and the worker's host asks."""
    address = reserve(script)
    lent = script.says(LendAsked("l1", BLUE.key, BLUE_BLOCK.prefix, address))
    assert [answer.address for answer in told(script.recorded(lent), LendAnswered)] == [address]
    assert isinstance(refusal(ask(script, address)), ConflictError)


def test_one_that_cools_down_is_not_lent(script: Script) -> None:
    up = script.up(request("one"))
    script.gone("one")
    lent = script.says(LendAsked("l1", BLUE.key, BLUE_BLOCK.prefix, up.addresses[0]))
    assert [answer.address for answer in told(lent, LendAnswered)] == [None]


def test_a_docker_endpoint_whose_link_is_gone_ends(script: Script) -> None:
    docker = script.up(replace(request("one"), labels=((DOCKER_LABEL, "n1"),)))
    other = script.up(request("two"))
    seen = script(KernelObserved(KernelState({})))
    assert [attach.endpoint.key for attach in of(seen, Attach)] == [other.key]
    assert script.host.attachments.known[docker.key].phase is not Phase.UP


def test_a_gc_of_all_of_cni_leaves_docker_alone(script: Script) -> None:
    script.up(replace(request("one"), labels=((DOCKER_LABEL, "n1"),)))
    script.up(request("two"))
    assert withdrawn(script(CollectRequested(99, frozenset()))) == {"10.1.0.2/32"}
