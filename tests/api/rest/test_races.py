"""Two netmasters on one etcd, 16 clients on each, creating and deleting at random: the store stays sound.

Meanwhile hosts start and end containers in what there is. Not only the end counts: the store's whole
history is played again, and held against what the clients were told.
"""

import asyncio
import contextlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession

from netfabric.api.mirror import Mirror
from netfabric.api.store.base import ROOT, Batch
from netfabric.api.store.etcd import EtcdStore
from netfabric.api.store.etcd_channel import EtcdSettings
from netfabric.fabric.invariants import violations_of
from netfabric.fabric.rules_global import DEFAULTS
from netfabric.fabric.view import View
from netfabric.lab.etcd import Etcd
from tests.api.rest.churn import Churn, Name
from tests.api.rest.churn_hosts import Busy, busy
from tests.api.rpc.agents import until
from tests.api.store.conftest import make_etcd

if TYPE_CHECKING:
    from tests.api.conftest import NetmasterProcess, Starter

CLIENTS = 16
"""Of each netmaster."""
HOSTS = 4
LOOKS = 600
"""Revisions, spread over the history, at which everything is checked."""
ENOUGH = 2_000
"""Writes that a netmaster has done when it is killed."""
SHORT, LONG = 4.0, 60.0
"""Seconds."""


def say(*lines: str) -> None:
    """Print what pytest shows where a test fails."""
    print(*lines, sep="\n")  # noqa: T201


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    found = make_etcd(tmp_path)
    yield found
    found.stop()


@pytest.fixture
def seed() -> str:
    found = os.environ.get("SEED") or os.urandom(4).hex()
    say(f"seed {found} (set SEED to choose it)")
    return found


@pytest.fixture
async def store(etcd: Etcd) -> AsyncIterator[EtcdStore]:
    found = EtcdStore(EtcdSettings((etcd.address,)))
    await found.open()
    yield found
    await found.close()


def begin(start: "Starter", etcd: Etcd, name: str) -> "NetmasterProcess":
    return start("--store", etcd.url, "--name", name, "--log-level", "info").ready()


def grpc(netmaster: "NetmasterProcess") -> str:
    found = netmaster.until(lambda: re.search(r"grpc=\S+ port=(\d+)", netmaster.said))
    return f"127.0.0.1:{found[1]}"


async def narrow(base: str) -> None:
    """Leave so few tags that they run out, and are given again and again."""
    settings = {**DEFAULTS, "vlans": "1-4", "vxlans": "1-6"}
    async with (
        ClientSession() as session,
        session.post(f"{base}/api/v1/globals/global/", data=json.dumps(settings)) as reply,
    ):
        assert reply.status == 200, await reply.text()


async def history(store: EtcdStore) -> list[Batch]:
    """Return every transaction so far."""
    last = (await store.list(ROOT)).revision
    found = []
    async with asyncio.timeout(60):
        async for batch in store.watch(ROOT, 0):
            found.append(batch)
            if batch.revision >= last:
                break
    return found


def play(batches: list[Batch]) -> tuple[Counter[Name], Counter[Name]]:
    """Go through the history; return how often each object came and went."""
    view, came, went = View(), Counter[Name](), Counter[Name]()
    step = max(1, len(batches) // LOOKS)
    for number, batch in enumerate(batches):
        before = {n: set(view.objects.get(n[0], {})) for n in named(batch)}
        puts = [(entry.key, entry.value, entry.revision) for entry in batch.puts]
        view.apply(puts, batch.deletes, batch.revision)
        for type_, key in named(batch):
            there = key in view.objects.get(type_, {})
            if there != (key in before[type_, key]):
                (came if there else went)[type_, key] += 1
        if number % step == 0:
            assert violations_of(view) == [], f"at revision {batch.revision}"
    return came, went


def named(batch: Batch) -> list[Name]:
    keys = [*(entry.key for entry in batch.puts), *batch.deletes]
    words = [key.removeprefix(f"{ROOT}intent/").partition("/") for key in keys]
    return [(w[0], w[2]) for key, w in zip(keys, words, strict=True) if "/intent/" in key and w[1]]


@contextlib.asynccontextmanager
async def following(store: EtcdStore) -> AsyncIterator[Mirror]:
    mirror = Mirror(store)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(mirror.run())
        await mirror.listed.wait()
        yield mirror
        task.cancel()


async def settle(store: EtcdStore, hosts: list[Busy]) -> None:
    """See what is stored at rest, with no report on its way any more."""
    async with following(store) as mirror:
        view = mirror.view

        def running() -> set[tuple[str, str]]:
            return set().union(*(host.running for host in hosts))

        await until(lambda: {(at, key.container) for at, key in view.endpoints} == running())
        assert violations_of(view) == []


async def check(store: EtcdStore, churn: Churn) -> None:
    """It was sound all the time, and came and went as the clients were told."""
    tally = churn.tally
    say(*(f"{answer}: {count}" for answer, count in sorted(tally.answers.items())))
    assert tally.surprises == []
    came, went = play(await history(store))
    say(f"{sum(came.values())} creations, {sum(went.values())} deletions")
    came -= Counter([("global", "global"), ("tenant", "default")])  # netmaster's own
    for name in came.keys() | tally.created.keys():
        told, slack = tally.created[name], tally.unknown[name]
        assert told <= came[name] <= told + slack, f"{name}: created"
    for name in went.keys() | tally.deleted.keys():
        told, slack = tally.deleted[name], tally.unknown[name]
        if name[0] == "rule":  # they also go with their policies
            slack += came[name]
        assert told <= went[name] <= told + slack, f"{name}: deleted"


async def churned(
    store: EtcdStore, churn: Churn, masters: list[str], going: Callable[[], bool]
) -> None:
    """Let clients and hosts go on for as long as `going` says so; see that the store is sound then."""
    async with busy(HOSTS, churn.seed, masters) as hosts:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(churn.run(CLIENTS, going))
            for host in hosts:
                tasks.create_task(host.work(going))
        say(f"containers: {sum((host.outcomes for host in hosts), Counter())}")
        assert all(host.outcomes["done"] for host in hosts)
        await settle(store, hosts)


async def test_two_netmasters_for_a_moment(
    start: "Starter", etcd: Etcd, store: EtcdStore, seed: str
) -> None:
    one, other = begin(start, etcd, "a"), begin(start, etcd, "b")
    bases = [one.url, other.url]
    await narrow(bases[0])
    churn = Churn(seed, bases)
    end = time.monotonic() + SHORT
    await churned(store, churn, [grpc(one), grpc(other)], lambda: time.monotonic() < end)
    await check(store, churn)
    assert not churn.tally.unknown
    assert all(churn.done[base] for base in bases), "each of them gets its turn"


@pytest.mark.slow
async def test_two_netmasters_for_a_minute_one_of_them_killed(
    start: "Starter", etcd: Etcd, store: EtcdStore, seed: str
) -> None:
    """Killed in the middle of its writes, with others waiting; a third takes its place."""
    killed, other = begin(start, etcd, "a"), begin(start, etcd, "b")
    await narrow(other.url)
    churn = Churn(seed, [killed.url, other.url])
    end, enough = time.monotonic() + LONG, asyncio.Event()

    def going() -> bool:
        if churn.done[killed.url] > ENOUGH:
            enough.set()
        return time.monotonic() < end

    async def kill() -> None:
        await asyncio.wait_for(enough.wait(), LONG)
        killed.process.kill()
        killed.process.wait()
        third = await asyncio.to_thread(begin, start, etcd, "c")
        churn.bases = [third.url, other.url]

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(churned(store, churn, [grpc(killed), grpc(other)], going))
        tasks.create_task(kill())
    await check(store, churn)
    assert churn.tally.unknown, "nothing was on its way when it was killed"
    assert all(churn.done[base] for base in churn.bases)
