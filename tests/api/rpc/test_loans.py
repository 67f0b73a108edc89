"""Addresses across hosts and netmasters: blocks raced for, single addresses lent, given back, refused."""

import asyncio
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from netfabric.api.store.memory import MemoryStore
from netfabric.fabric.session import (
    BlockAnswered,
    BlockReturned,
    BlockWanted,
    EndpointsChanged,
    HeldBlock,
    LendAnswered,
    LendAsked,
    LoanEnded,
    LoanReturned,
)
from tests.api.rpc.agents import Agent, endpoint, netmaster, network, remove, until

BLUE = "default:blue"
SMALL: dict[str, Any] = {"subnet": "10.1.0.0/28", "blockLength": 28}


async def test_a_race_never_gives_one_block_twice() -> None:
    """16 agents at two netmasters want blocks of a network that has 8."""
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24", blockLength=27)
    async with netmaster(store, "m1") as one, netmaster(store, "m2") as two:
        agents = [Agent((one, two)[i % 2].address, f"h{i}") for i in range(16)]
        try:
            for agent in agents:
                await agent.__aenter__()
            await asyncio.gather(*(agent.welcomed() for agent in agents))
            answers = await asyncio.gather(*(agent.wants(BLUE) for agent in agents))
        finally:
            for agent in agents:
                await agent.close()
        given = [answer.block for answer in answers if answer.block]
        assert len(given) == len(set(given)) == 8
        for answer in answers:
            assert answer.block or "default:blue" in answer.error
        held = {(h, a.block) for h, a in zip(range(16), answers, strict=True) if a.block}
        assert {(int(h[1:]), b) for (_, b), h in one.view.blocks.items()} == held


async def test_a_loan_between_hosts_of_two_netmasters() -> None:
    store = MemoryStore()
    await network(store, **SMALL)
    async with (
        netmaster(store, "m1") as one,
        netmaster(store, "m2") as two,
        Agent(one.address, "h1") as owner,
        Agent(two.address, "h2") as borrower,
    ):
        await owner.welcomed()
        await borrower.welcomed()
        assert (await owner.wants(BLUE)).block == ip_network("10.1.0.0/28")
        await until(lambda: two.view.blocks)
        await borrower.say(BlockWanted(BLUE, 4))
        asked = await owner.hears(LendAsked)
        assert (asked.network, asked.block, asked.wanted) == (
            BLUE,
            ip_network("10.1.0.0/28"),
            None,
        )
        await owner.say(LendAnswered(asked.loan, ip_address("10.1.0.9")))
        loan = (await borrower.hears(BlockAnswered)).loan
        assert loan is not None
        assert (loan.address, loan.owner, loan.borrower) == (ip_address("10.1.0.9"), "h1", "h2")

        lent = endpoint("h2", "10.1.0.9")
        assert (await borrower.reports(lent)).stored
        refused = (await owner.reports(endpoint("h1", "10.1.0.9"))).refused
        assert "lent to host h2" in refused[0].reason
        assert (await borrower.reports(endpoint("h2", "10.1.0.10"))).refused

        await borrower.say(LoanReturned(loan.id))
        await borrower.say(BlockWanted(BLUE, 6))
        await borrower.hears(BlockAnswered)
        assert loan.id in two.view.loans, "a loan with an endpoint on it is not given back"
        await borrower.say(EndpointsChanged(down=(lent.key,)))
        await borrower.say(LoanReturned(loan.id))
        assert (await owner.hears(LoanEnded)).loan == loan.id
        assert not one.view.loans


async def test_the_owner_has_none_to_give() -> None:
    store = MemoryStore()
    await network(store, **SMALL)
    async with (
        netmaster(store) as master,
        Agent(master.address, "h1") as owner,
        Agent(master.address, "h2") as borrower,
    ):
        await owner.welcomed()
        await borrower.welcomed()
        await owner.wants(BLUE)
        await borrower.say(BlockWanted(BLUE, 4))
        asked = await owner.hears(LendAsked)
        await owner.say(LendAnswered(asked.loan, None))
        answer = await borrower.hears(BlockAnswered)
        assert "network default:blue: no IPv4 address left in 10.1.0.0/28" in answer.error
        assert answer.remedy
        assert not master.view.loans


async def test_one_owner_is_silent_and_the_next_one_lends() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/27", blockLength=28)
    async with (
        netmaster(store) as master,
        Agent(master.address, "h1") as silent,
        Agent(master.address, "h2") as owner,
        Agent(master.address, "h3") as borrower,
    ):
        for agent in (silent, owner, borrower):
            await agent.welcomed()
        await silent.wants(BLUE)
        await owner.wants(BLUE)
        await borrower.say(BlockWanted(BLUE, 4))
        late = await silent.hears(LendAsked)
        asked = await owner.hears(LendAsked)
        await owner.say(LendAnswered(asked.loan, ip_address("10.1.0.20")))
        answer = await borrower.hears(BlockAnswered)
        assert answer.loan is not None and answer.loan.owner == "h2"
        await silent.say(LendAnswered(late.loan, ip_address("10.1.0.3")))
        assert (await silent.hears(LoanEnded)).loan == late.loan, "it may use the address again"


async def test_a_wanted_address() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24", gateway="10.1.0.1")
    async with (
        netmaster(store) as master,
        Agent(master.address, "h1") as owner,
        Agent(master.address, "h2") as borrower,
    ):
        await owner.welcomed()
        await borrower.welcomed()
        wanted = ip_address("10.1.0.130")
        assert (await owner.wants(BLUE, 4, wanted)).block == ip_network("10.1.0.128/26")
        assert "cooling down, on host h1" in (await owner.wants(BLUE, 4, wanted)).error
        await borrower.say(BlockWanted(BLUE, 4, wanted))
        asked = await owner.hears(LendAsked)
        assert asked.wanted == wanted
        await owner.say(LendAnswered(asked.loan, wanted))
        loan = (await borrower.hears(BlockAnswered)).loan
        assert loan is not None and loan.address == wanted
        assert "lent to host h2" in (await owner.wants(BLUE, 4, wanted)).error
        await owner.reports(endpoint("h1", "10.1.0.131"))
        used = await borrower.wants(BLUE, 4, ip_address("10.1.0.131"))
        assert "in use by container c10.1.0.131 on host h1" in used.error


@pytest.mark.parametrize(
    ("network_key", "family", "address", "complaint"),
    [
        ("default:none", 4, None, "network default:none: does not exist"),
        (BLUE, 6, None, "has no IPv6 subnet"),
        (BLUE, 4, "10.1.0.1", "10.1.0.1 is not one to give"),
        (BLUE, 4, "10.2.0.1", "10.2.0.1 is not one to give"),
    ],
)
async def test_wishes_that_cannot_be_met(
    network_key: str, family: int, address: str | None, complaint: str
) -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24", gateway="10.1.0.1")
    async with netmaster(store) as master, Agent(master.address, "h1") as agent:
        await agent.welcomed()
        answer = await agent.wants(network_key, family, ip_address(address) if address else None)
        assert complaint in answer.error
        assert answer.remedy and answer.block is None


async def test_a_block_comes_back_only_when_nothing_is_in_it() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24")
    async with netmaster(store) as master, Agent(master.address, "h1") as agent:
        await agent.welcomed()
        block = (await agent.wants(BLUE)).block
        assert block is not None
        up = endpoint("h1", "10.1.0.5")
        await agent.reports(up)
        await agent.say(BlockReturned(BLUE, block))
        await agent.wants(BLUE, 6)
        assert (BLUE, block) in master.view.blocks
        await agent.say(EndpointsChanged(down=(up.key,)))
        await agent.say(BlockReturned(BLUE, block))
        await until(lambda: not master.view.blocks)


async def test_a_host_that_is_away_keeps_its_blocks() -> None:
    store = MemoryStore()
    await network(store, **SMALL)
    async with netmaster(store) as master, Agent(master.address, "h2") as other:
        await other.welcomed()
        async with Agent(master.address, "h1") as agent:
            await agent.welcomed()
            await agent.wants(BLUE)
        await until(lambda: "h1" not in master.view.hosts)
        assert "no other connected host has one" in (await other.wants(BLUE)).error
        wanted = await other.wants(BLUE, 4, ip_address("10.1.0.3"))
        assert "held by host h1, whose agent is not connected" in wanted.error
        assert set(master.view.blocks.values()) == {"h1"}


async def test_what_a_deleted_network_left_over_is_dropped() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24")
    async with netmaster(store) as master, Agent(master.address, "h1") as agent:
        await agent.welcomed()
        await agent.wants(BLUE)
        await remove(store, "network", BLUE)
        await until(lambda: not master.view.blocks)


async def test_a_lend_survives_the_owners_reconnect() -> None:
    store = MemoryStore()
    await network(store, **SMALL)
    async with netmaster(store) as master, Agent(master.address, "h2") as borrower:
        await borrower.welcomed()
        held = (HeldBlock(BLUE, ip_network("10.1.0.0/28")),)
        async with Agent(master.address, "h1", blocks=held) as owner:
            await owner.welcomed()
            await borrower.say(BlockWanted(BLUE, 4))
            asked = await owner.hears(LendAsked)
        async with Agent(master.address, "h1", blocks=held) as again:
            assert [loan.id for loan in (await again.welcomed()).loans] == [asked.loan]
            assert (await again.hears(LendAsked)).loan == asked.loan
            await again.say(LendAnswered(asked.loan, ip_address("10.1.0.2")))
            assert (await borrower.hears(BlockAnswered)).loan is not None
