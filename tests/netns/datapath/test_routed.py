"""The routed datapath on the real kernel: what is built, what passes, what is mended, what is left alone."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from netfabric.agent.datapath.routed import RoutedDatapath
from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.errors import ConflictError, NamespaceGoneError
from netfabric.fabric.kernel import (
    NEXTHOP_BASE,
    EndpointLink,
    KernelObject,
    KernelRoute,
    Nexthop,
    NexthopGroup,
    Operation,
    key_of,
)
from netfabric.fabric.upkeep import link_of
from netfabric.lab.namespace import Namespace, wire

pytestmark = pytest.mark.netns
Maker = Callable[..., Endpoint]
ONE, TWO, GROUP = NEXTHOP_BASE + 1, NEXTHOP_BASE + 2, NEXTHOP_BASE + 3


def inside(endpoint: Endpoint) -> Namespace:
    return Namespace(Path(endpoint.namespace).name)


def pings(endpoint: Endpoint, target: str) -> bool:
    done = subprocess.run(
        inside(endpoint).command("ping", "-c", "2", "-i", "0.05", "-W", "1", target),
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def links_of_ours(datapath: RoutedDatapath) -> list[KernelObject]:
    return [t for t in datapath.observe().objects.values() if isinstance(t, EndpointLink)]


def test_two_containers_reach_each_other_without_arp(
    datapath: RoutedDatapath, host: Namespace, endpoint: Maker
) -> None:
    one, two = endpoint(1), endpoint(2)
    datapath.attach(one)
    datapath.attach(two)
    assert pings(one, "10.1.0.2")
    assert pings(one, "fd10:1::2")
    for container in (one, two):
        learned = json.loads(inside(container).run("ip", "-j", "neigh"))
        assert {n["state"][0] for n in learned} == {"PERMANENT"}
    assert {n["state"][0] for n in json.loads(host.run("ip", "-j", "neigh"))} == {"PERMANENT"}


def test_what_was_attached_is_observed_as_desired(
    datapath: RoutedDatapath, endpoint: Maker
) -> None:
    one = endpoint(1)
    datapath.attach(one)
    assert links_of_ours(datapath) == [link_of(one)]
    assert datapath.check(one) == ()


def test_attaching_again_changes_nothing(
    datapath: RoutedDatapath, host: Namespace, endpoint: Maker
) -> None:
    one = endpoint(1)
    datapath.attach(one)
    before = host.run("ip", "-o", "link", "show", one.link)
    datapath.attach(one)
    assert host.run("ip", "-o", "link", "show", one.link) == before
    assert links_of_ours(datapath) == [link_of(one)]
    assert pings(one, "10.1.0.1")


@pytest.mark.parametrize(
    "damage",
    [
        "ip route del 10.1.0.1 dev {link}",
        "ip -6 route del fd10:1::1 dev {link}",
        "ip neigh del 10.1.0.1 dev {link}",
        "ip link set {link} down",
        "ip link del {link}",
    ],
)
def test_damage_on_the_host_is_seen_and_mended(
    datapath: RoutedDatapath, host: Namespace, endpoint: Maker, damage: str
) -> None:
    one = endpoint(1)
    datapath.attach(one)
    host.run(*damage.format(link=one.link).split())
    assert links_of_ours(datapath) != [link_of(one)]
    assert datapath.check(one) != ()
    datapath.attach(one)
    assert links_of_ours(datapath) == [link_of(one)]
    assert datapath.check(one) == ()


@pytest.mark.parametrize(
    "damage",
    [
        "ip addr flush dev eth0",
        "ip route del default",
        "ip neigh del 169.254.1.1 dev eth0",
        "ip link set eth0 down",
    ],
)
def test_damage_in_the_container_is_seen_and_mended(
    datapath: RoutedDatapath, endpoint: Maker, damage: str
) -> None:
    one = endpoint(1)
    datapath.attach(one)
    inside(one).run(*damage.split())
    assert datapath.check(one) != ()
    datapath.attach(one)
    assert datapath.check(one) == ()


def test_detached_leaves_nothing_and_frees_the_name_at_once(
    datapath: RoutedDatapath, host: Namespace, endpoint: Maker
) -> None:
    one = endpoint(1)
    datapath.attach(one)
    datapath.detach(one)
    assert links_of_ours(datapath) == []
    assert "10.1.0.1" not in host.run("ip", "route")
    datapath.attach(one)
    assert pings(one, "10.1.0.1")
    datapath.detach(one)
    datapath.detach(one)
    datapath.bury()
    assert json.loads(host.run("ip", "-j", "link", "show", "type", "veth")) == []


def test_a_namespace_that_is_gone_is_named(datapath: RoutedDatapath, endpoint: Maker) -> None:
    one = replace(endpoint(1), namespace="/run/netns/nft-never-there")
    with pytest.raises(NamespaceGoneError, match="/run/netns/nft-never-there"):
        datapath.attach(one)
    assert links_of_ours(datapath) == []


def test_a_taken_interface_name_is_refused_and_nothing_is_left(
    datapath: RoutedDatapath, endpoint: Maker
) -> None:
    one = endpoint(1)
    inside(one).run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other")
    with pytest.raises(ConflictError, match="eth0"):
        datapath.attach(one)
    assert links_of_ours(datapath) == []


def test_a_second_interface_keeps_the_first_ones_default_route(
    datapath: RoutedDatapath, endpoint: Maker
) -> None:
    one = endpoint(1)
    datapath.attach(one)
    second = replace(endpoint(2, interface="eth1"), namespace=one.namespace, link="nf000000000002")
    datapath.attach(second)
    defaults = json.loads(inside(one).run("ip", "-j", "route", "show", "default"))
    assert [route["dev"] for route in defaults] == ["eth0"]


def wired(host: Namespace, spaces: Callable[[str], Namespace]) -> list[Namespace]:
    """Two routers on the host's up0 and up1, which know 10.1.0.0/16 behind the host."""
    routers = []
    for number in (0, 1):
        router = spaces(f"r{number}")
        wire((host, f"up{number}"), (router, "dn0"))
        host.run("ip", "addr", "add", f"10.90.{number}.1/31", "dev", f"up{number}")
        router.run("ip", "addr", "add", f"10.90.{number}.0/31", "dev", "dn0")
        router.run("ip", "addr", "add", "192.0.2.1/32", "dev", "lo")
        router.run("ip", "route", "add", "10.1.0.0/16", "via", f"10.90.{number}.1")
        routers.append(router)
    return routers


def default_over_both() -> list[Operation]:
    things: list[KernelObject] = [
        Nexthop(ONE, ip_address("10.90.0.0"), "up0"),
        Nexthop(TWO, ip_address("10.90.1.0"), "up1"),
        NexthopGroup(GROUP, (ONE, TWO)),
        KernelRoute(ip_network("0.0.0.0/0"), nexthop=GROUP),
        KernelRoute(ip_network("10.1.0.64/26"), "unreachable"),
    ]
    return [Operation("put", thing) for thing in things]


def received(router: Namespace) -> int:
    return int(
        json.loads(router.run("ip", "-j", "-s", "link", "show", "dn0"))[0]["stats64"]["rx"][
            "packets"
        ]
    )


def test_flows_leave_over_both_uplinks(
    datapath: RoutedDatapath,
    host: Namespace,
    spaces: Callable[[str], Namespace],
    endpoint: Maker,
) -> None:
    routers = wired(host, spaces)
    assert datapath.apply(default_over_both()) == ()
    one = endpoint(1)
    datapath.attach(one)
    assert pings(one, "192.0.2.1")
    before = [received(router) for router in routers]
    script = (
        "import socket\n"
        "for port in range(20000, 20200):\n"
        "    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "    s.sendto(b'x', ('192.0.2.1', port))\n"
    )
    inside(one).run("/usr/bin/python3", "-c", script)
    after = [received(router) for router in routers]
    assert all(late - early > 40 for early, late in zip(before, after, strict=True))


def test_applied_objects_are_observed_and_removed(
    datapath: RoutedDatapath, host: Namespace, spaces: Callable[[str], Namespace]
) -> None:
    wired(host, spaces)
    operations = default_over_both()
    assert datapath.apply(operations) == ()
    assert datapath.apply(operations) == ()
    wanted = {key_of(operation.thing): operation.thing for operation in operations}
    assert dict(datapath.observe().objects) == wanted
    removal = [Operation("remove", operation.thing) for operation in reversed(operations)]
    assert datapath.apply(removal) == ()
    assert datapath.apply(removal) == ()
    assert dict(datapath.observe().objects) == {}


def test_what_the_kernel_refuses_is_named_and_the_rest_stands(
    datapath: RoutedDatapath, host: Namespace, spaces: Callable[[str], Namespace]
) -> None:
    wired(host, spaces)
    bad = KernelRoute(ip_network("198.51.100.0/24"), nexthop=NEXTHOP_BASE + 77)
    failures = datapath.apply([*default_over_both(), Operation("put", bad)])
    assert [key for key, _ in failures] == [key_of(bad)]
    assert "198.51.100.0/24" in str(failures[0][1])
    assert ("route", "254 0.0.0.0/0") in datapath.observe().objects


def test_nothing_foreign_is_seen_or_touched(
    datapath: RoutedDatapath, host: Namespace, spaces: Callable[[str], Namespace]
) -> None:
    wired(host, spaces)
    for words in (
        "ip link add nfs0 type veth peer name nfs1",
        "ip link set nfs0 up",
        "ip route add default via 10.90.0.0 dev up0",
        "ip route add 198.51.100.0/24 via 10.90.0.0 proto static",
        "ip nexthop add id 5 via 10.90.0.0 dev up0",
    ):
        host.run(*words.split())
    assert dict(datapath.observe().objects) == {}
    foreign = host.run("ip", "route", "show", "proto", "static"), host.run("ip", "nexthop")
    operations = default_over_both()
    datapath.apply(operations)
    datapath.apply([Operation("remove", operation.thing) for operation in reversed(operations)])
    assert (
        host.run("ip", "route", "show", "proto", "static"),
        host.run("ip", "nexthop"),
    ) == foreign
    assert "default via 10.90.0.0" in host.run("ip", "route")


def test_another_agent_adopts_what_it_finds(
    datapath: RoutedDatapath, host: Namespace, endpoint: Maker
) -> None:
    one = endpoint(1)
    datapath.attach(one)
    second = RoutedDatapath(host.path)
    try:
        assert second.prepare() == ()
        assert dict(second.observe().objects) == dict(datapath.observe().objects)
    finally:
        second.close()


def test_uplinks_and_the_way_to_a_peer(
    datapath: RoutedDatapath, host: Namespace, spaces: Callable[[str], Namespace], endpoint: Maker
) -> None:
    wired(host, spaces)
    datapath.attach(endpoint(1))
    found = [u for u in datapath.uplinks() if u.address.version == 4]
    assert [(u.link, str(u.address), str(u.subnet)) for u in found] == [
        ("up0", "10.90.0.1", "10.90.0.0/31"),
        ("up1", "10.90.1.1", "10.90.1.0/31"),
    ]
    assert datapath.local_address_for(ip_address("10.90.1.0")) == ip_address("10.90.1.1")
    assert datapath.local_address_for(ip_address("203.0.113.1")) is None


def test_features_are_found_by_trying(datapath: RoutedDatapath) -> None:
    found = datapath.features()
    assert {"nexthop", "vxlan", "bridge"} <= set(found)
