"""A connected host in the store: its status, learned routes and rules' counts under a lease of its session.

One session at a time speaks for a host, whichever netmaster serves it: the status key is its fence. A session
that takes the key over changes its revision, and no write of the one before counts any more.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace

import structlog

from netfabric.api.statuses import SupersededError
from netfabric.api.store.base import Compare, Delete, Put, Store
from netfabric.fabric.counts import LIMIT, dump_counts
from netfabric.fabric.errors import (
    ConflictError,
    FabricError,
    NotFoundError,
    StaleError,
    UnavailableError,
)
from netfabric.fabric.packed import dump_routes
from netfabric.fabric.prefix import Prefix
from netfabric.fabric.route import LearnedRoute
from netfabric.fabric.session import RoutesLearned, RuleCount
from netfabric.fabric.stored import dump, load
from netfabric.fabric.view import HostStatus, counted_key, host_key, learned_key, vtep_key

log = structlog.get_logger(__name__)

TTL = 15.0
"""Seconds that a host counts as connected after its netmaster died."""
PAUSE = (0.05, 1.0)
"""Seconds for which changes are gathered before they are written: of few routes, and of many."""
MANY = 1000
RETRY = 1.0


class Presence:
    """What the store says of a host while its session lives."""

    def __init__(self, store: Store, status: HostStatus, ttl: float = TTL) -> None:
        self._store = store
        self._ttl = ttl
        self._key = host_key(status.name)
        self._lease = 0
        self._renew_at = 0.0
        self._written: HostStatus | None = None
        self._learned_dirty = False
        self._counts: tuple[RuleCount, ...] = ()
        self._counts_dirty = False
        self._suspected = False
        self._wake = asyncio.Event()
        self.turn = asyncio.Lock()
        """Held around every write of the session, so that it does not race with itself."""
        self.status = status
        self.revision = 0
        self.learned: dict[Prefix, LearnedRoute] = {}

    @property
    def compare(self) -> Compare:
        """Return the condition that this session is still the one that speaks for the host."""
        return Compare(self._key, self.revision)

    async def take(self) -> None:
        """Speak for the host from now on; raise ConflictError while another machine does, or UnavailableError.

        The same machine's newer stream wins at once: after a cut its older one may linger until the
        keepalive ends it. Another machine with the same name has to wait until the first is gone.
        """
        self._lease = await self._store.grant(self._ttl)
        self._renew_at = time.monotonic() + self._ttl / 3
        self._counts_dirty = bool(self._counts)  # they are to go with the new lease
        for _ in range(10):
            entry = await self._store.get(self._key)
            if entry is not None:
                self._refuse_another(load(HostStatus, entry.value))
            try:
                return await self._put(Compare(self._key, entry.revision if entry else 0))
            except StaleError:
                continue
        raise UnavailableError(f"host {self.status.name}: many agents at once", "try again")

    def _refuse_another(self, known: HostStatus) -> None:
        if known.address != self.status.address:
            raise ConflictError(
                f"host {known.name}: an agent at {known.address} is connected under that name",
                f"give one of the two machines another --host; if it was moved from {known.address},"
                f" stop netplugin there, or wait {self._ttl:.0f} s after its last sign of life",
            )

    async def _put(self, compare: Compare) -> None:
        status, learned = self.status, tuple(self.learned.values())
        operations: list[Put | Delete] = [Put(self._key, dump(status).encode(), self._lease)]
        if learned or self._learned_dirty:
            operations.append(Put(learned_key(status.name), dump_routes(learned), self._lease))
        if self._written is None:
            operations.append(self._vtep())
        self._learned_dirty = False
        try:
            self.revision = await self._store.txn([compare], operations)
        except FabricError:
            self._learned_dirty = True
            raise
        self._written = status

    def _vtep(self) -> Put | Delete:
        """Its VTEP outlives the lease: while the agent is away, packets go there all the same."""
        key, vtep = vtep_key(self.status.name), self.status.vtep
        return Delete(key) if vtep is None else Put(key, json.dumps(str(vtep)).encode())

    async def verify(self) -> None:
        """Raise SupersededError where another session has taken over; speak again where only the lease ended."""
        entry = await self._store.get(self._key)
        if entry is None:
            await self._refuse_removed()
            await self.take()
        elif entry.lease != self._lease:
            raise SupersededError(
                f"host {self.status.name}: a newer stream of its agent has taken over",
                "if that is not so, another machine has the same --host",
            )
        else:
            self.revision = entry.revision

    async def _refuse_removed(self) -> None:
        """Raise SupersededError where the status went though our lease lives: somebody has removed the host."""
        try:
            await self._store.keep(self._lease)
        except NotFoundError:
            return
        raise SupersededError(
            f"host {self.status.name}: was removed by an operator",
            "connect again: what it holds and nobody else has got is then its own again",
        )

    def suspect(self, revision: int) -> None:
        """Look whether somebody else has written the host's status: the view shows it at a revision."""
        if revision > self.revision or not revision:
            self._suspected = True
            self._wake.set()

    def refused(self, count: int) -> None:
        """Count what origin authorisation refused."""
        if count:
            self.change(replace(self.status, refused=self.status.refused + count))

    def change(self, status: HostStatus) -> None:
        """Write another status, soon."""
        self.status = status
        self._wake.set()

    def learn(self, news: RoutesLearned) -> None:
        """Keep what the host learned, and write it soon."""
        if news.full:
            self.learned.clear()
        self.learned.update((route.prefix, route) for route in news.routes)
        for prefix in news.withdrawn:
            self.learned.pop(prefix, None)
        self._learned_dirty = True
        self._wake.set()

    def count(self, counts: Sequence[RuleCount]) -> None:
        """Keep what rules have counted on the host, and write it soon."""
        self._counts = tuple(counts[:LIMIT])
        self._counts_dirty = True
        self._wake.set()

    async def run(self) -> None:
        """Renew the lease and write what changes, until cancelled or until another session takes over.

        While the store does not answer, changes wait.
        """
        while True:
            try:
                await self._step()
            except UnavailableError as error:
                log.warning("host status waits", host=self.status.name, error=str(error))
                self._wake.set()
                await asyncio.sleep(RETRY)

    async def _step(self) -> None:
        try:
            async with asyncio.timeout(max(0.0, self._renew_at - time.monotonic())):
                await self._wake.wait()
                await asyncio.sleep(PAUSE[len(self.learned) > MANY])
        except TimeoutError:
            await self._renew()
        if self._wake.is_set():
            await self._write()

    async def _renew(self) -> None:
        try:
            await self._store.keep(self._lease)
        except NotFoundError:
            self._suspected = True
            self._wake.set()
        self._renew_at = time.monotonic() + self._ttl / 3

    async def _write(self) -> None:
        async with self.turn:
            self._wake.clear()
            if self._suspected:
                await self.verify()
                self._suspected = False
            try:
                if self._learned_dirty or self._written != self.status:
                    await self._put(self.compare)
                if self._counts_dirty:
                    await self._put_counts()
            except StaleError:
                await self.verify()
                self._wake.set()

    async def _put_counts(self) -> None:
        """By themselves: many routes need not be written with every packet that is counted."""
        value = dump_counts(self._counts)
        self._counts_dirty = False
        try:
            operation = Put(counted_key(self.status.name), value, self._lease)
            await self._store.txn([self.compare], [operation])
        except FabricError:
            self._counts_dirty = True
            raise

    async def leave(self) -> None:
        """Let the host count as away at once, unless another session has taken over."""
        if self._lease:
            await self._store.revoke(self._lease)
