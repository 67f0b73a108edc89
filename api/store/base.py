"""The store's interface: get, list, transaction, watch, lease. Three drivers keep it to the letter.

Keys are text such as `/netfabric/v1/intent/network/default:blue`; values are bytes.
A revision counts transactions, from 1, and never goes back.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from netfabric.fabric.errors import InvalidError

ROOT = "/netfabric/v1/"


@dataclass(frozen=True, slots=True)
class Entry:
    """A key with its value; `revision` is that of its last change, `created` of its creation."""

    key: str
    value: bytes
    revision: int
    created: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """Entries under a prefix, sorted by key, all of one revision of the store."""

    entries: tuple[Entry, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class Compare:
    """A condition: the key's last change has this revision; 0 means that the key does not exist."""

    key: str
    revision: int


@dataclass(frozen=True, slots=True)
class Put:
    """Write a key; with a lease it goes when the lease ends."""

    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a key; an absent one is no error."""

    key: str


@dataclass(frozen=True, slots=True)
class Batch:
    """What one or more whole transactions changed, up to and including `revision`; never half of one."""

    revision: int
    puts: tuple[Entry, ...]
    deletes: tuple[str, ...]


def require_distinct(operations: Sequence[Put | Delete]) -> None:
    """Raise InvalidError where a transaction changes a key twice: which one counts, nobody could say."""
    keys = {operation.key for operation in operations}
    if len(keys) < len(operations):
        several = [operation.key for operation in operations]
        twice = next(key for key in several if several.count(key) > 1)
        raise InvalidError(f"{twice}: changed twice in one transaction", "change each key once")


class Store(Protocol):
    """A store of small values with transactions and history.

    Every call raises UnavailableError when nobody answers within the driver's timeout.

    Size: as etcd is installed it takes up to 128 comparisons or operations and 1.5 MB in a transaction,
    and says InvalidError to more; `--max-txn-ops` and `--max-request-bytes` raise that. The other drivers
    set no limit.
    """

    @property
    def epoch(self) -> str:
        """Return the identity of this store's history (etcd: the cluster id); known after `open`."""
        ...

    async def open(self) -> None:
        """Connect; raise UnavailableError, naming the endpoints, or UnauthorizedError."""
        ...

    async def close(self) -> None:
        """Let go of everything; leases of this client run out on their own."""
        ...

    async def get(self, key: str) -> Entry | None:
        """Return the entry, or None."""
        ...

    async def list(self, prefix: str) -> Listing:
        """Return all entries whose key starts with `prefix`, however many pages that takes."""
        ...

    async def txn(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> int:
        """Carry out all operations if every comparison holds; return the new revision.

        A watch of `ROOT` comes to that revision, also where nothing was there to change. Raises, and
        nothing has changed: StaleError where a comparison does not hold, NotFoundError where a lease
        has ended, InvalidError for a key changed twice. UnavailableError leaves open whether it happened.
        """
        ...

    def watch(self, prefix: str, after: int) -> AsyncIterator[Batch]:
        """Yield every change of keys under `prefix` with a revision above `after`, in order, once.

        Reconnects and resumes by itself. A batch without changes says how far the watch has come.
        Raises CompactedError where the history asked for is gone: list again; UnavailableError where
        that lasts longer than the driver's timeout, or the store is closed.
        """
        ...

    async def grant(self, ttl: float) -> int:
        """Return a new lease of `ttl` seconds; etcd rounds up, and keeps it for at least 2 s."""
        ...

    async def keep(self, lease: int) -> None:
        """Renew a lease; raise NotFoundError where it has ended."""
        ...

    async def revoke(self, lease: int) -> None:
        """End a lease and remove its keys at once; one that has ended is fine."""
        ...
