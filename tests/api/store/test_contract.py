"""What every store promises, held against memory, SQLite and a real etcd."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from netfabric.api.store.base import ROOT, Batch, Compare, Delete, Put, Store
from netfabric.api.store.etcd import EtcdStore
from netfabric.api.store.etcd_channel import EtcdSettings, Member
from netfabric.api.store.memory import MemoryStore
from netfabric.api.store.sqlite import SqliteStore
from netfabric.fabric.errors import (
    CompactedError,
    InvalidError,
    NotFoundError,
    StaleError,
    UnavailableError,
)
from netfabric.lab.etcd import Etcd
from netfabric.proto import etcd_pb2 as pb

PATIENCE = 15.0
SHORT_HISTORY = 300
"""Transactions that the drivers with a history of their own keep, so that a test can outlive it."""


@dataclass
class Bench:
    """An open store, and what the contract's tests need around it."""

    store: Store
    prefix: str
    """Nobody else writes under it."""
    least_ttl: float
    """Seconds that a lease lasts at least."""
    etcd: Etcd | None = None

    async def put(self, name: str, value: bytes = b"x", lease: int = 0) -> int:
        return await self.store.txn((), [Put(self.prefix + name, value, lease)])

    async def forget_history(self) -> None:
        """Make the store forget what was before now."""
        if self.etcd is None:
            for _ in range(SHORT_HISTORY + 1):
                await self.put("forget")
            return
        revision = await self.put("forget")
        member = Member(self.etcd.address, EtcdSettings((self.etcd.address,)))
        await member.kv.Compact(pb.CompactionRequest(revision=revision))
        await member.channel.close()


@pytest.fixture(params=["memory", "sqlite", "etcd"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    prefix, etcd, least_ttl = f"{ROOT}{uuid.uuid4().hex}/", None, 0.1
    store: Store
    if request.param == "memory":
        store = MemoryStore(SHORT_HISTORY)
    elif request.param == "sqlite":
        store = SqliteStore(str(tmp_path / "store.db"), SHORT_HISTORY)
    else:
        etcd, least_ttl = request.getfixturevalue("shared_etcd"), 2.0
        store = EtcdStore(EtcdSettings((etcd.address,)), page=7)
    await store.open()
    yield Bench(store, prefix, least_ttl, etcd)
    await store.close()


async def until(
    batches: AsyncIterator[Batch], enough: Callable[[list[Batch]], bool]
) -> list[Batch]:
    """Read batches with changes until they are enough."""
    found: list[Batch] = []
    async with asyncio.timeout(PATIENCE):
        async for batch in batches:
            if batch.puts or batch.deletes:
                found.append(batch)
            if enough(found):
                break
    return found


async def read(store: Store, prefix: str, after: int, count: int) -> list[Batch]:
    """Return the next `count` batches with changes after a revision."""
    return await until(store.watch(prefix, after), lambda found: len(found) >= count)


async def start(store: Store, prefix: str) -> int:
    return (await store.list(prefix)).revision


async def test_what_is_put_is_there(bench: Bench) -> None:
    key = bench.prefix + "a"
    assert await bench.store.get(key) is None
    first = await bench.put("a", b"one")
    second = await bench.put("a", b"\x00\xfftwo")
    entry = await bench.store.get(key)
    assert entry is not None
    assert (entry.key, entry.value, entry.revision, entry.created, entry.lease) == (
        *(key, b"\x00\xfftwo"),
        *(second, first, 0),
    )
    assert 0 < first < second


async def test_a_deleted_key_is_gone_and_is_born_again(bench: Bench) -> None:
    first = await bench.put("a")
    await bench.store.txn((), [Delete(bench.prefix + "a")])
    assert await bench.store.get(bench.prefix + "a") is None
    again = await bench.put("a")
    entry = await bench.store.get(bench.prefix + "a")
    assert entry is not None
    assert entry.created == again > first


async def test_a_listing_is_sorted_and_ends_with_its_prefix(bench: Bench) -> None:
    for name in ("b/2", "b/10", "a", "b", "c", "b/ä", "b/\U0010ffff", "b0"):
        last = await bench.put(name)
    listing = await bench.store.list(bench.prefix + "b/")
    names = [entry.key.removeprefix(bench.prefix) for entry in listing.entries]
    assert names == ["b/10", "b/2", "b/ä", "b/\U0010ffff"]
    assert listing.revision >= last
    assert (await bench.store.list(bench.prefix + "none/")).entries == ()


async def test_a_listing_of_many_pages_is_whole(bench: Bench) -> None:
    names = [f"{number:05}" for number in range(500)]
    await bench.store.txn((), [Put(bench.prefix + name, name.encode()) for name in names])
    listing = await bench.store.list(bench.prefix)
    assert [entry.value.decode() for entry in listing.entries] == names
    assert {entry.revision for entry in listing.entries} == {listing.revision}


async def test_a_listing_is_of_one_revision_while_others_write(bench: Bench) -> None:
    keys = [f"{bench.prefix}{number}" for number in range(30)]
    done = asyncio.Event()

    async def write() -> None:
        for number in range(40):
            await bench.store.txn((), [Put(key, str(number).encode()) for key in keys])
        done.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        while not done.is_set():
            entries = (await bench.store.list(bench.prefix)).entries
            assert len({entry.value for entry in entries}) <= 1
            assert len(entries) in (0, len(keys))
            await asyncio.sleep(0)


async def test_a_transaction_happens_only_where_its_comparisons_hold(bench: Bench) -> None:
    a, b = bench.prefix + "a", bench.prefix + "b"
    first = await bench.store.txn([Compare(a, 0), Compare(b, 0)], [Put(a, b"1"), Put(b, b"1")])
    for compares in ([Compare(a, 0)], [Compare(a, first), Compare(b, first - 1)]):
        with pytest.raises(StaleError, match=bench.prefix):
            await bench.store.txn(compares, [Put(a, b"2"), Delete(b)])
    assert [entry.value for entry in (await bench.store.list(bench.prefix)).entries] == [b"1"] * 2
    second = await bench.store.txn([Compare(a, first), Compare(b, first)], [Put(a, b"2")])
    assert second > first
    with pytest.raises(StaleError, match=a):
        await bench.store.txn([Compare(b, first), Compare(a, first)], [Delete(b)])
    await bench.store.txn([Compare(a, second)], [Delete(a)])
    with pytest.raises(StaleError):
        await bench.store.txn([Compare(a, second)], [Put(a, b"3")])
    assert await bench.store.get(a) is None


async def test_a_key_may_be_changed_once_in_a_transaction(bench: Bench) -> None:
    key = bench.prefix + "a"
    twice: tuple[tuple[Put | Delete, ...], ...] = (
        (Put(key, b"1"), Put(key, b"2")),
        (Put(key, b"1"), Delete(key)),
    )
    for operations in twice:
        with pytest.raises(InvalidError, match=key):
            await bench.store.txn((), operations)
    assert await bench.store.get(key) is None


async def test_racing_writers_lose_nothing(bench: Bench) -> None:
    key, writers, rounds = bench.prefix + "counter", 8, 10
    revisions: list[int] = []

    async def count() -> None:
        wins = 0
        while wins < rounds:
            entry = await bench.store.get(key)
            before = int(entry.value) if entry else 0
            compare = Compare(key, entry.revision if entry else 0)
            try:
                revisions.append(await bench.store.txn([compare], [Put(key, b"%d" % (before + 1))]))
            except StaleError:
                continue
            wins += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(writers):
            group.create_task(count())
    entry = await bench.store.get(key)
    assert entry is not None
    assert int(entry.value) == writers * rounds
    assert len(set(revisions)) == writers * rounds


async def test_only_one_of_many_creates_a_key(bench: Bench) -> None:
    key = bench.prefix + "block"
    outcomes = await asyncio.gather(
        *(bench.store.txn([Compare(key, 0)], [Put(key, b"%d" % host)]) for host in range(20)),
        return_exceptions=True,
    )
    won = [host for host, outcome in enumerate(outcomes) if isinstance(outcome, int)]
    assert len(won) == 1
    assert all(isinstance(outcome, int | StaleError) for outcome in outcomes)
    entry = await bench.store.get(key)
    assert entry is not None
    assert entry.value == b"%d" % won[0]


async def test_a_watch_begins_in_the_past_and_misses_nothing(bench: Bench) -> None:
    after = await start(bench.store, bench.prefix)
    revisions = [await bench.put(f"{number}", b"%d" % number) for number in range(50)]
    found = await read(bench.store, bench.prefix, after, 50)
    assert [batch.revision for batch in found] == revisions
    assert [batch.puts[0].value for batch in found] == [b"%d" % number for number in range(50)]
    later = await read(bench.store, bench.prefix, revisions[29], 20)
    assert [batch.revision for batch in later] == revisions[30:]


async def test_a_watch_sees_what_comes(bench: Bench) -> None:
    after = await start(bench.store, bench.prefix)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(read(bench.store, bench.prefix, after, 20))
        for number in range(20):
            await bench.put("same", b"%d" % number)
    values = [entry.value for batch in reading.result() for entry in batch.puts]
    assert values == [b"%d" % number for number in range(20)]


async def test_two_watches_do_not_disturb_each_other(bench: Bench) -> None:
    after = await start(bench.store, bench.prefix)
    async with asyncio.TaskGroup() as group:
        left = group.create_task(read(bench.store, bench.prefix + "l", after, 5))
        right = group.create_task(read(bench.store, bench.prefix + "r", after, 5))
        for _ in range(5):
            await bench.put("left")
            await bench.put("right")
    for task, name in ((left, "left"), (right, "right")):
        assert {e.key for b in task.result() for e in b.puts} == {bench.prefix + name}


async def test_the_changes_of_a_transaction_come_together(bench: Bench) -> None:
    after = await start(bench.store, bench.prefix)
    await bench.put("gone")
    operations: list[Put | Delete] = [Put(f"{bench.prefix}{n:04}", b"x" * 500) for n in range(400)]
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(read(bench.store, bench.prefix, after, 2))
        revision = await bench.store.txn((), [*operations, Delete(bench.prefix + "gone")])
    _, batch = reading.result()
    assert batch.revision == revision
    assert sorted(entry.key for entry in batch.puts) == sorted(op.key for op in operations)
    assert {entry.revision for entry in batch.puts} == {revision}
    assert batch.deletes == (bench.prefix + "gone",)


async def test_a_transaction_too_large_for_one_message_comes_whole(bench: Bench) -> None:
    """Its events from the past are more than etcd puts into one response: they come in fragments."""
    after = await start(bench.store, bench.prefix)
    for size in (1_400_000, 1_300_000):
        await bench.store.txn(
            (), [Put(f"{bench.prefix}{n}", b"%d" % n * (size // 10)) for n in range(10)]
        )
    found = await read(bench.store, bench.prefix, after, 2)
    assert [len(batch.puts) for batch in found] == [10, 10]
    assert sum(len(entry.value) for entry in found[1].puts) == 1_300_000


async def test_a_key_changed_twice_comes_in_order(bench: Bench) -> None:
    after = await start(bench.store, bench.prefix)
    await bench.put("a", b"1")
    await bench.store.txn((), [Delete(bench.prefix + "a")])
    await bench.put("a", b"2")
    found = await read(bench.store, bench.prefix, after, 3)
    assert [[entry.value for entry in batch.puts] for batch in found] == [[b"1"], [], [b"2"]]
    assert found[1].deletes == (bench.prefix + "a",)


async def test_a_watch_comes_to_a_revision_that_changed_nothing(bench: Bench) -> None:
    after = await start(bench.store, bench.prefix)
    # somebody else's change moves the store on, and no event of ours does
    await bench.store.txn((), [Put(f"/elsewhere/{bench.prefix}", b"")])
    revision = await bench.store.txn((), [Delete(bench.prefix + "absent")])
    assert revision > after
    async with asyncio.timeout(PATIENCE):
        async for batch in bench.store.watch(ROOT, after):
            assert not batch.deletes
            if batch.revision >= revision:
                break
    await bench.store.txn((), [Delete(f"/elsewhere/{bench.prefix}")])


async def test_history_that_is_gone_is_said_to_be(bench: Bench) -> None:
    before = await bench.put("a")
    await bench.forget_history()
    with pytest.raises(CompactedError):
        await read(bench.store, bench.prefix, before - 1, 1)
    after = await start(bench.store, bench.prefix)
    await bench.put("a", b"new")
    assert (await read(bench.store, bench.prefix, after, 1))[0].puts[0].value == b"new"


async def test_the_keys_of_a_lease_go_with_it(bench: Bench) -> None:
    lease = await bench.store.grant(bench.least_ttl)
    await bench.put("free")
    await bench.put("held", lease=lease)
    after = await bench.put("also", lease=lease)
    entry = await bench.store.get(bench.prefix + "held")
    assert entry is not None
    assert entry.lease == lease
    gone: set[str] = set()
    async with asyncio.timeout(PATIENCE):
        async for batch in bench.store.watch(bench.prefix, after):
            gone |= set(batch.deletes)
            if len(gone) == 2:
                break
    assert gone == {bench.prefix + "held", bench.prefix + "also"}
    assert [e.key for e in (await bench.store.list(bench.prefix)).entries] == [
        bench.prefix + "free"
    ]
    with pytest.raises(NotFoundError):
        await bench.store.keep(lease)
    with pytest.raises(NotFoundError):
        await bench.put("late", lease=lease)


async def test_a_lease_that_is_kept_lasts(bench: Bench) -> None:
    kept, dropped = (
        await bench.store.grant(bench.least_ttl),
        await bench.store.grant(bench.least_ttl),
    )
    await bench.put("kept", lease=kept)
    await bench.put("dropped", lease=dropped)
    end = time.monotonic() + PATIENCE
    while await bench.store.get(bench.prefix + "dropped") is not None:
        await bench.store.keep(kept)
        await asyncio.sleep(bench.least_ttl / 10)
        assert time.monotonic() < end
    assert await bench.store.get(bench.prefix + "kept") is not None
    await bench.store.revoke(kept)


async def test_a_revoked_lease_takes_its_keys_at_once(bench: Bench) -> None:
    lease = await bench.store.grant(60.0)
    await bench.put("a", lease=lease)
    await bench.put("b", lease=lease)
    await bench.put("b")  # now without
    await bench.store.revoke(lease)
    keys = [entry.key for entry in (await bench.store.list(bench.prefix)).entries]
    assert keys == [bench.prefix + "b"]
    await bench.store.revoke(lease)
    with pytest.raises(NotFoundError):
        await bench.store.keep(lease)


async def test_leases_are_different(bench: Bench) -> None:
    leases = [await bench.store.grant(60.0) for _ in range(5)]
    assert len(set(leases)) == 5
    for lease in leases:
        await bench.store.revoke(lease)


async def test_large_values(bench: Bench) -> None:
    values = [bytes([number]) * 1_000_000 for number in range(10)]
    for number, value in enumerate(values):
        await bench.put(f"{number}", value)
    listing = await bench.store.list(bench.prefix)
    assert [entry.value for entry in listing.entries] == values


async def test_closing_ends_a_watch(bench: Bench) -> None:
    after = await start(bench.store, bench.prefix)
    watching, ended = asyncio.Event(), asyncio.Event()

    async def follow() -> None:
        with pytest.raises(UnavailableError):
            async for batch in bench.store.watch(bench.prefix, after):
                if batch.puts:
                    watching.set()
        ended.set()

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        group.create_task(follow())
        await bench.put("a")
        await watching.wait()
        await bench.store.close()
        await ended.wait()
    with pytest.raises(UnavailableError):
        await bench.store.get(bench.prefix + "a")
    with pytest.raises(UnavailableError):
        await bench.put("a")


async def test_a_watch_that_is_cancelled_ends(bench: Bench) -> None:
    after = await start(bench.store, bench.prefix)
    watching = asyncio.Event()

    async def follow() -> None:
        async for batch in bench.store.watch(bench.prefix, after):
            if batch.puts:
                watching.set()

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        task = group.create_task(follow())
        await bench.put("a")
        await watching.wait()
        task.cancel()
    assert task.cancelled()
    await bench.put("a")


async def test_the_epoch_is_known(bench: Bench) -> None:
    assert bench.store.epoch
