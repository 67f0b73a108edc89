"""The store in one SQLite file: for a single netmaster with nothing else to install."""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from netfabric.api.store.base import Compare, Delete, Entry, Put
from netfabric.api.store.memory import Decide, MemoryStore
from netfabric.api.store.state import HISTORY, Stage
from netfabric.fabric.errors import ConflictError, FabricError, UnavailableError

Result = TypeVar("Result")
TIMEOUT = 10.0
"""Seconds that the disk may take."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry
  (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER, created INTEGER, lease INTEGER);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS lease (id INTEGER PRIMARY KEY, ttl REAL NOT NULL);
"""


@dataclass(slots=True)
class _Asked:
    """A transaction and the future of who waits for it; `result` once it is decided."""

    decide: Decide
    outcome: asyncio.Future[int]
    result: int | FabricError = 0

    def decided(self, stage: Stage) -> None:
        """Decide on what is staged before it."""
        try:
            self.result = self.decide(stage)
        except FabricError as error:
            self.result = error

    def answer(self, failure: FabricError | None) -> None:
        """Tell who waits, if he still does."""
        result = failure or self.result
        if self.outcome.done():
            return
        if isinstance(result, FabricError):
            self.outcome.set_exception(result)
        else:
            self.outcome.set_result(result)


class SqliteStore(MemoryStore):
    """Everything in memory, and every transaction on disk before it is seen.

    Those that come while the disk is busy go to it together: one fsync for all. History is kept in memory
    only: a watch from before a restart lists again. Leases start anew with a restart.
    """

    def __init__(self, path: str, history: int = HISTORY) -> None:
        super().__init__(history)
        self._path = Path(path)
        self._closed = True
        self._thread: ThreadPoolExecutor | None = None
        self._database: sqlite3.Connection | None = None
        self._lock_file = -1
        self._asked: list[_Asked] = []
        self._writing: asyncio.Future[None] | None = None

    def __str__(self) -> str:
        return f"store {self._path}"

    async def open(self) -> None:
        """Take the file; raise ConflictError where another process has it."""
        self._thread = ThreadPoolExecutor(1, "sqlite")
        try:
            await self._in_thread(self._take_file)
            await self._in_thread(self._load)
        except BaseException:
            await self._let_go()
            raise
        await super().open()
        for number, lease in self._state.leases.items():
            self._arm(number, lease.ttl)

    def _take_file(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            name = self._path.with_name(self._path.name + ".lock")
            self._lock_file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except BlockingIOError:
            raise ConflictError(
                f"{self}: another netmaster has it open",
                "run one netmaster on a SQLite store; use etcd for several",
            ) from None
        except OSError as error:
            raise UnavailableError(
                f"{self}: {error.strerror}", "name a file in a writable folder"
            ) from None

    def _load(self) -> None:
        database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._database = database
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.executescript(_SCHEMA)
        database.execute(
            "INSERT OR IGNORE INTO meta VALUES ('epoch', ?), ('revision', '0')", (self._epoch,)
        )
        meta = dict(database.execute("SELECT name, value FROM meta").fetchall())
        self._epoch = meta["epoch"]
        rows = database.execute("SELECT key, value, revision, created, lease FROM entry")
        leases = dict(database.execute("SELECT id, ttl FROM lease").fetchall())
        self._state.load([Entry(*row) for row in rows], leases, int(meta["revision"]))

    async def _in_thread(self, call: Callable[[], Result]) -> Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except sqlite3.Error as error:
            raise self._trouble(error) from None

    def _trouble(self, error: BaseException) -> UnavailableError:
        return UnavailableError(f"{self}: {error}", "free space on its disk, or restore the file")

    async def txn(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> int:
        """Carry out all operations if every comparison holds; on disk when it returns."""
        try:
            async with asyncio.timeout(TIMEOUT):
                return await super().txn(compares, operations)
        except TimeoutError:
            raise self._trouble(TimeoutError(f"the disk takes more than {TIMEOUT:g} s")) from None

    def _submit(self, decide: Decide) -> asyncio.Future[int]:
        asked = _Asked(decide, asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        if self._writing is None:
            self._write_asked()
        return asked.outcome

    def _write_asked(self) -> None:
        """Decide on everything asked, and let the thread write it."""
        asked = [one for one in self._asked if not one.outcome.done()]
        self._asked = []
        stage = Stage(self._state)
        for one in asked:
            one.decided(stage)
        if self._closed or not stage:
            self._answer(asked)
            return
        writing = asyncio.get_running_loop().run_in_executor(self._thread, self._write, stage)
        self._writing = writing
        writing.add_done_callback(lambda done: self._written(done, stage, asked))

    def _written(self, done: asyncio.Future[None], stage: Stage, asked: list[_Asked]) -> None:
        """Show what is on disk now, and go on with what was asked meanwhile. No await: nobody can stop it."""
        self._writing = None
        error = done.exception()
        if error is None:
            self._take(stage)
        self._answer(asked, None if error is None else self._trouble(error))
        if self._asked:
            self._write_asked()

    def _answer(self, asked: Sequence[_Asked], failure: FabricError | None = None) -> None:
        if self._closed and failure is None:
            failure = UnavailableError(f"{self}: not open", "open the store first")
        for one in asked:
            one.answer(failure)

    def _write(self, stage: Stage) -> None:
        database = self._database
        if database is None:
            raise sqlite3.ProgrammingError("not open")
        database.execute("BEGIN IMMEDIATE")
        try:
            _write_stage(database, stage)
            database.execute("COMMIT")
        except sqlite3.Error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise

    async def close(self) -> None:
        """Finish what is being written, and close the file."""
        while self._writing is not None:
            await asyncio.wait([self._writing])
        await super().close()
        await self._let_go()

    async def _let_go(self) -> None:
        thread, self._thread = self._thread, None
        database, self._database = self._database, None
        if database is not None and thread is not None:
            await asyncio.get_running_loop().run_in_executor(thread, database.close)
        if thread is not None:
            thread.shutdown(wait=False)
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1


def _write_stage(database: sqlite3.Connection, stage: Stage) -> None:
    database.executemany("INSERT INTO lease VALUES (?, ?)", stage.granted.items())
    for batch in stage.batches:
        database.executemany("DELETE FROM entry WHERE key = ?", [(key,) for key in batch.deletes])
        database.executemany(
            "INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?)",
            [(e.key, e.value, e.revision, e.created, e.lease) for e in batch.puts],
        )
    database.executemany("DELETE FROM lease WHERE id = ?", [(lease,) for lease in stage.ended])
    if stage.batches:
        revision = str(stage.batches[-1].revision)
        database.execute("UPDATE meta SET value = ? WHERE name = 'revision'", (revision,))
