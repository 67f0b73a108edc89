"""Several decided writes as one transaction: what fits together, and what has to wait for the next."""

import json

from netfabric.api.store.base import ROOT, Compare, Delete, Put
from netfabric.fabric.world import Fields, Write

GUARD = f"{ROOT}guard/intent"
MAX_OPERATIONS = 128
"""Operations, and comparisons, that etcd takes in a transaction as it is installed."""
MAX_BYTES = 1 << 20
"""Of values; etcd takes 1.5 MB with keys and all."""


class Batch:
    """A transaction under the guard. The first write always fits: where it is too large, the store says so."""

    def __init__(self, guard: int) -> None:
        self.guard = guard
        self._puts: dict[str, bytes] = {}
        self._deletes: set[str] = set()
        self._unchanged: dict[str, int] = {}
        self._bytes = 0

    @property
    def full(self) -> bool:
        """Return whether not even a small write fits any more."""
        return len(self._puts) + len(self._deletes) + 2 > MAX_OPERATIONS

    def take(self, write: Write) -> bool:
        """Take a write in; return False, and nothing has changed, where it has to wait for the next batch.

        That is where it does not fit, and where it touches a key that is changed already: then the two
        would share a revision, and who has read the one's would overwrite the other.
        """
        puts = {key: _dump(value) for key, value in write.puts.items()}
        if self._puts or self._deletes:
            touched = {*puts, *write.deletes, *write.unchanged}
            if not touched.isdisjoint(self._puts) or not touched.isdisjoint(self._deletes):
                return False
            if not self._has_room(puts, write):
                return False
        self._puts |= puts
        self._deletes.update(write.deletes)
        self._unchanged |= write.unchanged
        self._bytes += _size(puts)
        return True

    def _has_room(self, puts: dict[str, bytes], write: Write) -> bool:
        operations = 1 + len(self._puts) + len(self._deletes) + len(puts) + len(write.deletes)
        compares = 1 + len(self._unchanged) + len(write.unchanged)
        return (
            max(operations, compares) <= MAX_OPERATIONS and self._bytes + _size(puts) <= MAX_BYTES
        )

    def transaction(self) -> tuple[list[Compare], list[Put | Delete]]:
        """Return what is compared and what is done."""
        compares = [Compare(GUARD, self.guard)]
        compares += [Compare(ROOT + key, at) for key, at in self._unchanged.items()]
        operations: list[Put | Delete] = [Put(GUARD, b"{}")]
        operations += [Put(ROOT + key, value) for key, value in self._puts.items()]
        operations += [Delete(ROOT + key) for key in self._deletes]
        return compares, operations


def _size(puts: dict[str, bytes]) -> int:
    return sum(map(len, puts.values()))


def _dump(value: Fields) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
