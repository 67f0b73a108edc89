"""Sessions over a real etcd: two netmasters with a client each; the member killed while agents talk."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from netfabric.api.settings import parse_store
from netfabric.api.store.base import Store
from netfabric.api.store_choice import make_store
from netfabric.fabric.session import (
    BlockAnswered,
    BlockWanted,
    EndpointsAnswered,
    EndpointsChanged,
    IntentChanged,
    LendAnswered,
    LendAsked,
    LoanEnded,
    LoanReturned,
)
from netfabric.lab.etcd import Etcd
from tests.api.rpc.agents import QUICK, Agent, endpoint, netmaster, network, until
from tests.api.store.conftest import make_etcd

PATIENT = replace(QUICK, store=10.0, lease=5.0)


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    etcd = make_etcd(tmp_path)
    yield etcd
    etcd.stop()


@asynccontextmanager
async def opened(etcd: Etcd) -> AsyncIterator[Store]:
    store = make_store(parse_store(f"etcd://127.0.0.1:{etcd.port}"))
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def test_blocks_loans_and_resumption_over_etcd(etcd: Etcd) -> None:
    async with (
        opened(etcd) as first,
        opened(etcd) as second,
        netmaster(first, "m1", PATIENT) as one,
        netmaster(second, "m2", PATIENT) as two,
    ):
        await network(first, subnet="10.1.0.0/28", blockLength="28")
        await until(lambda: two.view.networks)
        async with Agent(one.address, "h1") as owner, Agent(two.address, "h2") as borrower:
            await owner.welcomed()
            await borrower.welcomed()
            assert (await owner.wants("default:blue")).block == ip_network("10.1.0.0/28")
            await until(lambda: two.view.blocks)
            await borrower.say(BlockWanted("default:blue", 4))
            asked = await owner.hears(LendAsked)
            await owner.say(LendAnswered(asked.loan, ip_address("10.1.0.9")))
            loan = (await borrower.hears(BlockAnswered)).loan
            assert loan is not None
            assert (await borrower.reports(endpoint("h2", "10.1.0.9"))).stored
            many = [endpoint("h1", f"10.1.0.{i}") for i in range(1, 9)]
            assert len((await owner.reports(*many)).stored) == 8
            await borrower.say(EndpointsChanged(down=(endpoint("h2", "10.1.0.9").key,)))
            await borrower.say(LoanReturned(loan.id))
            assert (await owner.hears(LoanEnded)).loan == loan.id
            seen = owner.seen
            async with Agent(two.address, "h1", seen=seen) as moved:
                assert len((await moved.welcomed()).endpoints) == 8
                await owner.refused()
                await network(first, "red", subnet="10.2.0.0/24")
                change = await moved.hears(IntentChanged)
                assert [n.key for n in change.networks] == ["default:red"]


async def test_etcd_killed_while_an_agent_talks(etcd: Etcd) -> None:
    async with opened(etcd) as store, netmaster(store, "m1", PATIENT) as master:
        await network(store, subnet="10.1.0.0/24")
        async with Agent(master.address, "h1") as agent:
            await agent.welcomed()
            await agent.knows(lambda intent: intent.networks)
            await agent.wants("default:blue")
            etcd.kill()
            await agent.say(EndpointsChanged((endpoint("h1", "10.1.0.5"),)))
            await agent.say(BlockWanted("default:none", 4))
            await agent.hears(BlockAnswered)  # at once: that network does not exist, etcd or not
            await asyncio.to_thread(etcd.start)
            assert (await agent.hears(EndpointsAnswered)).stored
            assert not agent.over.is_set()
        await until(lambda: not master.view.hosts)
