"""Intent at two netmasters on a real etcd: one history, resumed at the other; and an etcd that is killed."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from netfabric.api.settings import parse_store
from netfabric.api.store_choice import make_store
from netfabric.lab.etcd import Etcd
from netfabric.proto import intent_pb2 as pb
from tests.api.rpc.agents import QUICK, netmaster
from tests.api.rpc.intents import (
    GLOBAL,
    TENANT,
    Client,
    Watching,
    network,
    policy,
    refusal,
    remedy,
)
from tests.api.store.conftest import make_etcd

Status = grpc.StatusCode
PATIENT = replace(QUICK, stall=10.0, lease=5.0)


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    etcd = make_etcd(tmp_path)
    yield etcd
    etcd.stop()


@asynccontextmanager
async def at_netmaster(etcd: Etcd, name: str) -> AsyncIterator[Client]:
    store = make_store(parse_store(f"etcd://127.0.0.1:{etcd.port}"))
    await store.open()
    try:
        async with netmaster(store, name, PATIENT) as master, Client(master.address) as client:
            yield client
    finally:
        await store.close()


async def test_two_netmasters_have_one_history(etcd: Etcd) -> None:
    async with AsyncExitStack() as stack:  # a history each: what the other writes comes from etcd
        one, two = [
            await stack.enter_async_context(at_netmaster(etcd, name)) for name in ("m1", "m2")
        ]
        begun = await one.apply(GLOBAL, TENANT)
        await Watching(two, since=begun.version).complete()  # the other one has seen it too
        watch = await Watching(one).complete()
        made = await asyncio.gather(
            *(
                (one, two)[at % 2].put(network(f"n{at}", f"10.{at}.0.0/24", encap="vlan"))
                for at in range(40)
            )
        )
        await watch.sees(*(answer.object.key for answer in made))
        on = await Watching(two, since=watch.messages[-1].version).complete()
        assert on.changes == []
        watch.stop()
        await one.delete(pb.KIND_NETWORK, "blue:n7")
        await on.until(lambda w: w.changes)
        assert [(c.key, c.HasField("object")) for c in on.changes] == [("blue:n7", False)]
        expected = sorted(answer.object.key for answer in made if answer.object.key != "blue:n7")
        assert await two.keys(pb.KIND_NETWORK) == expected


async def test_what_etcd_does_not_take_in_one_transaction(etcd: Etcd) -> None:
    """Where etcd is started with its own default of 128 operations, more is refused, and it says so."""
    etcd.stop()
    await asyncio.to_thread(replace(etcd, options=("--max-txn-ops", "128")).start)
    async with at_netmaster(etcd, "m1") as client:
        await client.apply(GLOBAL, TENANT)
        await client.apply(*(policy(f"p{at}") for at in range(120)))
        error = await refusal(client.apply(*(policy(f"q{at}") for at in range(200))))
        assert error.code() is Status.INVALID_ARGUMENT
        assert "--max-txn-ops" in remedy(error)
        assert len(await client.keys(pb.KIND_POLICY, page_size=1000)) == 120


async def test_while_etcd_is_away_reads_are_served(etcd: Etcd) -> None:
    async with at_netmaster(etcd, "m1") as client:
        await client.apply(GLOBAL, TENANT)
        watch = await Watching(client).complete()
        etcd.kill()
        error = await refusal(client.put(policy()))
        assert error.code() is Status.UNAVAILABLE
        assert await client.keys(pb.KIND_TENANT) == ["blue"]
        await asyncio.to_thread(etcd.start)
        await client.intent.Put(pb.PutRequest(object=policy("q")), timeout=30)
        await watch.sees("blue:q")
