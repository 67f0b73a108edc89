"""Two ToRs: flows leave over both, and one may die."""

import socket
import time
from collections.abc import Callable

import pytest

from netfabric.fabric.prefix import Address
from netfabric.lab.container import Container
from netfabric.lab.lab import Lab
from netfabric.lab.namespace import Namespace
from netfabric.lab.process import gone
from netfabric.lab.traffic import Stream

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.xdist_group("fabric-failover")]

HOLD_TIME = 9.0
FLOWS = 256


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(racks=2, hosts=1, tors=2, spines=1, tor="bird", containers=1)


def _sent(host: Namespace, link: str) -> int:
    return int(host.run("cat", f"/sys/class/net/{link}/statistics/tx_packets"))


def _flows(source: Namespace, target: Address) -> None:
    """Send one datagram on each of many flows: the same addresses, another port each."""
    family = socket.AF_INET if target.version == 4 else socket.AF_INET6
    with source.entered():
        senders = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(FLOWS)]
    for port, sender in enumerate(senders, start=20000):
        with sender:
            sender.sendto(b"x" * 64, (str(target), port))


@pytest.mark.parametrize("version", [4, 6])
def test_flows_of_one_container_leave_over_both_tors(lab: Lab, version: int) -> None:
    one, other = lab.containers()
    target = next(a for a in other.addresses if a.version == version)
    host = lab.namespace("host1")
    before = [_sent(host, link) for link in ("tor1a", "tor1b")]
    _flows(one.namespace, target)
    after = [_sent(host, link) for link in ("tor1a", "tor1b")]
    shares = [b - a for a, b in zip(before, after, strict=True)]
    assert sum(shares) >= FLOWS
    assert min(shares) > FLOWS / 4, f"packets over tor1a, tor1b: {shares}"


def _pair(lab: Lab) -> tuple[Container, Container]:
    one, other = lab.containers()
    return one, other


def test_one_tor_dies_and_the_other_carries_on(lab: Lab) -> None:
    """Its daemon is killed and it forwards nothing more: the worst case, which only the hold timer finds."""
    one, other = _pair(lab)
    streams = [Stream(one.namespace, address) for address in other.addresses]
    with streams[0], streams[1]:
        for stream in streams:
            stream.wait(100)
        killed = time.monotonic()
        _silence(lab, "tor1a")
        for stream in streams:
            stream.wait(int(HOLD_TIME / 0.01) + 1100)
    deadline = killed + HOLD_TIME + 1.0  # the hold timer runs out up to a keepalive's jitter later
    for stream in streams:
        late = stream.lost(after=deadline)
        assert stream.sent > 1900
        assert len(late) <= 10, f"lost after the hold time: {[round(t - killed, 2) for t in late]}"
    assert all(trip is not None for trip in lab.ping().values())


def _silence(lab: Lab, tor: str) -> None:
    """Kill a switch's daemon and stop its forwarding, its links staying up: nothing tells the neighbours."""
    namespace = lab.namespace(tor)
    pids = lab.switch(tor).pids()
    namespace.run("sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
    namespace.run("kill", "-9", *map(str, pids))
    assert gone(pids, 5.0)
