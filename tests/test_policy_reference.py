"""The reference evaluator against cases written by hand."""

from ipaddress import ip_address
from typing import Any

import pytest

from tests.policy_reference import Container, Fabric, Packet, in_range

WEB = Container("t", "web", ip_address("10.1.0.1"))
DB = Container("t", "db", ip_address("10.1.0.2"))
DB6 = Container("t", "db", ip_address("fd10:1::2"))
WEB6 = Container("t", "web", ip_address("fd10:1::1"))
LOOSE = Container("t", "", ip_address("10.1.0.3"))
OTHER = Container("u", "web", ip_address("10.2.0.1"))
NETWORK = {
    "tenantName": "t",
    "networkName": "n",
    "subnet": "10.1.0.0/24",
    "ipv6Subnet": "fd10:1::/64",
}


def rule(direction: str, action: str, policy: str = "p", **more: Any) -> dict[str, Any]:
    return {
        "tenantName": "t",
        "policyName": policy,
        "direction": direction,
        "action": action,
    } | more


def fabric(*rules: dict[str, Any], default: str = "") -> Fabric:
    """The policy `p` is that of `db`."""
    groups = [
        {"tenantName": "t", "groupName": "web", "policies": ["q"]},
        {"tenantName": "t", "groupName": "db", "policies": ["p"], "defaultAction": default},
    ]
    return Fabric([NETWORK], groups, list(rules), [WEB, WEB6, DB, DB6, LOOSE, OTHER])


def tcp(source: Container, target: Container, port: int = 80) -> Packet:
    return Packet(source, target, 6, port)


def test_without_rules_the_default_counts_both_ways() -> None:
    assert fabric().passes(tcp(WEB, DB))
    assert not fabric(default="deny").passes(tcp(WEB, DB))
    assert not fabric(default="deny").passes(tcp(DB, WEB))
    assert fabric(default="deny").passes(tcp(WEB, LOOSE))


def test_tenants_do_not_talk() -> None:
    assert not fabric().passes(tcp(OTHER, WEB))
    assert not fabric(rule("in", "allow")).passes(tcp(OTHER, DB))


def test_the_higher_priority_wins_and_deny_among_equals() -> None:
    allow, deny = rule("in", "allow"), rule("in", "deny")
    assert not fabric(allow, deny).passes(tcp(WEB, DB))
    assert fabric(allow | {"priority": 2}, deny).passes(tcp(WEB, DB))
    assert not fabric(allow | {"priority": 2}, deny | {"priority": 3}).passes(tcp(WEB, DB))


def test_a_rule_counts_in_its_direction_and_for_its_policys_groups() -> None:
    assert fabric(rule("in", "deny")).passes(tcp(DB, WEB))
    assert not fabric(rule("out", "deny")).passes(tcp(DB, WEB))
    assert fabric(rule("in", "deny", policy="other")).passes(tcp(WEB, DB))
    assert not fabric(rule("out", "deny", policy="q")).passes(tcp(WEB, DB))


@pytest.mark.parametrize(
    ("peer", "web", "loose"),
    [
        ({"fromEndpointGroup": "web"}, False, True),
        ({"fromEndpointGroup": "gone"}, True, True),
        ({"fromNetwork": "n"}, False, False),
        ({"fromNetwork": "gone"}, True, True),
        ({"fromIpAddress": "10.1.0.1"}, False, True),
        ({"fromIpAddress": "10.1.0.2-9"}, True, False),
        ({"fromIpAddress": "10.1.0.0/31"}, False, True),
        ({"fromEndpointGroup": "web", "fromIpAddress": "10.1.0.3"}, True, True),
        ({"toIpAddress": "10.1.0.2"}, False, False),
        ({"toIpAddress": "10.1.0.9"}, True, True),
    ],
)
def test_peers(peer: dict[str, str], web: bool, loose: bool) -> None:
    found = fabric(rule("in", "deny", **peer))
    assert found.passes(tcp(WEB, DB)) is web
    assert found.passes(tcp(LOOSE, DB)) is loose


def test_protocols_and_ports() -> None:
    closed = fabric(rule("in", "deny", protocol="tcp", ports=["22", "8000-8080"]))
    assert [closed.passes(tcp(WEB, DB, port)) for port in (22, 23, 7999, 8000, 8080, 8081)] == [
        False,
        True,
        True,
        False,
        False,
        True,
    ]
    assert closed.passes(Packet(WEB, DB, 17, 22))
    assert not fabric(rule("in", "deny", protocol="udp", port=53)).passes(Packet(WEB, DB, 17, 53))
    assert not fabric(rule("in", "deny", protocol="6")).passes(tcp(WEB, DB))
    assert fabric(rule("in", "deny", protocol="17")).passes(tcp(WEB, DB))
    assert not fabric(rule("in", "deny", port=80)).passes(tcp(WEB, DB, 81))


def test_icmp_means_each_familys_own() -> None:
    closed = fabric(rule("in", "deny", protocol="icmp"))
    assert not closed.passes(Packet(WEB, DB, 1, kind=8))
    assert not closed.passes(Packet(WEB6, DB6, 58, kind=128))
    some = fabric(rule("in", "deny", protocol="icmp", icmpTypes=[128]))
    assert some.passes(Packet(WEB, DB, 1, kind=8))
    assert not some.passes(Packet(WEB6, DB6, 58, kind=128))


def test_ranges() -> None:
    assert in_range(ip_address("10.1.0.5"), "10.1.0.4-6/24")
    assert not in_range(ip_address("10.1.0.7"), "10.1.0.4-6")
    assert in_range(ip_address("fd10:1::2"), "fd10:1::/64")
    assert not in_range(ip_address("10.1.0.1"), "::/0")
