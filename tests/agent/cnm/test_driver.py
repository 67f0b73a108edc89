"""Endpoints that cannot be made: the addresses reserved for them are free again at once."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from netfabric.agent.cnm.driver import Driver
from netfabric.agent.cnm.memory import Memory
from netfabric.fabric.errors import ExhaustedError, FabricError, KernelError
from netfabric.fabric.prefix import Family
from netfabric.fabric.session import BlockAnswered, BlockWanted
from tests.agent.rig import Rig, kernel_with, running
from tests.fabric.script import DUAL, DUAL_BLOCKS, intent

NETWORK = {
    "NetworkID": "n",
    "Options": {"com.docker.network.generic": {"tenant": "default", "network": "dual"}},
}
ENDPOINT = {"NetworkID": "n", "EndpointID": "e", "Interface": {}}


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 it sets no event
            await asyncio.sleep(0.01)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path / "journal.db", kernel_with()) as rig:
        rig.hear(intent(DUAL, peers=(), full=False))
        await until(lambda: rig.callers.network(DUAL.key))
        yield rig


@pytest.fixture
async def driver(rig: Rig, tmp_path: Path) -> Driver:
    (tmp_path / "cnm").mkdir()
    driver = Driver(rig.callers, Memory(tmp_path / "cnm" / "state.json"), "local")
    await driver.create_network(NETWORK)
    return driver


async def refusal(driver: Driver, rig: Rig, ipv6: BlockAnswered) -> FabricError:
    """Create an endpoint, netmaster giving an IPv4 block and answering for IPv6's; return the error."""

    async def create() -> FabricError:
        with pytest.raises(FabricError) as raised:
            await driver.create_endpoint(ENDPOINT)
        return raised.value

    async with asyncio.TaskGroup() as group:
        asked = group.create_task(create())
        for answer in (BlockAnswered(DUAL.key, 4, DUAL_BLOCKS[0].prefix), ipv6):
            wanted = BlockWanted(DUAL.key, answer.family)
            await until(lambda wanted=wanted: wanted in rig.said(BlockWanted))  # type: ignore[misc]
            rig.hear(answer)
    return asked.result()


def is_taken(rig: Rig, family: Family) -> bool:
    """Return whether a family's first address is somebody's."""
    first = DUAL_BLOCKS[family == 6].prefix[1]
    return rig.host.addresses.pools[DUAL.key, family].is_taken(first)


async def test_a_family_is_exhausted(driver: Driver, rig: Rig) -> None:
    full = BlockAnswered(DUAL.key, 6, error="no block is left", remedy="add one")
    assert isinstance(await refusal(driver, rig, full), ExhaustedError)
    await until(lambda: not is_taken(rig, 4))


async def test_the_file_cannot_be_written(driver: Driver, rig: Rig, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "cnm")
    block = BlockAnswered(DUAL.key, 6, DUAL_BLOCKS[1].prefix)
    assert isinstance(await refusal(driver, rig, block), KernelError)
    await until(lambda: not (is_taken(rig, 4) or is_taken(rig, 6)))
