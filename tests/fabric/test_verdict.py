"""The verdict out of hosts' filters is that of the reference evaluator, which reads the objects themselves."""

import json
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any, cast

import pytest

from netfabric.fabric.policies import Policies
from netfabric.fabric.verdict import End, Packet, judge
from netfabric.fabric.view import ROOT, View
from tests.netns.policy.conftest import NETWORKS, PLACES, Field
from tests.netns.policy.test_matrix import CELLS, expected, generated
from tests.policy_reference import Fabric

SUBNETS = {
    "default:lab": ("10.1.0.", "fd10:1::"),
    "default:other": ("10.2.0.", "fd10:2::"),
    "red:rnet": ("10.9.0.", "fd10:9::"),
}


def world() -> Field:
    containers: dict[str, Any] = {}
    for number, (name, (_, network, _)) in enumerate(PLACES.items(), 1):
        addresses = tuple(ip_address(f"{start}{number}") for start in SUBNETS[network])
        containers[name] = SimpleNamespace(network=network, addresses=addresses)
    return Field(cast(Any, None), containers)


def end(of: Field, name: str, family: int) -> End:
    attached = of.containers[name]
    tenant, group = attached.network.partition(":")[0], PLACES[name][2]
    address = next(a for a in attached.addresses if a.version == family)
    return End(name, address, tenant, f"{tenant}:{group}" if group else "")


@pytest.mark.parametrize("seed", range(40))
def test_it_is_the_references(seed: int) -> None:
    there = world()
    groups, rules = generated(seed, there)
    view = View()
    objects = [("network", f"{n['tenantName']}:{n['networkName']}", n) for n in NETWORKS]
    objects += [("endpointGroup", f"{g['tenantName']}:{g['groupName']}", g) for g in groups]
    objects += [("rule", f"{r['tenantName']}:{r['policyName']}:{r['ruleId']}", r) for r in rules]
    puts = [
        (f"{ROOT}intent/{t}/{k}", json.dumps(o | {"key": k}).encode(), 1) for t, k, o in objects
    ]
    view.apply(puts, [], 1)
    assert not view.broken
    policies = Policies(view)
    policies.begin()
    found = {
        cell
        for cell in CELLS
        if judge(
            Packet(
                end(there, cell.source, cell.family),
                end(there, cell.target, cell.family),
                cell.protocol,
                cell.port,
            ),
            policies.filters.get,
        ).action
        == "allow"
    }
    assert found == expected(Fabric(list(NETWORKS), groups, rules, there.members()), there)


def test_some_of_it_goes_between_tenants() -> None:
    there = world()
    crossing = {cell for cell in CELLS if "red" in (cell.source, cell.target)}
    found = []
    for seed in range(6):
        groups, rules = generated(seed, there)
        found.append(expected(Fabric(list(NETWORKS), groups, rules, there.members()), there))
    shares = [len(passing & crossing) / len(crossing) for passing in found]
    assert 0.05 < sum(shares) / len(shares) < 0.5
