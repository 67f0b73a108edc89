"""What overlays stand on, on the kernel that executes in memory and on the real one."""

import time
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network

import pytest

from netfabric.fabric.errors import ConflictError, KernelError
from netfabric.fabric.kernel import (
    EndpointLink,
    ForwardingEntry,
    KernelObject,
    KernelRoute,
    Neighbour,
    Operation,
    VxlanLink,
    key_of,
)
from netfabric.fabric.prefix import DEFAULT_ROUTES
from netfabric.fabric.upkeep import link_of
from netfabric.fabric.vrf import Vrf
from netfabric.fabric.vtep import gateway_of, mac_of
from tests.netns.datapath.bench import Bench

OWN, OTHER = ip_address("10.90.0.1"), ip_address("10.90.0.0")
OWN6, OTHER6 = ip_address("fd90:0::1"), ip_address("fd90:0::")
RED, BLUE = Vrf("red", 20_001), Vrf("blue", 20_002)
NAME = "nfv64"
DEVICE = VxlanLink(NAME, 100, OWN, mac_of(OWN), 1450)
ENTRY = ForwardingEntry(NAME, mac_of(OTHER), OTHER)
NEAR, NEAR6 = (Neighbour(NAME, gateway_of(OTHER, f), mac_of(OTHER)) for f in (4, 6))
THERE = KernelRoute(
    ip_network("10.5.0.9/32"), table=RED.table, link=NAME, gateway=gateway_of(OTHER, 4)
)
THERE6 = KernelRoute(
    ip_network("fd10:5::9/128"), table=RED.table, link=NAME, gateway=gateway_of(OTHER, 6)
)
ENDS: list[KernelObject] = [KernelRoute(p, "unreachable", table=RED.table) for p in DEFAULT_ROUTES]
BEHIND: list[KernelObject] = [ENTRY, NEAR, NEAR6, THERE, THERE6]
OVERLAY: list[KernelObject] = [*ENDS, *RED.rules(), DEVICE, *BEHIND]
MANY = 5000


def put(*things: KernelObject) -> list[Operation]:
    return [Operation("put", thing) for thing in things]


def remove(*things: KernelObject) -> list[Operation]:
    return [Operation("remove", thing) for thing in things]


def standing(bench: Bench) -> set[KernelObject]:
    found = bench.datapath.observe().objects.values()
    return {thing for thing in found if not isinstance(thing, EndpointLink)}


def test_an_overlay_is_observed_as_put_leads_the_marked_and_goes_again(bench: Bench) -> None:
    for _ in range(2):
        for _ in range(2):
            assert bench.datapath.apply(put(*OVERLAY)) == ()
            assert standing(bench) == set(OVERLAY)
        for there in ("10.5.0.9", "fd10:5::9"):
            assert bench.way(there, RED.mark) == NAME
            assert bench.way(there) != NAME
            assert bench.way(there, BLUE.mark) != NAME
        for _ in range(2):
            assert bench.datapath.apply(remove(*reversed(OVERLAY))) == ()
            assert standing(bench) == set()


def test_what_a_tenant_has_not_is_unreachable_and_never_falls_through(bench: Bench) -> None:
    bench.foreign_route(DEFAULT_ROUTES[0], same_metric=False)
    bench.datapath.apply(put(*OVERLAY))
    for nobody in ("10.5.0.8", "203.0.113.9", "10.90.1.0"):
        assert bench.way(nobody, RED.mark) == "unreachable"
        assert bench.way(nobody) in ("up0", "up1")


def test_over_ipv6(bench: Bench) -> None:
    gateway = gateway_of(OTHER6, 4)
    things: list[KernelObject] = [
        replace(DEVICE, local=OWN6, mac=mac_of(OWN6), mtu=1430),
        ForwardingEntry(NAME, mac_of(OTHER6), OTHER6),
        Neighbour(NAME, gateway, mac_of(OTHER6)),
        replace(THERE, gateway=gateway),
        replace(THERE6, gateway=gateway),
    ]
    assert bench.datapath.apply(put(*things)) == ()
    assert standing(bench) == set(things)


def test_an_endpoint_in_a_tenants_table_is_for_its_marks_alone(bench: Bench) -> None:
    bench.datapath.apply(put(*ENDS))
    bench.datapath.apply(put(*RED.rules()))
    one = replace(bench.container(1), table=RED.table)
    bench.datapath.attach(one)
    assert link_of(one) in bench.datapath.observe().objects.values()
    assert bench.datapath.check(one) == ()
    for address in map(str, one.addresses):
        assert bench.way(address, RED.mark) == one.link
        assert bench.way(address) != one.link
    bench.datapath.detach(one)
    assert bench.way(str(one.addresses[0]), RED.mark) == "unreachable"
    assert standing(bench) == {*ENDS, *RED.rules()}


def test_the_same_addresses_in_two_tenants_tables(bench: Bench) -> None:
    for vrf in (RED, BLUE):
        bench.datapath.apply(put(*vrf.rules()))
    one = replace(bench.container(1), table=RED.table)
    other = replace(bench.container(2), table=BLUE.table, addresses=one.addresses)
    for endpoint in (one, other):
        bench.datapath.attach(endpoint)
    for endpoint, vrf in ((one, RED), (other, BLUE)):
        assert bench.datapath.check(endpoint) == ()
        for address in map(str, one.addresses):
            assert bench.way(address, vrf.mark) == endpoint.link
    bench.datapath.detach(one)
    assert bench.datapath.check(other) == ()
    assert bench.way(str(other.addresses[0]), BLUE.mark) == other.link


def test_things_are_replaced_in_place(bench: Bench) -> None:
    bench.datapath.apply(put(*OVERLAY))
    third = ip_address("10.90.1.0")
    narrow = replace(DEVICE, mtu=1400)
    moved = replace(ENTRY, vtep=third)
    known = replace(NEAR, mac=mac_of(third))
    assert bench.datapath.apply(put(narrow, moved, known)) == ()
    assert standing(bench) == {*OVERLAY, narrow, moved, known} - {DEVICE, ENTRY, NEAR}


def test_another_vni_is_another_device_and_all_behind_it_is_missing(bench: Bench) -> None:
    bench.datapath.apply(put(*OVERLAY))
    other = replace(DEVICE, vni=101)
    assert bench.datapath.apply(put(other)) == ()
    assert standing(bench) == {*ENDS, *RED.rules(), other}


def test_what_is_gone_with_its_device_is_seen_and_can_be_put_again(bench: Bench) -> None:
    bench.datapath.apply(put(*OVERLAY))
    bench.without_device(NAME)
    assert standing(bench) == {*ENDS, *RED.rules()}
    assert bench.datapath.apply(remove(*BEHIND, DEVICE)) == ()
    failures = bench.datapath.apply(put(ENTRY, NEAR, THERE))
    assert [where for where, _ in failures] == [key_of(t) for t in (ENTRY, NEAR, THERE)]
    assert all(isinstance(error, KernelError) for _, error in failures)
    assert bench.datapath.apply(put(*OVERLAY)) == ()
    assert standing(bench) == set(OVERLAY)


def test_a_device_of_that_name_that_is_not_ours_is_left_alone(bench: Bench) -> None:
    bench.foreign_link(NAME)
    ((where, error),) = bench.datapath.apply(put(DEVICE))
    assert (where, type(error)) == (key_of(DEVICE), ConflictError)
    assert bench.datapath.apply(remove(DEVICE)) == ()
    assert standing(bench) == set()


def test_others_rules_are_neither_seen_nor_touched(bench: Bench) -> None:
    bench.foreign_rule(RED.table)
    before = bench.foreign()
    assert bench.datapath.apply(put(*OVERLAY)) == ()
    assert standing(bench) == set(OVERLAY)
    assert bench.datapath.apply(remove(*reversed(OVERLAY))) == ()
    assert bench.foreign() == before


@pytest.mark.netns
def test_thousands_of_remote_endpoints_at_once(bench: Bench) -> None:
    """At some 100,000 routes a second this is far below its bound, whatever else the machine does."""
    bench.datapath.apply(put(*OVERLAY))
    first = int(IPv4Address("10.5.64.0"))
    routes = [replace(THERE, prefix=ip_network((first + n, 32))) for n in range(MANY)]
    start = time.monotonic()
    assert bench.datapath.apply(put(*routes)) == ()
    assert time.monotonic() - start < 5
    assert standing(bench) == {*OVERLAY, *routes}
    assert bench.datapath.apply(remove(*routes)) == ()
    assert standing(bench) == set(OVERLAY)
