"""The store in one SQLite file: for a single netmaster with nothing else to install."""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from netfabric.api.store.base import Delete, Entry, Put
from netfabric.api.store.memory import HISTORY, MemoryStore
from netfabric.fabric.errors import ConflictError, UnavailableError

Result = TypeVar("Result")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry
  (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER, created INTEGER, lease INTEGER);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS lease (id INTEGER PRIMARY KEY, ttl REAL NOT NULL);
"""


class SqliteStore(MemoryStore):
    """Everything in memory, and every transaction on disk before it is seen.

    History is kept in memory only: a watch from before a restart lists again. Leases start anew with a restart.
    """

    def __init__(self, path: str, history: int = HISTORY) -> None:
        super().__init__(history)
        self._path = Path(path)
        self._thread = ThreadPoolExecutor(1, "sqlite")
        self._database: sqlite3.Connection | None = None
        self._lock_file = -1

    async def open(self) -> None:
        """Take the file; raise ConflictError where another process has it."""
        self._take()
        await self._in_thread(self._load)
        for lease in self._leases.values():
            lease.timer.cancel()
        await self._start_leases()

    def _take(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            name = self._path.with_name(self._path.name + ".lock")
            self._lock_file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(
                f"store {self._path}: another netmaster has it open",
                "run one netmaster on a SQLite store; use etcd for several",
            ) from None
        except OSError as error:
            raise UnavailableError(
                f"store {self._path}: {error.strerror}", "name a file in a writable folder"
            ) from None

    def _load(self) -> None:
        database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._database = database
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.executescript(_SCHEMA)
        self._path.chmod(0o600)
        meta = dict(database.execute("SELECT name, value FROM meta").fetchall())
        if "epoch" in meta:
            self._epoch, self._revision = meta["epoch"], int(meta["revision"])
        else:
            database.execute(
                "INSERT INTO meta VALUES ('epoch', ?), ('revision', '0')", (self._epoch,)
            )
        for row in database.execute("SELECT key, value, revision, created, lease FROM entry"):
            self._entries[row[0]] = Entry(*row)

    async def _start_leases(self) -> None:
        rows = await self._in_thread(
            lambda: self._open_database().execute("SELECT id, ttl FROM lease").fetchall()
        )
        for number, ttl in rows:
            self._next_lease = number
            await super().grant(ttl)
            held = {key for key, entry in self._entries.items() if entry.lease == number}
            self._leases[number].keys |= held

    def _open_database(self) -> sqlite3.Connection:
        if self._database is None:
            raise UnavailableError(f"store {self._path}: not open", "open it first")
        return self._database

    async def _in_thread(self, call: Callable[[], Result]) -> Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except sqlite3.Error as error:
            raise UnavailableError(
                f"store {self._path}: {error}", "free space on its disk, or restore the file"
            ) from None

    async def _persist(self, operations: Sequence[Put | Delete], revision: int) -> None:
        await self._in_thread(lambda: self._write(operations, revision))

    def _write(self, operations: Sequence[Put | Delete], revision: int) -> None:
        database = self._open_database()
        database.execute("BEGIN IMMEDIATE")
        try:
            for op in operations:
                if isinstance(op, Put):
                    before = self._entries.get(op.key)
                    created = before.created if before else revision
                    row = (op.key, op.value, revision, created, op.lease)
                    database.execute("INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?)", row)
                else:
                    database.execute("DELETE FROM entry WHERE key = ?", (op.key,))
            database.execute("UPDATE meta SET value = ? WHERE name = 'revision'", (str(revision),))
            database.execute("COMMIT")
        except sqlite3.Error:
            database.execute("ROLLBACK")
            raise

    async def grant(self, ttl: float) -> int:
        """Return a new lease of `ttl` seconds."""
        number = await super().grant(ttl)
        await self._in_thread(
            lambda: self._open_database().execute("INSERT INTO lease VALUES (?, ?)", (number, ttl))
        )
        return number

    async def _end(self, lease: int) -> None:
        await super()._end(lease)
        await self._in_thread(
            lambda: self._open_database().execute("DELETE FROM lease WHERE id = ?", (lease,))
        )

    async def close(self) -> None:
        """Close the file."""
        await super().close()
        if self._database is not None:
            await self._in_thread(self._database.close)
            self._database = None
        self._thread.shutdown()
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1
