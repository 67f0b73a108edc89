"""The examples of the Kubernetes documentation on network policies, and the corners of selectors and ports."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from netfabric.fabric.cluster import Cluster
from netfabric.fabric.filter import PeerMatch
from netfabric.fabric.pod import Pod
from netfabric.fabric.prefix import Address, host_prefix
from netfabric.fabric.selector import Selector
from netfabric.fabric.verdict import End, Packet, judge
from tests.kubernetes_objects import as_object

NAMESPACES = {
    "default": {"kubernetes.io/metadata.name": "default"},
    "other": {"kubernetes.io/metadata.name": "other", "project": "myproject"},
}


def pod(name: str, number: int, namespace: str = "default", **labels: str) -> Pod:
    return Pod(namespace, name, f"h{number}", labels=labels, ports={("web", "TCP"): 8000 + number})


def addresses(of: Pod) -> tuple[Address, ...]:
    number = of.host[1:]
    return (ip_address(f"10.1.0.{number}"), ip_address(f"fd10:1::{number}"))


DB = pod("db", 1, role="db")
FRONT = pod("front", 2, role="frontend")
BACK = pod("back", 3, role="backend")
FAR = pod("far", 4, "other", role="client")
FAR_FRONT = pod("far-front", 5, "other", role="frontend")
PODS = (DB, FRONT, BACK, FAR, FAR_FRONT)


def policy(name: str = "p", namespace: str = "default", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def translate(policies: Sequence[dict[str, Any]]) -> Cluster:
    """Return what policies mean for the pods and namespaces above."""
    cluster = Cluster()
    for name, labels in NAMESPACES.items():
        cluster.put_namespace({"metadata": {"name": name, "labels": labels}})
    for one in PODS:
        cluster.put_pod(as_object(one))
    for each in policies:
        cluster.put_policy(each)
    cluster.settle()
    assert not cluster.broken
    return cluster


def end(of: Pod | str, found: Cluster, family: int) -> End:
    if isinstance(of, str):
        return End(of, ip_address(of))
    address = next(a for a in addresses(of) if a.version == family)
    return End(of.name, address, "default", found.placements[of.key].filter)


def passes(
    found: Cluster, source: Pod | str, target: Pod | str, port: int = 80, protocol: int = 6
) -> bool:
    """Judge both families; they must agree. A pod is in many peers' groups: each is tried."""
    answers = set()
    outside = [ip_address(e).version for e in (source, target) if isinstance(e, str)]
    for family in outside or (4, 6):
        packet = Packet(end(source, found, family), end(target, found, family), protocol, port)
        answers.add(_judged(found, packet))
    (answer,) = answers
    return answer


def _judged(found: Cluster, packet: Packet) -> bool:
    """Peers are groups of members here, and no labels of endpoints: put their addresses in place."""
    members: dict[str, list[Address]] = {}
    for one in PODS:
        for peer in found.placements[one.key].peers:
            members.setdefault(peer, []).extend(addresses(one))

    def resolved(peer: PeerMatch) -> PeerMatch:
        if not peer.group:
            return peer
        nobody = (host_prefix(ip_address("192.0.2.255")),)
        return PeerMatch(prefixes=tuple(map(host_prefix, members.get(peer.group, ()))) or nobody)

    filters = {
        f.group: replace(f, rules=tuple(replace(r, peer=resolved(r.peer)) for r in f.rules))
        for f in found.filters.values()
    }
    return judge(packet, filters.get).action == "allow"


def test_the_documentations_first_example() -> None:
    found = translate(
        [
            policy(
                podSelector={"matchLabels": {"role": "db"}},
                policyTypes=["Ingress", "Egress"],
                ingress=[
                    {
                        "from": [
                            {"ipBlock": {"cidr": "172.17.0.0/16", "except": ["172.17.1.0/24"]}},
                            {"namespaceSelector": {"matchLabels": {"project": "myproject"}}},
                            {"podSelector": {"matchLabels": {"role": "frontend"}}},
                        ],
                        "ports": [{"protocol": "TCP", "port": 6379}],
                    }
                ],
                egress=[
                    {
                        "to": [{"ipBlock": {"cidr": "10.0.0.0/24"}}],
                        "ports": [{"protocol": "TCP", "port": 5978}],
                    }
                ],
            )
        ]
    )
    assert passes(found, FRONT, DB, 6379)
    assert passes(found, FAR, DB, 6379)
    assert passes(found, "172.17.0.9", DB, 6379)
    assert not passes(found, "172.17.1.9", DB, 6379)
    assert not passes(found, BACK, DB, 6379)
    assert not passes(found, FRONT, DB, 6380)
    assert not passes(found, FRONT, DB, 6379, protocol=17)
    assert passes(found, DB, "10.0.0.7", 5978)
    assert not passes(found, DB, "10.0.0.7", 5979)
    assert not passes(found, DB, FRONT, 5978)
    assert passes(found, BACK, FRONT)


@pytest.mark.parametrize("together", [True, False])
def test_namespace_and_pod_selectors_in_one_entry_mean_both(together: bool) -> None:
    where = {"namespaceSelector": {"matchLabels": {"project": "myproject"}}}
    who = {"podSelector": {"matchLabels": {"role": "client"}}}
    peers = [where | who] if together else [where, who]
    found = translate([policy(podSelector={}, ingress=[{"from": peers}])])
    assert passes(found, FAR, DB)
    assert passes(found, FAR_FRONT, DB) is not together


def test_default_deny_and_allow_all() -> None:
    deny_in = policy("deny-in", podSelector={}, policyTypes=["Ingress"])
    deny_out = policy("deny-out", podSelector={}, policyTypes=["Egress"])
    allow_in = policy("allow", podSelector={}, ingress=[{}], policyTypes=["Ingress"])
    closed = translate([deny_in])
    assert not passes(closed, FRONT, DB)
    assert passes(closed, DB, FAR)
    assert not passes(translate([deny_out]), DB, FAR)
    assert passes(translate([deny_out]), FAR, DB)
    opened = translate([deny_in, allow_in])
    assert passes(opened, FRONT, DB)
    assert passes(opened, "198.51.100.1", DB, protocol=1)
    neither = translate([deny_in, deny_out])
    assert not passes(neither, FRONT, DB)
    assert not passes(neither, DB, FAR)


def test_a_range_of_ports() -> None:
    ports = [{"protocol": "TCP", "port": 32000, "endPort": 32768}]
    out = policy(podSelector={}, policyTypes=["Egress"], egress=[{"ports": ports}])
    found = translate([out])
    assert [passes(found, DB, FAR, port) for port in (31999, 32000, 32768, 32769)] == [
        False,
        True,
        True,
        False,
    ]


def test_a_named_port_is_each_receivers_own() -> None:
    into = policy(podSelector={}, ingress=[{"ports": [{"port": "web"}]}])
    found = translate([into])
    assert passes(found, FAR, DB, 8001)
    assert not passes(found, FAR, DB, 8002)
    assert passes(found, FAR, FRONT, 8002)
    out = policy(podSelector={}, policyTypes=["Egress"], egress=[{"ports": [{"port": "web"}]}])
    found = translate([out])
    assert passes(found, DB, FAR, 8004)
    assert not passes(found, DB, FAR, 8001)


def test_policies_add_up_and_pods_alike_share_a_filter() -> None:
    one = policy("a", podSelector={}, ingress=[{"ports": [{"port": 80}]}])
    two = policy(
        "b", podSelector={"matchLabels": {"role": "db"}}, ingress=[{"ports": [{"port": 90}]}]
    )
    found = translate([two, one])
    assert passes(found, FRONT, DB, 80)
    assert passes(found, FRONT, DB, 90)
    assert not passes(found, DB, FRONT, 90)
    assert len(found.filters) == 2
    assert found.placements[FRONT.key].filter == found.placements[BACK.key].filter != ""
    assert found.placements[FAR.key].filter == ""


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ({}, True),
        ({"matchLabels": {"role": "db"}}, True),
        ({"matchExpressions": [{"key": "role", "operator": "In", "values": ["db", "x"]}]}, True),
        ({"matchExpressions": [{"key": "role", "operator": "NotIn", "values": ["db"]}]}, False),
        ({"matchExpressions": [{"key": "no", "operator": "NotIn", "values": ["db"]}]}, True),
        ({"matchExpressions": [{"key": "role", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "role", "operator": "DoesNotExist"}]}, False),
    ],
)
def test_selectors(selector: dict[str, Any], chosen: bool) -> None:
    assert Selector.parse(selector).chooses({"role": "db"}) is chosen
