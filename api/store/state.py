"""A store's content with its history, and transactions decided on it before anybody sees them."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from netfabric.api.store.base import Batch, Compare, Delete, Entry, Listing, Put, require_distinct
from netfabric.fabric.errors import CompactedError, NotFoundError, StaleError

HISTORY = 10_000
"""Transactions kept for watches that resume."""
HISTORY_BYTES = 32_000_000
"""What they may weigh: packed routes of a host are large values."""


@dataclass(slots=True)
class Lease:
    """Seconds that it lasts without being renewed, and the keys that go with it."""

    ttl: float
    keys: set[str] = field(default_factory=set)


class State:
    """Entries, leases and history, all of one revision."""

    def __init__(self, history: int = HISTORY) -> None:
        self.entries: dict[str, Entry] = {}
        self.leases: dict[int, Lease] = {}
        self.revision = 0
        self._history: deque[Batch] = deque()
        self._limit = history
        self._weight = 0

    def load(self, entries: Sequence[Entry], leases: dict[int, float], revision: int) -> None:
        """Begin with what was kept; there is no history before it."""
        self.leases = {lease: Lease(ttl) for lease, ttl in leases.items()}
        self.revision = revision
        for entry in entries:
            self._put(entry)

    def under(self, prefix: str) -> Listing:
        """Return the entries under a prefix."""
        keys = sorted(key for key in self.entries if key.startswith(prefix))
        return Listing(tuple(self.entries[key] for key in keys), self.revision)

    def since(self, after: int) -> list[Batch]:
        """Return the transactions after a revision, in order; raise CompactedError."""
        wanted = max(0, self.revision - after)
        if wanted > len(self._history):
            raise CompactedError(
                f"revision {after} is gone; history starts after {self.revision - len(self._history)}",
                "list again",
            )
        return list(islice(reversed(self._history), wanted))[::-1]

    def take(self, stage: "Stage") -> None:
        """Make staged transactions visible."""
        for lease, ttl in stage.granted.items():
            self.leases[lease] = Lease(ttl)
        for batch in stage.batches:
            for key in batch.deletes:
                self._remove(key)
            for entry in batch.puts:
                self._remove(entry.key)
                self._put(entry)
            self._remember(batch)
        for lease in stage.ended:
            self.leases.pop(lease, None)

    def _put(self, entry: Entry) -> None:
        self.entries[entry.key] = entry
        if entry.lease in self.leases:
            self.leases[entry.lease].keys.add(entry.key)

    def _remove(self, key: str) -> None:
        entry = self.entries.pop(key, None)
        if entry is not None and entry.lease in self.leases:
            self.leases[entry.lease].keys.discard(key)

    def _remember(self, batch: Batch) -> None:
        self.revision = batch.revision
        self._history.append(batch)
        self._weight += _weight(batch)
        while len(self._history) > self._limit or self._weight > HISTORY_BYTES:
            self._weight -= _weight(self._history.popleft())


class Stage:
    """Transactions on top of a state, one after the other, each deciding on those before it."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._changed: dict[str, Entry | None] = {}
        self.batches: list[Batch] = []
        self.granted: dict[int, float] = {}
        self.ended: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self.batches or self.granted or self.ended)

    def _get(self, key: str) -> Entry | None:
        return self._changed[key] if key in self._changed else self._state.entries.get(key)

    def txn(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> int:
        """Return the revision; raise StaleError, NotFoundError, InvalidError."""
        require_distinct(operations)
        for compare in compares:
            entry = self._get(compare.key)
            if (entry.revision if entry else 0) != compare.revision:
                raise StaleError(f"{compare.key}: changed meanwhile", "read it again")
        for operation in operations:
            if isinstance(operation, Put) and operation.lease:
                self._require_lease(operation.lease)
        return self._change(operations)

    def _change(self, operations: Sequence[Put | Delete]) -> int:
        revision = self._state.revision + len(self.batches) + 1
        puts, deletes = [], []
        for operation in operations:
            before = self._get(operation.key)
            if isinstance(operation, Put):
                created = before.created if before else revision
                entry = Entry(operation.key, operation.value, revision, created, operation.lease)
                self._changed[entry.key] = entry
                puts.append(entry)
            elif before is not None:
                self._changed[operation.key] = None
                deletes.append(operation.key)
        self.batches.append(Batch(revision, tuple(puts), tuple(deletes)))
        return revision

    def _require_lease(self, lease: int) -> None:
        granted = lease in self._state.leases or lease in self.granted
        if not granted or lease in self.ended:
            raise NotFoundError(f"lease {lease}: has ended", "grant another")

    def grant(self, lease: int, ttl: float) -> int:
        """Return the lease, which exists from here on."""
        self.granted[lease] = ttl
        return lease

    def end(self, lease: int) -> int:
        """End a lease with its keys; return the revision, also where it had ended already."""
        keys = self._keys_of(lease)
        self.ended.add(lease)
        if not keys:
            return self._state.revision + len(self.batches)
        return self._change([Delete(key) for key in sorted(keys)])

    def _keys_of(self, lease: int) -> set[str]:
        known = self._state.leases.get(lease)
        keys = {key for key in (known.keys if known else ()) if key not in self._changed}
        return keys | {
            key for key, entry in self._changed.items() if entry and entry.lease == lease
        }


def _weight(batch: Batch) -> int:
    values = sum(len(entry.key) + len(entry.value) + 200 for entry in batch.puts)
    return 200 + values + sum(len(key) + 100 for key in batch.deletes)
