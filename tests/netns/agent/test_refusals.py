"""Bad input at a real agent: a clear error, an exit status, nothing half-made."""

import subprocess
from ipaddress import ip_network
from pathlib import Path

import pytest

from netfabric.fabric.network import Network, whole_range
from tests.agent.small_netmaster import SmallNetmaster
from tests.netns.agent.conftest import NETPLUGIN, Machine

pytestmark = pytest.mark.netns


def _refused(machine: Machine, *words: str) -> tuple[int, str]:
    """Start another agent; return its exit status and what it said."""
    command = machine.namespace.command(NETPLUGIN, *words)
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return done.returncode, done.stderr


async def test_another_agent_on_the_same_directories(
    machine: Machine, netmaster: SmallNetmaster, directory: Path
) -> None:
    agent = machine.start(netmaster.address)
    await machine.serving()
    run, state = str(directory / "run"), str(directory / "state")
    status, said = _refused(machine, "--run-dir", run, "--state-dir", str(directory / "other"))
    assert (status, run in said) == (1, True), said
    status, said = _refused(machine, "--run-dir", str(directory / "other"), "--state-dir", state)
    assert (status, "journal.db" in said) == (1, True), said
    assert agent.poll() is None
    assert await machine.add("1")


async def test_sockets_left_by_a_killed_agent_are_replaced(
    machine: Machine, netmaster: SmallNetmaster
) -> None:
    for _ in range(2):
        machine.start(netmaster.address)
        await machine.serving()
        machine.kill()
    assert (machine.directory / "run" / "cni.sock").is_socket()


def test_a_namespace_that_is_not_there(machine: Machine, directory: Path) -> None:
    words = ("--run-dir", str(directory / "run"), "--state-dir", str(directory / "state"))
    status, said = _refused(machine, *words, "--namespace", "/run/netns/no-such")
    assert status == 1
    assert "/run/netns/no-such" in said
    assert not (directory / "run").exists()


def test_directories_that_cannot_be_made(machine: Machine, directory: Path) -> None:
    (directory / "file").write_text("")
    status, said = _refused(machine, "--run-dir", str(directory / "file" / "x"))
    assert (status, "--run-dir" in said) == (1, True), said


async def test_a_container_that_is_gone(machine: Machine, netmaster: SmallNetmaster) -> None:
    machine.start(netmaster.address)
    await machine.serving()
    answer = await machine.cni("ADD", "1", CNI_NETNS="/run/netns/no-such")
    assert "/run/netns/no-such" in answer["msg"], answer
    assert machine.status()["endpoints"] == []
    assert "nf" not in {line[:2] for line in _names(machine)}
    assert await machine.cni("DEL", "1") == {}
    assert await machine.add("1")


def _names(machine: Machine) -> list[str]:
    return [line.split()[1] for line in machine.namespace.run("ip", "-o", "link").splitlines()]


async def test_no_addresses_left(machine: Machine, netmaster: SmallNetmaster) -> None:
    """The last block is full: the error names the network, and a DEL makes room again."""
    small = whole_range(ip_network("10.78.0.0/24"), block_length=30)
    netmaster.networks = (Network("default", "blue", "routed", (small,)),)
    netmaster.limit = 1
    machine.start(netmaster.address, "--cool-down", "0")
    await machine.serving()
    for name in ("1", "2", "3"):  # .1, .2, .3: the subnet's own address is not given out
        await machine.add(name)
    machine.container("4")
    answer = await machine.cni("ADD", "4")
    assert "default:blue" in answer["msg"], answer
    assert len(machine.status()["endpoints"]) == 3
    await machine.cni("DEL", "2")
    assert await machine.add("4") == ["10.78.0.2"]
