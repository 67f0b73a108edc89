"""What only the SQLite driver has: one file, a lock, a disk that is slow or full, restarts and crashes."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from netfabric.api.store.base import Compare, Delete, Put
from netfabric.api.store.sqlite import SqliteStore
from netfabric.fabric.errors import (
    CompactedError,
    ConflictError,
    NotFoundError,
    StaleError,
    UnavailableError,
)

PATIENCE = 15.0


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "deep" / "store.db")


@asynccontextmanager
async def opened(path: str) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def test_everything_outlives_a_restart(path: str) -> None:
    async with opened(path) as store:
        epoch = store.epoch
        await store.txn((), [Put("/a", b"1"), Put("/b", b"\x00")])
        await store.txn((), [Put("/a", b"2"), Put("/c", b"")])
        revision = await store.txn((), [Delete("/b")])
        before = await store.list("/")
    async with opened(path) as store:
        assert await store.list("/") == before
        assert before.revision == revision
        assert store.epoch == epoch
        with pytest.raises(CompactedError):
            await anext(aiter(store.watch("/", revision - 1)))
        assert await store.txn((), [Put("/d", b"")]) == revision + 1
        batch = await anext(aiter(store.watch("/", revision)))
        assert [entry.key for entry in batch.puts] == ["/d"]


async def test_another_file_has_another_epoch(tmp_path: Path) -> None:
    async with opened(str(tmp_path / "a")) as one, opened(str(tmp_path / "b")) as other:
        assert one.epoch != other.epoch


async def test_nobody_else_reads_the_file(path: str) -> None:
    async with opened(path):
        modes = [file.stat().st_mode & 0o777 for file in Path(path).parent.iterdir()]
    assert set(modes) == {0o600}


async def test_two_cannot_have_it_open(path: str) -> None:
    async with opened(path) as store:
        second = SqliteStore(path)
        with pytest.raises(ConflictError, match=path):
            await second.open()
        await store.txn((), [Put("/a", b"")])
    async with opened(path) as store:
        assert await store.get("/a")


async def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"no database at all, " * 100)
    (tmp_path / "file").touch()
    for path in (str(garbage), str(tmp_path), str(tmp_path / "file" / "store.db")):
        with pytest.raises(UnavailableError, match=path):
            await SqliteStore(path).open()
    assert garbage.read_bytes() == b"no database at all, " * 100


async def test_leases_start_anew_with_a_restart(path: str) -> None:
    async with opened(path) as store:
        short, long = await store.grant(0.3), await store.grant(60.0)
        await store.txn((), [Put("/short", b"", short), Put("/long", b"", long)])
        ended = await store.grant(60.0)
        await store.revoke(ended)
    async with opened(path) as store:
        after = (await store.list("/")).revision
        assert await store.get("/short") is not None
        await store.keep(long)
        with pytest.raises(NotFoundError):
            await store.keep(ended)
        async with asyncio.timeout(PATIENCE):
            batch = await anext(aiter(store.watch("/", after)))
        assert batch.deletes == ("/short",)
        with pytest.raises(NotFoundError):
            await store.keep(short)
    async with opened(path) as store:
        assert [entry.key for entry in (await store.list("/")).entries] == ["/long"]


async def test_a_lease_is_never_given_out_again(path: str) -> None:
    async with opened(path) as store:
        old = await store.grant(60.0)
        await store.revoke(old)
    async with opened(path) as store:
        assert await store.grant(60.0) != old


def _hold(path: str) -> sqlite3.Connection:
    """Make the disk slow: nobody else can write as long as this lasts."""
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    return blocker


async def test_a_slow_disk_holds_up_nothing_but_writes(path: str) -> None:
    async with opened(path) as store:
        await store.txn((), [Put("/a", b"old")])
        with closing(_hold(path)) as blocker:
            writing = asyncio.ensure_future(store.txn((), [Put("/a", b"new")]))
            longest = 0.0
            for _ in range(50):
                began = time.monotonic()
                entry = await store.get("/a")
                await asyncio.sleep(0.002)
                longest = max(longest, time.monotonic() - began)
                assert entry is not None
                assert entry.value == b"old"
            assert not writing.done()
            assert longest < 0.5
            blocker.execute("ROLLBACK")
            await writing
        entry = await store.get("/a")
        assert entry is not None
        assert entry.value == b"new"


async def test_what_waits_for_the_disk_goes_together(path: str) -> None:
    async with opened(path) as store:
        with closing(_hold(path)) as blocker:
            first = asyncio.ensure_future(store.txn((), [Put("/0", b"")]))
            await asyncio.sleep(0)
            rest = [
                asyncio.ensure_future(store.txn([Compare("/1", 0)], [Put("/1", b"%d" % number)]))
                for number in range(20)
            ]
            others = [
                asyncio.ensure_future(store.txn((), [Put(f"/x/{number}", b"")]))
                for number in range(20)
            ]
            await asyncio.sleep(0)
            blocker.execute("ROLLBACK")
            outcomes = await asyncio.gather(first, *rest, *others, return_exceptions=True)
        won = [outcome for outcome in outcomes if isinstance(outcome, int)]
        assert won == list(range(1, 23))
        assert sum(isinstance(outcome, StaleError) for outcome in outcomes) == 19
        entry = await store.get("/1")
        assert entry is not None
        assert entry.value == b"0"
    async with opened(path) as store:
        assert (await store.list("/")).revision == 22


async def test_who_gives_up_waiting_leaves_the_store_whole(path: str) -> None:
    """The disk may have it all the same: memory and disk must agree on that."""
    async with opened(path) as store:
        with closing(_hold(path)) as blocker:
            writing = asyncio.ensure_future(store.txn((), [Put("/a", b"1")]))
            queued = asyncio.ensure_future(store.txn((), [Put("/b", b"1")]))
            await asyncio.sleep(0.01)
            writing.cancel()
            queued.cancel()
            await asyncio.wait([writing, queued])
            blocker.execute("ROLLBACK")
        await store.txn((), [Put("/c", b"1")])
        seen = await store.list("/")
    async with opened(path) as store:
        assert await store.list("/") == seen
    assert [entry.key for entry in seen.entries] == ["/a", "/c"]


async def test_a_full_disk_refuses_and_changes_nothing(path: str) -> None:
    async with opened(path) as store:
        await store.txn((), [Put("/a", b"1")])
        database = store._database
        assert database is not None
        database.execute("PRAGMA max_page_count = 20")
        with pytest.raises(UnavailableError, match="full"):
            await store.txn((), [Put("/a", b"2"), Put("/large", bytes(1_000_000))])
        entry = await store.get("/a")
        assert entry is not None
        assert entry.value == b"1"
        lease = await store.grant(0.05)
        await store.txn((), [Put("/small", b"", lease)])
        revision = (await store.list("/")).revision
        async with asyncio.timeout(PATIENCE):
            batch = await anext(aiter(store.watch("/", revision)))
        assert batch.deletes == ("/small",)


async def test_a_lease_ends_also_where_the_disk_was_busy_then(path: str) -> None:
    async with opened(path) as store:
        lease = await store.grant(0.05)
        revision = await store.txn((), [Put("/a", b"", lease)])
        database = store._database
        assert database is not None
        database.execute("PRAGMA busy_timeout = 1")
        with closing(_hold(path)):
            await _until(lambda: store._writing is not None)
            await _until(lambda: store._writing is None)
            assert await store.get("/a") is not None
        async with asyncio.timeout(PATIENCE):
            batch = await anext(aiter(store.watch("/", revision)))
        assert batch.deletes == ("/a",)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


WRITER = """
import asyncio, sys
from netfabric.api.store.base import Put
from netfabric.api.store.sqlite import SqliteStore

async def write(store, writer):
    number = 0
    while True:
        number += 1
        value = b"%d" % number
        await store.txn((), [Put(f"/{writer}/{half}", value) for half in "ab"])
        print(writer, number, flush=True)

async def main():
    store = SqliteStore(sys.argv[1])
    await store.open()
    async with asyncio.TaskGroup() as group:
        for writer in range(4):
            group.create_task(write(store, writer))

asyncio.run(main())
"""


@pytest.mark.parametrize("attempt", range(3))
async def test_kill_9_loses_nothing_that_was_promised(path: str, attempt: int) -> None:
    """Whole transactions, all that were answered, at most one more of each writer."""
    promised = await asyncio.to_thread(_write_and_kill, path)
    async with opened(path) as store:
        found = {entry.key: int(entry.value) for entry in (await store.list("/")).entries}
    for writer, number in promised.items():
        assert found[f"/{writer}/a"] == found[f"/{writer}/b"]
        assert number <= found[f"/{writer}/a"] <= number + 1


def _write_and_kill(path: str) -> dict[str, int]:
    promised: dict[str, int] = {}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            name, number = line.split()
            promised[name] = int(number)
            if sum(promised.values()) >= 100:
                os.kill(writer.pid, signal.SIGKILL)
                break
        for line in writer.stdout:  # what was promised before it died
            if line.endswith("\n"):
                name, number = line.split()
                promised[name] = int(number)
    return promised
