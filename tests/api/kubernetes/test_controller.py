"""What the API says comes to the store, through disconnects, forgotten versions and restarts, and nothing else does."""

from pathlib import Path

import pytest

from netfabric.api.kubernetes import resource
from netfabric.api.store.base import Delete
from netfabric.api.store.memory import MemoryStore
from netfabric.fabric.pod import Pod
from tests.api.kubernetes.conftest import following
from tests.kubernetes_api import Api
from tests.kubernetes_objects import Object, as_object, namespace, policy

DENY = policy("deny", "a", podSelector={})


def pod(name: str, host: str = "h1", where: str = "a", **labels: str) -> Object:
    return as_object(Pod(where, name, host, f"u-{name}", labels))


def watches(api: Api, of: str = "pods") -> list[str]:
    return [asked for verb, _, what, asked in api.requests if verb == "watch" and what == of]


def lists(api: Api, of: str = "pods") -> int:
    return sum(verb == "list" and what == of for verb, _, what, _ in api.requests)


async def test_created_changed_deleted(api: Api, config: Path, store: MemoryStore) -> None:
    api.put(namespace("a", {"io.contiv.network": "blue"}))
    api.put(pod("x"))
    async with following(store, config) as found:
        view = found.view
        await found.until(lambda: view.pods)
        assert (view.pods["a/x"].network, view.pods["a/x"].host) == ("blue", "h1")
        api.put(pod("y", "h2"))
        api.put(DENY)
        await found.until(lambda: "a/y" in view.pods and view.pods["a/y"].filter)
        assert view.filters.keys() == {view.pods["a/x"].filter}
        api.put(pod("y", "h2", **{"io.contiv.net-group": "web"}))
        await found.until(lambda: view.pods["a/y"].group == "web")
        api.delete("networkpolicies", "a/deny")
        api.delete("pods", "a/y")
        await found.until(lambda: not view.filters)
        assert [*view.pods] == ["a/x"]


async def test_a_watch_that_breaks_goes_on_where_it_was(
    api: Api, config: Path, store: MemoryStore
) -> None:
    async with following(store, config) as found:
        api.put(pod("x"))
        await found.until(lambda: "a/x" in found.view.pods)
        seen = str(api.version)
        await api.disconnect()
        api.put(pod("y"))
        await found.until(lambda: "a/y" in found.view.pods)
        assert watches(api)[-1] == seen
        assert lists(api) == 1


async def test_a_bookmark_moves_on_where_a_watch_begins_again(
    api: Api, config: Path, store: MemoryStore
) -> None:
    async with following(store, config) as found:
        await found.until(lambda: watches(api))
        api.bookmark()
        marked = str(api.version)
        api.put(pod("x"))
        await found.until(lambda: "a/x" in found.view.pods)
        await api.disconnect()
        await found.until(lambda: len(watches(api, "namespaces")) > 1)
        assert watches(api, "namespaces")[-1] == marked
        assert lists(api, "namespaces") == 1


@pytest.mark.parametrize("as_status", [False, True])
async def test_a_version_that_is_too_old_is_listed_again(
    api: Api, config: Path, store: MemoryStore, as_status: bool
) -> None:
    api.as_status = as_status
    api.put(pod("x"))
    api.put(pod("y"))
    async with following(store, config) as found:
        await found.until(lambda: len(found.view.pods) == 2)
        await found.until(lambda: watches(api))
        await api.stop()
        api.delete("pods", "a/x")
        api.put(pod("z"))
        api.forget()
        await api.start()
        await found.until(lambda: found.view.pods.keys() == {"a/y", "a/z"})
        assert lists(api) > 1


async def test_many_objects_come_in_pages(
    api: Api, config: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "PAGE", 10)
    for number in range(25):
        api.put(pod(f"p{number}"))
    async with following(store, config) as found:
        await found.until(lambda: len(found.view.pods) == 25)
        pages = [a for v, _, what, a in api.requests if (v, what) == ("list", "pods")]
        assert pages == ["", "10", "20"]


async def test_a_restart_changes_only_what_differs(
    api: Api, config: Path, store: MemoryStore
) -> None:
    for raw in (namespace("a"), pod("x"), pod("y"), DENY):
        api.put(raw)
    async with following(store, config) as found:
        await found.until(lambda: len(found.view.pods) == 2)
        before = dict(found.view.revisions)
    api.delete("pods", "a/y")
    async with following(store, config) as found:
        await found.until(lambda: len(found.view.pods) == 1)
        key = next(key for key in before if key.endswith("pod/a/x"))
        assert found.view.revisions[key] == before[key]
        assert [*found.view.filters]


async def test_while_the_api_is_away_nothing_is_taken_for_gone(
    api: Api, config: Path, store: MemoryStore
) -> None:
    api.put(pod("x"))
    async with following(store, config) as found:
        await found.until(lambda: found.view.pods)
    api.forbidden = frozenset({"namespaces"})
    async with following(store, config) as found:
        await found.until(lambda: lists(api, "namespaces") > 3)
        assert [*found.view.pods] == ["a/x"]
        api.delete("pods", "a/x")
        api.forbidden = frozenset()
        await found.until(lambda: not found.view.pods)


async def test_what_is_no_object_is_listed_anew(api: Api, config: Path, store: MemoryStore) -> None:
    async with following(store, config) as found:
        await found.until(lambda: watches(api))
        api.malformed("pods")
        api.put(pod("x"))
        await found.until(lambda: "a/x" in found.view.pods)
        assert lists(api) > 1


async def test_what_somebody_else_writes_is_put_right(
    api: Api, config: Path, store: MemoryStore
) -> None:
    api.put(pod("x"))
    async with following(store, config) as first, following(store, config) as second:
        await first.until(lambda: "a/x" in first.view.pods and "a/x" in second.view.pods)
        key = next(key for key in first.view.revisions if key.endswith("pod/a/x"))
        gone = await store.txn([], [Delete(key)])
        await first.until(lambda: first.view.revisions.get(key, 0) > gone)
        assert first.view.pods["a/x"].host == "h1"
