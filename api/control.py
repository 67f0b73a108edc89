"""netmaster's side of agents: the controller's decisions carried out on the store, over gRPC.

Wiring, in api/daemon.py:

    control = Control(store, mirror, writer, name=settings.name, address=own_address(settings))
    tasks.create_task(control.run())                  # after store.open(); until cancelled
    tasks.create_task(control.serve(settings.grpc))   # at once, or whenever; until cancelled
    app = make_app(writer, control.standing)          # a Standing: who leads, who else is there

`serve` answers health checks from its first moment, NOT_SERVING until the mirror has listed; agents that come
earlier wait a moment, are told UNAVAILABLE, and go to the next netmaster. It raises UnavailableError where the
port is in use, InvalidError for certificates that cannot be read. Cancelling it lets sessions go.
"""

import asyncio
import contextlib

import structlog

from netfabric.api.election import Election
from netfabric.api.mirror import Mirror
from netfabric.api.rest.writer import Writer
from netfabric.api.rpc.desk import PACE, Pace
from netfabric.api.rpc.hub import Hub
from netfabric.api.rpc.server import Server, make_server
from netfabric.api.settings import Listen
from netfabric.api.standing import Standing
from netfabric.api.store.base import Store
from netfabric.fabric.controller import away, decide_orphans
from netfabric.fabric.errors import UnavailableError

log = structlog.get_logger(__name__)

SWEEP = 30.0
"""Seconds between a leader's looks at what is left over."""
STOP = 3.0
"""Seconds that sessions get to end."""


class Control:
    """Every agent's session at this netmaster, and the singletons where it leads."""

    def __init__(
        self,
        store: Store,
        mirror: Mirror,
        writer: Writer | None = None,
        *,
        name: str,
        address: str = "",
        pace: Pace = PACE,
        sweep: float = SWEEP,
    ) -> None:
        """`name` is this netmaster's alone, `address` where others reach it, `writer` the one that REST writes with."""
        self.hub = Hub(store, mirror)
        self.election = Election(store, mirror, name=name, address=address)
        self._mirror = mirror
        self._writer = writer or Writer(store, mirror)
        self._name = name
        self._pace = pace
        self._sweep_every = sweep
        self._away: dict[str, str] = {}
        self.listening = asyncio.Event()
        self.port = 0
        """The gRPC port, once it is `listening`."""

    @property
    def standing(self) -> Standing:
        """Return where this netmaster stands among the others."""
        return self.election

    async def run(self) -> None:
        """Stand for leader, and do what only one netmaster may do where elected; until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.election.run())
            tasks.create_task(self.election.while_leading(self._lead))

    async def _lead(self) -> None:
        while True:
            try:
                await self._sweep()
            except UnavailableError as error:
                log.warning("sweep waits", error=str(error))
            await asyncio.sleep(self._sweep_every)

    async def _sweep(self) -> None:
        """Drop what belongs to no network, and say which hosts are away. Their blocks stay theirs."""
        hub = self.hub
        while (done := await hub.commits.carry_out(lambda: decide_orphans(hub.view))).write:
            log.info("left over by a deleted network", keys=list(done.write.deletes))
        now = away(hub.view)
        for host in now.keys() - self._away.keys():
            log.warning(
                "a host is away and keeps what it holds",
                host=host,
                holds=now[host],
                remedy="bring it back, or remove it for good when its containers are known to be gone: netctl host rm",
            )
        self._away = now

    async def serve(self, listen: Listen) -> None:
        """Serve gRPC until cancelled; raise UnavailableError or InvalidError where that cannot begin."""
        server = make_server(self.hub, self._writer, self._pace)
        self.port = server.listen(listen)
        await server.ready(self._mirror.listed.is_set())
        await server.grpc.start()
        self.listening.set()
        log.info("listening", grpc=str(listen), port=self.port)
        try:
            await self._mirror.listed.wait()
            await server.ready(True)
            await server.grpc.wait_for_termination()
        finally:
            await self._stop(server)

    async def _stop(self, server: Server) -> None:
        """Say goodbye: agents go to the next netmaster, and their hosts don't count as connected here."""
        await server.ready(False)
        self.hub.close(UnavailableError(f"netmaster {self._name} stops", "follow another"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP):
                await self.hub.closed.wait()
        await server.grpc.stop(0)
