"""200 clients while etcd stands still: who reads goes on, who writes waits, and nobody is forgotten."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector

from netfabric.api.bootstrap import bootstrap
from netfabric.api.mirror import Mirror
from netfabric.api.rest.app import make_app
from netfabric.api.rest.site import listening
from netfabric.api.rest.writer import Writer
from netfabric.api.settings import Listen, Settings, StoreSettings
from netfabric.api.store.base import ROOT
from netfabric.api.store.etcd import EtcdStore
from netfabric.api.store.etcd_channel import EtcdSettings
from netfabric.fabric.invariants import violations
from netfabric.lab.etcd import Etcd
from tests.api.rest.conftest import Alone
from tests.api.store.conftest import make_etcd

WRITERS, READERS, READS = 100, 100, 5
PATIENCE = 60.0
ANYWHERE = Listen("127.0.0.1", 0)
PATHS = (
    "/api/v1/networks/default:n0/",
    "/api/v2/networks/default:n0",
    "/api/v2/networks",
    "/api/v1/inspect/networks/default:n0/",
    "/healthz",
)


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    found = make_etcd(tmp_path)
    yield found
    found.stop()


@contextlib.contextmanager
def stopped(etcd: Etcd) -> Iterator[None]:
    """Let etcd stand still: its connections stay, and nothing is answered."""
    pid = etcd.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Clients:
    """Clients of one netmaster, each with a connection of its own."""

    def __init__(self, session: ClientSession, base: str) -> None:
        self._session = session
        self._base = base

    async def get(self, path: str) -> int:
        async with self._session.get(self._base + path) as reply:
            await reply.read()
            return reply.status

    async def read(self) -> list[int]:
        return [await self.get(PATHS[number % len(PATHS)]) for number in range(READS)]

    async def make(self, number: int) -> int:
        body = {
            "tenantName": "default",
            "networkName": f"n{number}",
            "encap": "vxlan",
            "subnet": f"10.{number}.0.0/24",
        }
        async with self._session.post(f"{self._base}/api/v2/networks", json=body) as reply:
            await reply.read()
            return reply.status

    def begin(self) -> list[asyncio.Task[int]]:
        return [asyncio.ensure_future(self.make(number)) for number in range(1, WRITERS + 1)]

    async def all_read(self) -> list[list[int]]:
        async with asyncio.timeout(PATIENCE):
            return await asyncio.gather(*(self.read() for _ in range(READERS)))


@contextlib.asynccontextmanager
async def netmaster(etcd: Etcd, patience: float) -> AsyncIterator[tuple[Clients, EtcdStore]]:
    """One that waits so many seconds for its store."""
    store = EtcdStore(EtcdSettings((etcd.address,), timeout=patience))
    await store.open()
    mirror = Mirror(store)
    writer = Writer(store, mirror)
    following = asyncio.ensure_future(mirror.run())
    try:
        await asyncio.wait_for(mirror.listed.wait(), PATIENCE)
        await bootstrap(writer, Settings(StoreSettings("memory"), ANYWHERE, ANYWHERE, "m"))
        async with (
            listening(make_app(writer, Alone("192.0.2.7")), ANYWHERE) as rest,
            ClientSession(connector=TCPConnector(limit=0)) as session,
        ):
            clients = Clients(session, f"http://127.0.0.1:{rest.port}")
            assert await clients.make(0) == 201
            yield clients, store
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await store.close()


async def sound(store: EtcdStore) -> set[str]:
    """Return the names of the networks, nothing being wrong with the store."""
    entries = (await store.list(ROOT)).entries
    assert violations((entry.key, entry.value) for entry in entries) == []
    at = f"{ROOT}intent/network/default:"
    return {entry.key.removeprefix(at) for entry in entries if entry.key.startswith(at)}


async def test_reads_go_on_while_writes_wait(etcd: Etcd) -> None:
    async with netmaster(etcd, PATIENCE) as (clients, store):
        with stopped(etcd):
            writes = clients.begin()
            answers = await clients.all_read()
            assert answers == [[200] * READS] * READERS
            assert not any(write.done() for write in writes), "the store cannot have answered"
        async with asyncio.timeout(PATIENCE):
            assert await asyncio.gather(*writes) == [201] * WRITERS
        assert await sound(store) == {f"n{number}" for number in range(WRITERS + 1)}


async def test_writes_are_refused_together_when_the_store_is_silent_for_too_long(
    etcd: Etcd,
) -> None:
    """Nobody waits for the time that another's request took. What may have happened is whole."""
    async with netmaster(etcd, 1.0) as (clients, store):
        with stopped(etcd):
            async with asyncio.timeout(PATIENCE):
                refused = await asyncio.gather(*clients.begin())
            assert set(refused) == {503}
            assert await clients.all_read() == [[200] * READS] * READERS
        async with asyncio.timeout(PATIENCE):
            while await clients.make(200) == 503:
                pass
        assert {"n0", "n200"} <= await sound(store)
