"""The history of intent: what is kept, what is gone, and what nobody saw."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from netfabric.api.mirror import Mirror
from netfabric.api.rpc.intent_history import History, Told
from netfabric.api.store.base import Batch, Listing
from netfabric.api.store.memory import MemoryStore
from netfabric.fabric.errors import CompactedError
from netfabric.proto import intent_pb2 as pb
from tests.api.rpc.agents import PATIENCE, put, remove, until


class Blind(MemoryStore):
    """A store whose watch breaks, and which cannot be listed again until it `sees`."""

    def __init__(self) -> None:
        super().__init__()
        self.sees = asyncio.Event()
        self.sees.set()
        self.asked = asyncio.Event()
        """Set while somebody wants to list it and cannot."""

    async def list(self, prefix: str) -> Listing:
        if not self.sees.is_set():
            self.asked.set()
        await self.sees.wait()
        return await super().list(prefix)

    async def watch(self, prefix: str, after: int) -> AsyncGenerator[Batch]:
        async for batch in super().watch(prefix, after):
            if not self.sees.is_set():
                raise CompactedError("gone", "list again")
            yield batch


@contextlib.asynccontextmanager
async def following(store: MemoryStore) -> AsyncIterator[Mirror]:
    mirror = Mirror(store)
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(mirror.run())
        try:
            yield mirror
        finally:
            run.cancel()


async def tenant(store: MemoryStore, name: str) -> int:
    return await put(store, "tenant", name, tenantName=name)


async def seen(mirror: Mirror, revision: int) -> None:
    await asyncio.wait_for(mirror.reached(revision), PATIENCE)


def keys(found: list[Told]) -> list[tuple[str, bool]]:
    messages = [pb.WatchResponse.FromString(told.octets) for told in found]
    return [(m.changes[0].key, m.changes[0].HasField("object")) for m in messages]


async def test_changes_after_a_revision_in_order() -> None:
    store = MemoryStore()
    before = await tenant(store, "old")
    async with following(store) as mirror:
        history = History(mirror)
        await seen(mirror, before)
        assert history.since(before) == []
        made = await tenant(store, "a")
        await put(store, "nonsense", "x")
        gone = await remove(store, "tenant", "old")
        last = await tenant(store, "b")
        await seen(mirror, last)
        assert keys(history.since(before)) == [("a", True), ("old", False), ("b", True)]
        assert keys(history.since(made)) == [("old", False), ("b", True)]
        assert [told.revision for told in history.since(made)] == [gone, last]
        for revision in (before - 1, last + 1):
            with pytest.raises(CompactedError):
                history.since(revision)


async def test_it_is_bounded_by_count_and_by_weight() -> None:
    store = MemoryStore()
    async with following(store) as mirror:
        few, light = History(mirror, limit=3), History(mirror, octets=100)
        await asyncio.wait_for(mirror.listed.wait(), PATIENCE)
        revisions = [await tenant(store, f"t{at}") for at in range(10)]
        await seen(mirror, revisions[-1])
        assert keys(few.since(revisions[-4])) == [("t7", True), ("t8", True), ("t9", True)]
        assert few.outran(revisions[-5])
        assert not few.outran(revisions[-4])
        with pytest.raises(CompactedError, match=f"begins at {revisions[-4]}"):
            few.since(revisions[-5])
        assert 0 < sum(len(told.octets) for told in light.since(revisions[-2])) <= 100
        with pytest.raises(CompactedError):
            light.since(revisions[0])


async def test_what_came_and_went_while_the_store_was_out_of_reach() -> None:
    """Who saw `ghost` at another netmaster must list again: nobody here knows that it is gone."""
    store = Blind()
    async with following(store) as mirror:
        history = History(mirror)
        before = await tenant(store, "before")
        await seen(mirror, before)
        store.sees.clear()
        ghost = await tenant(store, "ghost")
        await asyncio.wait_for(store.asked.wait(), PATIENCE)
        await remove(store, "tenant", "ghost")
        await remove(store, "tenant", "before")
        after = await tenant(store, "after")
        store.sees.set()
        await seen(mirror, after)
        assert keys(history.since(before)) == [("after", True), ("before", False)]
        with pytest.raises(CompactedError, match="out of reach"):
            history.since(ghost)
        assert history.since(after) == []


async def test_a_store_that_was_replaced_begins_a_new_history() -> None:
    store = Blind()
    async with following(store) as mirror:
        history = History(mirror)
        for at in range(5):
            last = await tenant(store, f"t{at}")
        await seen(mirror, last)
        store.sees.clear()
        await tenant(store, "lost")
        await asyncio.wait_for(store.asked.wait(), PATIENCE)
        other = MemoryStore()
        begin = await tenant(other, "new")
        store._state = other._state
        store.sees.set()
        await until(lambda: "new" in mirror.view.objects["tenant"])
        assert history.revision == begin
        with pytest.raises(CompactedError):
            history.since(last)
        next_ = await tenant(store, "next")
        await seen(mirror, next_)
        assert keys(history.since(begin)) == [("next", True)]
