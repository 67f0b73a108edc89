"""An agent's loop with a real journal, a kernel that executes, and a netmaster that keeps what it hears."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from netfabric.agent.callers import Callers
from netfabric.agent.counting import CountingThread
from netfabric.agent.datapath.base import Datapath
from netfabric.agent.datapath_thread import DatapathThread
from netfabric.agent.inbox import Inbox
from netfabric.agent.journal import Journal
from netfabric.agent.loop import Hands, Loop
from netfabric.agent.sessions import Sessions
from netfabric.agent.warnings import Warnings
from netfabric.fabric.events import HostSettings, MasterConnected, MasterSaid, Started
from netfabric.fabric.host import Host
from netfabric.fabric.prefix import Address
from netfabric.fabric.session import AgentMessage, HeldBlock, MasterMessage, Welcome
from tests.agent.test_sessions import Recorder
from tests.fabric.fake_kernel import FakeKernel
from tests.fabric.script import BLUE, BLUE_BLOCK, SETTINGS, intent

Kind = TypeVar("Kind")


class Rig:
    """All parts, and what they were told."""

    def __init__(self, path: Path, kernel: Datapath, settings: HostSettings = SETTINGS) -> None:
        self.inbox, self.warnings = Inbox(), Warnings()
        self.journal = Journal(path)
        self._kernel = kernel
        self.thread = DatapathThread(kernel, self.inbox.post, self.warnings.put)
        self.counting = CountingThread(kernel, self.inbox.post, self.warnings.put)
        self.host = Host(settings)
        self.callers = Callers(self.host, self.inbox.post, kernel, self.thread)
        self.bgp = Recorder()
        self.heard: list[AgentMessage] = []
        sessions = Sessions(self.bgp, self._look_up, self.inbox.post)
        sessions.uplinks_changed(kernel.uplinks())
        hands = Hands(
            journal=self.journal,
            datapath=self.thread,
            bgp=self.bgp,
            sessions=sessions,
            netmaster=self,
            callers=self.callers,
            warnings=self.warnings,
            counting=self.counting,
        )
        self.loop = Loop(self.host, self.inbox, hands, time.time)
        self.inbox.post(Started(self.journal.open(), kernel.observe(), kernel.uplinks()))

    async def _look_up(self, peers: Sequence[Address]) -> Mapping[Address, Address | None]:
        find = self._kernel.local_address_for
        return await self.thread.ask(lambda: {peer: find(peer) for peer in peers})

    def tell(self, message: AgentMessage) -> None:
        self.heard.append(message)

    def said(self, kind: type[Kind]) -> list[Kind]:
        return [message for message in self.heard if isinstance(message, kind)]

    def hear(self, *messages: MasterMessage) -> None:
        """Let netmaster say something."""
        for message in messages:
            self.inbox.post(MasterSaid(message))

    def welcome(self, *blocks: HeldBlock) -> None:
        """Connect a netmaster that says all there is."""
        self.inbox.post(MasterConnected("m:1"))
        self.hear(Welcome(blocks, (), ()), intent(BLUE, peers=()))


@asynccontextmanager
async def running(
    path: Path, kernel: Datapath, welcome: bool = True, **settings: float
) -> AsyncIterator[Rig]:
    """Run a loop, and stop it as SIGTERM does: at once."""
    rig = Rig(path, kernel, replace(SETTINGS, **settings))  # type: ignore[arg-type]
    if welcome:
        rig.welcome(BLUE_BLOCK)
    try:
        async with asyncio.TaskGroup() as tasks:
            work = [tasks.create_task(w) for w in (rig.loop.run(), rig.loop.settle_sessions())]
            yield rig
            for task in work:
                task.cancel()
    finally:
        rig.counting.close()
        rig.thread.close()
        rig.journal.close()


def kernel_with(*containers: str) -> FakeKernel:
    """Return a kernel with containers' namespaces."""
    return FakeKernel(namespaces={f"/run/netns/{name}": {} for name in containers})
