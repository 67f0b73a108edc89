"""The kernel's news made into work: addresses read again, audits, neither more often than useful."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from netfabric.agent.datapath_thread import DatapathThread
from netfabric.fabric.effects import Audit

PAUSE = 0.5
"""Seconds between audits at least: somebody who keeps changing what is ours must not keep us busy."""


class News(Protocol):
    """What calls back when the kernel's state changes."""

    async def run(self) -> None:
        """Listen until cancelled."""
        ...


MakeMonitor = Callable[[Callable[[], None], Callable[[], None]], News]
"""Makes a monitor, which listens from then on, out of what to call on changed uplinks and on an audit's need."""


class KernelWatch:
    """Listens from its making on."""

    def __init__(self, make: MakeMonitor, datapath: DatapathThread) -> None:
        self._make = make
        self._datapath = datapath
        self._audited = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._monitor: News | None = make(datapath.read_uplinks, self._touched)

    async def run(self) -> None:
        """Listen until cancelled; called again after a failure, listen and look anew."""
        if self._monitor is None:
            self._monitor = self._make(self._datapath.read_uplinks, self._touched)
            self._datapath.read_uplinks()
            self._touched()
        try:
            await self._monitor.run()
        finally:
            self._monitor = None

    def _touched(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._audited + PAUSE), self._audit)

    def _audit(self) -> None:
        self._timer = None
        self._audited = asyncio.get_running_loop().time()
        self._datapath.perform(Audit())
