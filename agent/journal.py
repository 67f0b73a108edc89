"""The agent's memory on disk: a write-ahead SQLite file, one worker thread, commits shared by many writers."""

import asyncio
import fcntl
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

import structlog

from netfabric.fabric.effects import JournalChange
from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.errors import ConflictError, FabricError, KernelError
from netfabric.fabric.events import JournalState
from netfabric.fabric.filter import GroupFilter, Members
from netfabric.fabric.membership import members_of
from netfabric.fabric.prefix import Address
from netfabric.fabric.session import (
    HeldBlock,
    HeldLoan,
    IntentChanged,
    MembersChanged,
    Remote,
    RemotesChanged,
)
from netfabric.fabric.stored import dump, load

log = structlog.get_logger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS endpoint (key TEXT PRIMARY KEY, value TEXT NOT NULL, detaching INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS block (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS loan (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS cool (network TEXT, address TEXT, until REAL NOT NULL, PRIMARY KEY (network, address)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS intent (one INTEGER PRIMARY KEY CHECK (one = 1), value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS filter (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS member (grouped TEXT, address TEXT, PRIMARY KEY (grouped, address)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS remote (network TEXT, address TEXT, value TEXT NOT NULL, PRIMARY KEY (network, address)) WITHOUT ROWID;
"""
_VERSION = 1
"""Of the schema: `PRAGMA user_version`."""
_TO_VERSION_1 = """
CREATE TABLE IF NOT EXISTS cooling (address TEXT PRIMARY KEY, until REAL NOT NULL);
INSERT INTO cool SELECT '', address, until FROM cooling;
DROP TABLE cooling;
UPDATE block SET key = json_extract(value, '$.network') || ' ' || json_extract(value, '$.prefix');
PRAGMA user_version = 1;
"""
"""Before, what an address or a block was of was not part of its key: networks did not overlap."""


@dataclass(frozen=True, slots=True)
class _Write:
    change: JournalChange
    done: Future[None]


class Journal:
    """Durable changes, in order. `open` before anything else; `record` from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._lock: int | None = None
        self._database: sqlite3.Connection | None = None
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)

    def open(self) -> JournalState | None:
        """Take the file; return what it holds, or None where it was absent, unfinished or unreadable.

        An unreadable file is set aside, never deleted. Raises ConflictError where another agent has it,
        KernelError where it cannot be opened (which says nothing of what is in it).
        """
        self._take_lock()
        existed = self._path.exists()
        try:
            self._connect()
            state = self._load() if existed else None
        except sqlite3.OperationalError as error:
            raise KernelError(
                f"journal {self._path}: {error}",
                "see its disk and its rights; moved away, it is rebuilt from netmaster and the kernel",
            ) from None
        except (sqlite3.DatabaseError, ValueError, KeyError, FabricError) as error:
            state = None
            self._set_aside(error)
            self._connect()
        self._thread.start()
        return state

    def _take_lock(self) -> None:
        path = self._path.with_suffix(".lock")
        try:
            self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise KernelError(
                f"{path}: {error.strerror}", "choose a --state-dir that can be written"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(self._lock, 32).decode().strip()
            raise ConflictError(
                f"journal {self._path}: in use by process {owner or 'unknown'}",
                "one agent a host; give another --state-dir to run a second one",
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _connect(self) -> None:
        database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.executescript(_SCHEMA)
        if database.execute("PRAGMA user_version").fetchone()[0] < _VERSION:
            database.executescript(f"BEGIN IMMEDIATE; {_TO_VERSION_1} COMMIT;")
        self._path.chmod(0o600)
        self._database = database

    def _set_aside(self, error: Exception) -> None:
        if self._database is not None:
            self._database.close()
        aside = self._path.with_name(f"{self._path.name}.bad-{int(time.time())}")
        self._path.rename(aside)
        for suffix in ("-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        log.warning(
            "the journal is unreadable; it will be rebuilt from netmaster and the kernel",
            kept=str(aside),
            error=str(error),
        )

    def _load(self) -> JournalState | None:
        """Return what was written; None where its rebuilding had not got as far as the intent.

        An agent that lost its journal, and died again before a netmaster answered, must not take the new,
        empty file for the truth: it would remove every container's link.
        """
        assert self._database is not None
        intent = self._database.execute("SELECT value FROM intent").fetchone()
        if intent is None:
            return None
        rows = self._database.execute("SELECT value, detaching FROM endpoint").fetchall()
        endpoints = [(load(Endpoint, value), leaving) for value, leaving in rows]
        return JournalState(
            endpoints=tuple(endpoint for endpoint, _ in endpoints),
            detaching=frozenset(endpoint.key for endpoint, leaving in endpoints if leaving),
            blocks=tuple(load(HeldBlock, v) for v in self._values("block")),
            loans=tuple(load(HeldLoan, v) for v in self._values("loan")),
            cooling=tuple(
                ((network, ip_address(address)), until)
                for network, address, until in self._database.execute("SELECT * FROM cool")
            ),
            intent=replace(
                load(IntentChanged, intent[0]),
                filters=tuple(load(GroupFilter, v) for v in self._values("filter")),
            ),
            members=self._members(),
            remotes=tuple(load(Remote, v) for v in self._values("remote")),
        )

    def _members(self) -> tuple[Members, ...]:
        assert self._database is not None
        groups: dict[str, set[Address]] = {}
        for group, address in self._database.execute("SELECT grouped, address FROM member"):
            groups.setdefault(group, set()).add(ip_address(address))
        return members_of(groups)

    def _values(self, table: str) -> list[str]:
        assert self._database is not None
        return [row[0] for row in self._database.execute(f"SELECT value FROM {table}")]

    def record(self, change: JournalChange) -> Future[None]:
        """Write a change; the future ends when it is on disk, or with KernelError."""
        done: Future[None] = Future()
        self._queue.put(_Write(change, done))
        return done

    def close(self) -> None:
        """Finish what was recorded and let go of the file."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        if self._database is not None:
            self._database.close()
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _work(self) -> None:
        """Commit whatever has gathered, together: one fsync for all of it."""
        while (first := self._queue.get()) is not None:
            batch: list[_Write] = [first]
            ended = False
            while not self._queue.empty():
                more = self._queue.get()
                if more is None:
                    ended = True
                    break
                batch.append(more)
            self._commit(batch)
            if ended:
                return

    def _commit(self, batch: list[_Write]) -> None:
        assert self._database is not None
        error: FabricError | None = None
        try:
            self._database.execute("BEGIN IMMEDIATE")
            for write in batch:
                self._apply(self._database, write.change)
            self._database.execute("COMMIT")
        except sqlite3.Error as reason:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            error = KernelError(
                f"journal {self._path}: {reason}", "free space on its disk, or see dmesg"
            )
        for write in batch:
            if error is None:
                write.done.set_result(None)
            else:
                write.done.set_exception(error)

    @staticmethod
    def _apply(database: sqlite3.Connection, change: JournalChange) -> None:
        def put(table: str, key: str, value: str) -> None:
            database.execute(
                f"INSERT OR REPLACE INTO {table} (key, value) VALUES (?, ?)", (key, value)
            )

        if change.endpoint is not None:
            text = dump(change.endpoint)
            row = (str(change.endpoint.key), text)
            database.execute("INSERT OR REPLACE INTO endpoint VALUES (?, ?, 0)", row)
        if change.detaching is not None:
            row_key = (str(change.detaching),)
            database.execute("UPDATE endpoint SET detaching = 1 WHERE key = ?", row_key)
        if change.gone is not None:
            database.execute("DELETE FROM endpoint WHERE key = ?", (str(change.gone),))
        for (network, address), until in change.cooling:
            cool = (network, str(address), until)
            database.execute("INSERT OR REPLACE INTO cool VALUES (?, ?, ?)", cool)
        for network, address in change.cooled:
            warm = (str(address), network)  # "": from before networks were part of the key
            database.execute("DELETE FROM cool WHERE address = ? AND network IN (?, '')", warm)
        if change.block is not None:
            put("block", _block_key(change.block), dump(change.block))
        if change.block_gone is not None:
            gone_key = (_block_key(change.block_gone),)
            database.execute("DELETE FROM block WHERE key = ?", gone_key)
        if change.loan is not None:
            put("loan", change.loan.id, dump(change.loan))
        if change.loan_gone:
            database.execute("DELETE FROM loan WHERE key = ?", (change.loan_gone,))
        if change.intent is not None:
            _apply_intent(database, change.intent)
        if change.members is not None:
            _apply_members(database, change.members)
        if change.remotes is not None:
            _apply_remotes(database, change.remotes)


def _block_key(block: HeldBlock) -> str:
    """Networks of tenants that overlap may have the same block."""
    return f"{block.network} {block.prefix}"


def _apply_intent(database: sqlite3.Connection, intent: IntentChanged) -> None:
    """Filters have rows of their own: one that changes is one row."""
    value = dump(replace(intent, full=True, filters=(), filters_gone=()))
    database.execute("INSERT OR REPLACE INTO intent VALUES (1, ?)", (value,))
    if intent.full:
        database.execute("DELETE FROM filter")
    gone = [(group,) for group in intent.filters_gone]
    database.executemany("DELETE FROM filter WHERE key = ?", gone)
    rows = [(found.group, dump(found)) for found in intent.filters]
    database.executemany("INSERT OR REPLACE INTO filter VALUES (?, ?)", rows)


def _apply_members(database: sqlite3.Connection, change: MembersChanged) -> None:
    if change.full:
        database.execute("DELETE FROM member")
    gone = [(m.group, str(a)) for m in change.removed for a in m.addresses]
    database.executemany("DELETE FROM member WHERE grouped = ? AND address = ?", gone)
    rows = [(m.group, str(a)) for m in change.added for a in m.addresses]
    database.executemany("INSERT OR REPLACE INTO member VALUES (?, ?)", rows)


def _apply_remotes(database: sqlite3.Connection, change: RemotesChanged) -> None:
    if change.full:
        database.execute("DELETE FROM remote")
    gone = [(where.network, str(where.address)) for where in change.removed]
    database.executemany("DELETE FROM remote WHERE network = ? AND address = ?", gone)
    rows = [(r.network, str(r.address), dump(r)) for r in change.added]
    database.executemany("INSERT OR REPLACE INTO remote VALUES (?, ?, ?)", rows)


def when_done(
    future: Future[None],
    loop: asyncio.AbstractEventLoop,
    then: Callable[[FabricError | None], None],
) -> None:
    """Call `then` in the loop with the future's error, or None."""

    def report(done: Future[None]) -> None:
        error = done.exception()
        if error is not None and not isinstance(error, FabricError):
            error = KernelError(f"journal: {error}", "see the agent's log")
        loop.call_soon_threadsafe(then, error)

    future.add_done_callback(report)
