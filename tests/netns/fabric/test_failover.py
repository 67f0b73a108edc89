"""Two ToRs: flows leave over both, and one may die."""

import json
import socket
import time
from collections.abc import Callable

import pytest

from netfabric.fabric.prefix import Address
from netfabric.lab.lab import Lab
from netfabric.lab.namespace import Namespace
from netfabric.lab.process import gone
from netfabric.lab.traffic import Stream

pytestmark = [pytest.mark.netns, pytest.mark.slow]

HOLD_TIME = 9.0
FLOWS = 256


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(racks=2, hosts=1, tors=2, spines=1, tor="bird", containers=1)


def _sent(host: Namespace, link: str) -> int:
    shown = json.loads(host.run("ip", "-json", "-statistics", "link", "show", link))
    return int(shown[0]["stats64"]["tx"]["packets"])


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


@pytest.mark.parametrize(("end", "patience"), [("-KILL", 2.0), ("-STOP", HOLD_TIME + 1.0)])
def test_one_tor_dies_and_the_other_carries_on(lab: Lab, end: str, patience: float) -> None:
    """It forwards nothing more, and its links stay up.

    Killed, its kernel closes the sessions. Stopped, only the hold timers find out, up to a keepalive's
    jitter later.
    """
    one, other = lab.containers()
    streams = [Stream(one.namespace, address) for address in other.addresses]
    try:
        with streams[0], streams[1]:
            for stream in streams:
                stream.wait(100)
            died = time.monotonic()
            _silence(lab, "tor1a", end)
            for stream in streams:
                stream.wait(int(patience / 0.01) + 1000)
        assert all(trip is not None for trip in lab.ping().values())
    finally:
        _bring_back(lab, "tor1a")
    for stream in streams:
        assert stream.sent > 1000 + patience / 0.01
        assert [t for t in stream.lost() if t < died] == []
        late = [round(t - died, 1) for t in stream.lost(after=died + patience)]
        assert len(late) <= 10, (
            f"{len(late)} lost later than {patience} s, the last at {late[-1]} s"
        )


def _silence(lab: Lab, tor: str, end: str) -> None:
    """End a switch's daemon and its forwarding."""
    namespace = lab.namespace(tor)
    pids = lab.switch(tor).pids()
    namespace.run("sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
    namespace.run("kill", end, *map(str, pids))
    if end == "-KILL":
        assert gone(pids, 5.0)


def _bring_back(lab: Lab, tor: str) -> None:
    for pid in lab.switch(tor).pids():
        lab.namespace(tor).run("kill", "-KILL", str(pid))
    lab.switch(tor).stop()
    lab.switch(tor).start()
    lab.wait_for_sessions()
    lab.wait_for_routes(lab.containers())
