"""BGP with a real switch: routes there and back, sessions that outlive the agent, the fabric's routes repaired."""

import os
import signal
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest

from netfabric.fabric.kernel import PROTOCOL
from netfabric.fabric.peer import Asn, Peer, Speaker
from netfabric.fabric.prefix import Address, Prefix
from netfabric.lab.kernel_watch import KernelWatch
from netfabric.lab.switch import Switch, SwitchPeer, SwitchSettings, make_switch
from tests.agent.small_netmaster import SmallNetmaster
from tests.netns.agent.conftest import Machine

pytestmark = [pytest.mark.netns, pytest.mark.slow]
HOST_AS, TOR_AS = Asn(4_200_000_001), Asn(65_001)
HERE, THERE = ip_address("10.90.0.1"), ip_address("10.90.0.0")


@pytest.fixture
def tor(machine: Machine, netmaster: SmallNetmaster) -> Iterator[Switch]:
    """A switch that announces a default route, and netmaster's word that it is a peer."""
    peer = SwitchPeer("h1", HERE, HOST_AS, THERE, "host")
    settings = SwitchSettings(
        "tor", machine.tor.name, TOR_AS, "10.90.0.0", (peer,), machine.directory / "switch"
    )
    switch = make_switch("bird", settings)
    netmaster.speaker = Speaker("h1", HOST_AS, "10.90.0.1")
    netmaster.peers = (Peer("h1", "tor", THERE, TOR_AS),)
    switch.start()
    yield switch
    switch.stop()


def _default(machine: Machine) -> str:
    return machine.namespace.run("ip", "route", "show", "default", "proto", "200")


async def _up(machine: Machine, netmaster: SmallNetmaster) -> None:
    machine.start(netmaster.address, "--audit-interval", "1")
    await machine.serving()
    await machine.until(lambda: "nhid" in _default(machine), "the switch's default route")


def _has(switch: Switch, prefix: Prefix, next_hop: Address) -> bool:
    return switch.rib().get(prefix) == frozenset({next_hop})


async def test_routes_there_and_back(
    machine: Machine, netmaster: SmallNetmaster, tor: Switch
) -> None:
    await _up(machine, netmaster)
    address, _ = await machine.add("1")
    prefix = ip_network(address)
    await machine.until(lambda: _has(tor, prefix, HERE), "the switch has the container's route")
    assert machine.pings("1", str(THERE))
    await machine.cni("DEL", "1")
    assert prefix not in tor.rib()


async def test_the_hosts_namespace_may_be_named(
    machine: Machine, netmaster: SmallNetmaster, tor: Switch
) -> None:
    """Kernel, netmaster and ExaBGP: all of it is there."""
    machine.start(netmaster.address, "--namespace", str(machine.namespace.path))
    await machine.serving(netmaster.address)
    address, _ = await machine.add("1")
    await machine.until(lambda: _has(tor, ip_network(address), HERE), "the container's route")


async def test_sessions_outlive_the_agent(
    machine: Machine, netmaster: SmallNetmaster, tor: Switch
) -> None:
    await _up(machine, netmaster)
    address, _ = await machine.add("1")
    await machine.until(lambda: _has(tor, ip_network(address), HERE), "the container's route")
    since = _since(tor)
    with KernelWatch(machine.namespace) as watch:
        for number in (signal.SIGKILL, signal.SIGTERM):
            machine.kill(number)
            assert machine.pings("1", str(THERE))
            machine.start(netmaster.address, "--audit-interval", "1")
            await machine.serving(netmaster.address)
            await machine.until(lambda: _established(machine), "the session is known again")
            await machine.until(lambda: machine.status()["audits"] >= 2, "audits")
    ours = [c for c in watch.changes if c.protocol == PROTOCOL or c.what == "neighbour"]
    assert ours == [], machine.log.read_text()
    assert _has(tor, ip_network(address), HERE)
    assert _since(tor) == since


def _established(machine: Machine) -> bool:
    return [s["state"] for s in machine.status()["sessions"]] == ["established"]


def _since(tor: Switch) -> list[str]:
    """Return the line of BIRD's that says since when the session is up."""
    lines = [line for line in tor.show("protocols").splitlines() if "Established" in line]
    assert lines
    return lines


async def test_exabgp_killed_and_back(
    machine: Machine, netmaster: SmallNetmaster, tor: Switch
) -> None:
    """Graceful restart, on both sides: the switch keeps the container's route, and the host its own."""
    await _up(machine, netmaster)
    address, _ = await machine.add("1")
    await machine.until(lambda: _has(tor, ip_network(address), HERE), "the container's route")
    pidfile = machine.directory / "run" / "exabgp" / "exabgp.pid"
    before = pidfile.read_text()
    with KernelWatch(machine.namespace) as watch:
        os.kill(int(before), signal.SIGKILL)
        await machine.until(lambda: pidfile.read_text() != before, "another ExaBGP")
        await machine.until(lambda: "Established" in tor.show("protocols"), "the session again")
        await machine.until(lambda: _established(machine), "the session is known")
        audits = machine.status()["audits"]
        await machine.until(lambda: machine.status()["audits"] >= audits + 2, "audits")
    ours = [c for c in watch.changes if c.protocol == PROTOCOL or c.what == "neighbour"]
    assert ours == [], machine.log.read_text()
    assert _has(tor, ip_network(address), HERE)


@pytest.mark.parametrize("what", ["route", "nexthop"])
async def test_the_fabrics_routes_are_repaired(
    machine: Machine, netmaster: SmallNetmaster, tor: Switch, what: str
) -> None:
    await _up(machine, netmaster)
    await machine.add("1")
    if what == "route":
        machine.namespace.run("ip", "route", "delete", "default", "proto", "200")
    else:
        nexthop = _default(machine).split("nhid ")[1].split()[0]
        machine.namespace.run("ip", "nexthop", "delete", "id", nexthop)
    await machine.until(lambda: "nhid" in _default(machine), "the default route again")
    assert machine.pings("1", str(THERE))


async def test_a_switch_that_is_gone_and_back(
    machine: Machine, netmaster: SmallNetmaster, tor: Switch
) -> None:
    await _up(machine, netmaster)
    address, _ = await machine.add("1")
    tor.stop()
    await machine.until(lambda: not _established(machine), "the session is down")
    assert "h1:tor" in " ".join(machine.status()["warnings"])
    await machine.until(lambda: not _default(machine), "its route is gone")
    tor.start()
    await machine.until(lambda: "nhid" in _default(machine), "its route again", 30.0)
    await machine.until(lambda: _has(tor, ip_network(address), HERE), "the container's route")


async def test_no_address_towards_a_peer(
    machine: Machine, netmaster: SmallNetmaster, tor: Switch
) -> None:
    """Said in words; and mended, as soon as the host has one."""
    far = Peer("h1", "far", ip_address("fd99::"), TOR_AS)
    netmaster.peers = (*netmaster.peers, far)
    await _up(machine, netmaster)
    await machine.until(lambda: "peer h1:far" in machine.status()["warnings"], "it says so")
    assert "no address towards fd99::" in machine.status()["warnings"]["peer h1:far"]
    assert await machine.add("1")
    conf = machine.directory / "run" / "exabgp" / "exabgp.conf"
    machine.namespace.run("ip", "address", "add", "fd99::1/127", "dev", "up0", "nodad")
    await machine.until(lambda: "local-address fd99::1;" in conf.read_text(), "it tries now")
