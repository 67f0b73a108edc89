"""What Docker says once: written whole, read again, and never half."""

import asyncio
from ipaddress import ip_address
from pathlib import Path

import pytest

from netfabric.agent.cnm.memory import DockerEndpoint, Memory
from netfabric.agent.cnm.network import DockerNetwork
from netfabric.fabric.errors import KernelError

NETWORK = DockerNetwork("n1", "default", "blue", "web", 1400, "?1|4")
ENDPOINT = DockerEndpoint(
    "e1", "n1", (ip_address("10.1.0.1"), ip_address("fd10::1")), "02:00:00:00:00:01"
)


async def filled(path: Path) -> Memory:
    memory = Memory(path)
    await memory.change(lambda: memory.networks.update({"n1": NETWORK}))
    await memory.change(lambda: memory.endpoints.update({"e1": ENDPOINT}))
    return memory


def test_another_reads_what_one_wrote(tmp_path: Path) -> None:
    path = tmp_path / "cnm.json"
    asyncio.run(filled(path))
    other = Memory(path)
    other.read()
    assert (other.networks, other.endpoints) == ({"n1": NETWORK}, {"e1": ENDPOINT})
    assert path.stat().st_mode & 0o777 == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["cnm.json"]


async def test_a_disk_that_fails_changes_nothing(tmp_path: Path) -> None:
    memory = await filled(tmp_path / "cnm.json")
    (tmp_path / "cnm.json.new").mkdir()
    with pytest.raises(KernelError, match=r"cnm\.json"):
        await memory.change(lambda: memory.networks.clear())
    assert memory.networks == {"n1": NETWORK}


@pytest.mark.parametrize("text", ["", "{", '{"networks": [{"id": 7}]}', '{"endpoints": 1}'])
def test_what_cannot_be_read_is_set_aside(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cnm.json"
    path.write_text(text)
    memory = Memory(path)
    memory.read()
    assert (memory.networks, memory.endpoints) == ({}, {})
    assert (tmp_path / "cnm.bad").read_text() == text


def test_there_may_be_none(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "cnm.json")
    memory.read()
    assert memory.networks == {}
