"""The gRPC session with one netmaster out of a list: kept up, and moved to the next when it ends."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

import grpc
import grpc.aio
import structlog

from netfabric.agent.outbox import Outbox
from netfabric.fabric.errors import InvalidError, UnavailableError
from netfabric.fabric.events import Event, MasterConnected, MasterLost, MasterSaid
from netfabric.fabric.session import AgentMessage
from netfabric.proto.codec import agent_to_wire, master_from_wire
from netfabric.proto.fabric_pb2 import AgentMessage as WireAgentMessage
from netfabric.proto.fabric_pb2 import MasterMessage as WireMasterMessage
from netfabric.proto.fabric_pb2_grpc import FabricStub

log = structlog.get_logger(__name__)
Call: TypeAlias = "grpc.aio.StreamStreamCall[WireAgentMessage, WireMasterMessage]"

CONNECT_TIMEOUT = 5.0
WELCOME_TIMEOUT = 10.0
"""Seconds from Hello to the first answer."""
WRITE_TIMEOUT = 10.0
"""Seconds that netmaster may leave a message unread."""
BACKOFF = (0.1, 5.0)
"""Seconds between attempts; it grows with each round through the list."""
LASTING = 10.0
"""Seconds after which a session counts as a success, and patience starts anew."""
OPTIONS = (
    ("grpc.keepalive_time_ms", 5000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.use_local_subchannel_pool", 1),
)


class Stream:
    """Follows one netmaster at a time. Events go to `post` in the event loop's thread."""

    def __init__(
        self,
        netmasters: Sequence[str],
        post: Callable[[Event], None],
        complain: Callable[[str, str], None],
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """`netmasters` are "host:port"; `complain(subject, text)` tells the operator, "" that it is well.

        Without `credentials` the stream is plain text.
        """
        self._netmasters = tuple(netmasters)
        self._credentials = credentials
        self._post = post
        self._complain = complain
        self._outbox = Outbox()
        self.following = ""
        """The netmaster of the session that is up; empty without one."""

    def tell(self, message: AgentMessage) -> None:
        """Say something; without a session it is dropped, since the next Hello carries everything."""
        if self.following:
            self._outbox.put(message)

    async def run(self) -> None:
        """Keep a session until cancelled."""
        position = random.randrange(len(self._netmasters))
        failures = 0
        while True:
            address = self._netmasters[position % len(self._netmasters)]
            began = time.monotonic()
            try:
                await self._follow(address)
            except UnavailableError as error:
                self._complain("netmaster", self._without(str(error)))
            position += 1
            failures = 0 if time.monotonic() - began > LASTING else failures + 1
            await asyncio.sleep(self._pause(failures))

    def _pause(self, failures: int) -> float:
        """Return seconds: agents that lost the same netmaster must not all come at once."""
        rounds = min(failures // len(self._netmasters), 10)
        return random.uniform(0.5, 1.0) * min(BACKOFF[0] * 2.0**rounds, BACKOFF[1])

    def _without(self, reason: str) -> str:
        return (
            f"none of {', '.join(self._netmasters)} is followed ({reason}); containers and routes go on"
            " as they are: see that netmaster runs and --netmaster names it"
        )

    async def _follow(self, address: str) -> None:
        """Hold one session; raise UnavailableError when it ends."""
        async with self._channel(address) as channel:
            call: Call = FabricStub(channel).Session()
            await self._connect(call, address)
            self._outbox.clear()
            self.following = address
            self._post(MasterConnected(address))
            reason = "the agent ends"
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._read(call, address))
                    tasks.create_task(self._write(call, address))
            except* UnavailableError as ended:
                reason = str(ended.exceptions[0])
            finally:
                self.following = ""
                self._post(MasterLost(reason))
            raise UnavailableError(reason)

    def _channel(self, address: str) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(address, options=OPTIONS)
        return grpc.aio.secure_channel(address, self._credentials, options=OPTIONS)

    async def _connect(self, call: Call, address: str) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await call.wait_for_connection()
        except TimeoutError:
            raise UnavailableError(f"{address}: no answer") from None
        except grpc.aio.AioRpcError as error:
            raise UnavailableError(f"{address}: {error.details()}") from None

    async def _read(self, call: Call, address: str) -> None:
        """Pass on what netmaster says, but for what only newer agents know; raise UnavailableError at the end."""
        details: str | None
        skipped = False
        try:
            async with asyncio.timeout(WELCOME_TIMEOUT):
                message = await call.read()
            while isinstance(message, WireMasterMessage):
                self._complain("netmaster", "")
                if (said := master_from_wire(message)) is not None:
                    self._post(MasterSaid(said))
                elif not skipped:
                    skipped = True
                    log.warning("netmaster is newer, not all that it says is known", at=address)
                message = await call.read()
            details = await call.details()
        except TimeoutError:
            details = "no answer to Hello"
        except grpc.aio.AioRpcError as error:
            details = error.details()
        except InvalidError as error:
            details = f"it said what this agent does not understand: {error}"
        raise UnavailableError(f"{address}: {details or 'the session ended'}")

    async def _write(self, call: Call, address: str) -> None:
        """Say what is in the outbox, as fast as netmaster reads it."""
        while True:
            message = await self._outbox.take()
            try:
                async with asyncio.timeout(WRITE_TIMEOUT):
                    await call.write(agent_to_wire(message))
            except TimeoutError:
                raise UnavailableError(f"{address}: it does not read what is said") from None
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                return  # the reader learns why
