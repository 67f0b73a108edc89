"""Netmasters on loopback and scripted agents that talk to them through the generated stub."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_address
from typing import Any, Self, TypeVar

import grpc.aio

from netfabric.api.control import Control
from netfabric.api.mirror import Mirror
from netfabric.api.rpc.desk import Pace
from netfabric.api.settings import Listen
from netfabric.api.store.base import ROOT, Delete, Put, Store
from netfabric.fabric.controller_intent import GUARD
from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.host import merge
from netfabric.fabric.session import (
    AgentMessage,
    BlockAnswered,
    BlockWanted,
    EndpointsAnswered,
    EndpointsChanged,
    Hello,
    IntentChanged,
    MasterMessage,
    Version,
    Welcome,
)
from netfabric.proto.codec import agent_to_wire, master_from_wire
from netfabric.proto.fabric_pb2_grpc import FabricStub, RoutesStub

PATIENCE = 10.0
"""Seconds that anything may take on a busy machine."""
QUICK = Pace(stall=0.5, store=1.0, retry=0.05, lend=0.5, borrow=1.2, lease=3.0)
OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1 << 16),
)
"""A connection of its own, that holds little of what its agent does not read."""
LOOPBACK = Listen("127.0.0.1", 0)
Message = TypeVar("Message", bound=MasterMessage)


async def until(condition: Callable[[], Any]) -> Any:
    """Return what a condition finds once it is true."""
    async with asyncio.timeout(PATIENCE):
        while not (found := condition()):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return found


class Netmaster:
    """One netmaster's control on a store."""

    def __init__(self, store: Store, name: str, pace: Pace = QUICK) -> None:
        self.store = store
        self.mirror = Mirror(store)
        self.view = self.mirror.view
        self.control = Control(store, self.mirror, name=name, pace=pace, sweep=0.1)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.control.port}"

    @property
    def routes(self) -> RoutesStub:
        return RoutesStub(grpc.aio.insecure_channel(self.address))


@contextlib.asynccontextmanager
async def netmaster(
    store: Store, name: str = "m1", pace: Pace = QUICK, listen: Listen = LOOPBACK
) -> AsyncIterator[Netmaster]:
    """A netmaster at work."""
    master = Netmaster(store, name, pace)
    async with asyncio.TaskGroup() as tasks:
        mirror = tasks.create_task(master.mirror.run())
        run = tasks.create_task(master.control.run())
        serve = tasks.create_task(master.control.serve(listen))
        await master.control.listening.wait()
        await master.mirror.listed.wait()
        try:
            yield master
        finally:
            serve.cancel()
            await asyncio.wait([serve])
            run.cancel()
            await asyncio.wait([run])
            mirror.cancel()


class Agent:
    """An agent under script. It keeps what it is told, and answers nothing by itself."""

    def __init__(self, master: str, host: str, **hello: Any) -> None:
        self.host = host
        self.hello = {"software": "test", "address": "", **hello}
        self.told: list[MasterMessage] = []
        self.intent: IntentChanged | None = None
        self._channel = grpc.aio.insecure_channel(master, options=OPTIONS)
        self._call: Any = FabricStub(self._channel).Session()
        self._arrived = asyncio.Condition()
        self._reader: asyncio.Future[None] | None = None
        self.ended: grpc.aio.AioRpcError | None = None
        self.over = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.say(Hello(self.host, **self.hello))
        self._reader = asyncio.ensure_future(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Go away without a word."""
        await self._channel.close()
        if self._reader is not None:
            await asyncio.wait([self._reader])

    async def say(self, message: AgentMessage) -> None:
        await self._call.write(agent_to_wire(message))

    async def _read(self) -> None:
        try:
            async for wire in self._call:
                message = master_from_wire(wire)
                assert message is not None
                if isinstance(message, IntentChanged):
                    self.intent = merge(self.intent, message)
                async with self._arrived:
                    self.told.append(message)
                    self._arrived.notify_all()
        except grpc.aio.AioRpcError as error:
            self.ended = error
        except asyncio.CancelledError:
            pass
        finally:
            self.over.set()

    async def hears(
        self, kind: type[Message], where: Callable[[Message], Any] = lambda _: True
    ) -> Message:
        """Return the first message of a kind that fits and was not returned before."""

        def find() -> Message | None:
            for message in self.told:
                if isinstance(message, kind) and where(message):
                    self.told.remove(message)
                    return message
            return None

        async with asyncio.timeout(PATIENCE), self._arrived:
            while (found := find()) is None:
                await self._arrived.wait()
        return found

    async def welcomed(self) -> Welcome:
        welcome = await self.hears(Welcome)
        await self.hears(IntentChanged)
        return welcome

    async def knows(self, condition: Callable[[IntentChanged], Any]) -> IntentChanged:
        """Return the merged intent once a condition holds."""
        await until(lambda: self.intent is not None and condition(self.intent))
        assert self.intent is not None
        return self.intent

    async def wants(self, network: str, family: Any = 4, address: Any = None) -> BlockAnswered:
        await self.say(BlockWanted(network, family, address))
        return await self.hears(BlockAnswered)

    async def reports(self, *up: Endpoint, down: tuple[EndpointKey, ...] = ()) -> EndpointsAnswered:
        await self.say(EndpointsChanged(up, down))
        return await self.hears(EndpointsAnswered)

    @property
    def seen(self) -> Version:
        assert self.intent is not None
        return self.intent.version

    async def refused(self) -> grpc.aio.AioRpcError:
        """Return the status with which the session ended."""
        async with asyncio.timeout(PATIENCE):
            await self.over.wait()
        assert self.ended is not None
        return self.ended


def endpoint(host: str, address: str, container: str = "", network: str = "blue") -> Endpoint:
    name = container or f"c{address}"
    return Endpoint(
        EndpointKey(name, "eth0"),
        host,
        "default",
        network,
        "",
        f"/run/netns/{name}",
        "nf0",
        "02:02:00:00:00:01",
        (ip_address(address),),
    )


async def put(store: Store, type_: str, key: str, **obj: Any) -> int:
    """Write intent as REST does: object and guard in one transaction."""
    value = json.dumps(obj | {"key": key}).encode()
    return await store.txn([], [Put(f"{ROOT}intent/{type_}/{key}", value), Put(GUARD, b"{}")])


async def network(store: Store, name: str = "blue", **fields: Any) -> int:
    obj = {"tenantName": "default", "networkName": name, "encap": "routed"} | fields
    return await put(store, "network", f"default:{name}", **obj)


async def remove(store: Store, type_: str, key: str) -> int:
    return await store.txn([], [Delete(f"{ROOT}intent/{type_}/{key}"), Put(GUARD, b"{}")])


async def speaker(store: Store, host: str, asn: int = 65001) -> int:
    return await put(
        store, "Bgp", host, hostname=host, **{"as": str(asn), "routerip": "10.9.0.2/31"}
    )


async def peer(store: Store, host: str, name: str, address: str) -> int:
    fields = {"hostname": host, "peerName": name, "address": address, "as": 65002}
    return await put(store, "peer", f"{host}:{name}", **fields)
