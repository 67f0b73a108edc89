"""The session with netmaster, over real gRPC: kept, moved to the next one, told in words why it ended."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import pytest
import structlog

from netfabric.agent import stream as stream_module
from netfabric.agent.stream import Stream
from netfabric.fabric.events import Event, MasterConnected, MasterLost, MasterSaid
from netfabric.fabric.session import BlockWanted, Hello, IntentChanged, LoanEnded, Welcome
from netfabric.proto import fabric_pb2 as pb
from tests.agent.small_netmaster import SmallNetmaster
from tests.fabric.script import BLUE

NOWHERE = "127.0.0.1:1"
HELLO = Hello("h1", "0", "")


@dataclass
class Listener:
    """The brain's side: says Hello when connected, and keeps what comes."""

    events: list[Event] = field(default_factory=list)
    complaints: dict[str, str] = field(default_factory=dict)
    stream: Stream | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def post(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, MasterConnected):
            assert self.stream
            self.stream.tell(HELLO)
        self.arrived.set()

    def complain(self, subject: str, text: str) -> None:
        self.complaints[subject] = text
        self.arrived.set()

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def said(self, kind: type[Any]) -> list[Any]:
        return [e.message for e in self.of(MasterSaid) if isinstance(e.message, kind)]

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not holds():
                self.arrived.clear()
                await self.arrived.wait()


@asynccontextmanager
async def following(*netmasters: str) -> AsyncIterator[Listener]:
    """Run a stream, and end it."""
    listener = Listener()
    listener.stream = Stream(netmasters, listener.post, listener.complain)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(listener.stream.run())
        yield listener
        running.cancel()


async def test_a_session() -> None:
    master = SmallNetmaster(networks=(BLUE,))
    async with master.serving() as address, following(address) as agent:
        await agent.until(lambda: agent.said(IntentChanged))
        assert agent.stream
        assert agent.stream.following == address
        assert agent.events[0] == MasterConnected(address)
        assert [type(m) for m in (e.message for e in agent.of(MasterSaid))] == [
            Welcome,
            IntentChanged,
        ]
        assert agent.said(IntentChanged)[0].networks == (BLUE,)
        agent.stream.tell(BlockWanted(BLUE.key, 4))
        await master.until(lambda: master.said(BlockWanted), "it is heard")
        assert agent.complaints == {"netmaster": ""}


async def test_the_next_netmaster_is_followed() -> None:
    one, two = SmallNetmaster(), SmallNetmaster()
    async with one.serving(), two.serving(), following(one.address, two.address) as agent:
        await agent.until(lambda: agent.said(Welcome))
        assert agent.stream
        first, other = (one, two) if agent.stream.following == one.address else (two, one)
        await first.stop()
        await agent.until(lambda: len(agent.said(Welcome)) == 2)
        assert agent.stream.following == other.address
        kinds = [type(event) for event in agent.events if not isinstance(event, MasterSaid)]
        assert kinds == [MasterConnected, MasterLost, MasterConnected]


async def test_one_that_is_not_there_is_passed_over() -> None:
    master = SmallNetmaster()
    async with master.serving() as address, following(NOWHERE, address, NOWHERE) as agent:
        await agent.until(lambda: agent.said(Welcome))


async def test_none_is_there() -> None:
    async with following(NOWHERE) as agent:
        await agent.until(lambda: agent.complaints.get("netmaster"))
        assert NOWHERE in agent.complaints["netmaster"]
        assert "refused" in agent.complaints["netmaster"]
        assert agent.events == []


async def test_it_comes_back_where_it_was() -> None:
    master = SmallNetmaster()
    async with master.serving() as address, following(address) as agent:
        await agent.until(lambda: agent.said(Welcome))
        await master.stop()
        await agent.until(lambda: agent.of(MasterLost))
        assert agent.stream
        agent.stream.tell(BlockWanted("dropped", 4))
        await master.start()
        await agent.until(lambda: len(agent.said(Welcome)) == 2)
        assert agent.complaints == {"netmaster": ""}
    assert master.said(BlockWanted) == []
    assert len(master.said(Hello)) == 2


async def test_one_that_does_not_answer_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "WELCOME_TIMEOUT", 0.2)
    mute, master = SmallNetmaster(mute=True), SmallNetmaster()
    async with mute.serving(), master.serving(), following(mute.address, master.address) as agent:
        await agent.until(lambda: agent.said(Welcome))


async def test_a_hung_one_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the connection and then says nothing, not even to gRPC."""
    monkeypatch.setattr(stream_module, "CONNECT_TIMEOUT", 0.2)
    monkeypatch.setattr(stream_module, "WELCOME_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with following(f"127.0.0.1:{silent.getsockname()[1]}") as agent:
            await agent.until(lambda: agent.complaints.get("netmaster"))


async def serving(
    answer: Callable[[Any, Any], AsyncIterator[bytes]],
) -> tuple[grpc.aio.Server, int]:
    """Serve sessions that say these octets; return the server and its port."""
    server = grpc.aio.server()
    handler: Any = grpc.stream_stream_rpc_method_handler(answer, pb.AgentMessage.FromString, None)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("netfabric.v1.Fabric", {"Session": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


async def test_what_is_not_understood_ends_the_session() -> None:
    async def answer(requests: Any, _: Any) -> AsyncIterator[bytes]:
        await anext(requests)
        yield pb.MasterMessage(loan_ended=pb.LoanEnded(loan="fine")).SerializeToString()
        yield pb.MasterMessage(
            block_answered=pb.BlockAnswered(block="no prefix")
        ).SerializeToString()
        await asyncio.sleep(60)

    server, port = await serving(answer)
    async with following(f"127.0.0.1:{port}") as agent:
        await agent.until(lambda: agent.of(MasterLost))
        assert "does not understand" in agent.of(MasterLost)[0].reason
        await agent.until(lambda: agent.complaints["netmaster"])
    await server.stop(0)


async def test_what_only_a_newer_netmaster_knows_is_passed_over() -> None:
    async def answer(requests: Any, _: Any) -> AsyncIterator[bytes]:
        await anext(requests)
        for _ in range(3):
            yield b"\x82\x7d\x00"  # field 2000, empty
        yield pb.MasterMessage(loan_ended=pb.LoanEnded(loan="fine")).SerializeToString()
        await asyncio.sleep(60)

    server, port = await serving(answer)
    with structlog.testing.capture_logs() as logs:
        async with following(f"127.0.0.1:{port}") as agent:
            await agent.until(lambda: agent.of(MasterSaid))
            assert [type(event) for event in agent.events] == [MasterConnected, MasterSaid]
            assert agent.said(LoanEnded) == [LoanEnded("fine")]
    assert [entry["log_level"] for entry in logs if "newer" in entry["event"]] == ["warning"]
    await server.stop(0)


async def test_one_that_does_not_read_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "WRITE_TIMEOUT", 0.3)

    firsts: list[str | None] = []

    async def answer(requests: Any, _: Any) -> AsyncIterator[bytes]:
        firsts.append((await anext(requests)).WhichOneof("body"))
        yield pb.MasterMessage(loan_ended=pb.LoanEnded(loan="l")).SerializeToString()
        await asyncio.sleep(60)

    server, port = await serving(answer)
    async with following(f"127.0.0.1:{port}") as agent:
        await agent.until(lambda: agent.of(MasterSaid))
        assert agent.stream
        for number in range(1000):  # gRPC itself takes some megabytes
            agent.stream.tell(BlockWanted(f"{number}-{'x' * 10_000}", 4))
        await agent.until(lambda: agent.of(MasterLost))
        assert "does not read" in agent.of(MasterLost)[0].reason
        await agent.until(lambda: len(agent.of(MasterSaid)) == 2)
        assert firsts == ["hello", "hello"], "nothing of the earlier session is said in a later one"
    await server.stop(0)
