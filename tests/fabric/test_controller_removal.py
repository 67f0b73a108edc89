"""A host that is gone for good: what goes with it, what stays, and that nothing of a living one is taken."""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from netfabric.fabric.controller import MAX_OPERATIONS, decide_claims
from netfabric.fabric.controller_blocks import Given, decide_block, decide_lent
from netfabric.fabric.controller_removal import decide_removal, holding_of
from netfabric.fabric.errors import ConflictError, StaleError
from netfabric.fabric.session import BlockWanted, HeldBlock, LendAnswered
from tests.fabric.controllers import BLUE, Fabric, at

SMALL: dict[str, Any] = {"subnet": "10.1.0.0/27", "blockLength": 28}
FIRST, SECOND = ip_network("10.1.0.0/28"), ip_network("10.1.0.16/28")


def away(fabric: Fabric, host: str) -> None:
    fabric.view.apply((), [f"/netfabric/v1/host/{host}"], fabric.revision)


def remove(fabric: Fabric, host: str) -> int:
    """Remove a host in as many writes as it takes; return their number."""
    count = 0
    while write := decide_removal(fabric.view, host).write:
        fabric.commit(write)
        count += 1
    return count


def test_everything_goes_and_others_may_have_it() -> None:
    fabric = Fabric(**SMALL)
    fabric.connect("h1", "h2")
    assert (fabric.claim("h1"), fabric.claim("h2")) == (FIRST, SECOND)
    fabric.store(at("h1", "10.1.0.2"), at("h2", "10.1.0.18"))
    fabric.lend("h1", "loan", "10.1.0.19")
    fabric.store(at("h1", "10.1.0.19"))
    away(fabric, "h1")
    assert remove(fabric, "h1") == 1
    assert not holding_of(fabric.view, "h1")
    assert list(fabric.view.endpoints) == [("h2", at("h2", "10.1.0.18").key)]
    assert fabric.view.blocks == {(BLUE, SECOND): "h2"}
    assert fabric.view.loans == {}
    given = decide_block(fabric.view, "h2", BlockWanted(BLUE, 4), "x")
    assert isinstance(given, Given)
    assert given.block == FIRST


def test_a_connected_host_is_refused_in_words() -> None:
    fabric = Fabric()
    fabric.put("host/h1", {"name": "h1", "address": "192.0.2.1"})
    with pytest.raises(ConflictError, match=r"host h1: its agent at 192\.0\.2\.1 is connected"):
        decide_removal(fabric.view, "h1")


def test_an_agent_that_connects_meanwhile_keeps_what_it_has() -> None:
    fabric = Fabric()
    fabric.claim("h1")
    write = decide_removal(fabric.view, "h1").write
    fabric.connect("h1")
    with pytest.raises(StaleError):
        fabric.commit(write)
    assert list(fabric.view.blocks.values()) == ["h1"]


def test_force_ends_the_session_in_the_same_write() -> None:
    fabric = Fabric()
    fabric.connect("h1")
    fabric.claim("h1")
    write = decide_removal(fabric.view, "h1", force=True).write
    assert write.unchanged["host/h1"] == fabric.view.revisions["/netfabric/v1/host/h1"]
    fabric.commit(write)
    assert not fabric.view.hosts
    assert not fabric.view.blocks


def test_many_endpoints_go_in_writes_that_the_store_takes() -> None:
    fabric = Fabric(subnet="10.1.0.0/16", blockLength=24)
    fabric.claim("h1")
    fabric.store(*(at("h1", f"10.1.0.{n}") for n in range(2, 252)))
    writes = []
    while write := decide_removal(fabric.view, "h1").write:
        assert max(len(write.deletes), len(write.unchanged)) <= MAX_OPERATIONS
        assert write.unchanged["host/h1"] == 0
        writes.append(write)
        fabric.commit(write)
    assert len(writes) == 3
    blocks = [any("alloc/block" in key for key in write.deletes) for write in writes]
    assert blocks == [False, False, True], "what gives the right to an address goes last"


def test_a_block_that_another_host_borrows_of_stays_until_that_has_ended() -> None:
    fabric = Fabric(**SMALL)
    fabric.connect("h1", "h2")
    fabric.claim("h1"), fabric.claim("h2")
    fabric.lend("h2", "loan", "10.1.0.9")
    fabric.store(at("h2", "10.1.0.9"), at("h1", "10.1.0.2"))
    away(fabric, "h1")
    remove(fabric, "h1")
    assert fabric.view.blocks[BLUE, FIRST] == "h1"
    ((block, loan),) = holding_of(fabric.view, "h1").kept
    assert (block, loan.borrower) == (HeldBlock(BLUE, FIRST), "h2")
    assert [host for host, _ in fabric.view.endpoints] == ["h2"]
    fabric.view.apply((), ["/netfabric/v1/alloc/loan/loan"], fabric.revision)
    remove(fabric, "h1")
    assert (BLUE, FIRST) not in fabric.view.blocks


def test_a_loan_given_while_its_block_is_removed_does_not_count() -> None:
    """The owner came, lent, and went again, unseen by the netmaster that removes it: the block has changed."""
    fabric = Fabric(**SMALL)
    fabric.connect("h1", "h2")
    fabric.claim("h1"), fabric.claim("h2")
    fabric.lend("h2", "loan")
    lent = decide_lent(fabric.view, "h1", LendAnswered("loan", ip_address("10.1.0.9"))).write
    away(fabric, "h1")
    before = decide_removal(fabric.view, "h1").write
    fabric.commit(lent)
    with pytest.raises(StaleError):
        fabric.commit(before)


def test_an_address_of_a_block_that_was_removed_is_not_lent() -> None:
    fabric = Fabric(**SMALL)
    fabric.connect("h1", "h2")
    fabric.claim("h1"), fabric.claim("h2")
    fabric.lend("h2", "loan")
    away(fabric, "h1")
    loan = fabric.view.loans["loan"]
    remove(fabric, "h1")
    fabric.put(
        "alloc/loan/loan",
        {"id": "loan", "network": BLUE, "block": str(FIRST)}
        | {"owner": loan.owner, "borrower": loan.borrower, "address": None, "wanted": None},
    )
    answer = decide_lent(fabric.view, "h1", LendAnswered("loan", ip_address("10.1.0.9")))
    assert (dict(answer.write.puts), answer.write.deletes) == ({}, ("alloc/loan/loan",))


def test_a_host_that_comes_back_claims_what_nobody_has_got() -> None:
    fabric = Fabric(**SMALL)
    fabric.claim("h1"), fabric.claim("h1", "10.1.0.20")
    remove(fabric, "h1")
    fabric.claim("h2")
    held = (HeldBlock(BLUE, FIRST), HeldBlock(BLUE, SECOND))
    fabric.commit(decide_claims(fabric.view, "h1", held).write)
    assert fabric.view.blocks == {(BLUE, FIRST): "h2", (BLUE, SECOND): "h1"}
