"""Two tenants with the same subnets on four hosts: each reaches its own, and nothing else."""

import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from errno import EHOSTUNREACH, ENETUNREACH

import pytest

from netfabric.agent.datapath import neighbour, route
from netfabric.agent.datapath.message import (
    RTM_DELNEIGH,
    RTM_DELROUTE,
    RTM_NEWNEIGH,
    RTM_NEWROUTE,
    Received,
    messages,
)
from netfabric.agent.datapath.netlink import subscribe
from netfabric.fabric.kernel import PROTOCOL
from netfabric.fabric.prefix import Address, host_prefix
from netfabric.lab import probe
from netfabric.lab.container import Container
from netfabric.lab.kernel_watch import KernelWatch
from netfabric.lab.traffic import Stream
from tests.netns.overlay.conftest import TENANTS, Field
from tests.netns.overlay.wire import Capture, Packet

pytestmark = [pytest.mark.netns, pytest.mark.slow]

PATIENCE = 10.0
_IP = (0x0800, 0x86DD)
_GROUPS = (1, 3, 7, 8, 11, 19, 32)
"""RTNLGRP_ LINK, NEIGH, IPV4_ROUTE, IPV4_RULE, IPV6_ROUTE, IPV6_RULE, NEXTHOP."""
_PAUSE = 2.5
"""Seconds: a kernel that is asked once a second or more tells one sender nothing (inet_peer_xrlim_allow)."""
_ERRORS = {4: (socket.IPPROTO_IP, 11), 6: (socket.IPPROTO_IPV6, 25)}
"""IP_RECVERR, IPV6_RECVERR."""


@pytest.fixture(scope="module")
def field(make_field: Callable[..., Field]) -> Field:
    return make_field(racks=2, hosts=2, tors=1, vteps="ipv4")


def _all_answer(field: Field, sources: list[Container], targets: list[Container]) -> None:
    silent = [pair for pair, answer in field.lab.ping(sources, targets).items() if answer is None]
    assert silent == []


def test_every_pair_inside_a_tenant_is_reachable(field: Field) -> None:
    assert field.of("red")[0].addresses == field.of("blue")[0].addresses
    for tenant in TENANTS:
        _all_answer(field, field.of(tenant), field.of(tenant))


def _uplinks(field: Field) -> Iterator[tuple[str, str]]:
    for host in field.lab.machines:
        for own, _ in field.lab.plan.peerings(host):
            yield host, own.link


def test_only_vxlan_between_the_right_vteps_is_on_the_underlay(field: Field) -> None:
    with ExitStack() as stack:
        captures = [
            stack.enter_context(Capture(field.lab.namespace(host), link))
            for host, link in _uplinks(field)
        ]
        for tenant in TENANTS:
            _all_answer(field, field.of(tenant), field.of(tenant))
    seen = [packet for capture in captures for packet in capture.packets()]
    places = {
        (field.vni(tenant), address): field.lab.plan.node(host).vtep
        for (tenant, host), container in field.containers.items()
        for address in container.addresses
    }
    carried = [packet for packet in seen if packet.inner is not None]
    _flooded_nowhere(carried)
    for packet in carried:
        inner = packet.inner
        assert inner is not None
        assert places[packet.vni, _known(inner.source)] == packet.source
        assert places[packet.vni, _known(inner.target)] == packet.target
    inside = {address for _, address in places}
    assert not [p for p in seen if p.inner is None and {p.source, p.target} & inside]
    pairs = {(p.vni, p.inner.source, p.inner.target) for p in carried if p.inner}
    assert len(pairs) == 2 * 2 * 4 * 3  # tenants, families, hosts, other hosts


def _known(address: Address | None) -> Address:
    assert address is not None
    return address


def _flooded_nowhere(carried: list[Packet]) -> None:
    """Group addresses have the lowest bit of the first octet set (IEEE 802)."""
    assert not [p for p in carried if p.mac[0] & 1 or not p.inner or p.inner.mac[0] & 1]
    assert {p.inner.kind for p in carried if p.inner} == set(_IP)


def test_no_packet_passes_between_tenants(field: Field) -> None:
    """Everybody says its tenant's name to every address, and hears only that of its own."""
    addresses = {address for c in field.containers.values() for address in c.addresses}
    heard: dict[tuple[str, str], set[tuple[str, Address]]] = {at: set() for at in field.containers}
    with ExitStack() as stack:
        ears = {
            stack.enter_context(_speaker(container, address)): (at, address)
            for at, container in field.containers.items()
            for address in container.addresses
        }
        end = time.monotonic() + PATIENCE
        while not all(len({a for _, a in said}) == len(addresses) for said in heard.values()):
            assert time.monotonic() < end
            for ear, ((tenant, _), own) in ears.items():
                for target in (a for a in addresses if a.version == own.version):
                    ear.sendto(f"{tenant} {own}".encode(), (str(target), 5353))
            while ready := select.select(list(ears), [], [], 0.1)[0]:
                for ear in ready:
                    tenant, own_text = ear.recv(100).decode().split()
                    heard[ears[ear][0]].add((tenant, _address(field, own_text)))
    assert {(at[0], said[0]) for at, all_ in heard.items() for said in all_} == {
        (tenant, tenant) for tenant in TENANTS
    }


def _address(field: Field, text: str) -> Address:
    return next(a for c in field.containers.values() for a in c.addresses if str(a) == text)


def _speaker(container: Container, address: Address) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with container.namespace.entered():
        made = socket.socket(family, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.bind((str(address), 5353))
    return made


def test_what_only_another_tenant_has_is_unreachable(field: Field) -> None:
    more = field.lab.attach("host1", "more", "red:net")
    try:
        _all_answer(field, field.of("red"), [more])
        for container in field.of("blue"):
            for address in more.addresses:
                assert _refusal(container, address) in (EHOSTUNREACH, ENETUNREACH)
    finally:
        field.lab.detach("host1", "more")


def _refusal(container: Container, address: Address) -> int:
    """Return the error that the container's host answers with (ICMP, ICMPv6)."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with container.namespace.entered(), socket.socket(family, socket.SOCK_DGRAM) as made:
        made.setsockopt(*_ERRORS[address.version], 1)
        made.connect((str(address), 9))
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with suppress(OSError):  # what is already known is read below
                made.send(b"?")
            select.select([made], [], [], _PAUSE)
            if error := made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return error
    return 0


def test_routed_and_overlay_networks_of_a_tenant_reach_each_other_where_policy_allows(
    field: Field,
) -> None:
    field.network("red", "flat", "routed", subnet="10.6.0.0/24", ipv6Subnet="fd10:6::/64")
    for name, action in (("open", "allow"), ("closed", "deny")):
        names = {"tenantName": "red", "groupName": name, "networkName": "net"}
        field.put("endpoint-groups", f"red:{name}", **names, defaultAction=action)
    lab = field.lab
    made = [
        lab.attach("host1", "flat1", "red:flat"),
        lab.attach("host3", "flat3", "red:flat"),
        lab.attach("host3", "open", "red:net", group="open"),
        lab.attach("host3", "closed", "red:net", group="closed"),
    ]
    one, other, opened, closed = made
    try:
        lab.wait_for_routes([one, other])
        _all_answer(field, [one, other], [*field.of("red"), opened, one, other])
        _all_answer(field, [*field.of("red"), opened], [one, other])
        assert _refusal(field.of("blue")[1], one.addresses[0]) == EHOSTUNREACH
        answers = probe.ping({"flat": one.namespace}, {"closed": closed.addresses}, 0.5)
        assert set(answers.values()) == {None}
    finally:
        for container in made:
            lab.detach(container.host, container.title.partition("/")[2])


def test_deaths_of_agents_and_netmaster_lose_nothing(field: Field) -> None:
    one, other = field.containers["red", "host1"], field.containers["red", "host3"]
    streams = [Stream(one.namespace, address) for address in other.addresses]
    with KernelWatch(field.lab.namespace("host1")) as watch, streams[0], streams[1]:
        streams[0].wait(10)
        for host in ("host1", "host3"):
            field.lab.kill(host, "netplugin")
        streams[0].wait(20)
        field.lab.kill("netmaster", "netmaster")
        streams[0].wait(20)
        for host in ("host1", "host3"):  # alone: they know what they did
            field.lab.restart(host, "netplugin")
        streams[0].wait(50)
        field.lab.restart("netmaster", "netmaster")
        streams[0].wait(100)
    assert [stream.lost() for stream in streams] == [[], []]
    ours = [c for c in watch.changes if c.link and (c.link.ours or c.link.overlay)]
    assert [*ours, *(c for c in watch.changes if c.what == "neighbour")] == []


def test_one_more_endpoint_costs_other_hosts_one_route_an_address(field: Field) -> None:
    lab = field.lab
    with lab.namespace("host1").entered():
        listener = subscribe(_GROUPS)
    with listener:
        more = lab.attach("host3", "more", "red:net")
        _all_answer(field, [field.containers["red", "host1"]], [more])
        said: list[Received] = []
        while select.select([listener], [], [], 0)[0]:
            said += messages(listener.recv(1 << 16))
        lab.detach("host3", "more")
    changed = [one for one in said if not _of_the_underlay(one)]
    assert [one.kind for one in changed] == [RTM_NEWROUTE] * 2
    routes = [route.parse(one.body) for one in changed]
    assert {r.prefix for r in routes if r} == {host_prefix(a) for a in more.addresses}


def _of_the_underlay(said: Received) -> bool:
    """Return whether a notification is about a neighbour or a route that the kernel or a switch made known."""
    if said.kind in (RTM_NEWNEIGH, RTM_DELNEIGH):
        return neighbour.parse(said.body) is None
    if said.kind in (RTM_NEWROUTE, RTM_DELROUTE):
        return route.protocol_of(said.body) != PROTOCOL
    return False
