"""What a netprofile gives its groups' endpoints, measured: bandwidth both ways, changed live, and the DSCP."""

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from netfabric.lab import icmp
from netfabric.lab.container import Container
from netfabric.lab.namespace import Namespace
from tests.netns.policy.conftest import Field

pytestmark = [pytest.mark.netns, pytest.mark.slow]

TOLERANCE = 0.1
BEFORE, AFTER = 20, 50
"""Mbit/s."""
SECONDS, CHANGE = 8.0, 3.0
INTERVAL = 0.25
EARLIER, LATER = 0.3, 0.8
"""Seconds that iperf3's clock may begin before, or after, the moment from which we count."""


def profile(world: Field, **more: object) -> None:
    wanted = {"tenantName": "default", "profileName": "slow"} | more
    world.put("netprofiles", "default:slow", wanted)


@pytest.fixture(scope="module")
def pair(world: Field) -> tuple[Container, Container]:
    """A container with a netprofile on one host, and one without on the other."""
    profile(world, bandwidth="1 gbps")
    world.group("db", "lab", policies=[], defaultAction="allow")
    world.group("web", "lab", policies=[], defaultAction="allow", netProfile="slow")
    return world.containers["web"], world.containers["db"]


@contextmanager
def server(container: Container) -> Iterator[Callable[[], list[tuple[float, float]]]]:
    """Run iperf3 for one test; what is yielded waits for its end, and returns (time, Mbit/s) as it received."""
    words = ("iperf3", "-s", "-1", "-J", "-i", str(INTERVAL), "-B", str(container.addresses[0]))
    process = subprocess.Popen(
        container.namespace.command(*words), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )

    def received() -> list[tuple[float, float]]:
        out, _ = process.communicate(timeout=SECONDS + 20)
        sums = [one["sum"] for one in json.loads(out)["intervals"]]
        return [(one["start"], one["bits_per_second"] / 1e6) for one in sums]

    try:
        yield received
    finally:
        process.kill()
        process.wait()


def connected(source: Container, target: Container) -> subprocess.Popen[bytes]:
    """Start sending; the server may need a moment until it listens."""
    words = ("iperf3", "-c", str(target.addresses[0]), "-t", str(SECONDS))
    deadline = time.monotonic() + 10
    while True:
        client = subprocess.Popen(
            source.namespace.command(*words),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            refused = client.wait(0.3)
        except subprocess.TimeoutExpired:
            return client
        assert refused and time.monotonic() < deadline, "iperf3 does not start"


@pytest.mark.parametrize("sends", [True, False], ids=["sending", "receiving"])
def test_a_limited_container_has_its_bandwidth_and_a_change_counts_within_a_second(
    world: Field, pair: tuple[Container, Container], sends: bool
) -> None:
    source, target = pair if sends else (pair[1], pair[0])
    profile(world, bandwidth=f"{BEFORE} mbps")
    until(lambda: rates(world) == {BEFORE})
    with server(target) as received:
        client = connected(source, target)
        began = time.monotonic()
        time.sleep(CHANGE)  # traffic at the first rate
        profile(world, bandwidth=f"{AFTER} mbps")
        changed = time.monotonic() - began
        measured = received()
        client.wait(10)
    early = [rate for start, rate in measured if 0.5 <= start <= CHANGE - LATER - INTERVAL]
    late = [rate for start, rate in measured if start >= changed + 1.0 + EARLIER]
    assert mean(early) == pytest.approx(BEFORE, rel=TOLERANCE)
    assert mean(late) == pytest.approx(AFTER, rel=TOLERANCE)


def mean(rates: list[float]) -> float:
    assert len(rates) >= 3
    return sum(rates) / len(rates)


def host_of(world: Field) -> Namespace:
    """Return the host of the limited container."""
    return world.lab.machines[world.containers["web"].host].namespace


def rates(world: Field) -> set[float]:
    """Return the rates (Mbit/s) of all token buckets of that host, as tc shows them."""
    shown = json.loads(host_of(world).run("tc", "-j", "qdisc", "show"))
    return {one["options"]["rate"] * 8 / 1e6 for one in shown if one["kind"] == "tbf"}


@pytest.mark.usefixtures("pair")
def test_what_is_taken_away_comes_back(world: Field) -> None:
    profile(world, bandwidth="30 mbps")
    until(lambda: rates(world) == {30})
    host = host_of(world)
    shown = json.loads(host.run("tc", "-j", "qdisc", "show"))
    for link in [one["dev"] for one in shown if one["kind"] == "ingress"]:
        host.run("tc", "qdisc", "delete", "dev", link, "ingress")
        host.run("tc", "qdisc", "delete", "dev", link, "root")
    until(lambda: len([line for line in queues(world) if "tbf" in line]) == 2)
    assert any("ingress" in line for line in queues(world))
    world.group("web", "lab", policies=[], defaultAction="allow")
    until(lambda: rates(world) == set())
    world.group("web", "lab", policies=[], defaultAction="allow", netProfile="slow")


def queues(world: Field) -> list[str]:
    return host_of(world).run("tc", "qdisc", "show").splitlines()


@pytest.mark.parametrize("family", [4, 6])
def test_what_it_sends_has_the_profiles_dscp(
    world: Field, pair: tuple[Container, Container], family: int
) -> None:
    source, target = pair
    profile(world, DSCP=46)
    until(lambda: seen_class(source, target, family) >> 2 == 46)
    until(lambda: seen_class(target, source, family) == 0)  # what it receives is as it was sent
    profile(world, DSCP=10)
    until(lambda: seen_class(source, target, family) >> 2 == 10)
    profile(world)
    until(lambda: seen_class(source, target, family) == 0)


def seen_class(source: Container, target: Container, family: int) -> int:
    """Return the traffic class with which an echo request arrives; -1 for one that does not.

    What waits in a bucket as its limit is taken away is lost.
    """
    six = family == 6
    domain = socket.AF_INET6 if six else socket.AF_INET
    protocol = socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
    with target.namespace.entered():
        listener = socket.socket(domain, socket.SOCK_RAW, protocol)
    with source.namespace.entered():
        sender = socket.socket(domain, socket.SOCK_RAW, protocol)
    with listener, sender:
        listener.settimeout(1)
        if six:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        address = str(target.addresses[int(six)])
        sender.sendto(icmp.request(family, 4711, b"class!"), (address, 0))
        with suppress(TimeoutError):
            while True:
                data, extra, _, _ = listener.recvmsg(2048, 64)
                if b"class!" in data:
                    return int.from_bytes(extra[0][2], "little") if six else data[1]
    return -1


def until(holds: Callable[[], bool], patience: float = 15.0) -> None:
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.02)
