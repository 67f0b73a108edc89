"""Writes intent: decide on the view, commit under the guard, decide again where somebody was faster.

Every writer of every netmaster compares and bumps one key, `guard/intent`. So what a decision relied on,
also the absence of something (no overlapping subnet, no user of a deleted object), still holds
when it is committed. Intent changes at the pace of people and deployments; one key is enough.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Protocol

from netfabric.api.store.base import ROOT, Compare, Delete, Put, Store
from netfabric.fabric.errors import FabricError, StaleError, UnavailableError
from netfabric.fabric.view import View
from netfabric.fabric.world import World, Write, world_of

GUARD = f"{ROOT}guard/intent"
ATTEMPTS = 50
"""Lost races in a row before a writer gives up. Each lost race is another writer's success."""
PROBE = 2.0
"""Seconds that the store has to answer a probe."""
CATCH_UP = 10.0
"""Seconds that the mirror may take to show a revision that the store has."""


class Mirrored(Protocol):
    """A view that follows the store."""

    listed: asyncio.Event

    @property
    def view(self) -> View:
        """Return the view as it is."""
        ...

    async def reached(self, revision: int) -> None:
        """Return when the view shows that revision, or a later one."""
        ...


class Writer:
    """Turns decisions into transactions. Writers of one process wait for each other."""

    def __init__(self, store: Store, mirror: Mirrored, cluster_mode: str = "") -> None:
        self._store = store
        self._mirror = mirror
        self._cluster_mode = cluster_mode
        self._turn = asyncio.Lock()
        self._failed: list[UnavailableError] = []
        """The last failure of the store; replaced, so that who waited meanwhile knows of it."""

    @property
    def world(self) -> World:
        """Return the world as this netmaster sees it."""
        return world_of(self._mirror.view, self._cluster_mode)

    @property
    def view(self) -> View:
        """Return the view as this netmaster sees it."""
        return self._mirror.view

    @property
    def listed(self) -> bool:
        """Return whether the view has been complete."""
        return self._mirror.listed.is_set()

    async def trouble(self) -> str:
        """Return why the store does not answer, "" where it does."""
        try:
            await asyncio.wait_for(self._store.get(GUARD), PROBE)
        except TimeoutError:
            return f"no answer within {PROBE:g} s"
        except FabricError as error:
            return str(error)
        return ""

    async def write(self, decide: Callable[[World], Write]) -> int:
        """Commit what `decide` returns; return the revision, also where there is nothing to write.

        Raises what `decide` raises, and UnavailableError: the store does not answer, or too many write at once.
        Whoever waited for their turn while the store failed somebody fails too, and does not wait again.
        """
        failed = self._failed
        async with self._turn:
            if self._failed is not failed:
                raise self._failed[0]
            for _ in range(ATTEMPTS):
                write = decide(self.world)
                if not write:
                    return self._mirror.view.revision
                guard = self._mirror.view.revisions.get(GUARD, 0)
                try:
                    revision = await self._commit(write, guard)
                except StaleError:
                    await self._catch_up(guard)
                    continue
                except UnavailableError as error:
                    self._failed = [error]
                    raise
                await self.reached(revision)
                return revision
        raise UnavailableError("too many changes at once", "try again")

    async def _commit(self, write: Write, guard: int) -> int:
        compares = [Compare(GUARD, guard)]
        compares += [Compare(ROOT + key, at) for key, at in write.unchanged.items()]
        operations: list[Put | Delete] = [Put(GUARD, b"{}")]
        operations += [Put(ROOT + key, _dump(value)) for key, value in write.puts.items()]
        operations += [Delete(ROOT + key) for key in write.deletes]
        return await self._store.txn(compares, operations)

    async def _catch_up(self, guard: int) -> None:
        """See everything that made the last attempt stale."""
        entry = await self._store.get(GUARD)
        now = entry.revision if entry else 0
        if now == guard:  # an allocation has changed, perhaps gone: mark a point after that
            now = await self._store.txn((), (Put(GUARD, b"{}"),))
        await self.reached(now)

    async def reached(self, revision: int) -> None:
        """Return when this netmaster sees a revision; raise UnavailableError where it lags behind."""
        try:
            await asyncio.wait_for(self._mirror.reached(revision), CATCH_UP)
        except TimeoutError:
            raise UnavailableError(
                f"this netmaster lags behind the store (revision {revision})", "try again"
            ) from None


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
