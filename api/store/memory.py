"""The store in memory: for tests, and for a fabric that may forget."""

import asyncio
import secrets
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TypeAlias

from netfabric.api.store.base import Batch, Compare, Delete, Entry, Listing, Put
from netfabric.api.store.state import HISTORY, Stage, State
from netfabric.fabric.errors import FabricError, NotFoundError, UnavailableError

Decide: TypeAlias = Callable[[Stage], int]
"""A transaction, a grant or the end of a lease, on what was staged before it."""

_RETRY = 1.0
"""Seconds until the end of a lease that could not be stored is tried again."""


class MemoryStore:
    """A state, with leases by the event loop's clock."""

    def __init__(self, history: int = HISTORY) -> None:
        self._state = State(history)
        self._epoch = uuid.uuid4().hex
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._moved = asyncio.Event()
        self._closed = False

    @property
    def epoch(self) -> str:
        """Return the identity of this store's history."""
        return self._epoch

    async def open(self) -> None:
        """Nothing to connect to."""
        self._closed = False

    async def close(self) -> None:
        """Let the timers go, and end the watches."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._wake()

    async def get(self, key: str) -> Entry | None:
        """Return the entry, or None."""
        self._require_open()
        return self._state.entries.get(key)

    async def list(self, prefix: str) -> Listing:
        """Return all entries whose key starts with `prefix`."""
        self._require_open()
        return self._state.under(prefix)

    def _require_open(self) -> None:
        if self._closed:
            raise UnavailableError(f"{self}: not open", "open the store first")

    def __str__(self) -> str:
        return "store in memory"

    async def txn(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> int:
        """Carry out all operations if every comparison holds."""
        return await self._submit(lambda stage: stage.txn(compares, operations))

    def _submit(self, decide: Decide) -> asyncio.Future[int]:
        """Decide, and make it visible; a driver with a disk writes in between."""
        outcome: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        try:
            self._require_open()
            stage = Stage(self._state)
            number = decide(stage)
        except FabricError as error:
            outcome.set_exception(error)
        else:
            self._take(stage)
            outcome.set_result(number)
        return outcome

    def _take(self, stage: Stage) -> None:
        self._state.take(stage)
        for lease in stage.ended:
            self._disarm(lease)
        self._wake()

    def _wake(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def watch(self, prefix: str, after: int) -> AsyncGenerator[Batch]:
        """Yield every change of keys under `prefix` with a revision above `after`."""
        said = after
        while True:
            self._require_open()
            moved = self._moved
            for batch in self._state.since(after):
                after = batch.revision
                ours = _under(prefix, batch)
                if ours.puts or ours.deletes:
                    said = after
                    yield ours
            if said < after:
                said = after
                yield Batch(after, (), ())
            if self._state.revision <= after:
                await moved.wait()

    async def grant(self, ttl: float) -> int:
        """Return a new lease of `ttl` seconds."""
        # a number never used before: who still has one from before a restart must not renew another's
        lease = secrets.randbits(62) + 1
        await self._submit(lambda stage: stage.grant(lease, ttl))
        self._arm(lease, ttl)
        return lease

    def _arm(self, lease: int, seconds: float) -> None:
        self._disarm(lease)
        loop = asyncio.get_running_loop()
        self._timers[lease] = loop.call_later(seconds, self._expire, lease)

    def _disarm(self, lease: int) -> None:
        timer = self._timers.pop(lease, None)
        if timer is not None:
            timer.cancel()

    def _expire(self, lease: int) -> None:
        def done(outcome: asyncio.Future[int]) -> None:
            if outcome.exception() is not None and not self._closed:
                self._arm(lease, _RETRY)

        self._submit(lambda stage: stage.end(lease)).add_done_callback(done)

    async def keep(self, lease: int) -> None:
        """Renew a lease."""
        self._require_open()
        if lease not in self._state.leases:
            raise NotFoundError(f"lease {lease}: has ended", "grant another")
        self._arm(lease, self._state.leases[lease].ttl)

    async def revoke(self, lease: int) -> None:
        """End a lease and remove its keys at once."""
        await self._submit(lambda stage: stage.end(lease))


def _under(prefix: str, batch: Batch) -> Batch:
    puts = tuple(entry for entry in batch.puts if entry.key.startswith(prefix))
    deletes = tuple(key for key in batch.deletes if key.startswith(prefix))
    return Batch(batch.revision, puts, deletes)
