"""The store's content in memory, kept in step: list, then watch from there, list again after compaction."""

import asyncio
import random
from collections.abc import Callable, Iterable

import structlog

from netfabric.api.store.base import ROOT, Batch, Listing, Store
from netfabric.fabric.errors import CompactedError, UnauthorizedError, UnavailableError
from netfabric.fabric.view import View, ViewChange

log = structlog.get_logger(__name__)

RETRY = (0.2, 5.0)
"""Seconds between attempts to reach a store that does not answer: first, and at most."""


class Mirror:
    """A view that follows the store. Listeners are called in order, in the event loop, after each change."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._listeners: list[Callable[[ViewChange], None]] = []
        self._changed = asyncio.Condition()
        self.view = View()
        self.listed = asyncio.Event()
        """Set once the view has been complete."""
        self.listings = 0
        """How often the store was listed: between two changes with one of them in between, some were not seen."""

    def follow(self, listener: Callable[[ViewChange], None]) -> None:
        """Call `listener` with every change from now on; it must neither block nor raise."""
        self._listeners.append(listener)

    async def reached(self, revision: int) -> None:
        """Return when the view shows that revision, or a later one."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.view.revision >= revision)

    async def run(self) -> None:
        """Follow the store until cancelled; while it does not answer, the view stays as it was."""
        delay = RETRY[0]
        while True:
            try:
                await self._take_listing(await self._store.list(ROOT))
                delay = RETRY[0]
                async for batch in self._store.watch(ROOT, self.view.revision):
                    await self._take(batch)
            except CompactedError as error:
                log.info("listing the store again", reason=str(error))
            except (UnavailableError, UnauthorizedError) as error:
                log.warning(
                    "the store does not serve us; what is known stays in force", error=str(error)
                )
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))
                delay = min(2 * delay, RETRY[1])

    async def _take_listing(self, listing: Listing) -> None:
        """Apply only what differs: listeners must not see what has not changed."""
        known = self.view.revisions
        puts = [
            (e.key, e.value, e.revision) for e in listing.entries if known.get(e.key) != e.revision
        ]
        there = {entry.key for entry in listing.entries}
        self.listings += 1
        await self._apply(puts, [key for key in known if key not in there], listing.revision)
        self.listed.set()

    async def _take(self, batch: Batch) -> None:
        puts = [(entry.key, entry.value, entry.revision) for entry in batch.puts]
        await self._apply(puts, batch.deletes, batch.revision)

    async def _apply(
        self, puts: Iterable[tuple[str, bytes, int]], deletes: Iterable[str], revision: int
    ) -> None:
        change = self.view.apply(puts, deletes, revision)
        for listener in self._listeners:
            listener(change)
        async with self._changed:
            self._changed.notify_all()
