"""The store comes to hold what follows from the cluster, in an order in which no pod ever lacks its filter."""

from netfabric.fabric.cluster import Cluster
from netfabric.fabric.controller_intent import Intents
from netfabric.fabric.controller_pods import decide_pods, differences
from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.filter import Members
from netfabric.fabric.placement import NAMESPACE_LABEL, UID_LABEL
from netfabric.fabric.pod import Pod
from netfabric.fabric.prefix import Address
from netfabric.fabric.session import MembersChanged
from netfabric.fabric.stored import plain
from tests.fabric.controllers import Fabric
from tests.kubernetes_objects import as_object, namespace, policy

CLOSED = policy("deny", "a", podSelector={})
FROM_B = policy(
    "from-b", "a", podSelector={}, ingress=[{"from": [{"namespaceSelector": {"matchLabels": {"n": "b"}}}]}]
)  # fmt: skip


def carry_out(fabric: Fabric, cluster: Cluster) -> int:
    """Bring the store up to a cluster; return in how many writes."""
    pods, filters = cluster.settle()
    writes = 0
    while decision := decide_pods(fabric.view, cluster, pods, filters).write:
        fabric.commit(decision)
        writes += 1
        used = {placed.filter for placed in fabric.view.pods.values() if placed.filter}
        assert used <= fabric.view.filters.keys()
    assert differences(fabric.view, cluster) == (set(), set())
    return writes


def endpoint(pod: Pod, *addresses: Address) -> Endpoint:
    labels = ((NAMESPACE_LABEL, pod.namespace), (UID_LABEL, pod.uid))
    key = EndpointKey(f"c-{pod.namespace}-{pod.name}", "eth0")
    return Endpoint(
        key, pod.host, "default", "blue", "", "/ns", "nf1", "02:02:00:00:00:01", addresses,
        name=pod.name, labels=labels,
    )  # fmt: skip


def cluster_of(*pods: Pod) -> Cluster:
    cluster = Cluster()
    cluster.put_namespace(namespace("b", {"n": "b"}))
    for pod in pods:
        cluster.put_pod(as_object(pod))
    return cluster


def test_a_big_cluster_fits_in_writes_that_a_store_takes() -> None:
    pods = [Pod("a", f"p{number}", "h1", str(number)) for number in range(250)]
    fabric, cluster = Fabric(), cluster_of(*pods)
    cluster.put_policy(CLOSED)
    assert carry_out(fabric, cluster) == 4
    cluster.remove_policy("a/deny")
    assert carry_out(fabric, cluster) == 4
    assert not fabric.view.filters


def test_what_another_has_written_is_written_over() -> None:
    fabric, cluster = Fabric(), cluster_of(Pod("a", "x", "h1", "1"))
    carry_out(fabric, cluster)
    stale = plain(fabric.view.pods["a/x"]) | {"host": "h9"}
    fabric.put("kubernetes/pod/a/x", stale)
    fabric.put("kubernetes/pod/a/gone", stale | {"pod": "a/gone"})
    pods, filters = differences(fabric.view, cluster)
    assert pods == {"a/x", "a/gone"}
    fabric.commit(decide_pods(fabric.view, cluster, pods, filters).write)
    assert differences(fabric.view, cluster) == (set(), set())


def test_hosts_are_told_the_addresses_of_the_pods_that_selectors_choose() -> None:
    there, other = Pod("b", "y", "h2", "2"), Pod("c", "z", "h2", "3")
    fabric, cluster = Fabric(), cluster_of(Pod("a", "x", "h1", "1"), there, other)
    intents = Intents(fabric.view)
    intents.begin("e")
    fabric.follow(intents.follow)
    cluster.put_policy(FROM_B)
    carry_out(fabric, cluster)
    for pod, number in ((there, 5), (other, 6)):
        made = endpoint(pod, fabric.address(number))
        fabric.put(f"endpoint/h2/{made.key}", plain(made))
    (peer,) = fabric.view.pods["b/y"].peers
    assert intents.policies.members().added == (Members(peer, frozenset({fabric.address(5)})),)
    serial = intents.policies.serial
    cluster.put_pod(as_object(Pod("c", "z", "h2", "3")))
    cluster.put_namespace(namespace("c", {"n": "b"}))
    carry_out(fabric, cluster)
    came = (Members(peer, frozenset({fabric.address(6)})),)
    assert intents.policies.since(serial) == MembersChanged(False, came)


def test_a_new_pod_of_an_old_name_is_not_taken_for_the_old_one() -> None:
    old = Pod("b", "y", "h2", "2")
    fabric, cluster = Fabric(), cluster_of(Pod("a", "x", "h1", "1"), old)
    intents = Intents(fabric.view)
    intents.begin("e")
    fabric.follow(intents.follow)
    cluster.put_policy(FROM_B)
    carry_out(fabric, cluster)
    made = endpoint(old, fabric.address(5))
    fabric.put(f"endpoint/h2/{made.key}", plain(made))
    assert intents.policies.members().added
    cluster.put_pod(as_object(Pod("b", "y", "h2", "99")))
    carry_out(fabric, cluster)
    assert not intents.policies.members().added
