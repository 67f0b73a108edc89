"""Writes intent: decide on the view, commit under the guard, decide again where somebody was faster.

Every writer of every netmaster compares and bumps one key, `guard/intent`. So what a decision relied on,
also the absence of something (no overlapping subnet, no user of a deleted object), still holds
when it is committed. One key for all is no bottleneck: those who wait while a transaction is on its way
share the next one.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from netfabric.api.rest.writer_batch import GUARD, Batch
from netfabric.api.store.base import Put, Store
from netfabric.fabric.errors import FabricError, StaleError, UnavailableError
from netfabric.fabric.trial import Trial
from netfabric.fabric.view import View, ViewChange
from netfabric.fabric.world import World, Write, world_of

ATTEMPTS = 50
"""Lost races in a row before a writer gives up. Each lost race is another netmaster's success."""
PROBE = 2.0
"""Seconds that the store has to answer a probe."""
CATCH_UP = 10.0
"""Seconds that the mirror may take to show a revision that the store has."""

Decide = Callable[[World], Write]


class Mirrored(Protocol):
    """A view that follows the store."""

    listed: asyncio.Event

    @property
    def view(self) -> View:
        """Return the view as it is."""
        ...

    def follow(self, listener: Callable[[ViewChange], None]) -> None:
        """Call `listener` with every change from now on."""
        ...

    async def reached(self, revision: int) -> None:
        """Return when the view shows that revision, or a later one."""
        ...


@dataclass(slots=True, eq=False)
class _Request:
    """A decision to be carried out, and whoever waits for its revision."""

    decide: Decide
    answer: asyncio.Future[int]
    lost: int = 0
    """Races that it lost."""

    def decided(self, world: World) -> tuple[Write, Exception | None]:
        """Return what is to be written, or nothing and perhaps why not."""
        if self.answer.done():  # its client went away
            return Write({}), None
        try:
            return self.decide(world), None
        except Exception as error:  # noqa: BLE001  whatever it is, it is the asker's
            return Write({}), error

    def refuse(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def settle(self, revision: int) -> None:
        if not self.answer.done():
            self.answer.set_result(revision)


class Writer:
    """Turns decisions into transactions, as many as wait into one."""

    def __init__(self, store: Store, mirror: Mirrored, cluster_mode: str = "") -> None:
        self._store = store
        self._mirror = mirror
        self._cluster_mode = cluster_mode
        self._waiting: deque[_Request] = deque()
        self._alone = 0
        """How many decisions get a transaction each, after the store has refused theirs in one."""
        self._work: asyncio.Future[None] | None = None

    @property
    def world(self) -> World:
        """Return the world as this netmaster sees it."""
        return world_of(self._mirror.view, self._cluster_mode)

    @property
    def view(self) -> View:
        """Return the view as this netmaster sees it."""
        return self._mirror.view

    def follow(self, listener: Callable[[ViewChange], None]) -> None:
        """Call `listener` with every change of the view from now on; it must neither block nor raise."""
        self._mirror.follow(listener)

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

    async def write(self, decide: Decide) -> int:
        """Commit what `decide` returns; return the revision, also where there is nothing to write.

        `decide` may be called several times; the last one counts. Meanwhile the world, and `view`, show
        what others decided just before, and what it relies on is committed with it or before it.
        No two writes of one object have the same revision.

        Raises what `decide` raises, and UnavailableError: the store does not answer, or too many write at once.
        Whoever waits while the store fails somebody fails too, and does not wait again.
        """
        request = _Request(decide, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        if self._work is None:
            # no client's task: one that goes away must not take the others' writes with it
            self._work = asyncio.ensure_future(self._work_off())
        return await request.answer

    async def _work_off(self) -> None:
        """Carry out what waits, until nothing does. Every error goes to those who wait, a defect too."""
        at_stake: Sequence[_Request] = ()
        try:
            while self._waiting:
                at_stake = tuple(self._waiting)
                batch, requests, refused = self._decide()
                if requests:
                    await self._commit(batch, requests)
                if refused:
                    await self._confirm(refused, batch.guard)
        except Exception as error:  # noqa: BLE001
            self._fail(error, at_stake)
        finally:
            self._work = None
            ended = UnavailableError("netmaster ended; it may have happened", "look, and ask again")
            self._fail(ended, at_stake)

    async def _commit(self, batch: Batch, requests: list[_Request]) -> None:
        try:
            revision = await self._carry_out(batch)
        except StaleError:
            self._again(requests)
        except UnavailableError as error:
            self._fail(error, requests)
        except FabricError as error:
            self._reject(error, requests)
        else:
            for request in requests:
                request.settle(revision)

    async def _confirm(self, refused: list[tuple[_Request, FabricError]], guard: int) -> None:
        """Refuse them, unless the view they were refused on was behind the store: then decide again.

        Somebody may have made at another netmaster, a moment ago, just what they ask for here.
        """
        try:
            entry = await self._store.get(GUARD)
            now = entry.revision if entry else 0
            if now > guard:
                await self.reached(now)
                self._again([request for request, _ in refused])
                return
        except UnavailableError:
            pass  # what this netmaster knows is all that can be said
        for request, error in refused:
            request.refuse(error)

    def _decide(self) -> tuple[Batch, list[_Request], list[tuple[_Request, FabricError]]]:
        """Settle who needs no transaction; return the transaction of those who do and fit in one.

        The third part are those who are refused on the view as it is, and why.

        A refusal, or that there is nothing to write, may be due to what is decided and not committed:
        then it waits, and is decided again afterwards.
        """
        batch = Batch(self.view.revisions.get(GUARD, 0))
        requests: list[_Request] = []
        later: list[_Request] = []
        refused: list[tuple[_Request, FabricError]] = []
        with Trial(self.view) as trial:
            world = self.world
            while self._waiting and not batch.full and not (requests and self._alone):
                request = self._waiting.popleft()
                write, error = request.decided(world)
                if write and batch.take(write):
                    trial.apply(write)
                    requests.append(request)
                elif write or requests:
                    later.append(request)
                elif isinstance(error, FabricError):
                    refused.append((request, error))
                elif error is not None:
                    request.refuse(error)
                else:
                    request.settle(self.view.revision)
        self._waiting.extendleft(reversed(later))
        self._alone = max(0, self._alone - len(requests))
        return batch, requests, refused

    async def _carry_out(self, batch: Batch) -> int:
        """Commit a batch and return once the view shows it; StaleError: once it shows what was faster."""
        try:
            revision = await self._store.txn(*batch.transaction())
        except StaleError:
            await self._catch_up(batch.guard)
            raise
        await self.reached(revision)
        return revision

    async def _catch_up(self, guard: int) -> None:
        """See everything that made the last attempt stale."""
        if self.view.revisions.get(GUARD, 0) != guard:
            return
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

    def _again(self, requests: list[_Request]) -> None:
        """Let those who lost a race be the first to be decided next."""
        for request in requests:
            request.lost += 1
            if request.lost == ATTEMPTS:
                request.refuse(UnavailableError("too many changes at once", "try again"))
        self._waiting.extendleft(reversed(requests))

    def _fail(self, error: Exception, requests: Sequence[_Request]) -> None:
        for request in (*requests, *self._waiting):
            request.refuse(error)
        self._waiting.clear()

    def _reject(self, error: FabricError, requests: list[_Request]) -> None:
        """The store takes no such transaction: smaller ones perhaps, and a single one's asker is told."""
        if len(requests) > 1:
            self._alone = len(requests)
            self._waiting.extendleft(reversed(requests))
        else:
            requests[0].refuse(error)
