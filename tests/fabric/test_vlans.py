"""A host's VLANs decided: what stands for a network while an endpoint of it is here."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.events import HostSettings
from netfabric.fabric.guard import Guard
from netfabric.fabric.kernel import KernelRoute, ProxyNeighbour, TableRule, Uplink, VlanLink
from netfabric.fabric.network import Network, whole_range
from netfabric.fabric.overlay import Shares
from netfabric.fabric.prefix import DEFAULT_ROUTES
from netfabric.fabric.vlans import Vlans, vrf_of

GATEWAY = ip_address("10.5.0.254")
NET = Network("red", "net", "vlan", (whole_range(ip_network("10.5.0.0/24"), GATEWAY),), tag=100)
TABLE = 28_292
SETTINGS = HostSettings("h1", vlan_uplink="eth1", features=("8021q",))


def endpoint(number: int) -> Endpoint:
    return Endpoint(
        EndpointKey(f"c{number}", "eth0"),
        "h1",
        "red",
        "net",
        "",
        f"/run/netns/c{number}",
        f"nf{number:012x}",
        f"02:00:00:00:00:{number:02x}",
        (ip_address(f"10.5.0.{number}"),),
        table=TABLE,
    )


def vlans(*, nftables: bool = True, settings: HostSettings = SETTINGS) -> Vlans:
    made = Vlans(settings, lambda keys: None, Guard([], nftables), Shares({}))
    made.intent({NET.key: NET})
    return made


def test_the_first_endpoint_brings_the_vlan_and_the_last_takes_it() -> None:
    made = vlans()
    assert made.shares.objects == {}
    made.enter(endpoint(1))
    made.enter(endpoint(2))
    things = set(made.shares.objects.values())
    assert VlanLink("nfq64", "eth1", 100) in things
    assert KernelRoute(ip_network("10.5.0.0/24"), table=TABLE, link="nfq64") in things
    way = KernelRoute(DEFAULT_ROUTES[0], table=TABLE, link="nfq64", gateway=GATEWAY)
    assert way in things
    assert KernelRoute(DEFAULT_ROUTES[1], "unreachable", table=TABLE) in things
    assert {t for t in things if isinstance(t, ProxyNeighbour)} == {
        ProxyNeighbour("nfq64", ip_address(f"10.5.0.{n}")) for n in (1, 2)
    }
    made.leave(endpoint(1))
    assert ("proxy", "nfq64 10.5.0.1") not in made.shares.objects
    made.leave(endpoint(2))
    assert made.shares.objects == {}


def test_one_more_endpoint_is_one_object_an_address() -> None:
    made = vlans()
    made.enter(endpoint(1))
    before = len(made.shares.objects)
    made.enter(endpoint(2))
    assert len(made.shares.objects) == before + 1


def test_without_a_gateway_nothing_leaves_the_subnet() -> None:
    made = vlans()
    made.intent({NET.key: replace(NET, ranges=(whole_range(ip_network("10.5.0.0/24")),))})
    made.enter(endpoint(1))
    routes = [t for t in made.shares.objects.values() if isinstance(t, KernelRoute)]
    assert {r.prefix: r.kind for r in routes}[DEFAULT_ROUTES[0]] == "unreachable"


@pytest.mark.parametrize("nftables", [True, False])
def test_packets_find_the_table_by_mark_or_by_link(nftables: bool) -> None:
    made = vlans(nftables=nftables)
    made.enter(endpoint(1))
    rules = [t for t in made.shares.objects.values() if isinstance(t, TableRule)]
    assert {r.table for r in rules} == {TABLE}
    links = {r.link for r in rules}
    assert links == ({"", "nfq64"} if nftables else {"nfq64", endpoint(1).link})


def test_a_vlan_follows_an_endpoint_that_was_here_before_its_intent() -> None:
    made = Vlans(SETTINGS, lambda keys: None, Guard([], True), Shares({}))
    made.enter(endpoint(1))
    assert made.shares.objects == {}
    made.intent({NET.key: NET})
    assert ("vlan", "nfq64") in made.shares.objects
    assert ("proxy", "nfq64 10.5.0.1") in made.shares.objects


def test_what_is_missing_is_named() -> None:
    assert vlans().missing == ""
    assert "8021q" in vlans(settings=replace(SETTINGS, features=())).missing
    assert "--vlan-uplink" in vlans(settings=replace(SETTINGS, vlan_uplink="")).missing
    assert vlans(settings=replace(SETTINGS, features=("vlan-bpf",))).missing == ""


def test_tables_marks_and_zones_of_vlans_are_nobody_elses() -> None:
    first, last = (vrf_of(replace(NET, tag=tag)) for tag in (1, 4094))
    assert (first.table, last.table) == (28_193, 32_286)
    assert first.slot == 8_193
    assert last.slot < 1 << 14


def test_an_endpoints_mtu_is_the_trunks_at_most() -> None:
    made = vlans()
    assert made.mtu_of(9000) == 9000
    own = Uplink("eth1", ip_address("192.0.2.1"), ip_network("192.0.2.0/24"), 1400)
    made.uplinks_changed((own,))
    assert made.mtu_of(9000) == 1400
