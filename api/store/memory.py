"""The store in memory: for tests, and for a fabric that may forget."""

import asyncio
import contextlib
import uuid
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from netfabric.api.store.base import Batch, Compare, Delete, Entry, Listing, Put
from netfabric.fabric.errors import CompactedError, NotFoundError, StaleError

HISTORY = 10_000
"""Batches kept for watches that resume."""


@dataclass(slots=True)
class _Lease:
    ttl: float
    timer: asyncio.TimerHandle
    keys: set[str] = field(default_factory=set)


class MemoryStore:
    """Entries in a dict, history in a deque, leases by the event loop's clock."""

    def __init__(self, history: int = HISTORY) -> None:
        self._entries: dict[str, Entry] = {}
        self._history: deque[Batch] = deque(maxlen=history)
        self._revision = 0
        self._changed = asyncio.Condition()
        self._lock = asyncio.Lock()
        self._leases: dict[int, _Lease] = {}
        self._next_lease = 1
        self._epoch = uuid.uuid4().hex
        self._tasks: set[asyncio.Future[None]] = set()

    @property
    def epoch(self) -> str:
        """Return the identity of this store's history."""
        return self._epoch

    async def open(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """Let the timers go."""
        for lease in self._leases.values():
            lease.timer.cancel()

    async def get(self, key: str) -> Entry | None:
        """Return the entry, or None."""
        return self._entries.get(key)

    async def list(self, prefix: str) -> Listing:
        """Return all entries whose key starts with `prefix`."""
        found = sorted((e for k, e in self._entries.items() if k.startswith(prefix)), key=_by_key)
        return Listing(tuple(found), self._revision)

    async def txn(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> int:
        """Carry out all operations if every comparison holds."""
        async with self._lock:
            for compare in compares:
                entry = self._entries.get(compare.key)
                if (entry.revision if entry else 0) != compare.revision:
                    raise StaleError(f"{compare.key}: changed meanwhile", "read it again")
            for lease in {op.lease for op in operations if isinstance(op, Put) and op.lease}:
                self._lease(lease)
            await self._persist(operations, self._revision + 1)
            revision = self._apply(operations)
        async with self._changed:
            self._changed.notify_all()
        return revision

    async def _persist(self, operations: Sequence[Put | Delete], revision: int) -> None:
        """Make the operations durable before anybody sees them: nothing to do in memory."""

    def _apply(self, operations: Sequence[Put | Delete]) -> int:
        self._revision += 1
        puts, deletes = [], []
        for operation in operations:
            before = self._entries.pop(operation.key, None)
            if before is not None and before.lease in self._leases:
                self._leases[before.lease].keys.discard(operation.key)
            if isinstance(operation, Put):
                created = before.created if before else self._revision
                entry = Entry(
                    operation.key, operation.value, self._revision, created, operation.lease
                )
                if operation.lease:
                    self._lease(operation.lease).keys.add(operation.key)
                self._entries[operation.key] = entry
                puts.append(entry)
            elif before is not None:
                deletes.append(operation.key)
        self._history.append(Batch(self._revision, tuple(puts), tuple(deletes)))
        return self._revision

    async def watch(self, prefix: str, after: int) -> AsyncIterator[Batch]:
        """Yield every change of keys under `prefix` with a revision above `after`."""
        while True:
            for batch in self._since(after):
                puts = tuple(e for e in batch.puts if e.key.startswith(prefix))
                deletes = tuple(k for k in batch.deletes if k.startswith(prefix))
                after = batch.revision
                if puts or deletes:
                    yield Batch(batch.revision, puts, deletes)
            async with self._changed:
                while self._revision <= after:
                    await self._changed.wait()

    def _since(self, after: int) -> Sequence[Batch]:
        oldest = self._history[0].revision if self._history else self._revision + 1
        if after + 1 < oldest and after < self._revision:
            raise CompactedError(
                f"revision {after} is gone; history starts at {oldest}", "list again"
            )
        skip = max(0, after + 1 - oldest)
        return [self._history[i] for i in range(skip, len(self._history))]

    def _lease(self, lease: int) -> _Lease:
        if lease not in self._leases:
            raise NotFoundError(f"lease {lease}: has ended", "grant another")
        return self._leases[lease]

    async def grant(self, ttl: float) -> int:
        """Return a new lease of `ttl` seconds."""
        number, self._next_lease = self._next_lease, self._next_lease + 1
        self._leases[number] = _Lease(ttl, self._timer(number, ttl))
        return number

    def _timer(self, lease: int, ttl: float) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(ttl, self._expire, lease)

    def _expire(self, lease: int) -> None:
        task = asyncio.ensure_future(self._end(lease))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self, lease: int) -> None:
        if lease in self._leases:
            found = self._leases.pop(lease)
            found.timer.cancel()
            if found.keys:
                await self.txn([], [Delete(key) for key in sorted(found.keys)])

    async def keep(self, lease: int) -> None:
        """Renew a lease."""
        found = self._lease(lease)
        found.timer.cancel()
        found.timer = self._timer(lease, found.ttl)

    async def revoke(self, lease: int) -> None:
        """End a lease and remove its keys at once."""
        with contextlib.suppress(NotFoundError):
            self._lease(lease)
            await self._end(lease)


def _by_key(entry: Entry) -> str:
    return entry.key
