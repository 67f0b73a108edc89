"""What a Kubernetes cluster means for the fabric: each pod's placement, and the filters of what policies select.

One changed object costs the pods that it is about: a pod itself, a namespace or policy those of one namespace.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from netfabric.fabric.errors import InvalidError
from netfabric.fabric.filter import GroupFilter
from netfabric.fabric.network_policy import (
    Guarded,
    NamedPort,
    NetworkPolicy,
    PeerGroup,
    filter_of,
    guarded,
)
from netfabric.fabric.placement import Placement
from netfabric.fabric.pod import GROUP, NETWORK, TENANT, Pod
from netfabric.fabric.selector import EVERYTHING, Labels

DEFAULT_TENANT, DEFAULT_NETWORK = "default", "default-net"
Raw: TypeAlias = Mapping[str, Any]


class Cluster:
    """Objects of the API as they are said, and after `settle` what follows from them."""

    def __init__(self) -> None:
        self.namespaces: dict[str, Labels] = {}
        self.pods: dict[str, Pod] = {}
        self.policies: dict[str, NetworkPolicy] = {}
        self.placements: dict[str, Placement] = {}
        self.filters: dict[str, GroupFilter] = {}
        self.broken: dict[str, str] = {}
        """Policies that cannot be read, and why: they isolate what they may be about, and allow nothing."""
        self._pods_in: dict[str, set[str]] = {}
        self._policies_in: dict[str, set[str]] = {}
        self._numbers: dict[NamedPort, Counter[int]] = {}
        self._groups: dict[str, Guarded] = {}
        self._guards: dict[str, str] = {}
        """Filters by pod."""
        self._guarded: Counter[str] = Counter()
        """How many pods a filter has."""
        self._named: dict[str, tuple[PeerGroup, ...]] = {}
        """Groups of peers by the filter that speaks of them."""
        self._uses: Counter[str] = Counter()
        """How many filters speak of a group of peers."""
        self._peers: dict[str, PeerGroup] = {}
        self._speaking_of: dict[str, dict[str, PeerGroup]] = {}
        """Those by the namespace whose pods may be in them; "": of any."""
        self._stale: set[str] = set()
        self._stale_filters: set[str] = set()

    # what the API says

    def put_namespace(self, raw: Raw) -> None:
        """Take a namespace that is new, or changed."""
        name, labels = raw["metadata"]["name"], raw["metadata"].get("labels") or {}
        if self.namespaces.get(name) != labels:
            self.namespaces[name] = labels
            self._stale |= self._pods_in.get(name, set())

    def remove_namespace(self, name: str) -> None:
        """Forget a namespace."""
        if self.namespaces.pop(name, None) is not None:
            self._stale |= self._pods_in.get(name, set())

    def put_pod(self, raw: Raw) -> None:
        """Take a pod that is new, or changed."""
        pod = Pod.parse(raw)
        if pod is None:
            self.remove_pod(f"{raw['metadata']['namespace']}/{raw['metadata']['name']}")
        elif self.pods.get(pod.key) != pod:
            self.remove_pod(pod.key)
            self.pods[pod.key] = pod
            self._pods_in.setdefault(pod.namespace, set()).add(pod.key)
            for port, number in pod.ports.items():
                self._count(port, number, 1)

    def remove_pod(self, key: str) -> None:
        """Forget a pod."""
        self._stale.add(key)
        pod = self.pods.pop(key, None)
        if pod is not None:
            self._pods_in[pod.namespace].discard(key)
            for port, number in pod.ports.items():
                self._count(port, number, -1)

    def _count(self, port: NamedPort, number: int, step: int) -> None:
        """Keep which numbers a named port has; a filter that speaks of it has a rule for each."""
        known = self._numbers.setdefault(port, Counter())
        before = known[number]
        known[number] += step
        if not known[number]:
            del known[number]
        if bool(before) != bool(before + step):
            self._stale_filters |= {
                key
                for key, group in self._groups.items()
                if any(self._sends_to(name, port) for name in group.policies)
            }

    def _sends_to(self, policy: str, port: NamedPort) -> bool:
        found = self.policies.get(policy)
        return found is not None and port in found.named("out")

    def put_policy(self, raw: Raw) -> None:
        """Take a policy that is new, or changed; one that cannot be read isolates, and allows nothing."""
        name = f"{raw['metadata']['namespace']}/{raw['metadata']['name']}"
        self.broken.pop(name, None)
        try:
            policy = NetworkPolicy.parse(raw)
        except (InvalidError, KeyError, TypeError, ValueError, AttributeError) as error:
            self.broken[name] = str(error)
            policy = _closed(raw)
        if self.policies.get(name) != policy:
            self.policies[name] = policy
            self._policies_in.setdefault(policy.namespace, set()).add(name)
            self._policy_changed(policy)

    def remove_policy(self, name: str) -> None:
        """Forget a policy."""
        policy = self.policies.pop(name, None)
        self.broken.pop(name, None)
        if policy is not None:
            self._policies_in[policy.namespace].discard(name)
            self._policy_changed(policy)

    def _policy_changed(self, policy: NetworkPolicy) -> None:
        self._stale |= self._pods_in.get(policy.namespace, set())
        self._stale_filters |= {
            key for key, group in self._groups.items() if policy.name in group.policies
        }

    # what follows

    def settle(self) -> tuple[set[str], set[str]]:
        """Work out what changed; return the pods whose placement, and the filters, that may be others now."""
        stale, self._stale = self._stale, set()
        before = set(self._peers)
        for key in stale:
            self._guard(key)
        filters, self._stale_filters = self._stale_filters, set()
        for key in filters:
            self._filter(key)
        others = self.pods.keys() - stale
        moved = self._rematch(others, self._peers.keys() - before, before - self._peers.keys())
        for key in stale | moved:
            self._place(key)
        return stale | moved, filters

    def tenant(self, pod: Pod) -> str:
        """Return a pod's tenant: by its labels, else its namespace's."""
        return self._label(pod, TENANT) or DEFAULT_TENANT

    def _label(self, pod: Pod, name: str) -> str:
        return pod.labels.get(name) or self.namespaces.get(pod.namespace, {}).get(name, "")

    def _guard(self, key: str) -> None:
        """Find the filter of a pod, and which filters begin or end with that."""
        before, now = self._guards.pop(key, ""), self._guarded_by(self.pods.get(key))
        if now is not None:
            self._guards[key] = now.key
            self._guarded[now.key] += 1
            if now.key not in self._groups:
                self._groups[now.key] = now
                self._stale_filters.add(now.key)
        if before:
            self._guarded[before] -= 1
            if not self._guarded[before]:
                self._stale_filters.add(before)

    def _guarded_by(self, pod: Pod | None) -> Guarded | None:
        if pod is None:
            return None
        policies = [self.policies[name] for name in self._policies_in.get(pod.namespace, ())]
        return guarded(pod, self.tenant(pod), self._label(pod, GROUP), policies)

    def _filter(self, key: str) -> None:
        """Make, change or drop a filter, and the groups of peers that no other one speaks of."""
        before, made = self._named.pop(key, ()), self._made(key)
        if made is not None:
            self.filters[key], self._named[key] = made
        else:
            self.filters.pop(key, None)
        for peer in self._named.get(key, ()):
            self._uses[peer.key] += 1
            self._peers[peer.key] = peer
            self._speaking_of.setdefault(peer.namespace, {})[peer.key] = peer
        for peer in before:
            self._uses[peer.key] -= 1
            if not self._uses[peer.key]:
                del self._uses[peer.key], self._peers[peer.key]
                del self._speaking_of[peer.namespace][peer.key]

    def _made(self, key: str) -> tuple[GroupFilter, tuple[PeerGroup, ...]] | None:
        if not self._guarded[key]:
            del self._guarded[key]
            self._groups.pop(key, None)
            return None
        group = self._groups[key]
        policies = [self.policies[name] for name in group.policies]
        return filter_of(group, policies, lambda port: self._numbers.get(port, Counter()))

    def _rematch(self, pods: Iterable[str], came: set[str], went: set[str]) -> set[str]:
        """Return those of some pods that are in groups of peers which are new, or gone."""
        if not (came or went):
            return set()
        new = [self._peers[key] for key in came]
        return {
            key
            for key in pods
            if any(self._in(peer, self.pods[key]) for peer in new)
            or not went.isdisjoint(self.placements[key].peers)
        }

    def _in(self, group: PeerGroup, pod: Pod) -> bool:
        return group.tenant == self.tenant(pod) and group.means(pod, self.namespaces)

    def _place(self, key: str) -> None:
        pod = self.pods.get(key)
        if pod is None:
            self.placements.pop(key, None)
            return
        near = self._speaking_of.get(pod.namespace, {}).values()
        peers = (*near, *self._speaking_of.get("", {}).values())
        self.placements[key] = Placement(
            pod=key,
            host=pod.host,
            uid=pod.uid,
            tenant=self.tenant(pod),
            network=self._label(pod, NETWORK) or DEFAULT_NETWORK,
            group=self._label(pod, GROUP),
            filter=self._guards.get(key, ""),
            peers=tuple(sorted(peer.key for peer in peers if self._in(peer, pod))),
            labels=tuple(sorted(pod.labels.items())),
        )


def _closed(raw: Raw) -> NetworkPolicy:
    """Return what stands for a policy that cannot be read."""
    namespace = raw["metadata"]["namespace"]
    everything: Any = ("in", "out")
    return NetworkPolicy(
        f"{namespace}/{raw['metadata']['name']}", namespace, EVERYTHING, everything, ()
    )
