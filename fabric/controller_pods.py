"""What the store has to hold of a Kubernetes cluster: placements and filters as they follow from it, and nothing else."""

from collections.abc import Iterable

from netfabric.fabric.cluster import Cluster
from netfabric.fabric.controller import (
    MAX_OPERATIONS,
    Decision,
    fields_of,
    relative,
    revision_of,
)
from netfabric.fabric.controller_intent import PODS_GUARD
from netfabric.fabric.view import View, filter_key, pod_key
from netfabric.fabric.world import Fields, Write

MAX_RULES = 1000
"""Rules in the filters of one write: etcd takes 1.5 MB."""


def decide_pods(
    view: View, cluster: Cluster, pods: Iterable[str], names: Iterable[str]
) -> Decision:
    """Return a step towards what these pods and filters should be; call again until there is nothing to write.

    Filters come before the pods that need them, and go after those that needed them.
    """
    filters = sorted(names)
    for steps in (_new_filters(view, cluster, filters), _pods(view, cluster, sorted(pods))):
        if steps:
            return Decision(_write(view, steps))
    gone = {
        relative(filter_key(name)): None
        for name in filters
        if name in view.filters and name not in cluster.filters
    }
    return Decision(_write(view, dict(list(gone.items())[: MAX_OPERATIONS - 1])))


def differences(view: View, cluster: Cluster) -> tuple[set[str], set[str]]:
    """Return every pod and filter that the store has otherwise than it should."""
    pods = {
        key
        for key in view.pods.keys() | cluster.placements.keys()
        if view.pods.get(key) != cluster.placements.get(key)
    }
    filters = {
        key
        for key in view.filters.keys() | cluster.filters.keys()
        if view.filters.get(key) != cluster.filters.get(key)
    }
    return pods, filters


def _new_filters(view: View, cluster: Cluster, names: Iterable[str]) -> dict[str, Fields | None]:
    found: dict[str, Fields | None] = {}
    rules = 0
    for name in names:
        wanted = cluster.filters.get(name)
        if wanted is None or wanted == view.filters.get(name):
            continue
        rules += len(wanted.rules)
        if found and rules > MAX_RULES:
            break
        found[relative(filter_key(name))] = fields_of(wanted)
        if len(found) >= MAX_OPERATIONS - 1:
            break
    return found


def _pods(view: View, cluster: Cluster, names: Iterable[str]) -> dict[str, Fields | None]:
    found: dict[str, Fields | None] = {}
    for name in names:
        wanted = cluster.placements.get(name)
        if wanted != view.pods.get(name):
            found[relative(pod_key(name))] = None if wanted is None else fields_of(wanted)
        if len(found) >= MAX_OPERATIONS - 1:
            break
    return found


def _write(view: View, steps: dict[str, Fields | None]) -> Write:
    """Return the write of some keys; None: that it goes. Each must be as it was seen."""
    if not steps:
        return Write({})
    puts = {key: fields for key, fields in steps.items() if fields is not None}
    gone = tuple(key for key, fields in steps.items() if fields is None)
    unchanged = {key: revision_of(view, key) for key in steps}
    return Write({**puts, relative(PODS_GUARD): {}}, gone, unchanged)
