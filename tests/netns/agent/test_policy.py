"""Policy through the real agent: in force before anything passes, over deaths, repaired, and never flapping."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest

from netfabric.fabric.filter import FilterRule, GroupFilter
from tests.agent.small_netmaster import SmallNetmaster
from tests.netns.agent.conftest import BLUE, Machine

pytestmark = pytest.mark.netns

CLOSED = GroupFilter(
    "default:closed", "deny", (FilterRule("1", "default:p", "in", "deny"),), BLUE.key
)
OPEN = GroupFilter("default:open", network=BLUE.key)
FLOOD = """
import socket, sys, time
while True:
    for family, address in ((socket.AF_INET, sys.argv[1]), (socket.AF_INET6, sys.argv[2])):
        with socket.socket(family, socket.SOCK_DGRAM) as out:
            try:
                out.sendto(b"x", (address, 4000))
            except OSError:
                time.sleep(0.0002)
"""


@pytest.fixture
async def host(machine: Machine, netmaster: SmallNetmaster) -> Machine:
    """A host with a container "1" in a group without rules."""
    netmaster.filters = (CLOSED, OPEN)
    machine.start(netmaster.address, "--audit-interval", "1")
    await machine.serving()
    await _add(machine, "1", "open")
    return machine


async def _add(machine: Machine, name: str, group: str) -> list[str]:
    machine.container(name)
    answer = await machine.cni("ADD", name, CNI_ARGS=f"GROUP={group}")
    assert "ips" in answer, answer
    return [ip["address"].partition("/")[0] for ip in answer["ips"]]


def _table(machine: Machine) -> str:
    return machine.namespace.run("nft", "-s", "list", "table", "inet", "netfabric")


@contextmanager
def _receiver(machine: Machine, name: str) -> Iterator[socket.socket]:
    with machine.containers[name].entered():
        receiving = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with receiving:
        receiving.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        receiving.bind(("::", 4000))
        receiving.setblocking(False)
        yield receiving


def _received(receiving: socket.socket) -> bool:
    try:
        return bool(receiving.recv(10))
    except BlockingIOError:
        return False


async def _die(machine: Machine, later: float) -> None:
    """Kill the agent at another step of what it does each time."""
    await asyncio.sleep(later)
    machine.kill()


async def test_nothing_passes_before_its_policy_whenever_the_agent_dies(
    host: Machine, netmaster: SmallNetmaster
) -> None:
    first = await _add(host, "1", "open")
    with _receiver(host, "1") as receiving:
        for turn in range(8):
            name = f"x{turn}"
            flood = await asyncio.create_subprocess_exec(
                *host.container(name).command("python3", "-c", FLOOD, *first)
            )
            try:
                await asyncio.gather(
                    host.cni("ADD", name, CNI_ARGS="GROUP=closed"),
                    _die(host, 0.001 * turn),
                    return_exceptions=True,
                )
                host.start(netmaster.address, "--audit-interval", "1")
                await host.serving()
                await _add(host, name, "closed")
            finally:
                flood.kill()
                await flood.wait()
            assert not _received(receiving), f"turn {turn}"
        assert not host.pings(name, first[0])
        await _add(host, "free", "open")
        flood = await asyncio.create_subprocess_exec(
            *host.containers["free"].command("python3", "-c", FLOOD, *first)
        )
        try:
            await host.until(lambda: _received(receiving), "what is allowed arrives")
        finally:
            flood.kill()
            await flood.wait()


async def test_a_restart_changes_nothing(host: Machine, netmaster: SmallNetmaster) -> None:
    await _add(host, "2", "closed")
    before = _table(host)
    watch = await asyncio.create_subprocess_exec(
        *host.namespace.command("nft", "monitor"), stdout=asyncio.subprocess.PIPE
    )
    try:
        host.kill()
        host.start(netmaster.address, "--audit-interval", "1")
        await host.serving(netmaster.address)
        audits = host.status()["audits"]
        await host.until(lambda: host.status()["audits"] > audits + 1, "an audit")
    finally:
        watch.kill()
    said, _ = await watch.communicate()
    assert _table(host) == before
    assert said == b""


async def test_what_others_did_to_the_table_is_repaired(host: Machine) -> None:
    before = sorted(_table(host).splitlines())
    for damage in (
        "flush chain inet netfabric forward",
        "add rule inet netfabric leaving accept",
        "insert rule inet netfabric arriving accept",
        "flush set inet netfabric sources",
        "add element inet netfabric fabric { 192.0.2.0-192.0.2.7 }",
        "add element inet netfabric fabric { 198.51.100.1-198.51.100.6 }",
        "add chain inet netfabric mine",
        "add set inet netfabric mine { type ether_addr; }",
        "delete table inet netfabric",
    ):
        host.namespace.run("nft", damage)
        await host.until(
            partial(lambda: _tables(host) and sorted(_table(host).splitlines()) == before),
            f"repaired after {damage}",
        )


def _tables(machine: Machine) -> bool:
    return "netfabric" in machine.namespace.run("nft", "list", "tables")


async def test_a_changed_policy_acts_at_once(host: Machine, netmaster: SmallNetmaster) -> None:
    address, _ = await _add(host, "2", "closed")
    assert not host.pings("1", address)
    echo = FilterRule("2", "default:p", "in", "allow", 2, "icmp")
    netmaster.filters = (replace(CLOSED, rules=(echo,)), OPEN)
    netmaster.tell_intent()
    await host.until(lambda: host.pings("1", address), "allowed")
    netmaster.filters = (CLOSED, OPEN)
    netmaster.tell_intent()
    await host.until(lambda: not host.pings("1", address), "denied")


async def test_nothing_stays_of_an_endpoint(host: Machine) -> None:
    before = sorted(_table(host).splitlines())
    await _add(host, "2", "closed")
    assert sorted(_table(host).splitlines()) != before
    await host.cni("DEL", "2")
    await host.until(lambda: sorted(_table(host).splitlines()) == before, "gone")
