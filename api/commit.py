"""Carries decisions out: a transaction under the revisions that were read, decided again where somebody was faster."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from netfabric.api.mirror import Mirror
from netfabric.api.store.base import ROOT, Compare, Delete, Put, Store
from netfabric.fabric.errors import StaleError, UnavailableError
from netfabric.fabric.view import View
from netfabric.fabric.world import Write

ATTEMPTS = 50
"""Lost races in a row before giving up. Each lost race is somebody's success."""
CATCH_UP = 5.0
"""Seconds that the mirror may take to show a revision that the store has."""


class Decided(Protocol):
    """A decision with the write that makes it true; an empty write needs no transaction."""

    @property
    def write(self) -> Write:
        """Return what is written."""
        ...


D = TypeVar("D", bound=Decided)


class Fence(Protocol):
    """A key that has to be as its owner left it, for the owner's writes to count."""

    @property
    def compare(self) -> Compare:
        """Return the condition."""
        ...

    async def verify(self) -> None:
        """Find out after a lost race whether we are still the owner; raise a FabricError where not."""
        ...


class Commits:
    """Turns decisions on a mirrored view into transactions."""

    def __init__(self, store: Store, mirror: Mirror) -> None:
        self._store = store
        self._mirror = mirror

    @property
    def _view(self) -> View:
        return self._mirror.view

    async def carry_out(self, decide: Callable[[], D], fence: Fence | None = None) -> D:
        """Commit what `decide` returns, and return it once the view shows it.

        Raises what `decide` raises, that of the fence, and UnavailableError.
        """
        for _ in range(ATTEMPTS):
            decision = decide()
            if not decision.write:
                return decision
            try:
                revision = await self._commit(decision.write, fence)
            except StaleError:
                if fence is not None:
                    await fence.verify()
                await self._catch_up(decision.write.unchanged)
                continue
            await self._within(self._mirror.reached(revision))
            return decision
        raise UnavailableError("too many changes at once", "try again")

    async def _commit(self, write: Write, fence: Fence | None) -> int:
        compares = [Compare(ROOT + key, at) for key, at in write.unchanged.items()]
        if fence is not None:
            compares.append(fence.compare)
        operations: list[Put | Delete] = [
            Put(ROOT + key, dump(value)) for key, value in write.puts.items()
        ]
        operations += [Delete(ROOT + key) for key in write.deletes]
        return await self._store.txn(compares, operations)

    async def _catch_up(self, unchanged: Mapping[str, int]) -> None:
        """See whatever made a write stale."""
        for key, seen in unchanged.items():
            entry = await self._store.get(ROOT + key)
            if entry is not None:
                await self._within(self._mirror.reached(entry.revision))
            elif seen:
                await self._within(self._gone(ROOT + key, seen))

    async def _gone(self, key: str, seen: int) -> None:
        while self._view.revisions.get(key) == seen:
            await self._mirror.reached(self._view.revision + 1)

    async def _within(self, wait: Any) -> None:
        try:
            async with asyncio.timeout(CATCH_UP):
                await wait
        except TimeoutError:
            raise UnavailableError("this netmaster lags behind the store", "try again") from None


def dump(value: object) -> bytes:
    """Return a stored value."""
    return json.dumps(value, separators=(",", ":")).encode()
