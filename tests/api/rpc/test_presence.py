"""Whose word counts for a host: no write of a session that another one has succeeded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from netfabric.api.commit import Commits
from netfabric.api.mirror import Mirror
from netfabric.api.rpc.presence import Presence
from netfabric.api.statuses import SupersededError
from netfabric.api.store.base import Delete
from netfabric.api.store.memory import MemoryStore
from netfabric.fabric.controller import Decision
from netfabric.fabric.counts import dump_counts
from netfabric.fabric.errors import ConflictError
from netfabric.fabric.session import RuleCount
from netfabric.fabric.view import HostStatus, counted_key
from netfabric.fabric.world import Write
from tests.api.rpc.agents import until

KEY = "/netfabric/v1/alloc/loan/x"


def write() -> Decision:
    return Decision(Write({"alloc/loan/x": {}}, (), {}))


@asynccontextmanager
async def following(store: MemoryStore) -> AsyncIterator[Commits]:
    mirror = Mirror(store)
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(mirror.run())
        await mirror.listed.wait()
        yield Commits(store, mirror)
        run.cancel()


async def test_a_late_write_of_the_older_session_does_not_count() -> None:
    store = MemoryStore()
    older, newer = (Presence(store, HostStatus("h1", "192.0.2.1")) for _ in range(2))
    async with following(store) as commits:
        await older.take()
        await commits.carry_out(write, older)
        await newer.take()
        revision = (await store.get(KEY)).revision  # type: ignore[union-attr]
        with pytest.raises(SupersededError):
            await commits.carry_out(write, older)
        assert (await store.get(KEY)).revision == revision  # type: ignore[union-attr]
        await commits.carry_out(write, newer)
        await older.leave()
        assert await store.get("/netfabric/v1/host/h1"), "the older's lease takes nothing with it"


async def test_another_machine_waits_until_the_first_has_left() -> None:
    store = MemoryStore()
    first = Presence(store, HostStatus("h1", "192.0.2.1"))
    second = Presence(store, HostStatus("h1", "192.0.2.2"))
    await first.take()
    with pytest.raises(ConflictError, match=r"an agent at 192\.0\.2\.1"):
        await second.take()
    await first.leave()
    await second.take()


async def test_a_session_whose_lease_ended_goes_on_under_another() -> None:
    store = MemoryStore()
    one = Presence(store, HostStatus("h1", "192.0.2.1"))
    async with following(store) as commits:
        await one.take()
        await store.revoke((await store.get("/netfabric/v1/host/h1")).lease)  # type: ignore[union-attr]
        await commits.carry_out(write, one)
        assert await store.get("/netfabric/v1/host/h1")


async def test_a_session_whose_host_was_removed_has_to_say_hello_again() -> None:
    store = MemoryStore()
    one = Presence(store, HostStatus("h1", "192.0.2.1"))
    async with following(store) as commits:
        await one.take()
        await store.txn([], [Delete("/netfabric/v1/host/h1")])
        with pytest.raises(SupersededError, match="removed by an operator"):
            await commits.carry_out(write, one)
        assert await store.get(KEY) is None


async def test_its_own_status_written_meanwhile_is_no_other_session() -> None:
    store = MemoryStore()
    one = Presence(store, HostStatus("h1", "192.0.2.1"))
    async with asyncio.TaskGroup() as tasks:
        await one.take()
        run = tasks.create_task(one.run())
        for count in range(3):
            before = one.revision
            one.refused(1)
            await until(lambda b=before: one.revision > b)  # type: ignore[misc]
            assert one.status.refused == count + 1
            one.suspect(one.revision + 1)
        run.cancel()


async def test_what_rules_counted_goes_with_the_host_and_comes_again_with_another_lease() -> None:
    store = MemoryStore()
    one = Presence(store, HostStatus("h1", "192.0.2.1"))
    counts = [RuleCount("default:web", "in", "default", 1, 60)]

    async def stored() -> bool:
        entry = await store.get(counted_key("h1"))
        return entry is not None and entry.value == dump_counts(counts)

    async def counted() -> None:
        async with asyncio.timeout(5):
            while not await stored():  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    await one.take()
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(one.run())
        one.count(counts)
        await counted()
        await store.revoke((await store.get("/netfabric/v1/host/h1")).lease)  # type: ignore[union-attr]
        assert not await stored()
        one.suspect(0)
        await counted()
        run.cancel()
    await one.leave()
    assert not await stored()
