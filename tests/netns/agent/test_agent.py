"""The real netplugin in a namespace: it serves, dies at any moment, and adopts what it finds."""

import asyncio
import random
import signal
import sqlite3
from typing import Any

import pytest

from netfabric.lab.kernel_watch import Change, KernelWatch
from tests.agent.small_netmaster import SmallNetmaster
from tests.netns.agent.conftest import Machine

pytestmark = pytest.mark.netns
QUICK_AUDIT = ("--audit-interval", "0.5")


def _of_links(changes: list[Change]) -> list[Change]:
    """Leave out what the veth wires of the test itself do."""
    return [c for c in changes if c.what != "link" or (c.link and (c.link.ours or c.link.buried))]


async def _audited(machine: Machine, times: int = 2) -> None:
    """Wait until the kernel was read so often since the agent's start."""
    await machine.until(lambda: machine.status().get("audits", 0) >= times, "audits")


async def test_add_and_del(machine: Machine, netmaster: SmallNetmaster) -> None:
    machine.start(netmaster.address)
    await machine.serving()
    one, two = await machine.add("1"), await machine.add("2")
    assert len({*one, *two}) == 4
    assert all(machine.pings("1", address) for address in two)
    await netmaster.until(lambda: len(netmaster.endpoints) == 2, "both are stored")
    assert await machine.cni("DEL", "1") == {}
    await netmaster.until(lambda: len(netmaster.endpoints) == 1, "one is gone")
    assert not machine.pings("2", one[0])


async def test_the_same_add_again_answers_the_same(
    machine: Machine, netmaster: SmallNetmaster
) -> None:
    machine.start(netmaster.address)
    await machine.serving()
    first = await machine.add("1")
    assert await asyncio.gather(*(machine.add("1") for _ in range(5))) == [first] * 5


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_restart_changes_nothing(
    machine: Machine, netmaster: SmallNetmaster, number: signal.Signals
) -> None:
    machine.start(netmaster.address, *QUICK_AUDIT)
    await machine.serving()
    addresses = {name: await machine.add(name) for name in ("1", "2", "3")}
    with KernelWatch(machine.namespace) as watch:
        status = machine.kill(number)
        assert status == (0 if number == signal.SIGTERM else -signal.SIGKILL)
        assert machine.pings("1", addresses["2"][0])
        machine.start(netmaster.address, *QUICK_AUDIT)
        await machine.serving(netmaster.address)
        await _audited(machine)
    assert _of_links(watch.changes) == []
    assert {name: await machine.add(name) for name in addresses} == addresses
    assert len(machine.status()["endpoints"]) == 3


async def test_killed_at_random_moments(machine: Machine, netmaster: SmallNetmaster) -> None:
    """Whatever was half-done, the same requests end in one endpoint and one link each."""
    chance = random.Random(7)
    names = [str(n) for n in range(24)]
    for name in names:
        machine.container(name)
    for _ in range(5):
        machine.start(netmaster.address)
        await machine.serving()
        storm = [asyncio.ensure_future(machine.cni("ADD", name)) for name in names]
        storm += [asyncio.ensure_future(machine.cni("DEL", name)) for name in names[::3]]
        await asyncio.sleep(chance.uniform(0.0, 0.1))  # the moment itself is what is tried
        machine.kill()
        await asyncio.gather(*storm, return_exceptions=True)
    machine.start(netmaster.address, *QUICK_AUDIT)
    await machine.serving(netmaster.address)
    addresses = [address for name in names for address in await machine.add(name)]
    assert len(set(addresses)) == 2 * len(names)
    await _audited(machine)
    assert _links(machine) == {e["link"] for e in machine.status()["endpoints"]}
    assert machine.pings("0", addresses[-1])
    await asyncio.gather(*(machine.cni("DEL", name) for name in names))
    await machine.until(lambda: not _links(machine), "no link is left")
    assert machine.status()["endpoints"] == []


def _links(machine: Machine) -> set[str]:
    lines = machine.namespace.run("ip", "-o", "link").splitlines()
    names = (line.split()[1].rstrip(":").partition("@")[0] for line in lines)
    return {name for name in names if name.startswith("nf")}


def _ask(machine: Machine, statement: str) -> list[Any]:
    """Look into (or change) the journal of an agent that does not run."""
    database = sqlite3.connect(machine.directory / "state" / "journal.db")
    with database:
        found = database.execute(statement).fetchall()
    database.close()
    return found


async def test_what_was_half_done_is_repaired(machine: Machine, netmaster: SmallNetmaster) -> None:
    machine.start(netmaster.address)
    await machine.serving()
    _, two, three = [await machine.add(name) for name in ("1", "2", "3")]
    links = {e["container"]: e["link"] for e in machine.status()["endpoints"]}
    await netmaster.until(lambda: len(netmaster.endpoints) == 3, "all are stored")
    machine.kill()
    _ask(machine, "DELETE FROM endpoint WHERE key LIKE 'id-1/%'")  # built, never made durable
    machine.namespace.run("ip", "link", "delete", links["id-2"])  # made durable, never built
    machine.namespace.run("ip", "route", "flush", "dev", links["id-3"])
    machine.start(netmaster.address)
    await machine.serving(netmaster.address)
    await machine.until(lambda: machine.pings("2", three[0]), "both are mended")
    assert machine.pings("3", two[1])
    await machine.until(lambda: links["id-1"] not in _links(machine), "the unknown link is gone")
    await netmaster.until(lambda: len(netmaster.endpoints) == 2, "netmaster forgets it")


async def test_a_container_that_ended_meanwhile_is_taken_down(
    machine: Machine, netmaster: SmallNetmaster
) -> None:
    machine.start(netmaster.address)
    await machine.serving()
    await machine.add("1")
    await netmaster.until(lambda: netmaster.endpoints, "it is stored")
    machine.kill()
    machine.containers.pop("1").delete()
    machine.start(netmaster.address)
    await netmaster.until(lambda: not netmaster.endpoints, "netmaster forgets it")
    await machine.until(lambda: machine.status()["endpoints"] == [], "the journal has it, too")


async def test_held_blocks_serve_without_netmaster(
    machine: Machine, netmaster: SmallNetmaster
) -> None:
    machine.start(netmaster.address)
    await machine.serving()
    one = await machine.add("1")
    await netmaster.stop()
    await machine.until(lambda: "netmaster" in machine.status()["warnings"], "it says so")
    two = await machine.add("2")
    machine.kill()
    machine.start(netmaster.address)
    await machine.serving()
    three = await machine.add("3")
    assert len({*one, *two, *three}) == 6
    assert machine.pings("3", one[0])
    assert machine.pings("3", two[0])
    await netmaster.start(machine.namespace.entered())
    await netmaster.until(lambda: len(netmaster.endpoints) == 3, "netmaster learns of all")
    await machine.until(lambda: not machine.status()["warnings"], "it is well again")


async def test_no_netmaster_reachable(machine: Machine, netmaster: SmallNetmaster) -> None:
    """The agent starts, says what is wrong, refuses an ADD in words, and goes on once one is there."""
    await netmaster.stop()
    machine.start(netmaster.address)
    await machine.until(lambda: "netmaster" in machine.status().get("warnings", {}), "it says so")
    status = machine.status()
    assert netmaster.address in status["warnings"]["netmaster"]
    assert "netmaster" in status["unready"]
    answer = await machine.cni("STATUS", "1", CNI_CONTAINERID="", CNI_IFNAME="")
    assert answer["code"] == 50, answer
    await netmaster.start(machine.namespace.entered())
    await machine.serving(netmaster.address)
    assert await machine.add("1")


async def test_the_journal_is_lost(machine: Machine, netmaster: SmallNetmaster) -> None:
    """Nothing is given out, and nothing removed, before netmaster has said what is in use; even if we die again."""
    machine.start(netmaster.address)
    await machine.serving()
    one, two = await machine.add("1"), await machine.add("2")
    await netmaster.until(lambda: len(netmaster.endpoints) == 2, "both are stored")
    machine.kill()
    await netmaster.stop()
    for file in (machine.directory / "state").glob("journal.db*"):
        file.unlink()
    for _ in range(2):  # the second time it finds the empty file of the first
        machine.start(netmaster.address, *QUICK_AUDIT)
        await machine.until(machine.status, "it runs")
        await _audited(machine)
        assert machine.pings("1", two[0])
        machine.kill()
    machine.start(netmaster.address)
    await netmaster.start(machine.namespace.entered())
    await machine.serving(netmaster.address)
    assert not {*one, *two} & {*await machine.add("3")}
    assert await machine.add("1") == one
