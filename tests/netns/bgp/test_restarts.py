"""Agent, helper and ExaBGP die at any moment: the switch loses no route that is wanted, and keeps none that is not."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest

from netfabric.fabric.events import PeerDown
from netfabric.fabric.prefix import Prefix
from netfabric.lab.switch import Switch, SwitchKind
from tests.netns.bgp.conftest import KINDS, Agent, Fabric, routes, until

pytestmark = pytest.mark.netns
KEPT, GONE = "10.1.0.5/32", "10.1.0.6/32"


@contextmanager
def watched(switch: Switch) -> Iterator[list[set[Prefix]]]:
    """Read the switch's RIB again and again; yield the different states seen."""
    seen: list[set[Prefix]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            now = set(switch.rib())
            if not seen or seen[-1] != now:
                seen.append(now)
            over.wait(0.05)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def rib(*prefixes: str) -> set[Prefix]:
    return {ip_network(prefix) for prefix in prefixes}


async def begin(agent: Agent, fabric: Fabric, switch: Switch, *prefixes: str) -> None:
    agent.exabgp.configure(fabric.speaker, [fabric.peer(4)])
    agent.exabgp.announce(routes(*prefixes))
    agent.exabgp.end_replay()
    await until(lambda: set(switch.rib()) == rib(*prefixes), "the routes at the switch")
    await until(lambda: agent.learned() == rib("0.0.0.0/0"), "the default route")


def helper_of(pid: int) -> int:
    """Return the helper's pid."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else 0


@pytest.mark.parametrize("kind", KINDS)
async def test_the_next_agent_adopts_exabgp(fabric: Fabric, kind: SwitchKind) -> None:
    switch = fabric.switch(kind, (4,))
    async with fabric.agent() as agent:
        await begin(agent, fabric, switch, KEPT, GONE)
        pid = agent.exabgp.pid
    with watched(switch) as seen:
        async with fabric.agent() as agent:
            agent.exabgp.configure(fabric.speaker, [fabric.peer(4)])
            agent.exabgp.announce(routes(KEPT))
            await until(lambda: agent.learned() == rib("0.0.0.0/0"), "the default route, again")
            assert set(switch.rib()) == rib(KEPT, GONE)
            agent.exabgp.end_replay()
            await until(lambda: seen[-1] == rib(KEPT), "what is stale withdrawn")
            assert agent.exabgp.pid == pid
            assert not agent.of(PeerDown)
    assert seen == [rib(KEPT, GONE), rib(KEPT)]


@pytest.mark.parametrize("kind", KINDS)
async def test_exabgp_is_killed(fabric: Fabric, kind: SwitchKind) -> None:
    switch = fabric.switch(kind, (4,))
    async with fabric.agent() as agent:
        await begin(agent, fabric, switch, KEPT, GONE)
        pid = agent.exabgp.pid
        with watched(switch) as seen:
            agent.events.clear()
            os.kill(pid, signal.SIGKILL)
            agent.exabgp.withdraw(routes(GONE))
            await until(lambda: agent.exabgp.pid not in (0, pid), "ExaBGP started again")
            await until(lambda: set(switch.rib()) == rib(KEPT), "what is stale removed by EoR")
        assert rib() not in seen
        assert not agent.of(PeerDown)
        await until(lambda: len(agent.up()) == 1, "the session up")


def _ended(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


async def test_the_helper_is_killed(fabric: Fabric) -> None:
    switch = fabric.switch("bird", (4,))
    async with fabric.agent() as agent:
        await begin(agent, fabric, switch, KEPT)
        pid = agent.exabgp.pid
        helper = helper_of(pid)
        os.kill(helper, signal.SIGKILL)
        await until(lambda: _ended(helper), "its end")
        # the agent holds the pipes: ExaBGP notices when it next reads a command
        agent.exabgp.announce(routes(GONE))
        await until(lambda: set(switch.rib()) == rib(KEPT, GONE), "a route after that")
        await until(lambda: helper_of(pid) not in (0, helper), "another helper")
        agent.exabgp.withdraw(routes(KEPT))
        await until(lambda: set(switch.rib()) == rib(GONE), "a withdrawal through that one")
        assert agent.exabgp.pid == pid
        assert not agent.of(PeerDown)


async def test_nobody_reads_for_longer_than_the_hold_time(fabric: Fabric) -> None:
    """Between two agents the helper drains, or else ExaBGP would block and lose its sessions."""
    switch = fabric.switch("bird", (4,))
    async with fabric.agent() as agent:
        await begin(agent, fabric, switch, KEPT)
    end = time.monotonic() + 11
    while time.monotonic() < end:
        assert all(switch.sessions().values())
        await asyncio.sleep(0.5)
    assert set(switch.rib()) == rib(KEPT)


async def test_no_speaker_ends_exabgp(fabric: Fabric) -> None:
    switch = fabric.switch("bird", (4,))
    async with fabric.agent() as agent:
        await begin(agent, fabric, switch, KEPT)
        pid = agent.exabgp.pid
        agent.exabgp.configure(None, ())
        await until(lambda: not Path(f"/proc/{pid}").exists(), "ExaBGP ended")
        agent.exabgp.configure(fabric.speaker, [fabric.peer(4)])
        await until(lambda: set(switch.rib()) == rib(KEPT), "and began again")
