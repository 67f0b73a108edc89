"""Blocks and loans: what a host is given, lends and gives back, and what it says when."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from netfabric.fabric.effects import Attach, Record, Refuse, Tell, Warn
from netfabric.fabric.errors import ConflictError, KernelError, NotFoundError
from netfabric.fabric.events import MasterLost, Recorded
from netfabric.fabric.session import (
    BlockReturned,
    BlockWanted,
    HeldLoan,
    LendAnswered,
    LendAsked,
    LoanEnded,
    LoanReturned,
)
from tests.fabric.script import (
    BLUE,
    BLUE_BLOCK,
    SETTINGS,
    Effects,
    Script,
    block,
    intent,
    names,
    of,
    request,
    told,
)

SECOND = block(BLUE, "10.1.0.64/26")
BROKEN = KernelError("disk", "mend it")
FOREIGN = ip_network("10.1.7.0/26")
BORROWED = HeldLoan("l1", BLUE.key, FOREIGN, "h2", "h1", ip_address("10.1.7.7"))
ASKED = LendAsked("l2", BLUE.key, BLUE_BLOCK.prefix)


@pytest.fixture
def script() -> Script:
    return Script().ready(BLUE, blocks=[BLUE_BLOCK])


def gone_loans(effects: Effects) -> list[str]:
    return [r.change.loan_gone for r in of(effects, Record) if r.change.loan_gone]


def gone_blocks(effects: Effects) -> list[object]:
    return [r.change.block_gone for r in of(effects, Record) if r.change.block_gone]


# lending


def test_a_lent_address_is_durable_before_it_is_told_and_not_given_out_here(
    script: Script,
) -> None:
    lent = script.says(ASKED)
    assert names(lent) == ["Record"]
    address = ip_address("10.1.0.1")
    assert of(lent, Record)[0].change.loan == HeldLoan(
        "l2", BLUE.key, BLUE_BLOCK.prefix, "h1", "", address
    )
    assert told(script.says(ASKED), LendAnswered) == []  # asked again meanwhile
    assert told(script.recorded(lent), LendAnswered) == [LendAnswered("l2", address)]
    assert told(script.says(ASKED), LendAnswered) == [LendAnswered("l2", address)]
    assert str(script.up(request("a")).addresses[0]) == "10.1.0.2"


def test_an_address_that_could_not_be_lent_durably_is_not_lent(script: Script) -> None:
    lent = script.says(ASKED)
    assert told(script.recorded(lent, BROKEN), LendAnswered) == [LendAnswered("l2", None)]
    assert str(script.up(request("a")).addresses[0]) == "10.1.0.1"


def test_a_wanted_address_is_lent_if_it_is_free(script: Script) -> None:
    used = script.up(request("a")).addresses[0]
    no = script.says(replace(ASKED, wanted=used))
    assert told(no, LendAnswered) == [LendAnswered("l2", None)]
    lent = script.says(replace(ASKED, loan="l3", wanted=ip_address("10.1.0.9")))
    assert told(script.recorded(lent), LendAnswered)[0].address == ip_address("10.1.0.9")


def test_nothing_is_lent_of_a_block_that_is_not_held(script: Script) -> None:
    assert told(script.says(replace(ASKED, block=FOREIGN)), LendAnswered)[0].address is None


def test_a_lent_address_that_came_back_is_free(script: Script) -> None:
    script.recorded(script.says(ASKED))
    script.says(LoanEnded("l2"))
    assert str(script.up(request("a")).addresses[0]) == "10.1.0.1"


def test_whether_a_loan_has_ended_is_asked_not_guessed(script: Script) -> None:
    script.recorded(script.says(ASKED))
    script(MasterLost("gone"))
    script.connect()
    again = script.welcome(BLUE_BLOCK)  # without the loan
    assert told(again, LendAnswered) == [LendAnswered("l2", ip_address("10.1.0.1"))]
    assert str(script.up(request("a")).addresses[0]) == "10.1.0.2"


def test_a_loan_that_only_the_store_remembers_is_honoured(script: Script) -> None:
    loan = HeldLoan("l9", BLUE.key, BLUE_BLOCK.prefix, "h1", "h2", ip_address("10.1.0.1"))
    script.welcome(BLUE_BLOCK, loans=[loan])
    assert str(script.up(request("a")).addresses[0]) == "10.1.0.2"


# borrowing


def borrow(script: Script) -> None:
    script.welcome(BLUE_BLOCK, loans=[BORROWED])


def test_a_borrowed_address_goes_back_once_it_has_cooled_down(script: Script) -> None:
    borrow(script)
    script.up(request("a", BLUE, "10.1.7.7"))
    script.gone("a")
    cooled = script.later(SETTINGS.cool_down)
    assert told(cooled, LoanReturned) == []
    assert told(script.recorded(cooled), LoanReturned) == [LoanReturned("l1")]
    assert told(script.add(request("b", BLUE, "10.1.7.7")), BlockWanted)


def test_a_borrowed_address_that_the_store_gave_to_another_is_not_used_again(
    script: Script,
) -> None:
    borrow(script)
    script.welcome(BLUE_BLOCK)
    assert told(script.add(request("b", BLUE, "10.1.7.7")), BlockWanted)


def test_a_borrowed_address_that_nobody_uses_goes_back(script: Script) -> None:
    """Its ADD gave up before it came, or a Welcome brought it: who asks again soon still finds it."""
    borrow(script)
    first = script.later(SETTINGS.audit_interval)
    assert not gone_loans(first)
    second = script.later(SETTINGS.audit_interval)
    assert gone_loans(second) == ["l1"]
    assert not told(second, LoanReturned), "durable first: a crash leaves it unused, not used twice"
    assert told(script.recorded(second), LoanReturned) == [LoanReturned("l1")]
    assert told(script.add(request("b", BLUE, "10.1.7.7")), BlockWanted)


def test_a_borrowed_address_in_use_or_cooling_down_stays(script: Script) -> None:
    borrow(script)
    script.later(SETTINGS.audit_interval)
    script.up(request("a", BLUE, "10.1.7.7"))
    assert not gone_loans(script.later(SETTINGS.audit_interval))
    script.gone("a")
    looks = [script.later(SETTINGS.audit_interval) for _ in range(3)]
    assert not any(map(gone_loans, looks))
    assert gone_loans(script.later(SETTINGS.audit_interval)) == ["l1"]


def test_a_borrowed_address_of_an_add_that_failed_goes_back(script: Script) -> None:
    borrow(script)
    begun = script.add(request("a", BLUE, "10.1.7.7"))
    script.recorded(begun)
    script.attached("a", BROKEN)
    script.recorded(script.detached("a"))
    script.later(SETTINGS.audit_interval)
    assert gone_loans(script.later(SETTINGS.audit_interval)) == ["l1"]


def test_an_address_lent_to_another_is_not_given_back_for_it(script: Script) -> None:
    script.recorded(script.says(ASKED))
    looks = [script.later(SETTINGS.audit_interval) for _ in range(3)]
    assert not any(map(gone_loans, looks))


# giving back


def fill_and_empty(script: Script, network_block: str = "10.1.0.64/26") -> Effects:
    """Use one address of a second block, and let it cool down."""
    script.up(request("x", BLUE, str(ip_network(network_block)[1])))
    script.gone("x")
    return script.later(SETTINGS.cool_down)


def test_an_unused_block_goes_back_durably_as_long_as_another_has_room(script: Script) -> None:
    script.give(BLUE, "10.1.0.64/26")
    cooled = fill_and_empty(script)
    assert gone_blocks(cooled) == [SECOND]
    assert told(cooled, BlockReturned) == []
    assert told(script.recorded(cooled), BlockReturned) == [BlockReturned(BLUE.key, SECOND.prefix)]
    assert script.host.held() == [BLUE_BLOCK]


def test_a_block_is_kept_where_its_return_could_not_be_recorded(script: Script) -> None:
    script.give(BLUE, "10.1.0.64/26")
    assert not told(script.recorded(fill_and_empty(script), BROKEN), BlockReturned)


def test_the_last_block_is_kept(script: Script) -> None:
    assert gone_blocks(fill_and_empty(script, "10.1.0.0/26")) == []


def test_a_block_with_something_in_use_is_kept(script: Script) -> None:
    script.give(BLUE, "10.1.0.64/26")
    script.up(request("stays", BLUE, "10.1.0.70"))
    assert gone_blocks(fill_and_empty(script)) == []


def test_a_returned_block_that_a_late_welcome_lists_is_returned_again(script: Script) -> None:
    script.give(BLUE, "10.1.0.64/26")
    script.recorded(fill_and_empty(script))
    script.connect()
    late = script.welcome(BLUE_BLOCK, SECOND)
    assert told(late, BlockReturned) == [BlockReturned(BLUE.key, SECOND.prefix)]
    assert script.host.held() == [BLUE_BLOCK]
    script.give(BLUE, "10.1.0.64/26")
    assert script.host.held() == [BLUE_BLOCK, SECOND]


# losing


def test_a_block_that_the_store_gives_to_another_is_dropped(script: Script) -> None:
    script.connect()
    lost = script.welcome()
    assert gone_blocks(lost) == [BLUE_BLOCK]
    assert told(script.add(request("a")), BlockWanted)


def test_a_lost_block_in_use_is_given_out_of_no_more_and_warned_of(script: Script) -> None:
    script.up(request("a"))
    script.connect()
    (warning,) = [w for w in of(script.welcome(), Warn) if "block" in w.subject]
    assert "10.1.0.0/26" in warning.subject
    assert told(script.add(request("b")), BlockWanted)
    assert told(script.says(ASKED), LendAnswered)[0].address is None
    well = script.welcome(BLUE_BLOCK)
    assert [w.text for w in of(well, Warn)] == [""]
    assert [str(a.endpoint.addresses[0]) for a in of(well, Attach)] == ["10.1.0.2"]


def test_a_lost_block_goes_when_its_last_container_has(script: Script) -> None:
    script.up(request("a"))
    script.connect()
    script.welcome()
    script.gone("a")
    assert gone_blocks(script.later(SETTINGS.cool_down)) == [BLUE_BLOCK]


# networks


def test_a_network_that_is_gone_gives_nothing_and_returns_what_it_held(script: Script) -> None:
    changed = script.says(intent())
    assert gone_blocks(changed) == [BLUE_BLOCK]
    assert told(script.recorded(changed), BlockReturned)
    (refused,) = of(script.add(request("a")), Refuse)
    assert isinstance(refused.error, NotFoundError)


def test_a_network_made_again_does_not_inherit_the_old_ones_blocks(script: Script) -> None:
    change = replace(intent(BLUE, full=False), networks_gone=(BLUE.key,))
    assert gone_blocks(script.says(change)) == [BLUE_BLOCK]
    assert told(script.add(request("a")), BlockWanted)


def test_containers_of_a_network_that_is_gone_keep_their_addresses(script: Script) -> None:
    endpoint = script.up(request("a"))
    script.says(intent())
    assert script.host.held() == [BLUE_BLOCK]
    script.says(intent(BLUE))
    script.welcome(BLUE_BLOCK)
    (refused,) = of(script.add(request("b", BLUE, str(endpoint.addresses[0]))), Refuse)
    assert isinstance(refused.error, ConflictError)


def test_addresses_cool_down_also_while_their_network_is_gone(script: Script) -> None:
    script.up(request("a"))
    script.gone("a")
    script.says(intent())
    script.says(intent(BLUE))
    script.welcome(BLUE_BLOCK)
    assert str(script.up(request("b")).addresses[0]) == "10.1.0.2"
    script.later(SETTINGS.cool_down)
    assert str(script.up(request("c")).addresses[0]) == "10.1.0.1"


def test_a_network_whose_reserve_shrinks_gives_what_it_kept() -> None:
    kept = replace(BLUE, reserved=(ip_network("10.1.0.0/30"),))
    script = Script().ready(kept, blocks=[BLUE_BLOCK])
    assert str(script.up(request("a")).addresses[0]) == "10.1.0.4"
    script.says(intent(BLUE))
    assert [str(script.up(request(n)).addresses[0]) for n in "bcde"] == [
        "10.1.0.1",
        "10.1.0.2",
        "10.1.0.3",
        "10.1.0.5",
    ]


def test_an_outcome_heard_twice_counts_once(script: Script) -> None:
    (record,) = of(script.says(ASKED), Record)
    assert of(script(Recorded(record.id)), Tell)
    assert script(Recorded(record.id)) == []
