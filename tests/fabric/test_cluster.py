"""A cluster followed object by object is what one look at it would make it, and lets pass what the documentation says."""

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import ip_address
from itertools import product
from typing import Any

import pytest

from netfabric.fabric.cluster import Cluster
from netfabric.fabric.filter import PeerMatch
from netfabric.fabric.placement import Placement
from netfabric.fabric.pod import Pod
from netfabric.fabric.prefix import host_prefix
from netfabric.fabric.verdict import End, Packet, judge
from tests.kubernetes_objects import Object, as_object, namespace, policy
from tests.kubernetes_reference import Connection, World

NAMES = [f"{space}/{name}" for space in ("a", "b") for name in ("x", "y", "z")]
ADDRESSES = {name: f"10.1.0.{number}" for number, name in enumerate(NAMES, 1)}
SPACES = ("a", "b")
POLICIES = [f"{space}/{name}" for space in SPACES for name in ("m", "n")]


class Chance:
    """Objects of a kind that reality could have, and some that it had better not."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def one(self, *choices: Any) -> Any:
        return self._random.choice(choices)

    def object(self, *choices: Object) -> Object:
        return choices[self._random.randrange(len(choices))]

    def labels(self) -> dict[str, str]:
        return {key: self.one("p", "q") for key in ("k", "l") if self._random.random() < 0.7}

    def selector(self) -> Object:
        expression = {
            "key": self.one("k", "l"),
            "operator": self.one("In", "NotIn", "Exists", "DoesNotExist"),
            "values": [self.one("p", "q")],
        }
        return self.object({}, {"matchLabels": self.labels()}, {"matchExpressions": [expression]})

    def peer(self) -> Object:
        return self.object(
            {"podSelector": self.selector()},
            {"namespaceSelector": self.selector()},
            {"namespaceSelector": self.selector(), "podSelector": self.selector()},
            {"ipBlock": {"cidr": "10.1.0.0/29", "except": ["10.1.0.2/31"]}},
            {"ipBlock": {"cidr": "10.1.0.4/30"}},
        )

    def port(self) -> Object:
        return self.object(
            {"port": 80}, {"port": 80, "endPort": 81}, {"port": "web"}, {"protocol": "UDP"}
        )

    def entries(self, ends: str) -> list[Object]:
        def some(make: Callable[[], Object]) -> list[Object]:
            return [make() for _ in range(self.one(0, 1, 1, 2))]

        return [{ends: some(self.peer), "ports": some(self.port)} for _ in range(self.one(0, 1, 2))]

    def spec(self) -> Object:
        spec: Object = {"podSelector": self.selector()}
        if types := self.one([], ["Ingress"], ["Egress"], ["Ingress", "Egress"]):
            spec["policyTypes"] = types
        return spec | {"ingress": self.entries("from"), "egress": self.entries("to")}

    def pod(self) -> tuple[Object, dict[tuple[str, str], int]]:
        return self.labels(), self.one({}, {("web", "TCP"): 80}, {("web", "TCP"): 81})

    def change(self) -> tuple[str, str, Any]:
        gone = self._random.random() < 0.2
        kind = self.one("namespace", "pod", "pod", "policy", "policy")
        name = self.one(*{"namespace": SPACES, "pod": NAMES, "policy": POLICIES}[kind])
        makers = {"namespace": self.labels, "pod": self.pod, "policy": self.spec}
        return kind, name, None if gone else makers[kind]()

    def everything(self) -> list[tuple[str, str, Any]]:
        return [
            *(("namespace", name, self.labels()) for name in SPACES),
            *(("pod", name, self.pod()) for name in NAMES),
            *(("policy", name, self.spec()) for name in POLICIES if self.one(True, False)),
        ]


class Following:
    """A cluster that is told changes, and the objects as they are."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.objects: dict[tuple[str, str], Object] = {}
        self.placements: dict[str, Placement] = {}
        self.filters: dict[str, Any] = {}

    def take(self, kind: str, name: str, value: Any) -> None:
        if value is None:
            if self.objects.pop((kind, name), None):
                getattr(self.cluster, f"remove_{kind}")(name)
            return
        where, _, own = name.partition("/")
        if kind == "namespace":
            made = namespace(name, value)
        elif kind == "pod":
            made = as_object(Pod(where, own, "h1", f"u-{own}", *value))
        else:
            made = policy(own, where, **value)
        self.objects[kind, name] = made
        tell(self.cluster, kind, made)

    def settle(self) -> None:
        """Take only what is said to have changed, as the store does."""
        pods, filters = self.cluster.settle()
        _copy(self.placements, self.cluster.placements, pods)
        _copy(self.filters, self.cluster.filters, filters)

    def world(self) -> World:
        def of(kind: str) -> dict[str, Object]:
            return {name: obj for (k, name), obj in self.objects.items() if k == kind}

        spaces = {name: obj["metadata"]["labels"] for name, obj in of("namespace").items()}
        return World(spaces, of("pod"), of("policy"))


def tell(cluster: Cluster, kind: str, made: Object) -> None:
    getattr(cluster, f"put_{kind}")(made)


def _copy(mine: dict[str, Any], theirs: Mapping[str, Any], keys: set[str]) -> None:
    for key in keys:
        mine.pop(key, None)
        if key in theirs:
            mine[key] = theirs[key]


def anew(following: Following) -> Cluster:
    made = Cluster()
    for (kind, _), obj in following.objects.items():
        tell(made, kind, obj)
    made.settle()
    return made


@pytest.mark.parametrize("seed", range(20))
def test_step_by_step_is_what_one_look_makes(seed: int) -> None:
    chance, following = Chance(seed), Following()
    for step in range(30):
        for change in chance.everything() if not step else [chance.change()] * chance.one(1, 3):
            following.take(*change)
        following.settle()
        fresh = anew(following)
        assert following.placements == fresh.placements
        assert following.filters == fresh.filters
        assert not following.cluster.broken


@pytest.mark.parametrize("seed", range(100))
def test_what_passes_is_what_the_documentation_says(seed: int) -> None:
    chance, following = Chance(seed), Following()
    for _ in range(2):
        for change in chance.everything():
            following.take(*change)
        following.settle()
    judging, world = judged(following), following.world()
    for source, target in product(NAMES, NAMES):
        for protocol, port in (("TCP", 80), ("TCP", 81), ("UDP", 80)):
            one = Connection(source, target, ADDRESSES[source], ADDRESSES[target], protocol, port)
            if source != target:
                assert judging(one) == world.passes(one), one


def judged(following: Following) -> Any:
    """Return a judge of connections by the filters; a pod is in several groups of peers, so addresses stand for them."""
    members: dict[str, list[str]] = {}
    for name, placed in following.placements.items():
        for peer in placed.peers:
            members.setdefault(peer, []).append(ADDRESSES[name])

    def resolved(peer: PeerMatch) -> PeerMatch:
        if not peer.group:
            return peer
        found = [ip_address(a) for a in members.get(peer.group, ())]
        inside = [a for a in found if not peer.prefixes or any(a in p for p in peer.prefixes)]
        nobody = [ip_address("192.0.2.255")]
        return replace(peer, group="", prefixes=tuple(map(host_prefix, inside or nobody)))

    filters = {
        key: replace(f, rules=tuple(replace(r, peer=resolved(r.peer)) for r in f.rules))
        for key, f in following.filters.items()
    }

    def end(name: str) -> End:
        placed = following.placements[name]
        return End(name, ip_address(ADDRESSES[name]), placed.tenant, placed.filter)

    def passes(one: Connection) -> bool:
        number = {"TCP": 6, "UDP": 17}[one.protocol]
        packet = Packet(end(one.source), end(one.target), number, one.port)
        return judge(packet, filters.get).action == "allow"

    return passes


def test_labels_say_where_a_pod_belongs() -> None:
    cluster = Cluster()
    cluster.put_namespace(namespace("a", {"io.contiv.tenant": "red"}))
    own = {"io.contiv.network": "blue", "io.contiv.net-group": "web"}
    cluster.put_pod(as_object(Pod("a", "x", "h1", labels=own)))
    cluster.put_pod(as_object(Pod("a", "y", "h1", labels={"io.contiv.tenant": "green"})))
    cluster.settle()
    assert cluster.placements == {
        "a/x": Placement("a/x", "h1", "", "red", "blue", "web", labels=tuple(sorted(own.items()))),
        "a/y": Placement(
            "a/y", "h1", "", "green", "default-net", labels=(("io.contiv.tenant", "green"),)
        ),
    }
    cluster.put_namespace(namespace("a"))
    assert cluster.settle()[0] == {"a/x", "a/y"}
    assert cluster.placements["a/x"].tenant == "default"


def test_pods_without_an_address_of_ours_have_no_place() -> None:
    cluster = Cluster()
    of_host, waiting, ended = (as_object(Pod("a", name, "h1")) for name in ("h", "w", "e"))
    of_host["spec"]["hostNetwork"] = True
    del waiting["spec"]["nodeName"]
    ended["status"]["phase"] = "Succeeded"
    for raw in (of_host, waiting, ended):
        cluster.put_pod(raw)
    cluster.settle()
    assert not cluster.placements
    waiting["spec"]["nodeName"] = "h2"
    cluster.put_pod(waiting)
    cluster.settle()
    assert cluster.placements["a/w"].host == "h2"


def test_a_policy_that_cannot_be_read_closes_its_namespace_and_no_other() -> None:
    cluster = Cluster()
    for where in ("a", "b"):
        cluster.put_pod(as_object(Pod(where, "x", "h1")))
    cluster.put_policy(
        policy("p", "a", podSelector={"matchExpressions": [{"key": "k", "operator": "Near"}]})
    )
    cluster.settle()
    assert "Near" in cluster.broken["a/p"]
    assert cluster.placements["b/x"].filter == ""
    rules = cluster.filters[cluster.placements["a/x"].filter].rules
    assert {(rule.direction, rule.action) for rule in rules} == {("in", "deny"), ("out", "deny")}


def test_one_pod_more_costs_one_pod() -> None:
    """A change of one pod says nothing of the thousand others."""
    cluster = Cluster()
    cluster.put_policy(policy("p", "a", podSelector={}, ingress=[{"from": [{"podSelector": {}}]}]))
    for number in range(1000):
        cluster.put_pod(as_object(Pod("a", f"p{number}", f"h{number % 10}")))
    cluster.settle()
    cluster.put_pod(as_object(Pod("a", "one-more", "h1")))
    pods, filters = cluster.settle()
    assert (pods, filters) == ({"a/one-more"}, set())


@pytest.mark.parametrize(
    ("entry", "readable"),
    [
        ({"from": [{"ipBlock": {"cidr": "10.1.0.9/24"}}]}, True),
        ({"from": [{"ipBlock": {"cidr": "10.1.0.0/33"}}]}, False),
        ({"ports": [{"port": 80, "endPort": 79}]}, False),
        ({"ports": [{"port": 70000}]}, False),
        ({"ports": [{"port": 80, "protocol": "ICMP"}]}, False),
    ],
)
def test_what_no_host_could_enforce_reaches_none(entry: Object, readable: bool) -> None:
    cluster = Cluster()
    cluster.put_pod(as_object(Pod("a", "x", "h1")))
    cluster.put_policy(policy("p", "a", podSelector={}, ingress=[entry]))
    cluster.settle()
    assert ("a/p" not in cluster.broken) is readable
    assert (
        bool([r for f in cluster.filters.values() for r in f.rules if r.action == "allow"])
        is readable
    )


def test_a_static_pod_is_known_by_kubelets_uid() -> None:
    raw = as_object(Pod("kube-system", "dns-node1", "node1", "of-the-mirror"))
    raw["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "of-kubelet"}
    assert Pod.parse(raw) == Pod("kube-system", "dns-node1", "node1", "of-kubelet")
