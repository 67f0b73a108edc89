"""`/api/v2/verdicts` between pods: policies of Kubernetes, and the group's rules behind them."""

from collections.abc import Mapping
from typing import Any

import pytest

from netfabric.api.rest.readings import pods
from netfabric.api.rest.verdicts import verdicts
from netfabric.fabric.cluster import Cluster
from netfabric.fabric.controller_pods import decide_pods
from netfabric.fabric.pod import GROUP, NETWORK, Pod
from netfabric.fabric.stored import plain
from tests.fabric.controllers import Fabric
from tests.fabric.test_controller_pods import endpoint
from tests.kubernetes_objects import as_object, namespace, policy

ONE = Pod("a", "one", "h1", "1", {NETWORK: "blue", GROUP: "web", "app": "one"})
TWO = Pod("a", "two", "h2", "2", {NETWORK: "blue", "app": "two"})
OTHER = Pod("a", "other", "h2", "3", {NETWORK: "blue"})
FROM_TWO = policy(
    "p",
    "a",
    podSelector={"matchLabels": {"app": "one"}},
    ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "two"}}}]}],
)
TENANT = {"tenantName": "default"}
DENY = {"policyName": "w", "ruleId": "1", "direction": "in", "action": "deny", "protocol": "tcp"}


@pytest.fixture
def fabric() -> Fabric:
    made, cluster = Fabric(), Cluster()
    web = TENANT | {"groupName": "web", "networkName": "blue", "policies": ["w"]}
    made.put("intent/endpointGroup/default:web", web | {"key": "default:web"})
    made.put("intent/policy/default:w", TENANT | {"policyName": "w", "key": "default:w"})
    made.put("intent/rule/default:w:1", TENANT | DENY | {"port": 22, "key": "default:w:1"})
    cluster.put_namespace(namespace("a"))
    for number, pod in enumerate((ONE, TWO, OTHER), 1):
        cluster.put_pod(as_object(pod))
        found = endpoint(pod, made.address(number))
        group = {"group": "web"} if pod is ONE else {}
        made.put(f"endpoint/{pod.host}/{found.key}", plain(found) | group)
    cluster.put_policy(FROM_TWO)
    changed = cluster.settle()
    while write := decide_pods(made.view, cluster, *changed).write:
        made.commit(write)
    return made


def verdict(fabric: Fabric, **query: str) -> Mapping[str, Any]:
    (found,) = verdicts(fabric.view, {"protocol": "tcp"} | query)
    return found


@pytest.mark.parametrize(
    ("source", "port", "action", "reason"),
    [
        ("two", "80", "allow", "kubernetes:a/p:ingress.0.0"),
        ("two", "22", "deny", "default:w:1"),
        ("other", "80", "deny", "isolated"),
    ],
)
def test_both_have_a_say(fabric: Fabric, source: str, port: str, action: str, reason: str) -> None:
    found = verdict(fabric, **{"from": source, "to": "one", "port": port})
    assert (found["action"], reason in found["reason"]) == (action, True), found["reason"]


def test_what_no_policy_selects_is_open(fabric: Fabric) -> None:
    assert verdict(fabric, **{"from": "one", "to": "two", "port": "80"})["action"] == "allow"


def test_pods_are_listed_with_what_they_have(fabric: Fabric) -> None:
    found = {item["key"]: item for item in pods(fabric.view, {"namespace": "a"})}
    assert found.keys() == {"a/one", "a/two", "a/other"}
    one, two = found["a/one"], found["a/two"]
    assert (one["state"], one["addresses"], one["group"]) == ("attached", ["10.1.0.1"], "web")
    assert (bool(one["filter"]), two["filter"], len(two["peers"])) == (True, "", 1)
    assert not pods(fabric.view, {"namespace": "b"})
    fabric.view.apply((), ["/netfabric/v1/endpoint/h2/c-a-two/eth0"], 99)
    assert [i["state"] for i in pods(fabric.view, {"host": "h2"})] == ["attached", "expected"]
