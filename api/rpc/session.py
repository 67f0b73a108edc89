"""One agent's session: what it says is handed on, what concerns it is told, at its own pace."""

import asyncio
from collections import deque
from typing import Any, TypeAlias

import grpc.aio
import structlog

from netfabric.api.rpc.borrowing import Borrowing
from netfabric.api.rpc.desk import Desk, Pace
from netfabric.api.rpc.hub import Hub
from netfabric.api.rpc.presence import Presence
from netfabric.fabric.controller import asked_of, check_hello, lend_asked, welcome_of
from netfabric.fabric.errors import ExhaustedError, FabricError, InvalidError, UnavailableError
from netfabric.fabric.session import (
    PLACEMENTS,
    AgentMessage,
    BlockReturned,
    BlockWanted,
    HeldLoan,
    Hello,
    LoanEnded,
    MasterMessage,
)
from netfabric.fabric.view import HostStatus
from netfabric.proto.codec import agent_from_wire, master_to_wire

log = structlog.get_logger(__name__)
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

INBOX = 256
"""Messages that wait to be handled; then the stream is left unread, and the agent has to wait."""
OUTBOX = 1000
"""Answers that wait to be sent; an agent that leaves more unread is cut off."""
WISHES = 1000
"""Wishes for addresses under way; more are not heard, and the agent asks again."""
LEAVE = 2.0
"""Seconds for saying that the host is away; else its lease runs out."""


class Session:
    """Serves one stream, from Hello to its end."""

    def __init__(self, hub: Hub, hello: Hello, peer: str, pace: Pace) -> None:
        """`peer` is the agent's address as the server sees it."""
        self.host = hello.host
        self._hub = hub
        self._hello = hello
        self._current = PLACEMENTS in hello.features
        """Whether the agent takes every message, also those that agents of before don't know."""
        self._pace = pace
        self._presence = Presence(hub.store, _status(hello, peer), pace.lease)
        self._desk = Desk(hub, self._presence, pace, self._tell, self._want)
        self._borrowing = Borrowing(hub, self._desk, pace, hello.host)
        self._inbox: asyncio.Queue[AgentMessage] = asyncio.Queue(INBOX)
        self._outbox: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._cut: asyncio.Future[FabricError] = asyncio.get_running_loop().create_future()
        self._tasks = asyncio.TaskGroup()
        self._wishes: set[BlockWanted] = set()
        self._welcomed = False
        self._seen: int | None = None
        self._members: int | None = None
        """The serial up to which the agent has been told of members."""
        self._remotes: int | None = None
        self._tenants: frozenset[str] = frozenset()
        """The serial up to which the agent has been told of remotes, and of which tenants'."""
        self._pods: set[str] = set()
        """Pods of which it has to be told."""

    # what the hub says

    def intent_changed(self) -> None:
        """Tell the agent, when it has read what came before."""
        self._wake.set()

    def pod_changed(self, pod: str) -> None:
        """Note what the agent has to be told, with the intent that goes with it."""
        self._pods.add(pod)

    def loan_changed(self, before: HeldLoan | None, after: HeldLoan | None) -> None:
        """Ask the owner, tell it that a loan has ended, or go on with what was borrowed."""
        loan = after or before
        assert loan is not None
        self._borrowing.loan_changed(loan.id, after)
        if loan.owner != self.host or not self._welcomed:
            return
        if after is None and before is not None and before.address is not None:
            self._tell(LoanEnded(loan.id))
        elif after is not None and before is None and after.address is None:
            self._tell(lend_asked(after))

    def status_changed(self, revision: int) -> None:
        """Look whether another session speaks for the host now."""
        self._presence.suspect(revision)

    def cut(self, error: FabricError) -> None:
        """End the session; the agent is told why."""
        if not self._cut.done():
            self._cut.set_result(error)

    # the stream

    async def run(self, context: Context) -> None:
        """Serve until the agent goes; raise a FabricError that tells it why it is sent away."""
        reason: FabricError | None = None
        try:
            await self._enter()
            async with self._tasks:
                self._tasks.create_task(self._write(context))
                self._tasks.create_task(self._presence.run())
                self._tasks.create_task(self._work())
                self._tasks.create_task(self._read(context))
                raise await self._cut
        except* FabricError as group:
            reason = _first(group)
        finally:
            await self._leave()
        if reason is not None:
            raise reason

    async def _enter(self) -> None:
        await self._hub.listed()
        await self._presence.take()
        self._hub.enter(self.host, self)
        log.info("agent connected", host=self.host, address=self._presence.status.address)

    async def _leave(self) -> None:
        log.info("agent gone", host=self.host)
        try:
            async with asyncio.timeout(LEAVE):
                await self._presence.leave()
        except (TimeoutError, FabricError) as error:
            log.warning("the host's lease runs out by itself", host=self.host, error=str(error))
        finally:
            self._hub.leave(self.host, self)

    async def _read(self, context: Context) -> None:
        """Take what the agent says; a container waits for a wish for addresses, so nothing else delays it."""
        skipped = False
        while (wire := await context.read()) is not grpc.aio.EOF:
            message = agent_from_wire(wire)
            if message is None:
                if not skipped:
                    skipped = True
                    log.warning("the agent is newer, not all that it says is known", host=self.host)
                continue
            if isinstance(message, BlockReturned):
                self._borrowing.returning(message.network, message.prefix)
            if isinstance(message, BlockWanted) and self._welcomed:
                self._want(message)
            else:
                await self._inbox.put(message)
        raise _Gone(f"host {self.host}: its agent has ended the stream")

    async def _write(self, context: Context) -> None:
        """Send as fast as the agent reads; changes of intent merge while it does not."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while octets := self._next():
                try:
                    async with asyncio.timeout(self._pace.stall):
                        await context.write(octets)
                except TimeoutError:
                    raise ExhaustedError(
                        f"host {self.host}: its agent does not read what it is told",
                        "connect again: it then gets what it missed",
                    ) from None

    def _next(self) -> bytes:
        if self._outbox:
            return self._outbox.popleft()
        if not self._welcomed:
            return b""
        self._tell_intent(self._seen)
        self._tell_remotes()
        return self._outbox.popleft() if self._outbox else b""

    def _tell_intent(self, since: int | None, *, always: bool = False) -> None:
        """Put what changed in the outbox: new members, the intent, pods, then members that nothing needs now."""
        hub = self._hub
        at, serial = hub.intents.revision, hub.intents.policies.serial
        before, after = hub.members(self._members) if self._members != serial else (b"", b"")
        intent = hub.intent(self.host, since, always=always) if always or since != at else b""
        pods = self._placements(everything=always)
        self._seen, self._members = at, serial
        self._outbox.extend(octets for octets in (before, intent, pods, after) if octets)

    def _placements(self, *, everything: bool) -> bytes:
        """Return what the agent is told of its pods, b"" where that is nothing."""
        pods, self._pods = self._pods, set()
        if everything:
            told = self._hub.placements(self.host, None)
            return _encoded(told) if told.placed or self._current else b""
        return _encoded(self._hub.placements(self.host, pods)) if pods else b""

    def _tell_remotes(self) -> None:
        """Put in the outbox what changed of the overlays that have an endpoint on the host."""
        table = self._hub.remotes
        overlays = self._current or self._hello.vtep is not None
        if self._remotes == table.serial or not overlays:
            return  # an agent of before overlays would end the session
        tenants = table.tenants_of(self.host)
        self._outbox.extend(self._hub.remotes_told(self._remotes, self._tenants, tenants))
        self._remotes, self._tenants = table.serial, tenants

    def _tell(self, message: MasterMessage) -> None:
        self._send(_encoded(message))

    def _send(self, octets: bytes) -> None:
        self._outbox.append(octets)
        self._wake.set()
        if len(self._outbox) > OUTBOX:
            self.cut(
                ExhaustedError(
                    f"host {self.host}: its agent leaves {OUTBOX} messages unread",
                    "connect again: it then gets what it missed",
                )
            )

    # what the agent says

    async def _work(self) -> None:
        await self._welcome()
        hello = {endpoint.key: endpoint for endpoint in self._hello.endpoints}
        await self._desk.endpoints({**hello})
        while True:
            messages = [await self._inbox.get()]
            while not self._inbox.empty():
                messages.append(self._inbox.get_nowait())
            await self._desk.handle(messages)
            for message in messages:
                if isinstance(message, BlockReturned):
                    self._borrowing.returned(message.network, message.prefix)

    async def _welcome(self) -> None:
        """Say what the host holds and what it has to know; from then on it is told what changes."""
        hub, seen = self._hub, self._hello.seen
        if seen.epoch == hub.intents.epoch and seen.revision > hub.intents.revision:
            await self._catch_up(seen.revision)
        await self._desk.reconcile(self._hello)
        since = seen.revision if hub.intents.reaches(seen) else None
        welcome = welcome_of(hub.view, self.host)
        self._borrowing.welcome(welcome)
        self._tell(welcome)
        self._tell_intent(since, always=True)
        self._wake.set()
        self._welcomed = True
        for question in asked_of(hub.view, self.host):
            self._tell(question)

    async def _catch_up(self, revision: int) -> None:
        """The agent has seen more than this netmaster: never take it back in time."""
        try:
            async with asyncio.timeout(LEAVE):
                await self._hub.mirror.reached(revision)
        except TimeoutError:
            raise UnavailableError("this netmaster lags behind the store", "try another") from None

    def _want(self, wanted: BlockWanted) -> None:
        if wanted not in self._wishes and len(self._wishes) < WISHES:
            self._wishes.add(wanted)
            self._tasks.create_task(self._answer(wanted))

    async def _answer(self, wanted: BlockWanted) -> None:
        self._tell(await self._borrowing.answer(wanted))
        self._wishes.discard(wanted)


def _encoded(message: MasterMessage) -> bytes:
    return master_to_wire(message).SerializeToString()


class _Gone(FabricError):
    """The agent has ended the stream: no error of anybody's."""


async def serve(hub: Hub, context: Context, pace: Pace) -> None:
    """Serve a stream; raise a FabricError that tells the agent why it is sent away."""
    first = await context.read()
    if first is grpc.aio.EOF:
        return
    hello = agent_from_wire(first)
    if not isinstance(hello, Hello):
        said = "an unknown message" if hello is None else type(hello).__name__
        raise InvalidError(f"{said} before Hello", "say Hello first")
    check_hello(hello)
    try:
        await Session(hub, hello, _address(context.peer()), pace).run(context)
    except _Gone as gone:
        log.debug("agent gone", reason=str(gone))


def _status(hello: Hello, peer: str) -> HostStatus:
    return HostStatus(
        hello.host, hello.address or peer, hello.software, hello.features, vtep=hello.vtep
    )


def _address(peer: str) -> str:
    """Return the address out of gRPC's name for a peer: `ipv4:10.0.0.1:4711`, `ipv6:%5Bfd00::1%5D:4711`."""
    _, _, rest = peer.partition(":")
    return rest.rpartition(":")[0].replace("%5B", "").replace("%5D", "") or peer


def _first(group: BaseExceptionGroup[FabricError]) -> FabricError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, FabricError)
    return error
