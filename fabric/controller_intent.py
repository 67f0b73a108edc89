"""What intent each host has to be told: everything, or what changed since the version that it saw."""

from collections import deque
from dataclasses import dataclass, field, replace

from netfabric.fabric.peer import Peer
from netfabric.fabric.policies import Policies
from netfabric.fabric.session import IntentChanged, Version
from netfabric.fabric.view import ROOT, View, ViewChange

GUARD = f"{ROOT}guard/intent"
"""Every write of intent bumps this key."""
PODS_GUARD = f"{ROOT}guard/kubernetes"
"""Every write of pods' filters bumps this key."""
INTENT = f"{ROOT}intent/"
STEPS = 10_000
"""Changes of intent that are remembered."""
_TYPES = ("Bgp", "peer", "port", "network")


@dataclass(frozen=True, slots=True)
class _Step:
    """One change of the view: networks and filters it touched, those it removed, each host's peers that went."""

    revision: int
    networks: frozenset[str]
    gone: frozenset[str]
    filters: frozenset[str]
    filters_gone: frozenset[str]
    hosts: dict[str, frozenset[str]]


@dataclass(slots=True)
class Intents:
    """The history of intent, as far back as memory reaches. One change costs one change."""

    view: View
    policies: Policies = field(init=False)
    epoch: str = ""
    steps: deque[_Step] = field(default_factory=deque)
    revision: int = 0
    """Of the last change of intent."""
    floor: int = 0
    """The oldest version from which a delta can be told."""
    limit: int = STEPS
    _peers: dict[str, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.policies = Policies(self.view)

    def begin(self, epoch: str) -> None:
        """Start at the view as it is. What changed before it is unknown, but when that was is not."""
        self.epoch = epoch
        revisions = self.view.revisions
        latest = max((r for key, r in revisions.items() if key.startswith(INTENT)), default=0)
        self.revision = self.floor = max(
            latest, revisions.get(GUARD, 0), revisions.get(PODS_GUARD, 0)
        )
        self.steps.clear()
        self._peers = {}
        self.policies.begin()
        for peer in self.view.peers.values():
            self._peers[peer.host] = self._peers.get(peer.host, frozenset()) | {peer.key}

    def follow(self, change: ViewChange) -> bool:
        """Take a change of the view; return whether a host has to be told."""
        touched = {(type_, key) for type_, key in change.objects if type_ in _TYPES}
        filters = self.policies.follow(change)
        if not touched and not filters:
            return False
        networks = frozenset(key for type_, key in touched if type_ == "network")
        hosts = {key.partition(":")[0] for type_, key in touched if type_ != "network"}
        gone = frozenset(key for key in networks if key not in self.view.networks)
        filters_gone = frozenset(key for key in filters if key not in self.policies.filters)
        went = {host: self._went(host) for host in hosts}
        self.steps.append(_Step(change.revision, networks, gone, filters, filters_gone, went))
        self.revision = change.revision
        if len(self.steps) > self.limit:
            self.floor = self.steps.popleft().revision
        return True

    def _went(self, host: str) -> frozenset[str]:
        """Return the keys of a host's peers that went since this was asked last."""
        now = frozenset(peer.key for peer in self.view.peers_of(host))
        before = self._peers.get(host, frozenset())
        self._peers[host] = now
        return before - now

    def reaches(self, seen: Version) -> bool:
        """Return whether a delta can be told from a version."""
        return seen.epoch == self.epoch and self.floor <= seen.revision <= self.revision

    def full(self, host: str) -> IntentChanged:
        """Return all that a host needs."""
        return IntentChanged(
            version=Version(self.epoch, self.revision),
            full=True,
            networks=tuple(self.view.networks.values()),
            speaker=self.view.speakers.get(host),
            peers=self.view.peers_of(host),
            ports=self.view.ports_of(host),
            filters=tuple(self.policies.filters.values()),
        )

    def touches(self, host: str, since: int) -> bool:
        """Return whether something of a host's own changed since a revision."""
        return any(host in step.hosts for step in self._since(since))

    def delta(self, host: str, since: int) -> IntentChanged:
        """Return what changed for a host since a revision that is `reached`; for "" that of all hosts."""
        steps = self._since(since)
        networks = frozenset().union(*(step.networks for step in steps))
        gone = frozenset().union(*(step.gone for step in steps))
        filters = frozenset().union(*(step.filters for step in steps))
        filters_gone = frozenset().union(*(step.filters_gone for step in steps))
        view, known = self.view, self.policies.filters
        change = IntentChanged(
            version=Version(self.epoch, self.revision),
            full=False,
            networks=tuple(view.networks[key] for key in sorted(networks) if key in view.networks),
            networks_gone=tuple(sorted(gone)),
            filters=tuple(known[key] for key in sorted(filters) if key in known),
            filters_gone=tuple(sorted(filters_gone)),
        )
        own = [step.hosts[host] for step in steps if host in step.hosts]
        if not own:
            return change
        peers: tuple[Peer, ...] = view.peers_of(host)
        speaker = view.speakers.get(host)
        went = frozenset().union(*own) - {peer.key for peer in peers}
        return replace(
            change,
            speaker=speaker,
            speaker_gone=speaker is None,
            peers=peers,
            ports=view.ports_of(host),
            peers_gone=tuple(sorted(went)),
        )

    def _since(self, revision: int) -> list[_Step]:
        """Return the steps after a revision, newest first: usually there is one."""
        found = []
        for step in reversed(self.steps):
            if step.revision <= revision:
                break
            found.append(step)
        return found
