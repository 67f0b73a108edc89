"""What only the etcd driver has: members that die, users, limits; and another client that reads what we stored."""

import asyncio
import sys
import types
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from netfabric.api.store.base import ROOT, Compare, Delete, Put
from netfabric.api.store.etcd import EtcdStore
from netfabric.api.store.etcd_channel import EtcdSettings
from netfabric.api.store.etcd_key import prefix_range
from netfabric.fabric.errors import InvalidError, StaleError, UnavailableError
from netfabric.lab.etcd import Etcd
from netfabric.proto import etcd_pb2, etcd_pb2_grpc

PATIENCE = 30.0
DEAD = "127.0.0.1:1"
"""Nobody listens there."""


@pytest.fixture
def prefix() -> str:
    return f"{ROOT}{uuid.uuid4().hex}/"


@asynccontextmanager
async def opened(*endpoints: str, timeout: float = 5.0) -> AsyncIterator[EtcdStore]:  # noqa: ASYNC109
    store = EtcdStore(EtcdSettings(endpoints, timeout=timeout))
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def test_a_range_covers_what_starts_with_the_prefix() -> None:
    assert prefix_range("/a/") == (b"/a/", b"/a0")
    assert prefix_range("") == (b"\0", b"\0")


async def test_nobody_there_is_said_with_the_endpoints() -> None:
    store = EtcdStore(EtcdSettings((DEAD, "127.0.0.1:2"), timeout=0.5))
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1, 127.*Connection refused"):
        await store.open()
    with pytest.raises(UnavailableError, match="not open"):
        await store.get("a")


async def test_a_dead_member_first_in_the_list_is_passed_over(
    shared_etcd: Etcd, prefix: str
) -> None:
    async with opened(DEAD, "no-such-host.invalid:2379", shared_etcd.address) as store:
        await store.txn((), [Put(prefix, b"here")])
        entry = await store.get(prefix)
    assert entry is not None
    assert entry.value == b"here"


async def test_a_name_and_an_address_are_the_same_cluster(shared_etcd: Etcd) -> None:
    async with (
        opened(shared_etcd.address) as one,
        opened(f"localhost:{shared_etcd.port}") as other,
    ):
        assert one.epoch == other.epoch != ""


async def test_a_watch_catches_up_with_a_long_past(shared_etcd: Etcd, prefix: str) -> None:
    """etcd sends it a thousand revisions at a time, and puts the newest revision on each part."""
    count = 2_300
    async with opened(shared_etcd.address) as store:
        after = (await store.list(prefix)).revision
        for begin in range(0, count, 100):
            names = range(begin, begin + 100)
            await asyncio.gather(*(store.txn((), [Put(f"{prefix}{n}", b"")]) for n in names))
        seen: list[int] = []
        async with asyncio.timeout(PATIENCE):
            async for batch in store.watch(prefix, after):
                seen += [entry.revision for entry in batch.puts]
                if len(seen) >= count:
                    break
    assert len(seen) == len(set(seen)) == count
    assert seen == sorted(seen)


async def test_a_watch_outlives_a_kill_of_its_only_member(own_etcd: Etcd, prefix: str) -> None:
    async with opened(own_etcd.address, timeout=PATIENCE) as store:
        after = (await store.list(prefix)).revision
        seen: list[bytes] = []

        async def follow() -> None:
            async for batch in store.watch(prefix, after):
                seen.extend(entry.value for entry in batch.puts)
                if seen and seen[-1] == b"9":
                    return

        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            group.create_task(follow())
            for number in range(10):
                if number in (3, 6):
                    own_etcd.kill()
                    own_etcd.start()
                await _put(store, prefix + "a", b"%d" % number)
    assert seen == [b"%d" % number for number in range(10)]


async def _put(store: EtcdStore, key: str, value: bytes) -> None:
    """Write, and find out whether it happened where the store cannot say."""
    while True:
        entry = await store.get(key)
        if entry is not None and entry.value == value:
            return
        try:
            await store.txn([Compare(key, entry.revision if entry else 0)], [Put(key, value)])
        except (UnavailableError, StaleError):
            continue


async def test_data_put_back_are_not_waited_for(own_etcd: Etcd, prefix: str) -> None:
    """A revision that the cluster had, and has no more, would never come."""
    async with opened(own_etcd.address, timeout=PATIENCE) as store:
        for _ in range(5):
            after = await store.txn((), [Put(prefix, b"")])
        own_etcd.kill()
        (own_etcd.data_dir / "data").rename(own_etcd.data_dir / "old")
        own_etcd.start()
        with pytest.raises(Exception, match="its data were replaced"):
            async with asyncio.timeout(PATIENCE):
                async for _ in store.watch(prefix, after):
                    pass


async def test_an_outage_ends_calls_and_watches_in_time(own_etcd: Etcd, prefix: str) -> None:
    async with opened(own_etcd.address, timeout=0.7) as store:
        after = await store.txn((), [Put(prefix, b"")])
        own_etcd.kill()
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(UnavailableError, match=own_etcd.address):
                await store.get(prefix)
            with pytest.raises(UnavailableError, match=own_etcd.address):
                async for _ in store.watch(prefix, after):
                    pass
        own_etcd.start()
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    assert await store.get(prefix)
                except UnavailableError:
                    continue
                break


async def test_closing_ends_what_waits_for_a_member(own_etcd: Etcd, prefix: str) -> None:
    async with opened(own_etcd.address, timeout=PATIENCE) as store:
        own_etcd.kill()
        async with asyncio.timeout(PATIENCE / 2), asyncio.TaskGroup() as group:
            reading = group.create_task(_unavailable(store, prefix))
            watching = group.create_task(_unavailable_watch(store, prefix))
            await asyncio.wait([reading, watching], timeout=0.3)
            assert not reading.done()
            assert not watching.done()
            await store.close()


async def _unavailable(store: EtcdStore, prefix: str) -> None:
    with pytest.raises(UnavailableError):
        await store.get(prefix)


async def _unavailable_watch(store: EtcdStore, prefix: str) -> None:
    with pytest.raises(UnavailableError):
        await anext(aiter(store.watch(prefix, 1)))


async def test_limits_are_explained(tmp_path: Path, prefix: str, shared_etcd: Etcd) -> None:
    many: list[Put | Delete] = [Put(f"{prefix}{number}", b"") for number in range(8193)]
    async with opened(shared_etcd.address) as store:
        with pytest.raises(InvalidError, match="--max-txn-ops"):
            await store.txn((), many)
        with pytest.raises(InvalidError, match="--max-request-bytes"):
            await store.txn((), [Put(prefix, bytes(2_000_000))])
        assert (await store.list(prefix)).entries == ()


@pytest.fixture
def etcd3() -> Iterator[types.ModuleType]:
    """The package `etcd3`, whose generated module today's protobuf refuses: it gets ours."""
    before = {name: sys.modules[name] for name in sys.modules if name.split(".")[0] == "etcd3"}
    generated = types.ModuleType("etcd3.etcdrpc")
    found = {**vars(etcd_pb2), **vars(etcd_pb2_grpc)}
    generated.__dict__.update({k: v for k, v in found.items() if not k.startswith("_")})
    sys.modules["etcd3.etcdrpc"] = generated
    try:
        import etcd3

        yield etcd3
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "etcd3"]:
            del sys.modules[name]
        sys.modules.update(before)


async def test_another_client_reads_what_we_stored(
    shared_etcd: Etcd, prefix: str, etcd3: types.ModuleType
) -> None:
    async with opened(shared_etcd.address) as store:
        lease = await store.grant(60.0)
        revision = await store.txn(
            (), [Put(prefix + "a", b"\x00one", lease), Put(prefix + "b", "zwölf".encode())]
        )
        read = await asyncio.to_thread(_read_all, etcd3, shared_etcd.port, prefix)
        assert read == {
            prefix + "a": (b"\x00one", revision, lease),
            prefix + "b": ("zwölf".encode(), revision, 0),
        }
        await asyncio.to_thread(_write, etcd3, shared_etcd.port, prefix + "c")
        entry = await store.get(prefix + "c")
        await store.revoke(lease)
    assert entry is not None
    assert entry.value == b"theirs"


def _read_all(etcd3: types.ModuleType, port: int, prefix: str) -> dict[str, tuple[bytes, int, int]]:
    with etcd3.client(port=port) as client:
        return {
            meta.key.decode(): (value, meta.mod_revision, meta.lease_id)
            for value, meta in client.get_prefix(prefix)
        }


def _write(etcd3: types.ModuleType, port: int, key: str) -> None:
    with etcd3.client(port=port) as client:
        done, _ = client.transaction(
            compare=[client.transactions.version(key) == 0],
            success=[client.transactions.put(key, "theirs")],
            failure=[],
        )
        assert done
