"""An agent at work: its parts put together, started in order, stopped at once."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc
import structlog

from netfabric.agent import status
from netfabric.agent.callers import Callers
from netfabric.agent.cni.server import CniServer
from netfabric.agent.counting import CountingThread
from netfabric.agent.datapath_thread import DatapathThread
from netfabric.agent.ground import Ground
from netfabric.agent.inbox import Inbox
from netfabric.agent.kernel_watch import KernelWatch, MakeMonitor
from netfabric.agent.loop import Hands, Loop
from netfabric.agent.notify import notify
from netfabric.agent.sessions import Sessions
from netfabric.agent.settings import Tls
from netfabric.agent.stream import Stream
from netfabric.agent.supervisor import keep
from netfabric.agent.warnings import Warnings
from netfabric.bgp.process import ExaBgp
from netfabric.fabric.events import Started
from netfabric.fabric.host import Host
from netfabric.fabric.prefix import Address

if TYPE_CHECKING:
    from netfabric.agent.cnm.server import CnmServer

log = structlog.get_logger(__name__)


def steady_clock() -> Callable[[], float]:
    """Return a clock of wall-clock seconds that goes on evenly: a step of the system's would move deadlines."""
    offset = time.time() - time.monotonic()
    return lambda: time.monotonic() + offset


class Agent:
    """All parts of one agent. Make it in the event loop, on firm ground, then `run` it."""

    def __init__(self, ground: Ground, make_monitor: MakeMonitor) -> None:
        """The monitor listens from here on; everything is read after that, so nothing is missed."""
        settings = ground.settings
        self._ground = ground
        self._clock = steady_clock()
        inbox, self.warnings = Inbox(), Warnings()
        self.datapath = DatapathThread(ground.datapath, inbox.post, self.warnings.put)
        self._counting = CountingThread(ground.datapath, inbox.post, self.warnings.put)
        self._watch = KernelWatch(make_monitor, self.datapath)
        started = Started(
            ground.journal_state, ground.datapath.observe(), ground.datapath.uplinks()
        )
        address = str(started.uplinks[0].address) if started.uplinks else ""
        features = ground.prepared.features
        self.host = Host(settings.host_settings(ground.software, address, features))
        self.callers = Callers(self.host, inbox.post, ground.datapath, self.datapath)
        self.stream = Stream(
            settings.netmasters, inbox.post, self.warnings.put, _credentials(settings.tls)
        )
        self._bgp = ExaBgp(settings.run_dir / "exabgp", inbox.post, settings.bgp_user)
        sessions = Sessions(self._bgp, self._look_up, inbox.post)
        sessions.uplinks_changed(started.uplinks)
        hands = Hands(
            journal=ground.journal,
            datapath=self.datapath,
            bgp=self._bgp,
            sessions=sessions,
            netmaster=self.stream,
            callers=self.callers,
            warnings=self.warnings,
            counting=self._counting,
        )
        self._loop = Loop(self.host, inbox, hands, self._clock)
        self._cni = CniServer(self.callers, settings.cni_socket)
        self.status = status.Status(
            self.host, self.stream, self.callers, self.warnings, self.datapath, self._clock()
        )
        inbox.post(started)

    async def _look_up(self, peers: Sequence[Address]) -> Mapping[Address, Address | None]:
        find = self._ground.datapath.local_address_for
        return await self.datapath.ask(lambda: {peer: find(peer) for peer in peers})

    async def run(self) -> None:
        """Work until SIGTERM or SIGINT; what forwards, and ExaBGP, go on. Raise a FabricError."""
        settings = self._ground.settings
        complain = self.warnings.put
        try:
            with _signals() as stop, _unwrapped():
                async with asyncio.TaskGroup() as tasks:
                    work = [
                        tasks.create_task(self._loop.run()),
                        tasks.create_task(self._loop.settle_sessions()),
                        tasks.create_task(self._cni.run()),
                        tasks.create_task(keep("ExaBGP", self._run_bgp, complain)),
                        tasks.create_task(keep("netmaster stream", self.stream.run, complain)),
                        tasks.create_task(keep("kernel monitor", self._watch.run, complain)),
                        tasks.create_task(keep("status socket", self._tell_status, complain)),
                        tasks.create_task(keep("Docker plugin", self._serve_docker, complain)),
                        tasks.create_task(self._ready()),
                    ]
                    await stop.wait()
                    log.info("stopping; containers, routes and BGP sessions go on")
                    for task in work:
                        task.cancel()
        finally:
            self._counting.close()
            self.datapath.close()
            self._ground.journal.close()
        log.info("stopped", host=settings.host)

    async def _run_bgp(self) -> None:
        self._loop.tell_sessions_again()
        await self._bgp.run()

    async def _serve_docker(self) -> None:
        settings = self._ground.settings
        if settings.cnm_socket is not None:
            server = await asyncio.to_thread(_docker_server)
            path, state = settings.cnm_socket, settings.cnm_state
            await server(self.callers, path, state, settings.cnm_scope).run()

    async def _tell_status(self) -> None:
        await status.serve(self._ground.settings.status_socket, self.status.report)

    async def _ready(self) -> None:
        await self._cni.listening.wait()
        settings = self._ground.settings
        log.info(
            "serving",
            host=settings.host,
            software=self._ground.software,
            socket=str(settings.cni_socket),
            netmasters=",".join(settings.netmasters),
            changed="; ".join(self._ground.prepared.changed),
        )
        notify("READY=1")


def _docker_server() -> "type[CnmServer]":
    """Import an HTTP server, which takes 0.15 s: CNI is served meanwhile."""
    from netfabric.agent.cnm.server import CnmServer

    return CnmServer


def _credentials(tls: Tls) -> grpc.ChannelCredentials | None:
    if not tls:
        return None

    def read(path: str) -> bytes | None:
        if not path:
            return None
        with open(path, "rb") as file:
            return file.read()

    return grpc.ssl_channel_credentials(read(tls.ca), read(tls.key), read(tls.certificate))


@contextmanager
def _signals() -> Iterator[asyncio.Event]:
    """Yield an event that SIGTERM and SIGINT set."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    both = (signal.SIGTERM, signal.SIGINT)
    for number in both:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in both:
            loop.remove_signal_handler(number)


@contextmanager
def _unwrapped() -> Iterator[None]:
    """Raise the first error of a group itself: it is the one that ended us."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
