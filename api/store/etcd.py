"""The store in an etcd cluster: for one netmaster or several."""

import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress

from netfabric.api.store.base import (
    ROOT,
    Batch,
    Compare,
    Delete,
    Entry,
    Listing,
    Put,
    require_distinct,
)
from netfabric.api.store.etcd_call import Caller, Terms
from netfabric.api.store.etcd_channel import EtcdSettings, Member
from netfabric.api.store.etcd_key import changed, entry_of, prefix_range, stale_key, txn_of
from netfabric.api.store.etcd_watch import Watch
from netfabric.fabric.errors import CompactedError, NotFoundError, StaleError, UnavailableError
from netfabric.proto import etcd_pb2 as pb

PAGE = 1_000
"""Entries that a listing takes at a time: a few hundred kilobytes of ours."""
TICK = f"{ROOT}tick"
"""Written after a transaction that changed nothing, so that watches come to its revision."""


class EtcdStore:
    """Entries, transactions, history and leases are etcd's own; a revision is etcd's."""

    def __init__(self, settings: EtcdSettings, page: int = PAGE) -> None:
        self._settings = settings
        self._caller = Caller(settings)
        self._page = page
        self._epoch = ""

    @property
    def epoch(self) -> str:
        """Return the cluster's id, "" before `open`."""
        return self._epoch

    async def open(self) -> None:
        """Connect, authenticate and read once; raise UnavailableError or UnauthorizedError."""
        self._caller.open()
        try:
            await self._caller.login("")
            header = await self._caller.header()
        except BaseException:
            await self._caller.close()
            raise
        self._epoch = f"{header.cluster_id:x}"

    async def close(self) -> None:
        """End the connections; watches that still run raise UnavailableError."""
        await self._caller.close()

    async def get(self, key: str) -> Entry | None:
        """Return the entry, or None."""
        found = (await self._range(pb.RangeRequest(key=key.encode()))).kvs
        return entry_of(found[0]) if found else None

    async def list(self, prefix: str) -> Listing:
        """Return all entries whose key starts with `prefix`, page by page, all of one revision."""
        while True:
            try:
                return await self._list(prefix)
            except CompactedError:  # between two pages: what was read so far is history
                continue

    async def _list(self, prefix: str) -> Listing:
        first, end = prefix_range(prefix)
        entries: list[Entry] = []
        request = pb.RangeRequest(key=first, range_end=end, limit=self._page)
        while True:
            answer = await self._range(request)
            entries += map(entry_of, answer.kvs)
            request.revision = request.revision or answer.header.revision
            if not answer.more:
                return Listing(tuple(entries), request.revision)
            request.key = answer.kvs[-1].key + b"\0"

    async def _range(self, request: pb.RangeRequest) -> pb.RangeResponse:
        return await self._caller.ask(lambda member: member.kv.Range, request, again=True)

    async def txn(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> int:
        """Carry out all operations if every comparison holds; never asked twice where it may have happened."""
        require_distinct(operations)
        answer = await self._txn(txn_of(compares, operations))
        if not answer.succeeded:
            key = stale_key(answer, compares)
            raise StaleError(f"{key}: changed meanwhile", "read it again")
        if changed(answer):
            return answer.header.revision
        return (await self._txn(txn_of((), [Put(TICK, b"")]))).header.revision

    async def _txn(self, request: pb.TxnRequest) -> pb.TxnResponse:
        return await self._caller.ask(lambda member: member.kv.Txn, request, again=False)

    def watch(self, prefix: str, after: int) -> AsyncGenerator[Batch]:
        """Yield every change under `prefix` after a revision, across the death of members."""
        return Watch(self._caller, prefix, after).batches()

    async def grant(self, ttl: float) -> int:
        """Return a new lease; etcd keeps it for whole seconds, and for 2 s at least."""
        request = pb.LeaseGrantRequest(TTL=math.ceil(ttl))
        # asked twice, a lease that nobody knows of is left, and ends by itself
        answer = await self._caller.ask(lambda member: member.lease.LeaseGrant, request, again=True)
        return answer.ID

    async def keep(self, lease: int) -> None:
        """Renew a lease; raise NotFoundError where it has ended."""

        async def attempt(member: Member, terms: Terms) -> int:
            stream = member.lease.LeaseKeepAlive(timeout=terms.seconds, metadata=terms.metadata)
            try:
                await stream.write(pb.LeaseKeepAliveRequest(ID=lease))
                answer = await stream.read()
            finally:
                stream.cancel()
            if isinstance(answer, pb.LeaseKeepAliveResponse):
                return answer.TTL
            raise UnavailableError(f"{self._settings}: lease {lease} not renewed", "try again")

        if await self._caller.call(attempt, again=True) <= 0:
            raise NotFoundError(f"lease {lease}: has ended", "grant another")

    async def revoke(self, lease: int) -> None:
        """End a lease and remove its keys at once; one that has ended is fine."""
        request = pb.LeaseRevokeRequest(ID=lease)
        with suppress(NotFoundError):
            await self._caller.ask(lambda member: member.lease.LeaseRevoke, request, again=True)
