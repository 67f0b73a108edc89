"""netmaster's decisions, without a store: each write is applied to the view as a store would."""

from ipaddress import IPv4Network, ip_address, ip_network
from typing import Any

import pytest

from netfabric.fabric.controller import (
    MAX_OPERATIONS,
    away,
    check_hello,
    decide_abandoned,
    decide_claims,
    decide_orphans,
    welcome_of,
)
from netfabric.fabric.controller_blocks import (
    Given,
    Lending,
    decide_block,
    decide_lent,
    decide_loan_end,
    decide_return,
    decide_withdrawal,
)
from netfabric.fabric.controller_endpoints import authorise, decide_endpoints
from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.errors import (
    ConflictError,
    ExhaustedError,
    InvalidError,
    StaleError,
    UnauthorizedError,
    UnavailableError,
)
from netfabric.fabric.kinds import KINDS
from netfabric.fabric.rules import decide_delete
from netfabric.fabric.session import (
    BlockReturned,
    BlockWanted,
    HeldBlock,
    Hello,
    LendAnswered,
)
from netfabric.fabric.view import HostStatus
from netfabric.fabric.world import Write, world_of
from tests.fabric.controllers import BLUE, Fabric, at

# blocks


def test_blocks_are_given_lowest_first_and_only_usable_ones() -> None:
    fabric = Fabric(reserved=["10.1.0.0/26"], blockLength=26, gateway="10.1.0.65")
    assert [str(fabric.claim(f"h{i}")) for i in range(3)] == [
        "10.1.0.64/26",
        "10.1.0.128/26",
        "10.1.0.192/26",
    ]
    with pytest.raises(ExhaustedError, match=BLUE):
        decide_block(fabric.view, "h9", BlockWanted(BLUE, 4), "x")


def test_a_block_of_one_address_that_is_the_gateway_is_not_given() -> None:
    fabric = Fabric(subnet="10.1.0.0/30", blockLength=32, gateway="10.1.0.1")
    assert fabric.claim("h1") == ip_network("10.1.0.2/32")


def test_a_claim_fails_when_block_or_network_changed() -> None:
    fabric = Fabric()
    one = decide_block(fabric.view, "h1", BlockWanted(BLUE, 4), "x")
    two = decide_block(fabric.view, "h2", BlockWanted(BLUE, 4), "x")
    fabric.commit(one.write)
    with pytest.raises(StaleError):
        fabric.commit(two.write)
    three = decide_block(fabric.view, "h3", BlockWanted(BLUE, 4), "x")
    fabric.network("blue", subnet="10.1.0.0/24", announce="blocks")
    with pytest.raises(StaleError):
        fabric.commit(three.write)


def test_the_emptiest_block_of_a_connected_host_lends() -> None:
    fabric = Fabric(subnet="10.1.0.0/28", blockLength=29)
    fabric.claim("h1")
    fabric.claim("h2")
    fabric.store(at("h1", "10.1.0.1"), at("h1", "10.1.0.2"), at("h2", "10.1.0.9"))
    with pytest.raises(ExhaustedError, match="3 addresses in use, and no other connected host"):
        decide_block(fabric.view, "h3", BlockWanted(BLUE, 4), "x")
    fabric.connect("h1", "h2")
    lending = decide_block(fabric.view, "h3", BlockWanted(BLUE, 4), "x")
    assert isinstance(lending, Lending)
    assert (lending.loan.owner, lending.loan.borrower) == ("h2", "h3")
    next_ = decide_block(fabric.view, "h3", BlockWanted(BLUE, 4), "x", {lending.loan.block})
    assert isinstance(next_, Lending) and next_.loan.owner == "h1"
    own = decide_block(fabric.view, "h2", BlockWanted(BLUE, 4), "x")
    assert isinstance(own, Lending) and own.loan.owner == "h1", "nobody borrows of himself"


def test_a_loan_fails_when_its_block_changed_hands() -> None:
    fabric = Fabric(subnet="10.1.0.0/29", blockLength=29)
    block = fabric.claim("h1")
    fabric.connect("h1")
    lending = decide_block(fabric.view, "h2", BlockWanted(BLUE, 4), "x")
    fabric.commit(decide_return(fabric.view, "h1", BlockReturned(BLUE, block)).write)
    with pytest.raises(StaleError):
        fabric.commit(lending.write)


def test_a_wanted_address_of_others() -> None:
    fabric = Fabric()
    fabric.claim("h1", "10.1.0.5")

    def want(host: str, address: str, tried: Any = ()) -> Any:
        return decide_block(
            fabric.view, host, BlockWanted(BLUE, 4, ip_address(address)), "x", tried
        )

    with pytest.raises(UnavailableError, match="whose agent is not connected"):
        want("h2", "10.1.0.5")
    fabric.connect("h1")
    assert want("h2", "10.1.0.5").loan.wanted == ip_address("10.1.0.5")
    with pytest.raises(ConflictError, match="in use or cooling down on host h1"):
        want("h2", "10.1.0.5", {ip_network("10.1.0.0/26")})
    fabric.store(at("h1", "10.1.0.6"))
    with pytest.raises(ConflictError, match=r"in use by container c10.1.0.6 on host h1"):
        want("h2", "10.1.0.6")
    assert want("h1", "10.1.0.7") == Given(ip_network("10.1.0.0/26"))


# loans


def loans() -> Fabric:
    fabric = Fabric(subnet="10.1.0.0/29", blockLength=29)
    fabric.claim("h1")
    fabric.connect("h1", "h2")
    return fabric


def test_an_owner_answers_once() -> None:
    fabric = loans()
    fabric.lend("h2", "a")
    address = ip_address("10.1.0.3")
    with pytest.raises(UnauthorizedError, match="is of host h1"):
        decide_lent(fabric.view, "h3", LendAnswered("a", address))
    with pytest.raises(UnauthorizedError, match=r"not in 10\.1\.0\.0/29"):
        decide_lent(fabric.view, "h1", LendAnswered("a", ip_address("10.2.0.3")))
    fabric.commit(decide_lent(fabric.view, "h1", LendAnswered("a", address)).write)
    again = decide_lent(fabric.view, "h1", LendAnswered("a", address))
    assert not again.write and not again.ended
    other = decide_lent(fabric.view, "h1", LendAnswered("a", ip_address("10.1.0.4")))
    assert not other.write and other.ended
    assert decide_lent(fabric.view, "h1", LendAnswered("gone", address)).ended
    assert not decide_lent(fabric.view, "h1", LendAnswered("gone", None)).ended


def test_a_loan_is_ended_by_its_borrower_only_and_not_while_in_use() -> None:
    fabric = loans()
    fabric.lend("h2", "a", "10.1.0.3")
    assert not decide_loan_end(fabric.view, "h1", "a").write
    assert not decide_withdrawal(fabric.view, "a").write
    fabric.store(at("h2", "10.1.0.3"))
    assert not decide_loan_end(fabric.view, "h2", "a").write
    fabric.commit(decide_endpoints(fabric.view, "h2", {at("h2", "10.1.0.3").key: None}).write)
    fabric.commit(decide_loan_end(fabric.view, "h2", "a").write)
    assert not fabric.view.loans and not fabric.view.loans_by_address


def test_a_lent_block_is_not_returned() -> None:
    fabric = loans()
    fabric.lend("h2", "a", "10.1.0.3")
    block = ip_network("10.1.0.0/29")
    assert not decide_return(fabric.view, "h1", BlockReturned(BLUE, block)).write
    assert not decide_return(fabric.view, "h2", BlockReturned(BLUE, block)).write


def test_what_a_former_session_asked_is_dropped() -> None:
    fabric = loans()
    fabric.lend("h2", "a")
    fabric.lend("h2", "b", "10.1.0.3")
    assert decide_abandoned(fabric.view, "h1").write == Write({})
    assert decide_abandoned(fabric.view, "h2").write.deletes == ("alloc/loan/a",)


# endpoints


def test_who_may_announce_what() -> None:
    fabric = loans()
    fabric.lend("h2", "a", "10.1.0.3")
    assert authorise(fabric.view, "h1", at("h1", "10.1.0.2")) == [f"alloc/block/{BLUE}/10.1.0.0_29"]
    assert authorise(fabric.view, "h2", at("h2", "10.1.0.3")) == ["alloc/loan/a"]
    for host, address, complaint in (
        ("h1", "10.1.0.3", "is lent to host h2"),
        ("h2", "10.1.0.2", "held by host h1, not by h2"),
        ("h2", "10.7.0.2", "outside its subnets"),
        ("h2", "fd00::1", "outside its subnets"),
    ):
        with pytest.raises(UnauthorizedError, match=complaint):
            authorise(fabric.view, host, at(host, address))


def test_a_refused_endpoint_is_not_left_in_the_store() -> None:
    fabric = Fabric()
    block = fabric.claim("h1")
    up = at("h1", "10.1.0.5")
    fabric.store(up)
    fabric.commit(Write({f"alloc/block/{BLUE}/10.1.0.0_26": {"host": "h2"}}))
    decision = decide_endpoints(fabric.view, "h1", {up.key: up})
    assert decision.refused[0].key == up.key and str(block) in decision.refused[0].reason
    fabric.commit(decision.write)
    assert not fabric.view.endpoints


def test_an_address_that_moved_to_its_new_owner_succeeds_with_a_higher_number() -> None:
    fabric = Fabric()
    fabric.claim("h1")
    fabric.store(at("h1", "10.1.0.5", "old", sequence=7))
    fabric.commit(Write({f"alloc/block/{BLUE}/10.1.0.0_26": {"host": "h2"}}))
    decision = decide_endpoints(
        fabric.view, "h2", {at("h2", "10.1.0.5", "new").key: at("h2", "10.1.0.5", "new")}
    )
    assert decision.stored[0].sequence == 8
    fabric.commit(decision.write)
    assert list(fabric.view.endpoints) == [("h2", EndpointKey("new", "eth0"))]


def test_two_containers_swap_addresses_in_one_batch() -> None:
    fabric = Fabric()
    fabric.claim("h1")
    fabric.store(at("h1", "10.1.0.5", "a"), at("h1", "10.1.0.6", "b"))
    swapped = [at("h1", "10.1.0.6", "a"), at("h1", "10.1.0.5", "b")]
    decision = decide_endpoints(fabric.view, "h1", {e.key: e for e in swapped})
    fabric.commit(decision.write)
    found = {e.key.container: str(e.addresses[0]) for e in fabric.view.endpoints.values()}
    assert found == {"a": "10.1.0.6", "b": "10.1.0.5"}


def test_many_endpoints_take_several_writes_each_within_bounds() -> None:
    fabric = Fabric(subnet="10.1.0.0/16", blockLength=23)
    fabric.claim("h1")
    left: dict[EndpointKey, Endpoint | None] = {}
    for number in range(1, 301):
        up = at("h1", f"10.1.{number // 256}.{number % 256}")
        left[up.key] = up
    writes = 0
    while left:
        decision = decide_endpoints(fabric.view, "h1", left)
        assert len(decision.write.unchanged) <= MAX_OPERATIONS
        fabric.commit(decision.write)
        for key in decision.done:
            del left[key]
        writes += 1
    assert len(fabric.view.endpoints) == 300
    assert writes <= 4


@pytest.mark.parametrize("borrowed", [False, True])
def test_a_network_is_not_deleted_under_an_endpoint_stored_meanwhile(borrowed: bool) -> None:
    fabric = loans()
    host, address = ("h2", "10.1.0.3") if borrowed else ("h1", "10.1.0.2")
    if borrowed:
        fabric.lend("h2", "a", address)
    deletion = decide_delete(world_of(fabric.view), KINDS["network"], BLUE, "v2")
    fabric.store(at(host, address))
    with pytest.raises(StaleError):
        fabric.commit(deletion)
    storing = decide_endpoints(fabric.view, host, {at(host, address).key: None})
    fabric.commit(storing.write)
    late = decide_endpoints(fabric.view, host, {at(host, address).key: at(host, address)})
    fabric.commit(decide_delete(world_of(fabric.view), KINDS["network"], BLUE, "v2"))
    with pytest.raises(StaleError):
        fabric.commit(late.write)


# Hello


def test_a_hello_claims_only_real_blocks_that_nobody_has() -> None:
    fabric = Fabric()
    fabric.claim("h2", "10.1.0.70")
    said = ["10.1.0.0/26", "10.1.0.64/26", "10.1.0.128/25", "10.1.1.0/26", "10.1.0.0/24"]
    held = [HeldBlock(BLUE, ip_network(block)) for block in said]
    fabric.commit(decide_claims(fabric.view, "h1", held).write)
    assert welcome_of(fabric.view, "h1").blocks == (held[0],)
    assert not decide_claims(fabric.view, "h1", held).write


def test_many_claims_are_several_writes() -> None:
    fabric = Fabric(subnet="10.0.0.0/8")
    held = [HeldBlock(BLUE, IPv4Network((10 << 24 | i << 6, 26))) for i in range(150)]
    while write := decide_claims(fabric.view, "h1", held).write:
        fabric.commit(write)
    assert len(fabric.view.blocks) == 150


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "x\x00", "a" * 300])
def test_host_names_that_cannot_be(name: str) -> None:
    with pytest.raises(InvalidError, match="--host"):
        check_hello(Hello(name, "", ""))


# singletons


def test_only_what_belongs_to_no_network_is_dropped() -> None:
    fabric = loans()
    fabric.lend("h2", "a", "10.1.0.3")
    assert not decide_orphans(fabric.view).write
    fabric.commit(Write({}, (f"intent/network/{BLUE}",)))
    orphans = decide_orphans(fabric.view)
    fabric.network("blue", subnet="10.1.0.0/29", blockLength=29)
    with pytest.raises(StaleError):
        fabric.commit(orphans.write)
    assert fabric.view.blocks and fabric.view.loans
    fabric.commit(Write({}, (f"intent/network/{BLUE}",)))
    fabric.commit(decide_orphans(fabric.view).write)
    assert not fabric.view.blocks and not fabric.view.loans


def test_a_silent_host_is_away_and_keeps_what_it_has() -> None:
    fabric = Fabric()
    fabric.claim("h1")
    fabric.store(at("h1", "10.1.0.5"))
    assert away(fabric.view) == {"h1": "1 blocks, 1 endpoints"}
    fabric.connect("h1")
    assert away(fabric.view) == {}
    assert fabric.view.hosts["h1"] == HostStatus("h1")
