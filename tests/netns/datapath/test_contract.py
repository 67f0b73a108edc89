"""What every datapath does, on the kernel that executes in memory and on the real one."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import get_args

import pytest

from netfabric.fabric.errors import (
    ConflictError,
    FabricError,
    InvalidError,
    NamespaceGoneError,
)
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
from netfabric.fabric.prefix import DEFAULT_ROUTES
from netfabric.fabric.profile import NO_LIMITS, Bandwidth, Limit
from netfabric.fabric.upkeep import link_of
from tests.netns.datapath.bench import Bench, Damage

ONE, TWO, GROUP = NEXTHOP_BASE + 1, NEXTHOP_BASE + 2, NEXTHOP_BASE + 3
BLOCK = ip_network("10.1.0.64/26")
FIRST = Nexthop(ONE, ip_address("10.90.0.0"), "up0")
SECOND = Nexthop(TWO, ip_address("10.90.1.0"), "up1")
BOTH = NexthopGroup(GROUP, (ONE, TWO))
DEFAULT = KernelRoute(DEFAULT_ROUTES[0], nexthop=GROUP)
REST = KernelRoute(BLOCK, "unreachable")
FABRIC: list[KernelObject] = [FIRST, SECOND, BOTH, DEFAULT, REST]
INNER = {"inner address", "inner gateway", "inner default"}


def put(*things: KernelObject) -> list[Operation]:
    return [Operation("put", thing) for thing in things]


def remove(*things: KernelObject) -> list[Operation]:
    return [Operation("remove", thing) for thing in things]


def links(bench: Bench) -> list[KernelObject]:
    return [t for t in bench.datapath.observe().objects.values() if isinstance(t, EndpointLink)]


def fabric(bench: Bench) -> set[KernelObject]:
    things = bench.datapath.observe().objects.values()
    return {t for t in things if not isinstance(t, EndpointLink)}


# endpoints


def test_what_is_attached_is_observed_as_desired(bench: Bench) -> None:
    one = bench.container(1)
    bench.datapath.attach(one)
    assert links(bench) == [link_of(one)]
    assert bench.datapath.check(one) == ()
    assert bench.way("10.1.0.1") == bench.way("fd10:1::1") == one.link


def test_attaching_again_is_attaching_once(bench: Bench) -> None:
    one = bench.container(1)
    for _ in range(2):
        bench.datapath.attach(one)
        assert links(bench) == [link_of(one)]
        assert bench.datapath.check(one) == ()


@pytest.mark.parametrize(
    "wanted",
    [
        Bandwidth(receive=Limit(20_000_000)),
        Bandwidth(send=Limit(1_000_001, 200_000)),
        Bandwidth(Limit(40_000_000_000), Limit(8_000)),
        Bandwidth(Limit(1 << 62, 1 << 60), Limit(1)),
    ],
)
def test_limits_are_observed_as_desired_and_change_with_the_link_in_place(
    bench: Bench, wanted: Bandwidth
) -> None:
    one = bench.container(1)
    limits = (NO_LIMITS, wanted, wanted, Bandwidth(Limit(5_000_000), Limit(6_000_000)), NO_LIMITS)
    for limited in (replace(one, bandwidth=each) for each in limits):
        bench.datapath.attach(limited)
        assert links(bench) == [link_of(limited)]
        assert bench.datapath.check(limited) == ()
    bench.datapath.attach(replace(one, bandwidth=wanted))
    foreign = bench.foreign()
    bench.datapath.detach(one)
    assert links(bench) == []
    assert bench.foreign() == foreign


def test_detached_leaves_nothing_and_frees_name_and_address_at_once(bench: Bench) -> None:
    one = bench.container(1)
    for _ in range(2):
        bench.datapath.attach(one)
        bench.datapath.detach(one)
        assert links(bench) == []
        assert bench.way("10.1.0.1") != one.link
        assert bench.datapath.check(one) != ()
    other = bench.container(1, interface="eth1")
    bench.datapath.attach(other)
    assert links(bench) == [link_of(other)]


def test_detaching_what_is_gone_succeeds(bench: Bench) -> None:
    one = bench.container(1)
    bench.datapath.detach(one)
    bench.datapath.attach(one)
    bench.end(one)
    bench.datapath.detach(one)
    assert links(bench) == []


@pytest.mark.parametrize("what", get_args(Damage))
def test_damage_is_found_and_mended(bench: Bench, what: Damage) -> None:
    one, two = bench.container(1), bench.container(2)
    bench.datapath.attach(one)
    bench.datapath.attach(two)
    bench.damage(one, what)
    assert bench.datapath.check(one) != ()
    assert (link_of(one) in links(bench)) == (what in INNER)
    assert link_of(two) in links(bench)
    bench.datapath.attach(one)
    assert bench.datapath.check(one) == ()
    assert sorted(map(str, links(bench))) == sorted(map(str, map(link_of, (one, two))))


def test_a_namespace_that_is_gone_is_named_and_nothing_is_left(bench: Bench) -> None:
    one = bench.container(1)
    bench.end(one)
    with pytest.raises(NamespaceGoneError, match=one.namespace):
        bench.datapath.attach(one)
    assert links(bench) == []


def test_an_interface_name_that_is_taken_is_refused_and_nothing_is_left(bench: Bench) -> None:
    one = bench.container(1)
    bench.take_name(one)
    with pytest.raises(ConflictError, match="eth0"):
        bench.datapath.attach(one)
    assert links(bench) == []


def test_an_address_that_is_attached_already_is_refused_and_the_first_stays(
    bench: Bench,
) -> None:
    one, two = bench.container(1), bench.container(2)
    bench.datapath.attach(one)
    with pytest.raises(ConflictError, match=r"10\.1\.0\.1"):
        bench.datapath.attach(replace(two, addresses=one.addresses))
    assert links(bench) == [link_of(one)]
    assert bench.datapath.check(one) == ()


def test_a_link_of_the_same_name_that_is_not_ours_is_left_alone(bench: Bench) -> None:
    one = bench.container(1)
    bench.foreign_link(one.link)
    with pytest.raises(ConflictError, match=one.link):
        bench.datapath.attach(one)
    bench.datapath.detach(one)
    assert bench.datapath.apply(remove(link_of(one))) == ()
    assert links(bench) == []
    assert bench.datapath.check(one) != ()


def test_an_unknown_link_of_ours_can_be_removed_by_its_name(bench: Bench) -> None:
    one, two = bench.container(1), bench.container(2)
    bench.datapath.attach(one)
    bench.datapath.attach(two)
    assert bench.datapath.apply(remove(link_of(one))) == ()
    assert links(bench) == [link_of(two)]


def test_an_endpoint_link_cannot_be_put(bench: Bench) -> None:
    ((where, error),) = bench.datapath.apply(put(link_of(bench.container(1))))
    assert where[0] == "link"
    assert isinstance(error, InvalidError)


# the fabric's routes


def test_applied_objects_are_observed_lead_the_way_and_go_again(bench: Bench) -> None:
    for _ in range(2):
        assert bench.datapath.apply(put(*FABRIC)) == ()
        assert fabric(bench) == set(FABRIC)
    assert bench.way("203.0.113.9") in ("up0", "up1")
    assert bench.way("10.1.0.65") == "unreachable"
    for _ in range(2):
        assert bench.datapath.apply(remove(*reversed(FABRIC))) == ()
        assert fabric(bench) == set()
    assert bench.way("203.0.113.9") not in ("up0", "up1")


def test_an_endpoint_wins_over_the_unreachable_rest_of_its_block(bench: Bench) -> None:
    bench.datapath.apply(put(REST))
    one = bench.container(65)
    bench.datapath.attach(one)
    assert bench.way("10.1.0.65") == one.link
    assert bench.way("10.1.0.66") == "unreachable"


def test_objects_are_replaced_in_place(bench: Bench) -> None:
    bench.datapath.apply(put(*FABRIC))
    narrow = replace(BOTH, members=(TWO,))
    moved = KernelRoute(BLOCK, nexthop=ONE)
    assert bench.datapath.apply(put(narrow, moved)) == ()
    assert fabric(bench) == {FIRST, SECOND, narrow, DEFAULT, moved}
    assert bench.way("203.0.113.9") == "up1"
    assert bench.way("10.1.0.65") == "up0"


def test_one_failure_is_told_by_object_and_stops_no_other(bench: Bench) -> None:
    bad = KernelRoute(ip_network("198.51.100.0/24"), nexthop=NEXTHOP_BASE + 77)
    lost = Nexthop(NEXTHOP_BASE + 9, ip_address("10.92.0.0"), "up9")
    failures = bench.datapath.apply(put(lost, FIRST, bad, KernelRoute(BLOCK, nexthop=ONE)))
    assert [where for where, _ in failures] == [key_of(lost), key_of(bad)]
    assert "up9" in str(failures[0][1])
    assert "198.51.100.0/24" in str(failures[1][1])
    assert all(isinstance(error, FabricError) for _, error in failures)
    assert bench.way("10.1.0.65") == "up0"


def test_a_link_that_goes_down_takes_its_nexthop_and_it_can_be_put_again(bench: Bench) -> None:
    bench.datapath.apply(put(*FABRIC))
    bench.set_uplink("up0", up=False)
    assert fabric(bench) == {SECOND, replace(BOTH, members=(TWO,)), DEFAULT, REST}
    assert bench.way("203.0.113.9") == "up1"
    assert {u.link for u in bench.datapath.uplinks() if u.address.version == 4} == {"up1"}
    assert [where for where, _ in bench.datapath.apply(put(FIRST))] == [key_of(FIRST)]
    bench.set_uplink("up0", up=True)
    assert bench.datapath.apply(put(FIRST, BOTH)) == ()
    assert fabric(bench) == set(FABRIC)


def test_the_last_link_down_takes_group_and_route(bench: Bench) -> None:
    bench.datapath.apply(put(*FABRIC))
    for name in ("up0", "up1"):
        bench.set_uplink(name, up=False)
    assert fabric(bench) == {REST}
    # what the kernel dropped by itself is removed without a failure
    assert bench.datapath.apply(remove(DEFAULT, BOTH, SECOND, FIRST)) == ()


def test_a_removed_nexthop_takes_the_routes_by_it(bench: Bench) -> None:
    route = KernelRoute(BLOCK, nexthop=ONE)
    bench.datapath.apply(put(FIRST, route))
    assert bench.datapath.apply(remove(FIRST)) == ()
    assert fabric(bench) == set()


# foreign things


def test_nothing_foreign_is_seen_or_touched(bench: Bench) -> None:
    bench.foreign_route(ip_network("198.51.100.0/24"), same_metric=False)
    bench.foreign_route(DEFAULT.prefix, same_metric=False)
    bench.foreign_nexthop(5)
    bench.foreign_link("eth9")
    before = bench.foreign()
    assert bench.datapath.observe().objects == {}
    one = bench.container(1)
    bench.datapath.attach(one)
    assert bench.datapath.apply(put(*FABRIC)) == ()
    assert bench.datapath.apply(remove(*reversed(FABRIC))) == ()
    same = KernelRoute(ip_network("198.51.100.0/24"))
    assert bench.datapath.apply(remove(same)) == ()
    bench.datapath.detach(one)
    assert bench.foreign() == before


def test_a_foreign_route_with_our_metric_is_neither_replaced_nor_removed(bench: Bench) -> None:
    prefix = ip_network("198.51.100.0/24")
    bench.foreign_route(prefix, same_metric=True)
    before = bench.foreign()
    route = KernelRoute(prefix, nexthop=TWO)
    ((where, error),) = bench.datapath.apply(put(SECOND, route))
    assert where == key_of(route)
    assert isinstance(error, ConflictError)
    assert str(prefix) in str(error)
    assert bench.datapath.apply(remove(route)) == ()
    assert bench.foreign() == before
    assert bench.way("198.51.100.1") == "up0"


def test_a_foreign_nexthop_with_our_id_is_neither_replaced_nor_removed(bench: Bench) -> None:
    bench.foreign_nexthop(ONE)
    before = bench.foreign()
    ((where, error),) = bench.datapath.apply(put(replace(SECOND, id=ONE)))
    assert (where, type(error)) == (key_of(FIRST), ConflictError)
    assert bench.datapath.apply(remove(FIRST)) == ()
    assert bench.foreign() == before


# the host


def test_uplinks_are_the_hosts_own_addresses(bench: Bench) -> None:
    bench.datapath.attach(bench.container(1))
    found = [u for u in bench.datapath.uplinks() if u.address.version == 4]
    assert [(u.link, str(u.address), str(u.subnet)) for u in found] == [
        ("up0", "10.90.0.1", "10.90.0.0/31"),
        ("up1", "10.90.1.1", "10.90.1.0/31"),
    ]


def test_the_address_towards_a_peer_is_that_of_its_link(bench: Bench) -> None:
    assert bench.datapath.local_address_for(ip_address("10.90.1.0")) == ip_address("10.90.1.1")
    assert bench.datapath.local_address_for(ip_address("203.0.113.1")) is None


def test_another_agent_finds_what_the_first_made_and_can_end_it(bench: Bench) -> None:
    one = bench.container(1)
    bench.datapath.attach(one)
    bench.datapath.apply(put(*FABRIC))
    second = bench.again()
    assert second.observe().objects == bench.datapath.observe().objects
    assert second.apply(put(*FABRIC)) == ()
    assert second.check(one) == ()
    second.detach(one)
    assert second.apply(remove(*reversed(FABRIC))) == ()
    assert bench.datapath.observe().objects == {}
