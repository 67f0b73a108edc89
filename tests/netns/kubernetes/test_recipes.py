"""The NetworkPolicy recipes of the Kubernetes documentation, with packets: what passes is what they say."""

import json
import re
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from netfabric.fabric.pod import GROUP as NET_GROUP
from tests.kubernetes_objects import Object, policy
from tests.kubernetes_reference import Connection
from tests.netns.kubernetes.conftest import PODS, Cluster
from tests.netns.policy.probing import ICMP, ICMP6, TCP, UDP, Cell, Range

pytestmark = [pytest.mark.netns, pytest.mark.slow]

PATIENCE = 20.0
TCP_PORTS, UDP_PORTS = (80, 6379, 8080), (53,)
NAMES = {TCP: "TCP", UDP: "UDP", ICMP: "ICMP", ICMP6: "ICMP"}
CELLS = [
    Cell(source, target, family, protocol, port)
    for source in PODS
    for target in PODS
    if source != target
    for family in (4, 6)
    for protocol, port in (
        *((TCP, port) for port in TCP_PORTS),
        (UDP, 53),
        (ICMP if family == 4 else ICMP6, 0),
    )
]
DB, FRONT = {"matchLabels": {"role": "db"}}, {"matchLabels": {"role": "frontend"}}
PROJECT = {"matchLabels": {"project": "myproject"}}
DNS = {"protocol": "UDP", "port": 53}


def recipes(cluster: Cluster) -> dict[str, list[Object]]:
    """Return policies by what the documentation calls them; blocks are of addresses that are here."""
    client = cluster.running["other/client"].addresses[4]
    both = ["Ingress", "Egress"]
    example = policy(
        "test-network-policy",
        podSelector=DB,
        policyTypes=both,
        ingress=[
            {
                "from": [
                    {"ipBlock": {"cidr": "10.1.0.0/16", "except": [f"{client}/32"]}},
                    {"podSelector": FRONT},
                ],
                "ports": [{"protocol": "TCP", "port": 6379}],
            }
        ],
        egress=[
            {
                "to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}],
                "ports": [{"protocol": "TCP", "port": 80}],
            }
        ],
    )
    deny_in = policy("default-deny-ingress", podSelector={}, policyTypes=["Ingress"])
    return {
        "no policy": [],
        "default deny all ingress": [deny_in],
        "allow all ingress": [
            deny_in,
            policy("allow-all-ingress", podSelector={}, ingress=[{}], policyTypes=["Ingress"]),
        ],
        "default deny all egress": [
            policy("default-deny-egress", podSelector={}, policyTypes=["Egress"])
        ],
        "default deny all, and names still": [
            policy("default-deny-all", podSelector={}, policyTypes=both),
            policy("dns", podSelector={}, policyTypes=["Egress"], egress=[{"ports": [DNS]}]),
            policy("dns-in", podSelector=DB, ingress=[{"ports": [DNS]}]),
        ],
        "the first example": [example],
        "a block without one address": [
            policy(
                "block",
                podSelector=DB,
                ingress=[
                    {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": [f"{client}/32"]}}]}
                ],
            )
        ],
        "one namespace, and in it one role": [
            policy(
                "both",
                podSelector=DB,
                ingress=[
                    {
                        "from": [
                            {
                                "namespaceSelector": PROJECT,
                                "podSelector": {"matchLabels": {"role": "client"}},
                            }
                        ]
                    }
                ],
            )
        ],
        "either a namespace or a role": [
            policy(
                "either",
                podSelector=DB,
                ingress=[{"from": [{"namespaceSelector": PROJECT}, {"podSelector": FRONT}]}],
            )
        ],
        "a range of ports": [
            policy(
                "multi-port-egress",
                podSelector=DB,
                policyTypes=["Egress"],
                egress=[{"ports": [{"protocol": "TCP", "port": 6000, "endPort": 8100}]}],
            )
        ],
        "a namespace by its name": [
            policy(
                "by-name",
                podSelector=DB,
                policyTypes=["Egress"],
                egress=[{"to": [{"namespaceSelector": _named("other")}]}],
            )
        ],
        "a port by its name": [
            policy(
                "named", podSelector={}, ingress=[{"ports": [{"port": "web"}]}], policyTypes=both
            ),
            policy(
                "named-out",
                podSelector=FRONT,
                policyTypes=["Egress"],
                egress=[{"to": [{"podSelector": DB}], "ports": [{"port": "web"}]}],
            ),
        ],
    }


def _named(*names: str) -> Object:
    key = "kubernetes.io/metadata.name"
    return {"matchExpressions": [{"key": key, "operator": "In", "values": list(names)}]}


@pytest.fixture(scope="module")
def probes(cluster: Cluster) -> Iterator[Range]:
    nodes = cluster.nodes
    for number, (key, labels) in enumerate(PODS.items()):
        cluster.schedule(key, nodes[number % 2], labels)
        cluster.run(key, nodes[number % 2])
    running = cluster.running
    namespaces = {key: pod.namespace for key, pod in running.items()}
    addresses = {key: pod.addresses for key, pod in running.items()}
    with Range(namespaces, addresses, TCP_PORTS, UDP_PORTS) as made:
        yield made


def expected(cluster: Cluster) -> set[Cell]:
    """Return the cells that the reference lets through."""
    world, running = cluster.world(), cluster.running
    return {
        cell
        for cell in CELLS
        if world.passes(
            Connection(
                cell.source,
                cell.target,
                running[cell.source].addresses[cell.family],
                running[cell.target].addresses[cell.family],
                NAMES[cell.protocol],
                cell.port,
            )
        )
    }


def in_force(probes: Range, wanted: set[Cell]) -> set[Cell]:
    """Return what is wrong once all is as it should be, or after a while."""
    end = time.monotonic() + PATIENCE
    while (wrong := probes.passing(CELLS) ^ wanted) and time.monotonic() < end:
        pass
    return wrong


def apply(cluster: Cluster, policies: list[Object]) -> None:
    wanted = {f"{p['metadata']['namespace']}/{p['metadata']['name']}" for p in policies}
    for raw in policies:
        cluster.put(raw)
    for key in cluster.world().policies.keys() - wanted:
        cluster.delete("networkpolicies", key)
    ruling = {
        f"{p['metadata']['namespace']}/{p['metadata']['name']}"
        for p in policies
        if p["spec"].get("ingress") or p["spec"].get("egress")
    }
    end = time.monotonic() + PATIENCE
    while spoken_of(cluster) != ruling:
        assert time.monotonic() < end, (spoken_of(cluster), ruling)


def spoken_of(cluster: Cluster) -> set[str]:
    """Return the policies that the nodes' tables have rules of."""
    tables = [
        machine.namespace.run("nft", "list", "table", "inet", "netfabric")
        for machine in cluster.lab.machines.values()
    ]
    return {name for table in tables for name in re.findall(r"kubernetes:(\w+/[\w-]+)/", table)}


def test_every_recipe_gives_the_documented_reachability(cluster: Cluster, probes: Range) -> None:
    blue, lab = cluster.running["default/db"], cluster.running["other/client"]
    assert blue.addresses[4].startswith("10.2.0."), blue
    assert lab.addresses[4].startswith("10.1."), lab
    listed = cluster.lab.controller.netctl("pod", "ls", "-o", "json").stdout
    assert {item["key"]: item["state"] for item in json.loads(listed)} == dict.fromkeys(
        PODS, "attached"
    )
    counts = set()
    for name, policies in recipes(cluster).items():
        apply(cluster, policies)
        wanted = expected(cluster)
        counts.add(len(wanted))
        wrong = in_force(probes, wanted)
        assert not wrong, (name, sorted(map(str, wrong))[:5])
    assert len(counts) > 6
    apply(cluster, [])


def test_labels_that_change_change_who_may_talk(cluster: Cluster, probes: Range) -> None:
    apply(cluster, [policy("p", podSelector=DB, ingress=[{"from": [{"podSelector": FRONT}]}])])
    assert not in_force(probes, expected(cluster))
    node = cluster.nodes[0]
    cluster.schedule("default/back", node, {"role": "frontend"})
    cluster.schedule("default/front", cluster.nodes[1], {"role": "db"})
    assert not in_force(probes, expected(cluster))
    apply(cluster, [])


def test_an_add_waits_for_its_pod_and_answers_when_it_is_scheduled(cluster: Cluster) -> None:
    """Kubelet may be faster than the news; the pod is guarded before its first packet."""
    node = cluster.nodes[0]
    cluster.put(policy("closed", podSelector={"matchLabels": {"role": "late"}}))
    made: list[Any] = []
    adding = threading.Thread(target=lambda: made.append(cluster.run("default/late", node)))
    adding.start()
    adding.join(0.3)
    assert adding.is_alive()
    cluster.schedule("default/late", node, {"role": "late"})
    adding.join(60)
    assert made
    table = cluster.lab.machines[node].namespace.run("nft", "list", "table", "inet", "netfabric")
    assert "pods" in table
    cluster.stop("default/late", node)
    cluster.delete("pods", "default/late")
    apply(cluster, [])


def test_the_rules_of_a_pods_group_hold_as_well(cluster: Cluster, probes: Range) -> None:
    """A policy opens db to everybody, its group's rules keep 6379 closed: both have a say."""
    tell = cluster.lab.controller.ask
    own = {"tenantName": "default", "policyName": "web"}
    rule = own | {"ruleId": "1", "direction": "in", "action": "deny", "protocol": "tcp"}
    tell(lambda netmaster: netmaster.put("policies", "default:web", own))
    tell(lambda netmaster: netmaster.put("rules", "default:web:1", rule | {"port": 6379}))
    group = {"tenantName": "default", "groupName": "web", "networkName": "blue"}
    group |= {"policies": ["web"]}  # type: ignore[dict-item]
    tell(lambda netmaster: netmaster.put("endpoint-groups", "default:web", group))
    apply(cluster, [policy("open", podSelector=DB, ingress=[{}])])
    cluster.schedule("default/db", cluster.nodes[0], PODS["default/db"] | {NET_GROUP: "web"})
    closed = {
        cell for cell in expected(cluster) if (cell.target, cell.port) == ("default/db", 6379)
    }
    assert closed
    assert not in_force(probes, expected(cluster) - closed)
    cluster.schedule("default/db", cluster.nodes[0], PODS["default/db"])
    assert not in_force(probes, expected(cluster))
    apply(cluster, [])


def test_agents_alone_enforce_what_they_knew(cluster: Cluster, probes: Range) -> None:
    """netmaster is down, both agents are killed, their tables are gone: the journals say all of it again."""
    apply(cluster, [policy("p", podSelector=DB, ingress=[{"from": [{"podSelector": FRONT}]}])])
    wanted, lab = expected(cluster), cluster.lab
    assert not in_force(probes, wanted)
    lab.kill("netmaster", "netmaster", signal.SIGTERM)
    for node in cluster.nodes:
        lab.kill(node, "netplugin")
        lab.namespace(node).run("nft", "delete", "table", "inet", "netfabric")
        lab.restart(node, "netplugin")
    assert not in_force(probes, wanted)
    lab.restart("netmaster", "netmaster")
    apply(cluster, [])
