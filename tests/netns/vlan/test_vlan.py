"""VLAN networks on two hosts and a switch: tags, isolation, the switch's gateway, repair.

Where this kernel lacks 802.1Q, `test_guest.py` runs this file in a guest that has it.
"""

import json
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest

from netfabric.agent.datapath import feature
from netfabric.fabric.errors import InvalidError
from netfabric.fabric.kernel import Operation, ProxyNeighbour
from netfabric.fabric.network import Network, whole_range
from netfabric.fabric.vlans import FEATURES, link_of
from tests.netns.vlan.site import FAR, TRUNK, Inside, Site, Tags, wait_until

pytestmark = [pytest.mark.netns, pytest.mark.vlan]

RED = Network(
    "red",
    "net",
    "vlan",
    (
        whole_range(ip_network("10.5.0.0/24"), ip_address("10.5.0.254")),
        whole_range(ip_network("fd10:5::/64"), ip_address("fd10:5::fe")),
    ),
    tag=100,
)
BLUE = Network("blue", "net", "vlan", (whole_range(ip_network("10.5.0.0/24")),), tag=200)
"""The same subnet, and no gateway."""

CAN = any(name in feature.probe() for name in FEATURES)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    if not CAN:
        pytest.skip("this kernel has no 8021q")
    with Site((RED, BLUE)) as made:
        made.svi(RED)
        yield made


@pytest.fixture(scope="module")
def red(site: Site) -> list[Inside]:
    return [host.add(f"r{n}", RED.key) for n, host in enumerate(site.hosts)]


@pytest.fixture(scope="module")
def blue(site: Site) -> list[Inside]:
    return [host.add(f"b{n}", BLUE.key) for n, host in enumerate(site.hosts)]


def test_containers_of_two_hosts_reach_each_other_in_tagged_frames(
    site: Site, red: list[Inside], blue: list[Inside]
) -> None:
    with Tags(site.tor, "t1") as red_tags, Tags(site.tor, "t2") as tags:
        assert red[0].reaches(*red[1].addresses)
        assert blue[0].reaches(*blue[1].addresses)
        wait_until(lambda: tags.of(red[1].addresses[1]) == {RED.tag}, "red's frames")
        wait_until(lambda: red_tags.of(red[0].addresses[1]) == {RED.tag}, "red's frames")
        # The same addresses, in two VLANs.
        wait_until(lambda: tags.of(red[1].addresses[0]) == {RED.tag, BLUE.tag}, "both tags")
    assert red[0].addresses[0] == blue[0].addresses[0]
    assert not any(host.wrong for host in site.hosts)


def test_the_gateway_is_the_switch(site: Site, red: list[Inside]) -> None:
    for inside in red:
        assert inside.reaches("10.5.0.254", "fd10:5::fe", *FAR)
    shown = site.tor.run("ip", "neigh", "show", "dev", link_of(RED.tag))
    assert red[0].addresses[0] in shown


def test_what_is_in_one_vlan_is_not_in_the_other(
    site: Site, red: list[Inside], blue: list[Inside]
) -> None:
    third = site.hosts[1].add("b3", BLUE.key)
    assert blue[0].reaches(third.addresses[0])
    with Tags(site.tor, "t2") as tags:
        assert not red[0].pings(third.addresses[0])
        assert BLUE.tag not in tags.of(third.addresses[0])
    assert not blue[0].pings(FAR[0])
    assert not blue[0].pings("10.5.0.254")


def test_only_the_vlans_own_endpoints_are_answered_for(site: Site, red: list[Inside]) -> None:
    host = site.hosts[1].namespace
    proxies = host.run("ip", "neigh", "show", "proxy", "dev", link_of(RED.tag)).split()
    assert red[1].addresses[0] in proxies
    assert not set(red[0].addresses) & set(proxies)


def test_an_address_that_moves_is_told_to_the_switch(site: Site) -> None:
    def known() -> list[str]:
        neighbours = json.loads(site.tor.run("ip", "-j", "neigh", "show", "dev", link_of(RED.tag)))
        return [n.get("lladdr", "") for n in neighbours if n["dst"] in moved.addresses]

    def trunk(number: int) -> str:
        words = site.hosts[number].namespace.run("ip", "-j", "link", "show", TRUNK)
        return str(json.loads(words)[0]["address"])

    first, second = site.hosts
    moved = first.add("m0", RED.key)
    assert moved.reaches(FAR[0], FAR[1])
    assert set(known()) == {trunk(0)}
    first.delete(moved)
    for address in moved.endpoint.addresses:
        wanted = ProxyNeighbour(link_of(RED.tag), address)
        wait_until(
            lambda wanted=wanted: (
                second.datapath.apply([Operation("put", wanted)]) == ()  # type: ignore[misc]
                and trunk(1) in known()
            ),
            "the new host's MAC",
        )
    wait_until(lambda: set(known()) == {trunk(1)}, "both addresses")
    second.audit()


def test_what_others_remove_is_repaired(site: Site, red: list[Inside]) -> None:
    host, name = site.hosts[1], link_of(RED.tag)
    for words in (
        f"link delete {name}",
        f"link set {name} down",
        f"neigh delete proxy {red[1].addresses[0]} dev {name}",
        f"route delete 10.5.0.0/24 dev {name} table {red[1].endpoint.table}",
    ):
        host.namespace.run("ip", *words.split())
        host.audit()
        host.audit()
        assert not host.wrong
        assert red[1].reaches(red[0].addresses[0], red[0].addresses[1], FAR[0])


def test_programs_that_others_remove_are_repaired(site: Site, red: list[Inside]) -> None:
    if "8021q" in feature.probe():
        pytest.skip("this kernel needs no programs")
    host = site.hosts[1]
    host.namespace.run("tc", "qdisc", "delete", "dev", TRUNK, "clsact")
    assert not red[1].pings(FAR[0])
    host.audit()
    assert not host.wrong
    assert red[1].reaches(FAR[0], FAR[1])


def test_the_last_endpoint_takes_the_vlan_along(site: Site) -> None:
    site.hosts[0].namespace.run("ip", "link", "show", TRUNK)
    host = site.hosts[0]
    for key in list(host.brain.attachments.known):
        endpoint = host.brain.attachments.known[key].endpoint
        assert endpoint is not None
        host.delete(Inside(host.namespace, endpoint))
    left = host.namespace.run("ip", "-o", "link")
    assert link_of(RED.tag) not in left
    assert link_of(BLUE.tag) not in left
    assert "lookup 28" not in host.namespace.run("ip", "rule")


def test_a_host_without_vlans_says_why() -> None:
    if CAN:
        pytest.skip("this kernel can")
    with Site((RED,)) as made, pytest.raises(InvalidError, match=r"encap vlan.*8021q"):
        made.hosts[0].add("r0", RED.key)
