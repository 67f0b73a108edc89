"""A netmaster over real gRPC that knows one host: welcomes, tells intent, gives blocks, stores endpoints."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc.aio

from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.filter import GroupFilter
from netfabric.fabric.ipam import candidate_blocks
from netfabric.fabric.network import Network
from netfabric.fabric.peer import Peer, Speaker
from netfabric.fabric.session import (
    AgentMessage,
    BlockAnswered,
    BlockReturned,
    BlockWanted,
    EndpointsAnswered,
    EndpointsChanged,
    HeldBlock,
    Hello,
    IntentChanged,
    MasterMessage,
    StoredEndpoint,
    Version,
    Welcome,
)
from netfabric.proto.codec import agent_from_wire, master_to_wire
from netfabric.proto.fabric_pb2_grpc import FabricServicer, add_FabricServicer_to_server

Kind = TypeVar("Kind")
PERMISSIVE = (
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 2000),
    ("grpc.http2.max_ping_strikes", 0),
)
"""Agents ping every five seconds, which gRPC's servers take for an attack otherwise."""


@dataclass
class SmallNetmaster(FabricServicer):
    """Keeps what it is told; the same object may serve again after a stop, as a netmaster with its store would."""

    networks: tuple[Network, ...] = ()
    speaker: Speaker | None = None
    peers: tuple[Peer, ...] = ()
    filters: tuple[GroupFilter, ...] = ()
    limit: int = 1000
    """Blocks a network and family at most."""
    mute: bool = False
    """Take streams, and say nothing."""
    blocks: dict[HeldBlock, None] = field(default_factory=dict)
    endpoints: dict[EndpointKey, Endpoint] = field(default_factory=dict)
    heard: list[AgentMessage] = field(default_factory=list)
    revision: int = 1
    port: int = 0
    _server: Any = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _streams: list["asyncio.Queue[MasterMessage]"] = field(default_factory=list)
    _latest: "asyncio.Queue[MasterMessage] | None" = None
    """Of the last agent that said Hello."""

    @property
    def address(self) -> str:
        """Return where agents reach it."""
        return f"127.0.0.1:{self.port}"

    async def start(self, inside: AbstractContextManager[object] | None = None) -> str:
        """Serve, on the port of before; return the address. `inside`: a namespace to listen in."""
        self._server = grpc.aio.server(options=PERMISSIVE)
        add_FabricServicer_to_server(self, self._server)
        with inside or nullcontext():
            self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()
        return self.address

    async def stop(self) -> None:
        """Break every stream off."""
        await self._server.stop(0)

    @asynccontextmanager
    async def serving(
        self, inside: AbstractContextManager[object] | None = None
    ) -> AsyncIterator[str]:
        yield await self.start(inside)
        await self.stop()

    async def Session(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        """Answer one agent until it goes away."""
        outgoing: asyncio.Queue[MasterMessage] = asyncio.Queue()
        self._streams.append(outgoing)
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(self._listen(request_iterator, outgoing))
            try:
                while True:
                    yield master_to_wire(await outgoing.get())
            finally:
                self._streams.remove(outgoing)
                listening.cancel()

    async def _listen(self, messages: Any, outgoing: "asyncio.Queue[MasterMessage]") -> None:
        async for wire in messages:
            message = agent_from_wire(wire)
            assert message is not None
            if isinstance(message, Hello):
                self._latest = outgoing
            elif outgoing is not self._latest:
                continue  # of an agent that died meanwhile: as in netmaster, a later one counts
            self.heard.append(message)
            for answer in () if self.mute else self._answers(message):
                outgoing.put_nowait(answer)
            self._changed.set()

    def _answers(self, message: AgentMessage) -> Iterable[MasterMessage]:
        match message:
            case Hello():
                self.endpoints.update((e.key, e) for e in message.endpoints)
                yield Welcome(tuple(self.blocks), (), tuple(self.endpoints.values()))
                yield self._intent()
            case BlockWanted():
                yield self._give(message)
            case BlockReturned(network, prefix):
                self.blocks.pop(HeldBlock(network, prefix), None)
            case EndpointsChanged(up, down):
                self.endpoints.update((e.key, e) for e in up)
                for key in down:
                    self.endpoints.pop(key, None)
                yield EndpointsAnswered(tuple(StoredEndpoint(e.key, 1) for e in up))

    def _intent(self) -> IntentChanged:
        version = Version("small", self.revision)
        return IntentChanged(
            version,
            True,
            self.networks,
            speaker=self.speaker,
            peers=self.peers,
            filters=self.filters,
        )

    def _give(self, wanted: BlockWanted) -> BlockAnswered:
        network = next(n for n in self.networks if n.key == wanted.network)
        range_ = network.range_of(wanted.family)
        assert range_
        taken = {block.prefix for block in self.blocks if block.network == network.key}
        if sum(p.version == range_.subnet.version for p in taken) < self.limit:
            for prefix in candidate_blocks(range_, taken):
                self.blocks[HeldBlock(network.key, prefix)] = None
                return BlockAnswered(network.key, wanted.family, block=prefix)
        return BlockAnswered(
            network.key,
            wanted.family,
            error=f"network {network.key}: no block is free",
            remedy="enlarge its subnet",
        )

    def tell_intent(self) -> None:
        """Tell every agent the whole intent again, as a later one."""
        self.revision += 1
        for outgoing in self._streams:
            outgoing.put_nowait(self._intent())

    def said(self, kind: type[Kind]) -> list[Kind]:
        """Return what was heard of one kind."""
        return [message for message in self.heard if isinstance(message, kind)]

    async def until(self, holds: Callable[[], object], what: str, patience: float = 10.0) -> None:
        """Wait until something holds, looking whenever an agent says anything."""
        async with asyncio.timeout(patience):
            while not holds():
                self._changed.clear()
                await self._changed.wait()
