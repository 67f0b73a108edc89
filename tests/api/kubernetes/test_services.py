"""Services that name a network of the fabric have their serviceLB objects; nobody else's is touched."""

import json
from pathlib import Path
from typing import Any

import pytest

from netfabric.api.kubernetes import controller
from netfabric.api.store.base import ROOT, Delete, Put
from netfabric.api.store.memory import MemoryStore
from tests.api.kubernetes.conftest import Following, following
from tests.api.rpc.agents import network, put
from tests.kubernetes_api import Api
from tests.kubernetes_objects import Object, service

KEY = "default:web.shop"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "LATER", 0.05)


def web(port: int = 80, network: str = "blue") -> Object:
    ports = [{"port": port, "targetPort": 8080}]
    made = service("web", "shop", selector={"app": "web"}, ports=ports)
    made["metadata"]["labels"]["io.contiv.network"] = network
    return made


def found(follower: Following, key: str = KEY) -> dict[str, Any] | None:
    stored = follower.view.objects.get("serviceLB", {}).get(key)
    return stored.value if stored else None


async def prepare(store: MemoryStore, *names: str) -> None:
    await put(store, "tenant", "default", tenantName="default")
    for number, name in enumerate(names):
        await network(store, name, subnet=f"10.{number + 1}.0.0/24")


async def test_made_changed_moved_removed(api: Api, config: Path, store: MemoryStore) -> None:
    await prepare(store, "blue", "red")
    async with following(store, config) as follower:
        api.put(web())
        await follower.until(lambda: found(follower))
        first = found(follower)
        assert first is not None
        assert (first["ports"], first["networkName"]) == (["80:8080:TCP"], "blue")
        assert first["vip"].startswith("10.1.0.")
        api.put(web(81))
        await follower.until(lambda: (found(follower) or {}).get("ports") == ["81:8080:TCP"])
        assert (found(follower) or {})["vip"] == first["vip"]
        api.put(web(81, "red"))
        await follower.until(lambda: (found(follower) or {}).get("networkName") == "red")
        assert not follower.view.objects["network"]["default:blue"].value.get("vips")
        api.delete("services", "shop/web")
        await follower.until(lambda: not found(follower))
        assert not follower.view.services


async def test_one_whose_network_comes_later(api: Api, config: Path, store: MemoryStore) -> None:
    await prepare(store)
    api.put(web())
    async with following(store, config) as follower:
        await follower.until(lambda: api.requests)
        await network(store, "blue", subnet="10.1.0.0/24")
        await follower.until(lambda: found(follower))


async def test_what_a_person_made_is_left_alone(api: Api, config: Path, store: MemoryStore) -> None:
    await prepare(store, "blue")
    own: Object = {"tenantName": "default", "serviceName": "web.shop", "networkName": "blue"}
    own |= {"ports": ["1:1:TCP"], "selectors": ["a=b"], "vip": "10.1.0.9"}
    await put(store, "serviceLB", KEY, **own)
    async with following(store, config) as follower:
        api.put(web())
        other = service("other", "shop", selector={"app": "o"}, ports=[{"port": 1}])
        api.put(other)
        await follower.until(lambda: found(follower, "default:other.shop"))
        api.delete("services", "shop/web")
        api.delete("services", "shop/other")
        await follower.until(lambda: not found(follower, "default:other.shop"))
        assert (found(follower) or {})["ports"] == ["1:1:TCP"]


async def test_a_restart_removes_what_is_gone_and_mends_what_was_changed(
    api: Api, config: Path, store: MemoryStore
) -> None:
    await prepare(store, "blue")
    api.put(web())
    other = service("other", "shop", selector={"app": "o"}, ports=[{"port": 1}])
    api.put(other)
    async with following(store, config) as follower:
        await follower.until(lambda: len(follower.view.services) == 2)
        wrong = json.dumps((found(follower) or {}) | {"ports": ["9:9:TCP"]}).encode()
    api.delete("services", "shop/other")
    await store.txn([], [Put(f"{ROOT}intent/serviceLB/{KEY}", wrong)])
    async with following(store, config) as follower:
        await follower.until(lambda: len(follower.view.services) == 1)
        await follower.until(lambda: (found(follower) or {})["ports"] == ["80:8080:TCP"])
        key = f"{ROOT}intent/serviceLB/{KEY}"
        gone = await store.txn([], [Delete(key)])
        await follower.until(lambda: follower.view.revisions.get(key, 0) > gone)
        assert found(follower)
