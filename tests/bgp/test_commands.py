"""The commands' text."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

from netfabric.bgp import commands
from netfabric.fabric.peer import Asn, Peer
from netfabric.fabric.route import Announcement

ASN = Asn(65010)
FOUR = Peer("h", "tor", ip_address("10.0.0.1"), Asn(65001), ip_address("10.0.0.2"))
SIX = Peer("h", "tor6", ip_address("fd00::1"), Asn(65001), ip_address("fd00::2"), families=(4, 6))
PREFIX, PREFIX6 = ip_network("10.1.0.1/32"), ip_network("fd10::1/128")
PLAIN = Announcement(PREFIX)


def test_attributes() -> None:
    assert commands.attributes(PLAIN, FOUR, ASN) == "next-hop self origin igp"
    told = replace(
        FOUR, prepend=2, med=0, communities=("65010:1",), large_communities=("65010:1:2",)
    )
    assert commands.attributes(Announcement(PREFIX, ("65010:7",)), told, ASN) == (
        "next-hop self origin igp as-path [ 65010 65010 65010 ] med 0 "
        "community [ 65010:7 65010:1 ] large-community [ 65010:1:2 ]"
    )


def test_ipv4_over_an_ipv6_session_names_its_next_hop() -> None:
    assert commands.attributes(PLAIN, SIX, ASN) == "next-hop fd00::2 origin igp"
    assert commands.attributes(Announcement(PREFIX6), SIX, ASN) == "next-hop self origin igp"


def test_lines() -> None:
    both = [PREFIX, ip_network("10.1.0.2/32")]
    assert commands.announce(FOUR, "TEXT", both) == (
        "neighbor 10.0.0.1 announce attributes TEXT nlri 10.1.0.1/32 10.1.0.2/32"
    )
    assert commands.withdraw(SIX, "TEXT", [PREFIX6]) == (
        "neighbor fd00::1 withdraw attributes TEXT nlri fd10::1/128"
    )
    assert commands.end_of_rib(FOUR, 4) == "neighbor 10.0.0.1 announce eor ipv4 unicast"
    assert commands.refresh(SIX, 6) == "neighbor fd00::1 announce route-refresh ipv6 unicast"
    assert commands.tear_down(FOUR, 2) == "neighbor 10.0.0.1 teardown 2"
