"""Whatever happens on the way, the store ends as the API is: random changes, broken connections, forgotten versions, leaders that change."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from netfabric.api.kubernetes.access import load_access
from netfabric.api.kubernetes.controller import Controller
from netfabric.api.rest.writer import Writer
from netfabric.api.store.base import Store
from netfabric.api.store.memory import MemoryStore
from netfabric.fabric.cluster import Cluster
from netfabric.fabric.controller_pods import differences
from netfabric.fabric.pod import Pod
from netfabric.fabric.view import View
from tests.api.kubernetes.conftest import RETRY, following
from tests.api.rpc.agents import Netmaster, netmaster, until
from tests.kubernetes_api import Api
from tests.kubernetes_objects import as_object, namespace, policy

SPACES = ("a", "b")


class Fate:
    """Random changes of a small cluster, and what befalls its connections."""

    def __init__(self, api: Api, seed: int) -> None:
        self._api = api
        self._random = random.Random(seed)

    def change(self) -> None:
        where, name = self._random.choice(SPACES), self._random.choice("xyz")
        labels = {"k": self._random.choice("pq")}
        kind = self._random.choice(["pod", "pod", "namespace", "policy"])
        resource = {"pod": "pods", "namespace": "namespaces", "policy": "networkpolicies"}[kind]
        key = where if kind == "namespace" else f"{where}/{name}"
        if self._random.random() < 0.3 and key in self._api.objects.get(resource, {}):
            self._api.delete(resource, key)
        elif kind == "pod":
            self._api.put(as_object(Pod(where, name, "h1", f"u{self._api.version}", labels)))
        elif kind == "namespace":
            self._api.put(namespace(where, labels))
        else:
            chosen = {"matchLabels": labels}
            entry = {"from": [{"namespaceSelector": chosen}, {"podSelector": chosen}]}
            self._api.put(policy(name, where, podSelector=chosen, ingress=[entry]))

    async def befall(self) -> None:
        match self._random.randrange(8):
            case 0:
                await self._api.disconnect()
            case 1:
                await self._api.disconnect()
                self._api.forget()
            case 2:
                self._api.bookmark()
            case 3:
                self._api.as_status = not self._api.as_status
            case 4:
                await self._api.stop()
                self.change()
                await self._api.start()
            case _:
                await asyncio.sleep(0)


def agrees(api: Api, view: View) -> bool:
    """Return whether the store has what one look at the API makes."""
    cluster = Cluster()
    for raw in api.objects.get("namespaces", {}).values():
        cluster.put_namespace(raw)
    for raw in api.objects.get("pods", {}).values():
        cluster.put_pod(raw)
    for raw in api.objects.get("networkpolicies", {}).values():
        cluster.put_policy(raw)
    cluster.settle()
    return differences(view, cluster) == (set(), set())


@pytest.mark.parametrize("seed", range(6))
async def test_the_store_ends_as_the_api_is(
    api: Api, config: Path, store: MemoryStore, seed: int
) -> None:
    fate = Fate(api, seed)
    async with following(store, config) as found:
        for step in range(60):
            fate.change()
            if step % 3 == 0:
                await fate.befall()
            if step % 20 == 19:
                await found.until(lambda: agrees(api, found.view))
        assert found.view.pods


@asynccontextmanager
async def leading(store: Store, name: str, config: Path) -> AsyncIterator[Netmaster]:
    """A netmaster that follows the cluster whenever it leads."""
    access = await load_access(str(config))
    async with netmaster(store, name) as master, asyncio.TaskGroup() as tasks:
        writer = Writer(store, master.mirror)
        commits = master.control.hub.commits
        controller = Controller(access, master.mirror, commits, writer, RETRY)
        duty = tasks.create_task(master.control.election.while_leading(controller.run))
        try:
            yield master
        finally:
            duty.cancel()
    await access.close()


async def test_the_next_leader_goes_on(api: Api, config: Path, store: MemoryStore) -> None:
    api.put(namespace("a"))
    api.put(as_object(Pod("a", "x", "h1", "1")))
    leads, ended = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with leading(store, "m1", config) as master:
            await until(lambda: master.view.pods)
            leads.set()
            await ended.wait()

    async with asyncio.TaskGroup() as tasks:
        leader = tasks.create_task(first())
        await leads.wait()
        async with leading(store, "m2", config) as second:
            await until(lambda: second.view.pods)
            asked = len(api.requests)
            assert not second.control.election.leads.is_set()
            ended.set()
            await asyncio.wait([leader])
            api.put(as_object(Pod("a", "y", "h1", "2")))
            before = second.view.revisions.copy()
            await until(lambda: "a/y" in second.view.pods)
            assert len(api.requests) > asked
            key = next(key for key in before if key.endswith("pod/a/x"))
            assert second.view.revisions[key] == before[key]
