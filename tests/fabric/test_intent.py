from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from netfabric.fabric.errors import InvalidError
from netfabric.fabric.intent import network_of, peer_of, peers_of_bgp, speaker_of, true_encap
from netfabric.fabric.prefix import DEFAULT_ROUTES


def network(**fields: Any) -> dict[str, Any]:
    return {"tenantName": "default", "networkName": "blue", "subnet": "10.1.0.0/16"} | fields


def bgp(**fields: Any) -> dict[str, Any]:
    return {"hostname": "h1", "as": "65001", "routerip": "10.91.1.2/31"} | fields


def peer(**fields: Any) -> dict[str, Any]:
    return {"hostname": "h1", "peerName": "tor1", "address": "10.91.1.1", "as": 65002} | fields


def test_network_defaults() -> None:
    read = network_of(network(gateway="10.1.0.1", tag=7))
    assert (read.key, read.encap, read.tag, read.infra) == ("default:blue", "routed", 0, False)
    (only,) = read.ranges
    assert (str(only.first), str(only.last)) == ("10.1.0.1", "10.1.255.254")
    assert (only.gateway, only.block_length) == (ip_address("10.1.0.1"), 26)


def test_network_both_families_and_options() -> None:
    read = network_of(
        network(
            encap="vlan",
            pktTag=5,
            tag=9,
            ipv6Subnet="fd10:1::/64",
            ipv6Gateway="fd10:1::1",
            blockLength=28,
            blockLength6=120,
            announce="blocks",
            ready="fabric",
            reserved=["10.1.9.0/24", "fd10:1::8/128"],
            nwType="infra",
        ),
        "routing",
    )
    assert (read.encap, read.tag, read.announce, read.ready) == ("vlan", 9, "blocks", "fabric")
    assert [(r.family, r.block_length) for r in read.ranges] == [(4, 28), (6, 120)]
    assert read.reserved == (ip_network("10.1.9.0/24"), ip_network("fd10:1::8/128"))
    assert read.infra


@pytest.mark.parametrize(
    ("subnet", "first", "last"),
    [
        ("10.1.1.10-10.1.1.20/24", "10.1.1.10", "10.1.1.20"),
        ("10.1.1.0-10.1.1.255/24", "10.1.1.1", "10.1.1.254"),
        ("10.1.1.7-10.1.1.7/24", "10.1.1.7", "10.1.1.7"),
        ("10.1.1.5/24", "10.1.1.1", "10.1.1.254"),
        ("10.1.1.0/31", "10.1.1.0", "10.1.1.1"),
    ],
)
def test_network_ranges(subnet: str, first: str, last: str) -> None:
    (read,) = network_of(network(subnet=subnet)).ranges
    assert (str(read.first), str(read.last)) == (first, last)


def test_a_small_subnet_is_one_block() -> None:
    (read,) = network_of(network(subnet="10.1.1.0/28")).ranges
    assert read.block_length == 28


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"subnet": ""}, "no subnet"),
        ({"subnet": "10.1.1.20-10.1.1.10/24"}, "Network subnet format not valid"),
        ({"subnet": "10.1.1.20-10.1.2.10/24"}, "Network subnet format not valid"),
        ({"subnet": "10.0.0.0/7"}, "subnet length 7 not supported"),
        ({"gateway": "10.2.0.1"}, "hostIP 10.2.0.1 is exceeding beyond subnet 10.1.0.0/16"),
        ({"ipv6Subnet": "fd1::/64", "ipv6Gateway": "fd2::1"}, "fd2::1 is exceeding beyond subnet"),
        ({"blockLength": 15}, "blockLength 15 does not fit subnet 10.1.0.0/16"),
        ({"blockLength": 33}, "blockLength 33 does not fit"),
        ({"ipv6Subnet": "fd1::/64", "blockLength6": 63}, "blockLength6 63 does not fit"),
        ({"reserved": ["10.2.0.0/24"]}, "reserved 10.2.0.0/24 is outside the subnet"),
        ({"reserved": ["fd1::/64"]}, "reserved fd1::/64 is outside the subnet"),
        ({"reserved": ["10.1.0.0"[:-1] + "x"]}, "reserved"),
    ],
)
def test_networks_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidError, match=complaint.replace(".", r"\.")) as refused:
        network_of(network(**fields))
    assert refused.value.remedy


def test_vlan_means_routed_only_in_v1_under_routing() -> None:
    assert true_encap("vlan", "routing") == "routed"
    assert true_encap("vlan", "bridge") == "vlan"
    assert true_encap("vxlan", "routing") == "vxlan"
    assert network_of(network(), "bridge").encap == "vlan"


def test_speaker() -> None:
    read = speaker_of(bgp())
    assert (read.host, read.asn, read.router_id) == ("h1", 65001, "10.91.1.2")
    assert read.router_ip == ip_interface("10.91.1.2/31")
    assert speaker_of(bgp(routerip="10.9.1.4-9/24")).router_ip == ip_interface("10.9.1.4/24")
    six = speaker_of(bgp(routerip="fd91::2/64", routerId="10.0.0.9"))
    assert (six.router_id, six.router_ip) == ("10.0.0.9", ip_interface("fd91::2/64"))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"as": "0"}, "AS 0 is reserved"),
        ({"as": "4294967296"}, "larger than 4 bytes"),
        ({"as": "4294967295"}, "reserved"),
        ({"as": "23456"}, "AS_TRANS"),
        ({"as": "abc"}, "is not a number"),
        ({"as": "-5"}, "is not a number"),
        ({"as": "٣"}, "is not a number"),
        ({"as": ""}, "is not a number"),
        ({"routerip": ""}, "no router id"),
        ({"routerip": "fd91::2/64"}, "no router id"),
        ({"routerip": "1.1.1.1/99"}, "routerip"),
    ],
)
def test_speakers_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidError, match=complaint) as refused:
        speaker_of(bgp(**fields))
    assert "Bgp h1" in str(refused.value)


def test_a_bgp_object_carries_at_most_one_peer() -> None:
    assert peers_of_bgp(bgp()) == ()
    (near,) = peers_of_bgp(bgp(neighbor="10.91.1.3", **{"neighbor-as": "500"}))
    assert (near.key, near.asn, near.local_address) == (
        "h1:10.91.1.3",
        500,
        ip_address("10.91.1.2"),
    )
    (far,) = peers_of_bgp(bgp(neighbor="10.99.1.1", **{"neighbor-as": "500"}))
    assert far.local_address is None
    with pytest.raises(InvalidError, match="neighbor-as: AS 'x' is not a number"):
        peers_of_bgp(bgp(neighbor="10.91.1.3", **{"neighbor-as": "x"}))


def test_peer_defaults() -> None:
    read = peer_of(peer())
    assert (read.key, read.asn, read.hold_time, read.graceful_restart) == ("h1:tor1", 65002, 9, 120)
    assert (read.carried, read.med, read.imports.exact) == ((4,), None, DEFAULT_ROUTES)


def test_peer_options() -> None:
    read = peer_of(
        peer(
            address="fd91::1",
            localAddress="fd91::2",
            families=[6, 4],
            password="secret",
            holdTime=30,
            multihop=4,
            gracefulRestart=0,
            communities=["65000:1"],
            largeCommunities=["65000:1:2"],
            med=0,
            prepend=2,
            localPreference=50,
            importPrefixes=["10.0.0.0/8"],
            importWithin=["10.8.0.0/16-24", "fd00::/8"],
            maxPrefixes=7,
        )
    )
    assert read.carried == (4, 6)
    assert (read.hold_time, read.multihop, read.graceful_restart, read.med) == (30, 4, 0, 0)
    assert (read.prepend, read.local_preference) == (2, 50)
    assert read.imports.exact == (ip_network("10.0.0.0/8"),)
    assert read.imports.within == ((ip_network("10.8.0.0/16"), 24), (ip_network("fd00::/8"), 128))
    assert read.imports.max_prefixes == 7
    assert "secret" not in repr(read)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"address": "tor"}, "peer h1:tor1: address 'tor' is not an address"),
        ({"as": 0}, "peer h1:tor1: AS 0 is reserved"),
        ({"importPrefixes": ["10.0.0.1/8"]}, "importPrefixes '10.0.0.1/8'"),
        ({"importWithin": ["10.0.0.0/8-7"]}, "importWithin"),
        ({"importWithin": ["10.0.0.0/8-x"]}, "importWithin"),
    ],
)
def test_peers_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidError, match=complaint):
        peer_of(peer(**fields))
