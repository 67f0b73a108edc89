"""What the datapath writes, read back by pyroute2 and by ip: netlink decoders that are not ours."""

import json
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from pyroute2 import IPRoute

from netfabric.agent.datapath.host_end import MAC
from netfabric.agent.datapath.link import GROUP
from netfabric.agent.datapath.route_book import DEFAULT_METRIC
from netfabric.fabric.kernel import (
    NEXTHOP_BASE,
    PROTOCOL,
    KernelObject,
    KernelRoute,
    Nexthop,
    NexthopGroup,
    Operation,
)
from netfabric.lab.namespace import Namespace
from tests.netns.datapath.bench import RealBench

pytestmark = pytest.mark.netns
ONE, TWO, BOTH = NEXTHOP_BASE + 1, NEXTHOP_BASE + 2, NEXTHOP_BASE + 3
UNREACHABLE, PERMANENT = 7, 0x80
FAMILIES = (2, 10)


def reader(space: Namespace) -> Any:
    with space.entered():
        return IPRoute()


@pytest.fixture
def host(real: RealBench) -> Iterator[Any]:
    opened = reader(real.host)
    try:
        yield opened
    finally:
        opened.close()


def routes(ipr: Any) -> set[tuple[Any, ...]]:
    """Return (destination, type, link, metric) of our routes."""
    found = [r for family in FAMILIES for r in ipr.get_routes(family=family, proto=PROTOCOL)]
    return {
        (
            f"{r.get('dst') or ''}/{r['dst_len']}",
            r["type"],
            r.get("oif") if r["type"] != UNREACHABLE else None,
            r.get("priority"),
        )
        for r in found
    }


def neighbours(ipr: Any, index: int) -> set[tuple[str, str, int]]:
    return {
        (n.get("dst"), n.get("lladdr"), n["state"])
        for family in FAMILIES
        for n in ipr.get_neighbours(family=family, ifindex=index)
        if n["state"] == PERMANENT
    }


def test_an_endpoint_on_the_host(real: RealBench, host: Any) -> None:
    one = real.container(1)
    real.routed.attach(one)
    (link,) = host.get_links(ifname=one.link)
    assert (link.get("group"), link.get("address"), link.get("mtu")) == (GROUP, MAC, one.mtu)
    assert link.get("ifalias") == str(one.key)
    assert link.get("linkinfo").get("kind") == "veth"
    index = link["index"]
    assert routes(host) == {
        ("10.1.0.1/32", 1, index, None),
        ("fd10:1::1/128", 1, index, 1),
    }
    assert neighbours(host, index) == {(str(a), one.mac, PERMANENT) for a in one.addresses}


def test_an_endpoint_in_its_container(real: RealBench) -> None:
    one = real.container(1)
    real.routed.attach(one)
    inside = reader(real.inside(one))
    try:
        (link,) = inside.get_links(ifname="eth0")
        index = link["index"]
        assert link.get("address") == one.mac
        assert {(a.get("address"), a["prefixlen"]) for a in inside.get_addr(index=index)} == {
            ("10.1.0.1", 32),
            ("fd10:1::1", 128),
        }
        gateways = ("169.254.1.1", "fe80::1")
        assert neighbours(inside, index) == {(gateway, MAC, PERMANENT) for gateway in gateways}
        defaults = [
            (r.get("gateway"), r.get("oif"))
            for family in FAMILIES
            for r in inside.get_default_routes(family=family)
        ]
        assert defaults == [(gateway, index) for gateway in gateways]
    finally:
        inside.close()


def test_the_fabrics_routes(real: RealBench, host: Any) -> None:
    things: list[KernelObject] = [
        Nexthop(ONE, ip_address("10.90.0.0"), "up0"),
        Nexthop(TWO, ip_address("10.90.1.0"), "up1"),
        NexthopGroup(BOTH, (ONE, TWO)),
        KernelRoute(ip_network("0.0.0.0/0"), nexthop=BOTH),
        KernelRoute(ip_network("10.64.0.0/10"), nexthop=ONE),
        KernelRoute(ip_network("fd10:1::/122"), "unreachable"),
        KernelRoute(ip_network("10.99.0.0/16"), nexthop=TWO, table=1000),
    ]
    assert real.routed.apply([Operation("put", thing) for thing in things]) == ()
    # pyroute2 knows no nexthop objects: a route by one has no link for it
    assert routes(host) == {
        ("/0", 1, None, DEFAULT_METRIC),
        ("10.64.0.0/10", 1, None, DEFAULT_METRIC),
        ("fd10:1::/122", UNREACHABLE, None, DEFAULT_METRIC),
        ("10.99.0.0/16", 1, None, DEFAULT_METRIC),
    }
    elsewhere = [r.get("dst") for r in host.get_routes(family=2, table=1000)]
    assert elsewhere == ["10.99.0.0"]
    shown = json.loads(real.host.run("ip", "-j", "-N", "route", "show", "proto", str(PROTOCOL)))
    assert {r["dst"]: r["nhid"] for r in shown} == {"default": BOTH, "10.64.0.0/10": ONE}
    objects = {o["id"]: o for o in json.loads(real.host.run("ip", "-j", "-N", "nexthop"))}
    assert (objects[ONE]["gateway"], objects[ONE]["dev"]) == ("10.90.0.0", "up0")
    assert [member["id"] for member in objects[BOTH]["group"]] == [ONE, TWO]
    assert {str(o["protocol"]) for o in objects.values()} == {str(PROTOCOL)}
