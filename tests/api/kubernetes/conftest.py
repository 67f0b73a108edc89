"""A controller on a store, and the API server that it follows."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from netfabric.api.commit import Commits
from netfabric.api.kubernetes.access import load_access
from netfabric.api.kubernetes.controller import Controller
from netfabric.api.mirror import Mirror
from netfabric.api.rest.writer import Writer
from netfabric.api.store.base import Store
from netfabric.api.store.memory import MemoryStore
from netfabric.fabric.view import View
from tests.kubernetes_api import Api, kubeconfig

PATIENCE = 10.0
RETRY = (0.02, 0.2)


class Following:
    """One netmaster's controller, and its view of the store."""

    def __init__(self, view: View, controller: Controller) -> None:
        self.view = view
        self.controller = controller

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.005)


@asynccontextmanager
async def following(store: Store, config: Path) -> AsyncIterator[Following]:
    """A controller at work, as that of a leader."""
    access = await load_access(str(config))
    mirror = Mirror(store)
    writer = Writer(store, mirror)
    controller = Controller(access, mirror, Commits(store, mirror), writer, RETRY)
    async with asyncio.TaskGroup() as tasks:
        work = [tasks.create_task(mirror.run())]
        await mirror.listed.wait()
        work.append(tasks.create_task(controller.run()))
        yield Following(mirror.view, controller)
        for task in reversed(work):
            task.cancel()
            await asyncio.wait([task])
    await access.close()


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    made = Api()
    async with made.serving():
        yield made


@pytest.fixture
def config(api: Api, tmp_path: Path) -> Path:
    path = tmp_path / "kubeconfig"
    path.write_text(kubeconfig(api.port))
    return path


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()
