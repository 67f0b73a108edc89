"""Connections that go silent or break in the middle of a call: a relay between the store and a real etcd."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from netfabric.api.store.base import ROOT, Put
from netfabric.api.store.etcd import EtcdStore
from netfabric.api.store.etcd_channel import EtcdSettings
from netfabric.fabric.errors import UnavailableError
from netfabric.lab.etcd import Etcd

PATIENCE = 30.0


class Relay:
    """Passes bytes on, both ways; `silent` keeps back what etcd answers, `hush` for ever."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []
        self._hushed: set[asyncio.StreamWriter] = set()
        self.silent = False
        self.address = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, forth]
        await asyncio.gather(self._pass(reader, forth, False), self._pass(back, writer, True))

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if not (answers and (self.silent or writer in self._hushed)):
                    writer.write(data)
                    await writer.drain()
        writer.close()

    def hush(self) -> None:
        """Keep back the answers on all connections that there are, and break none."""
        self._hushed |= set(self._writers)

    def cut(self) -> None:
        """Break all connections."""
        for writer in self._writers:
            writer.close()
        self._writers.clear()


@pytest.fixture
async def relay(shared_etcd: Etcd) -> AsyncIterator[Relay]:
    made = Relay(shared_etcd.port)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield made
    server.close()
    made.cut()


@pytest.fixture
def key() -> str:
    return f"{ROOT}{uuid.uuid4().hex}"


@asynccontextmanager
async def opened(*endpoints: str, seconds: float = 5.0) -> AsyncIterator[EtcdStore]:
    store = EtcdStore(EtcdSettings(endpoints, timeout=seconds))
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def test_a_transaction_that_may_have_happened_is_not_done_again(
    shared_etcd: Etcd, relay: Relay, key: str
) -> None:
    async with opened(relay.address) as store, opened(shared_etcd.address) as direct:
        await store.txn((), [Put(key, b"0")])
        relay.silent = True
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            writing = group.create_task(_outcome(store, key))
            while (entry := await direct.get(key)) is None or entry.value == b"0":
                pass
            relay.silent = False
            relay.cut()
        assert "may have happened" in writing.result()
        after = await store.get(key)  # the connection came back
        assert after == entry


async def _outcome(store: EtcdStore, key: str) -> str:
    with pytest.raises(UnavailableError) as caught:
        await store.txn((), [Put(key, b"1")])
    return str(caught.value)


async def test_a_silent_member_is_left_for_another(
    shared_etcd: Etcd, relay: Relay, key: str
) -> None:
    async with opened(relay.address) as store:
        await store.txn((), [Put(key, b"0")])
    async with opened(relay.address, shared_etcd.address, seconds=2.0) as store:
        relay.silent = True
        async with asyncio.timeout(PATIENCE):
            for _ in range(10):
                entry = await store.get(key)
                assert entry is not None


async def test_a_watch_goes_on_over_broken_connections(relay: Relay, key: str) -> None:
    async with opened(relay.address, seconds=PATIENCE) as store:
        after = await store.txn((), [Put(key, b"start")])
        seen: list[bytes] = []

        async def follow() -> None:
            async for batch in store.watch(key, after):
                seen.extend(entry.value for entry in batch.puts)
                if seen[-1] == b"99":
                    return

        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            group.create_task(follow())
            for number in range(100):
                if number % 10 == 5:
                    relay.cut()
                while True:
                    with suppress(UnavailableError):
                        await store.txn((), [Put(key, b"%d" % number)])
                        break
    # a write that was told to have failed may have happened, and then is there twice
    assert [number for number, last in zip(seen, [b"", *seen], strict=False) if number != last] == [
        b"%d" % number for number in range(100)
    ]


@pytest.mark.slow
async def test_a_watch_leaves_a_silent_connection(
    shared_etcd: Etcd, relay: Relay, key: str
) -> None:
    async with opened(relay.address) as through, opened(shared_etcd.address) as direct:
        after = await through.txn((), [Put(key, b"start")])
        watching = asyncio.Event()
        seen: list[bytes] = []

        async def follow() -> None:
            async for batch in through.watch(key, after):
                seen.extend(entry.value for entry in batch.puts)
                watching.set()
                if seen and seen[-1] == b"later":
                    return

        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            group.create_task(follow())
            await direct.txn((), [Put(key, b"now")])
            await watching.wait()
            relay.hush()  # nothing breaks the connection; only its pings stay unanswered
            await direct.txn((), [Put(key, b"later")])
    assert seen == [b"now", b"later"]
