"""The routed datapath on the real kernel: packets counted, at scale, and nothing left behind."""

import gc
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from netfabric.agent.datapath.datapath import RoutedDatapath
from netfabric.agent.datapath.graveyard import Graveyard
from netfabric.agent.datapath.netlink import Netlink
from netfabric.agent.datapath.sysctl import put as put_sysctl
from netfabric.fabric.effects import Attach, Program
from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.errors import ConflictError, InvalidError, NamespaceGoneError
from netfabric.fabric.events import JournalState, KernelObserved, Started
from netfabric.fabric.host import Host
from netfabric.fabric.kernel import (
    NEXTHOP_BASE,
    EndpointLink,
    KernelObject,
    KernelRoute,
    Nexthop,
    NexthopGroup,
    Operation,
)
from netfabric.fabric.prefix import DEFAULT_ROUTES, Family
from netfabric.lab import icmp
from netfabric.lab.namespace import Namespace
from tests.fabric.script import BLUE, NOW, SETTINGS, intent
from tests.netns.datapath.bench import RealBench, wait_until

pytestmark = pytest.mark.netns
ONE, TWO, GROUP, ONE6, TWO6, GROUP6 = range(NEXTHOP_BASE + 1, NEXTHOP_BASE + 7)
FABRIC: list[KernelObject] = [
    Nexthop(ONE, ip_address("10.90.0.0"), "up0"),
    Nexthop(TWO, ip_address("10.90.1.0"), "up1"),
    Nexthop(ONE6, ip_address("fd90:0::"), "up0"),
    Nexthop(TWO6, ip_address("fd90:1::"), "up1"),
    NexthopGroup(GROUP, (ONE, TWO)),
    NexthopGroup(GROUP6, (ONE6, TWO6)),
    KernelRoute(DEFAULT_ROUTES[0], nexthop=GROUP),
    KernelRoute(DEFAULT_ROUTES[1], nexthop=GROUP6),
]
FLOWS = 400
SEND = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
for port in range(20000, 20000 + int(sys.argv[2])):
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", (sys.argv[1], port))
"""
CAPTURE = """
import socket, struct
count = 0
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as wire:
    print("ready", flush=True)
    while True:
        frame = wire.recv(2048)
        kind = struct.unpack_from("!H", frame, 12)[0]
        nd = kind == 0x86DD and frame[20] == 58 and 133 <= frame[54] <= 137
        if kind == 0x0806 or nd:
            print("ARP" if kind == 0x0806 else "ND", flush=True)
        if frame.endswith(b"the end"):
            break
"""


def put(*things: KernelObject) -> list[Operation]:
    return [Operation("put", thing) for thing in things]


def ping(space: Namespace, *words: str) -> subprocess.CompletedProcess[str]:
    command = space.command("ping", "-n", "-i", "0.05", "-W", "1", *words)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)


def pings(space: Namespace, target: str) -> bool:
    return ping(space, "-c", "2", target).returncode == 0


def attached(real: RealBench, *numbers: int) -> list[Endpoint]:
    endpoints = [real.container(number) for number in numbers]
    for endpoint in endpoints:
        real.routed.attach(endpoint)
    return endpoints


def packets_in(space: Namespace, link: str) -> int:
    (found,) = json.loads(space.run("ip", "-j", "-s", "link", "show", link))
    return int(found["stats64"]["rx"]["packets"])


# packets


@pytest.fixture
def capture(real: RealBench) -> Iterator[tuple[Endpoint, Endpoint, subprocess.Popen[str]]]:
    """Two containers, and a listener on the second one's wire from before the first packet."""
    one, two = attached(real, 1, 2)
    command = real.inside(two).command("/usr/bin/python3", "-c", CAPTURE)
    listener = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert listener.stdout is not None
        assert listener.stdout.readline() == "ready\n"
        yield one, two, listener
    finally:
        listener.kill()
        listener.wait()
        if listener.stdout:
            listener.stdout.close()


def test_two_containers_ping_each_other_and_nobody_asks_for_an_address(
    real: RealBench, capture: tuple[Endpoint, Endpoint, subprocess.Popen[str]]
) -> None:
    one, two, listener = capture
    before = packets_in(real.inside(two), "eth0")
    for target in two.addresses:
        assert pings(real.inside(one), str(target))
    for target in one.addresses:
        assert pings(real.inside(two), str(target))
    end = f"import socket; socket.socket(2, 2).sendto(b'the end', ('{two.addresses[0]}', 9))"
    real.inside(one).run("/usr/bin/python3", "-c", end)
    heard, _ = listener.communicate(timeout=10)
    assert heard == "", "ARP or ND on the wire"
    assert packets_in(real.inside(two), "eth0") - before >= 8
    neighbours = json.loads(real.host.run("ip", "-j", "neigh"))
    assert {n["state"][0] for n in neighbours} == {"PERMANENT"}


@pytest.mark.parametrize("family", [4, 6])
def test_the_first_packet_to_a_new_container_arrives_and_is_answered(
    real: RealBench, family: Family
) -> None:
    """A link that is up drops what is sent on it until the kernel has dealt with its new carrier."""
    (one,) = attached(real, 1)
    protocol = socket.IPPROTO_ICMP if family == 4 else socket.IPPROTO_ICMPV6
    domain = socket.AF_INET if family == 4 else socket.AF_INET6
    with real.inside(one).entered():
        wire = socket.socket(domain, socket.SOCK_RAW, protocol)
    with wire:
        for number in range(2, 42):
            other = real.container(number)
            real.routed.attach(other)
            data = number.to_bytes(2)
            wire.sendto(
                icmp.request(family, 77, data), (str(other.addresses[0 if family == 4 else 1]), 0)
            )
            wire.settimeout(5.0)
            try:
                while icmp.replied(family, 77, wire.recv(2048)) != data:
                    pass
            except TimeoutError:
                pytest.fail(f"the first packet to container {number} was lost")


@pytest.mark.parametrize("target", ["192.0.2.1", "2001:db8::1"])
def test_flows_leave_over_both_uplinks(real: RealBench, target: str) -> None:
    assert real.routed.apply(put(*FABRIC)) == ()
    (one,) = attached(real, 1)
    for neighbour in ("10.90.0.0", "10.90.1.0", "fd90:0::", "fd90:1::"):
        # a next hop that ND has not resolved yet gets no flows; the routers' DAD takes a second
        wait_until(lambda to=neighbour: pings(real.host, to))  # type: ignore[misc]
    assert pings(real.inside(one), target)
    before = [packets_in(router, "dn0") for router in real.routers]
    real.inside(one).run("/usr/bin/python3", "-c", SEND, target, str(FLOWS))
    shares = [
        packets_in(router, "dn0") - early
        for router, early in zip(real.routers, before, strict=True)
    ]
    assert sum(shares) >= FLOWS
    assert min(shares) > FLOWS * 0.3


def test_the_unused_rest_of_an_aggregate_is_answered_with_icmp(real: RealBench) -> None:
    rest = KernelRoute(ip_network("10.1.0.0/26"), "unreachable")
    rest6 = KernelRoute(ip_network("fd10:1::/122"), "unreachable")
    assert real.routed.apply(put(*FABRIC, rest, rest6)) == ()
    (one,) = attached(real, 1)
    router = real.routers[0]
    assert pings(router, "10.1.0.1")
    assert pings(router, "fd10:1::1")
    no = ping(router, "-c", "1", "10.1.0.33")
    assert "Destination Host Unreachable" in no.stdout
    no = ping(router, "-c", "1", "fd10:1::21")
    assert "Destination unreachable: " in no.stdout
    no = ping(real.inside(one), "-c", "1", "10.1.0.33")
    assert "Destination Host Unreachable" in no.stdout


def test_one_uplink_down_loses_nothing_that_leaves_later(real: RealBench) -> None:
    assert real.routed.apply(put(*FABRIC)) == ()
    (one,) = attached(real, 1)
    real.set_uplink("up0", up=False)
    for target in ("192.0.2.1", "2001:db8::1"):
        assert ping(real.inside(one), "-c", "20", target).stdout.count("time=") == 20


def test_a_second_interface_keeps_the_first_ones_default_route(real: RealBench) -> None:
    (one,) = attached(real, 1)
    second = replace(real.container(2, "eth1"), namespace=one.namespace)
    real.routed.attach(second)
    defaults = json.loads(real.inside(one).run("ip", "-j", "route", "show", "default"))
    assert [route["dev"] for route in defaults] == ["eth0"]
    assert real.routed.check(second) == ()


# containers that are unlike others


def test_a_container_without_ipv6_by_default_has_it_on_its_interface(real: RealBench) -> None:
    """As in Docker's sandboxes."""
    one, two = real.container(1), real.container(2)
    inside = real.inside(one)
    inside.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    inside.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
    real.routed.attach(one)
    real.routed.attach(two)
    assert pings(real.inside(two), str(one.addresses[1]))


def test_a_small_mtu_has_no_ipv6_and_is_said_so_at_most(real: RealBench) -> None:
    one = replace(real.container(1), mtu=1000)
    one = replace(one, addresses=one.addresses[:1])
    real.routed.attach(one)
    assert real.routed.check(one) == ()
    (found,) = json.loads(real.inside(one).run("ip", "-j", "link", "show", "eth0"))
    assert found["mtu"] == 1000


def test_the_hosts_own_namespace_is_refused(real: RealBench) -> None:
    one = replace(real.container(1), namespace=str(real.host.path))
    with pytest.raises(InvalidError, match="own namespace"):
        real.routed.attach(one)


def test_a_path_that_is_no_namespace_is_named(
    real: RealBench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plain = tmp_path_factory.mktemp("nfco") / "file"
    plain.touch()
    with pytest.raises(NamespaceGoneError, match=str(plain)):
        real.routed.attach(replace(real.container(1), namespace=str(plain)))


# scale


def test_ten_thousand_routes_are_put_moved_and_removed_fast(real: RealBench) -> None:
    real.routed.apply(put(*FABRIC))
    base = int(ip_address("100.64.0.0"))
    routes: list[KernelObject] = [
        KernelRoute(ip_network((base + n * 256, 24)), nexthop=GROUP) for n in range(10_000)
    ]
    elapsed = []
    for operations in (put(*routes), put(*routes), [Operation("remove", r) for r in routes]):
        start = time.thread_time()  # what it costs, however busy the machine is
        assert real.routed.apply(operations) == ()
        elapsed.append(time.thread_time() - start)
        there = len(real.routed.observe().objects) - len(FABRIC)
        assert there == (0 if operations[0].action == "remove" else 10_000)
    assert max(elapsed) < 0.5, elapsed


def litter(real: RealBench) -> tuple[object, ...]:
    """Return all that could be left behind."""
    host = real.host
    wait_until(lambda: "tentative" not in host.run("ip", "-6", "addr"))
    shown = (
        "-4 route show table all",
        "-6 route show table all",
        "neigh show nud permanent",
        "nexthop",
    )
    return (
        real.link_names(),
        *(set(host.run("ip", *words.split()).splitlines()) for words in shown),
        len(os.listdir("/proc/self/fd")),
        threading.active_count(),
    )


def test_a_hundred_cycles_leave_nothing(real: RealBench) -> None:
    endpoints = attached(real, 1, 2, 3, 4)
    for endpoint in endpoints:
        real.routed.detach(endpoint)
    settled = {"lo", "up0", "up1"}
    wait_until(lambda: real.link_names() == settled)
    gc.collect()
    before = litter(real)
    for _ in range(25):
        for endpoint in endpoints:
            real.routed.attach(endpoint)
        for endpoint in endpoints:
            real.routed.detach(endpoint)
    wait_until(lambda: real.link_names() == settled)
    gc.collect()
    assert litter(real) == before
    assert all("eth0" not in real.inside(e).run("ip", "link") for e in endpoints)


def test_failures_leave_nothing(real: RealBench) -> None:
    (one,) = attached(real, 1)
    taken, clash = real.container(2), replace(real.container(3), addresses=one.addresses)
    real.take_name(taken)
    before = litter(real)
    for endpoint in (taken, clash):
        for _ in range(5):
            with pytest.raises(ConflictError):
                real.routed.attach(endpoint)
    gc.collect()
    assert litter(real) == before
    assert pings(real.inside(one), str(one.addresses[0]))


def test_attach_and_detach_from_several_threads(real: RealBench) -> None:
    endpoints = [real.container(number) for number in range(1, 9)]
    wrong: list[BaseException] = []

    def work(mine: list[Endpoint]) -> None:
        try:
            for _ in range(5):
                for endpoint in mine:
                    real.routed.attach(endpoint)
                    assert real.routed.check(endpoint) == ()
                for endpoint in mine:
                    real.routed.detach(endpoint)
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(endpoints[n::2],)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []
    wait_until(lambda: real.link_names() == {"lo", "up0", "up1"})


# restarts


def test_a_restart_finds_the_same_state_and_has_nothing_to_do(real: RealBench) -> None:
    endpoints = attached(real, 1, 2)
    real.routed.apply(put(*FABRIC, KernelRoute(ip_network("10.1.0.0/26"), "unreachable")))
    seen = real.routed.observe()
    other = real.again()
    assert other.prepare().changed == ()
    assert other.observe() == seen
    host = Host(SETTINGS)
    journal = JournalState(tuple(endpoints), intent=intent(BLUE))
    effects = host.handle(Started(journal, seen, other.uplinks()), NOW)
    effects += host.handle(KernelObserved(other.observe()), NOW + 1)
    assert not [e for e in effects if isinstance(e, Attach | Program)]


def test_links_that_a_dead_agent_had_detached_are_removed(real: RealBench) -> None:
    one, two = attached(real, 1, 2)
    real.routed._graveyard.close()  # dies before it removes what it detaches
    with real.host.entered():
        dead = Graveyard(Netlink())
        dead.kick = lambda: None  # type: ignore[method-assign]
        real.routed._graveyard = dead
    real.routed.detach(one)
    assert len(real.link_names()) == 3 + 2
    other = real.again()
    assert [t.name for t in other.observe().objects.values() if isinstance(t, EndpointLink)] == [
        two.link
    ]
    wait_until(lambda: real.link_names() == {"lo", "up0", "up1", two.link})


def test_settings_are_put_and_named(real: RealBench) -> None:
    with real.host.entered():
        assert put_sysctl("net/ipv4/ip_forward", "0") == ("net.ipv4.ip_forward: 1 -> 0",)
    assert real.routed.prepare().changed == ("net.ipv4.ip_forward: 0 -> 1",)
    assert {"nexthop", "veth"} <= set(real.routed.prepare().features)


def test_routes_of_another_metric_setting_are_taken_over(real: RealBench) -> None:
    real.routed.apply(put(*FABRIC))
    other = RoutedDatapath(real.host.path, metric=30)
    try:
        assert other.observe() != real.routed.observe()
        routes = [thing for thing in FABRIC if isinstance(thing, KernelRoute)]
        assert other.apply(put(*routes)) == ()
        assert set(other.observe().objects.values()) == set(FABRIC)
        shown = real.host.run("ip", "route", "show", "default")
        assert shown.count("default") == 1
        assert "metric 30" in shown
    finally:
        other.close()
