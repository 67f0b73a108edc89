"""Many clients at once, and a store that takes its time."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from netfabric.api.store.base import Compare, Delete, Put
from netfabric.api.store.memory import MemoryStore
from netfabric.proto import intent_pb2 as pb
from tests.api.rpc.agents import PATIENCE
from tests.api.rpc.intents import Client, Watching, network, policy, serving

CLIENTS = 200


async def _work(client: Client, at: int) -> None:
    """Make a network, change it, read it; make a policy and remove it."""
    name = f"c{at}"
    made = await client.put(network(name, f"10.{at}.0.0/24", encap="vlan"), 0)
    changed = await client.put(
        network(name, f"10.{at}.0.0/24", encap="vlan", announce="blocks"), made.object.revision
    )
    assert await client.get(pb.KIND_NETWORK, f"blue:{name}") == changed.object
    await client.put(policy(name))
    await client.delete(pb.KIND_POLICY, f"blue:{name}")


async def test_two_hundred_clients() -> None:
    async with serving() as (master, first), AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(master.address)) for _ in range(CLIENTS)]
        watches = [Watching(client, kinds=[pb.KIND_NETWORK]) for client in clients]
        for watch in watches:
            await watch.complete()
        async with asyncio.TaskGroup() as tasks:
            for at, client in enumerate(clients):
                tasks.create_task(_work(client, at))
        expected = {f"blue:c{at}" for at in range(CLIENTS)}
        networks = master.view.objects["network"]
        assert set(networks) == expected
        assert len({stored.value["tag"] for stored in networks.values()}) == CLIENTS
        assert await first.keys(pb.KIND_POLICY) == []
        revisions = {key: stored.revision for key, stored in networks.items()}
        async with asyncio.timeout(2 * PATIENCE):
            for watch in watches:
                await watch.until(lambda w: w.there == revisions)


class Slow(MemoryStore):
    """A store whose transactions wait for a word."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.go.set()

    async def txn(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> int:
        await self.go.wait()
        return await super().txn(compares, operations)


async def test_a_slow_store_holds_up_no_reader_and_a_client_that_gives_up_no_writer() -> None:
    store = Slow()
    async with serving(store=store) as (_, client):
        store.go.clear()
        given_up = asyncio.ensure_future(client.put(policy("first")))
        waiting = [asyncio.ensure_future(client.put(policy(f"p{at}"))) for at in range(5)]
        for _ in range(20):
            assert await client.keys(pb.KIND_POLICY) == []
            assert (await client.get(pb.KIND_TENANT, "blue")).key == "blue"
        given_up.cancel()
        assert await client.keys(pb.KIND_POLICY) == []
        assert not any(one.done() for one in waiting)
        store.go.set()
        await asyncio.gather(*waiting)
        assert set(await client.keys(pb.KIND_POLICY)) >= {f"blue:p{at}" for at in range(5)}
