"""Packets decide: over groups, directions, protocols and families, what passes is what the reference says."""

import random
import time
from ipaddress import ip_address
from typing import Any

import pytest

from tests.netns.policy.conftest import (
    GROUPS,
    NETWORKS,
    PLACES,
    TCP_PORTS,
    UDP_PORTS,
    WITH_POLICY,
    Field,
)
from tests.netns.policy.probing import ECHO, ECHO6, ICMP, ICMP6, TCP, UDP, Cell, Range
from tests.policy_reference import Container, Fabric, Object, Packet

pytestmark = [pytest.mark.netns, pytest.mark.slow]

PATIENCE = 20.0
"""Seconds in which a change of intent is in force on every host, on a busy machine."""
CELLS = [
    Cell(source, target, family, protocol, port)
    for source in PLACES
    for target in PLACES
    if source != target
    for family in (4, 6)
    for protocol, port in (
        *((TCP, port) for port in TCP_PORTS),
        *((UDP, port) for port in UDP_PORTS),
        (ICMP if family == 4 else ICMP6, 0),
    )
]


def test_there_are_enough_cells() -> None:
    assert len(CELLS) >= 200


def generated(seed: int, world: Field) -> tuple[list[Object], list[Object]]:
    """Return groups and rules of a kind that reality could have, and some that it had better not."""
    chance = random.Random(seed)
    groups: list[Object] = [
        {
            "tenantName": tenant,
            "groupName": name,
            "networkName": network,
            "policies": [name],
            "defaultAction": chance.choice(["allow", "deny"]),
        }
        for tenant, name, network in WITH_POLICY
    ]
    rules = [
        _rule(chance, world, f"{tenant}:{group}", str(number))
        for tenant, group, _ in WITH_POLICY
        for number in range(chance.randint(6, 10))
    ]
    return groups, rules + _agreed(chance)


def _agreed(chance: random.Random) -> list[Object]:
    """Rules of both tenants about each other: with one of them alone nothing would pass."""
    group = chance.choice([*GROUPS])
    ends = [("default", group, "red:red"), ("red", "red", f"default:{group}")]
    return [
        {
            "tenantName": tenant,
            "policyName": policy,
            "ruleId": f"agreed-{direction}",
            "direction": direction,
            "action": "allow",
            "priority": chance.randint(2, 3),
            f"{'from' if direction == 'in' else 'to'}EndpointGroup": peer,
        }
        | chance.choice([{}, {"protocol": "tcp"}])
        for tenant, policy, peer in ends
        for direction in ("in", "out")
    ]


def _rule(chance: random.Random, world: Field, policy: str, name: str) -> Object:
    tenant, _, policy = policy.partition(":")
    direction = chance.choice(["in", "in", "out"])
    there = "from" if direction == "in" else "to"
    rule: Object = {
        "tenantName": tenant,
        "policyName": policy,
        "ruleId": name,
        "direction": direction,
        "action": chance.choice(["allow", "deny"]),
        "priority": chance.randint(1, 2),
    }
    peer = _peer if tenant == "default" else _red_peer
    return rule | peer(chance, world, there) | _protocol(chance)


def _red_peer(chance: random.Random, world: Field, there: str) -> dict[str, Any]:
    address = str(chance.choice(world.containers["web"].addresses))
    groups = [{f"{there}EndpointGroup": f"default:{group}"} for group in GROUPS]
    return chance.choice([{}, {f"{there}IpAddress": address}, *groups, *groups])


def _peer(chance: random.Random, world: Field, there: str) -> dict[str, Any]:
    peer = world.containers[chance.choice(["web", "db", "cache", "loose"])]
    address = str(chance.choice(peer.addresses))
    wide = "10.1.0.0/16" if ":" not in address else "fd10:1::/64"
    return chance.choice(
        [
            {},
            {f"{there}EndpointGroup": chance.choice([*GROUPS])},
            {f"{there}EndpointGroup": "red:red"},
            {f"{there}EndpointGroup": chance.choice([*GROUPS])},
            {f"{there}Network": chance.choice(["lab", "other"])},
            {f"{there}IpAddress": address},
            {f"{there}IpAddress": wide},
        ]
    )


def _protocol(chance: random.Random) -> dict[str, Any]:
    return chance.choice(
        [
            {"protocol": chance.choice(["", "tcp"])},
            {"protocol": "tcp", "port": 8080},
            {"protocol": "tcp", "port": 80},
            {"protocol": "tcp", "ports": ["22", "8000-8100"]},
            {"protocol": "udp", "ports": ["53"]},
            {"protocol": "udp"},
            {"protocol": "icmp"},
            {"protocol": "icmp", "icmpTypes": [chance.choice([ECHO, ECHO6])]},
        ]
    )


def expected(fabric: Fabric, world: Field) -> set[Cell]:
    """Return the cells that the reference lets through."""

    def end(name: str, family: int) -> Container:
        attached = world.containers[name]
        address = next(a for a in attached.addresses if a.version == family)
        return Container(attached.network.partition(":")[0], PLACES[name][2], ip_address(address))

    return {
        cell
        for cell in CELLS
        if fabric.passes(
            Packet(
                end(cell.source, cell.family),
                end(cell.target, cell.family),
                cell.protocol,
                cell.port,
                {ICMP: ECHO, ICMP6: ECHO6}.get(cell.protocol, 0),
            )
        )
    }


def write(world: Field, groups: list[Object], rules: list[Object], before: list[Object]) -> None:
    for rule in before:
        world.remove("rules", _key(rule))
    for group in groups:
        world.put("endpoint-groups", f"{group['tenantName']}:{group['groupName']}", group)
    for rule in rules:
        world.put("rules", _key(rule), rule)


def _key(rule: Object) -> str:
    return f"{rule['tenantName']}:{rule['policyName']}:{rule['ruleId']}"


def test_what_passes_is_what_the_reference_says(world: Field, probes: Range) -> None:
    """The same containers under one generated policy after the other, changed while they run."""
    before: list[Object] = []
    for seed in range(6):
        groups, rules = generated(seed, world)
        write(world, groups, rules, before)
        before = rules
        wanted = expected(Fabric(list(NETWORKS), groups, rules, world.members()), world)
        settles(probes, wanted)
        found = probes.passing(CELLS)
        wrong = sorted(str(cell) for cell in found ^ wanted)
        assert not wrong, (seed, wrong, rules)
        assert 0 < len(found) < len(CELLS)
    write(world, [], [], before)


def settles(probes: Range, wanted: set[Cell]) -> None:
    """Return when a few cells are as they should be, or after a while: the whole matrix is judged then."""
    end = time.monotonic() + PATIENCE
    while probes.passing(CELLS) != wanted and time.monotonic() < end:
        pass
