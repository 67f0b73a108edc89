"""Who leads: the netmaster that holds the key `leader` under its own lease, and everybody's entry beside it."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from netfabric.api.mirror import Mirror
from netfabric.api.store.base import ROOT, Compare, Put, Store
from netfabric.fabric.errors import FabricError, NotFoundError, StaleError, UnavailableError
from netfabric.fabric.view import ViewChange

log = structlog.get_logger(__name__)

LEADER = f"{ROOT}leader"
MASTERS = f"{ROOT}master/"
TTL = 10.0
"""Seconds after which a netmaster that has died leads no more."""


class Election:
    """Stands for leader as long as it runs. A Standing for what `/info` tells."""

    def __init__(
        self, store: Store, mirror: Mirror, *, name: str, address: str = "", ttl: float = TTL
    ) -> None:
        """`name` is this netmaster's alone."""
        self._store = store
        self._mirror = mirror
        self._name = name
        self._address = address or name
        self._ttl = ttl
        self._lease = 0
        self._kept_at = 0.0
        self._wake = asyncio.Event()
        self._masters = [self._address]
        self._leader = ""
        self.leads = asyncio.Event()
        """Set while this netmaster leads."""
        self.follows = asyncio.Event()
        """Set while it does not."""
        self.follows.set()
        mirror.follow(self._follow)

    @property
    def address(self) -> str:
        """Return our own address, as others reach it."""
        return self._address

    @property
    def leader(self) -> str:
        """Return the leader's address, "" where there is none now."""
        return self._leader

    @property
    def masters(self) -> list[str]:
        """Return every netmaster's address."""
        return self._masters

    def _follow(self, change: ViewChange) -> None:
        """A leader that goes in order leaves no gap."""
        if self._leader and LEADER not in self._mirror.view.revisions:
            self._wake.set()

    async def run(self) -> None:
        """Stand for leader until cancelled, and then give way at once."""
        await self._mirror.listed.wait()
        try:
            while True:
                try:
                    await self._round()
                except UnavailableError as error:
                    log.warning("election waits", error=str(error))
                self._step_down_in_time()
                await self._pause()
        finally:
            self._lead(False)
            await self._give_way()

    async def _round(self) -> None:
        await self._keep()
        holder = await self._store.get(LEADER)
        if holder is None:
            await self._stand()
            holder = await self._store.get(LEADER)
        mine = holder is not None and holder.lease == self._lease
        self._leader = str(json.loads(holder.value)["address"]) if holder else ""
        self._lead(mine)
        listing = await self._store.list(MASTERS)
        self._masters = [str(json.loads(e.value)["address"]) for e in listing.entries]

    async def _keep(self) -> None:
        asked_at = time.monotonic()
        try:
            if self._lease:
                await self._store.keep(self._lease)
        except NotFoundError:
            self._lease = 0
            self._lead(False)
        if not self._lease:
            self._lease = await self._store.grant(self._ttl)
            await self._store.txn([], [self._entry(MASTERS + self._name)])
        self._kept_at = asked_at

    def _entry(self, key: str) -> Put:
        value = {"name": self._name, "address": self._address}
        return Put(key, json.dumps(value).encode(), self._lease)

    async def _stand(self) -> None:
        with contextlib.suppress(StaleError):  # somebody was faster
            await self._store.txn([Compare(LEADER, 0)], [self._entry(LEADER)])

    def _lead(self, leads: bool) -> None:
        if leads != self.leads.is_set():
            log.info("leading" if leads else "no longer leading", name=self._name)
        (self.leads.set if leads else self.leads.clear)()
        (self.follows.clear if leads else self.follows.set)()

    def _step_down_in_time(self) -> None:
        """Without word from the store the lease may have ended: stop before another can begin."""
        if time.monotonic() - self._kept_at > 2 * self._ttl / 3:
            self._lead(False)

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._ttl / 3 * random.uniform(0.8, 1.0)):
                await self._wake.wait()
        self._wake.clear()

    async def _give_way(self) -> None:
        try:
            async with asyncio.timeout(2.0):
                if self._lease:
                    await self._store.revoke(self._lease)
        except (TimeoutError, FabricError) as error:
            log.warning("the lease of the leader runs out by itself", error=str(error))

    async def while_leading(self, duty: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a duty whenever this netmaster leads, and cancel it when it does not; until cancelled."""
        while True:
            await self.leads.wait()
            async with asyncio.TaskGroup() as tasks:
                work = tasks.create_task(duty())
                await self.follows.wait()
                work.cancel()
