"""A host's BGP: its peers, what it offers them, what they said, and the state of each session."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import islice

from netfabric.fabric.effects import (
    Announce,
    ConfigureSpeaker,
    Effect,
    EndReplay,
    TearDown,
    Tell,
    Warn,
    Withdraw,
)
from netfabric.fabric.events import HostSettings, PathsReceived
from netfabric.fabric.peer import Peer, Speaker
from netfabric.fabric.prefix import Family, Prefix, family_of
from netfabric.fabric.rib import Rib
from netfabric.fabric.route import Announcement, LearnedRoute
from netfabric.fabric.session import RoutesLearned, SessionsChanged, SessionStatus

SHOWN_PREFIXES = 1000
MAX_PREFIXES, OTHER_CONFIGURATION_CHANGE = 1, 6
"""Subcodes of Cease (RFC 4486, section 3)."""


@dataclass(slots=True)
class Speaking:
    """Sessions, announcements and the RIB."""

    settings: HostSettings
    out: list[Effect]
    speaker: Speaker | None = None
    peers: dict[str, Peer] = field(default_factory=dict)
    offered: dict[Prefix, Announcement] = field(default_factory=dict)
    rib: Rib = field(default_factory=Rib)
    up: set[str] = field(default_factory=set)
    ended: set[tuple[str, Family]] = field(default_factory=set)
    """Peers and families whose End-of-RIB has come since start."""
    failed: set[str] = field(default_factory=set)
    """Peers that were seen to be down since start."""
    torn: set[str] = field(default_factory=set)
    """Peers whose session is being torn down: what they still say is void."""
    configured: bool = False
    """Whether the speaker was told anything since start: it may run what an earlier agent told it."""
    sessions: dict[str, SessionStatus] = field(default_factory=dict)
    replayed: bool = False
    counts_changed: bool = False
    _told: int = 0
    _told_at: float = 0.0

    def configure(self, speaker: Speaker | None, peers: dict[str, Peer], now: float) -> set[Prefix]:
        """Follow the intent; return the prefixes whose best paths changed because a peer went away."""
        if self.configured and (speaker, peers) == (self.speaker, self.peers):
            return set()
        self.configured = True
        changed: set[Prefix] = set()
        for gone in self.peers.keys() - peers.keys():
            changed |= self.rib.forget(gone)
            self.up.discard(gone)
            self.torn.discard(gone)
            self.failed.discard(gone)
            self.sessions.pop(gone, None)
        for key, peer in peers.items():
            old = self.sessions.get(key)
            if old is None or (old.address, old.asn) != (peer.address, peer.asn):
                self.sessions[key] = SessionStatus(key, peer.address, peer.asn, "idle", now)
        refiltered = [key for key in self.up if _filtered_otherwise(self.peers[key], peers[key])]
        self.speaker, self.peers = speaker, dict(peers)
        self.rib.own_asn = speaker.asn if speaker else 0
        self.out.append(ConfigureSpeaker(speaker, tuple(peers.values())))
        for key in refiltered:
            changed |= self._tear_down(key, OTHER_CONFIGURATION_CHANGE)
        self.tell_sessions()
        return changed

    def _tear_down(self, key: str, subcode: int) -> set[Prefix]:
        """End a session; what the peer said is void at once."""
        self.torn.add(key)
        self.out.append(TearDown(key, subcode))
        return self.rib.forget(key)

    def replay(self) -> None:
        """Say once, after start, that everything offered has been announced."""
        if not self.replayed:
            self.replayed = True
            self.out.append(EndReplay())

    def offer(self, announcements: Iterable[Announcement]) -> None:
        """Announce what is not offered yet."""
        new = tuple(a for a in announcements if self.offered.get(a.prefix) != a)
        if new:
            self.offered.update((a.prefix, a) for a in new)
            self.out.append(Announce(new))

    def retract(self, prefixes: Iterable[Prefix]) -> None:
        """Withdraw what is offered, with the attributes it was announced with."""
        gone = tuple(a for p in prefixes if (a := self.offered.pop(p, None)) is not None)
        if gone:
            self.out.append(Withdraw(gone))

    def listeners(self, prefix: Prefix) -> list[str]:
        """Return the peers that carry a prefix's family, but those known to be down.

        After a start it is not known at first which sessions an adopted speaker has up.
        """
        family = family_of(prefix)
        return [
            key
            for key, peer in self.peers.items()
            if family in peer.carried and (key in self.up or key not in self.failed)
        ]

    def peer_up(self, key: str, now: float) -> None:
        """A session is established."""
        if peer := self.peers.get(key):
            self.up.add(key)
            self.torn.discard(key)
            self.sessions[key] = SessionStatus(key, peer.address, peer.asn, "established", now)
            self.out.append(Warn(f"peer {key}", ""))
            self.tell_sessions()

    def peer_down(self, key: str, reason: str, now: float) -> set[Prefix]:
        """A session ended or an attempt failed; return the prefixes whose best paths changed."""
        if key not in self.peers:
            return set()
        was_up = key in self.up
        self.up.discard(key)
        self.torn.discard(key)
        self.failed.add(key)
        changed = self.rib.forget(key)
        old = self.sessions[key]
        if was_up or old.reason != reason:
            since = now if was_up else old.since
            self.sessions[key] = replace(old, state="active", since=since, reason=reason)
            self.out.append(Warn(f"peer {key}", reason))
            self.tell_sessions()
        return changed

    def received(self, event: PathsReceived) -> set[Prefix]:
        """Take an UPDATE; return the prefixes whose best paths changed."""
        peer = self.peers.get(event.peer)
        if peer is None or event.peer in self.torn:
            return set()
        changed = self.rib.receive(
            peer, event.attributes, event.announced, event.withdrawn, self.offered
        )
        self.counts_changed = True
        if self.rib.count(event.peer) > peer.imports.max_prefixes:
            changed |= self._tear_down(event.peer, MAX_PREFIXES)
            self.out.append(
                Warn(
                    f"peer {event.peer}",
                    f"sent more than {peer.imports.max_prefixes} prefixes: filter at the switch, "
                    "or raise the peer's maxPrefixes",
                )
            )
        return changed

    def tell_routes(self, changed: set[Prefix]) -> None:
        """Report changed best routes to netmaster."""
        best = self.rib.local
        routes = tuple(self._learned(p) for p in changed if p in best)
        withdrawn = tuple(p for p in changed if p not in best)
        if routes or withdrawn:
            self.out.append(Tell(RoutesLearned(False, routes, withdrawn)))

    def tell_all(self) -> None:
        """Report every best route and session: a new netmaster knows nothing."""
        routes = tuple(self._learned(prefix) for prefix in self.rib.local)
        self.out.append(Tell(RoutesLearned(True, routes)))
        self.tell_sessions()

    def _learned(self, prefix: Prefix) -> LearnedRoute:
        paths = self.rib.local[prefix]
        hops = tuple(dict.fromkeys(path.attributes.next_hop for path in paths))
        return LearnedRoute(prefix, self.settings.host, hops, paths[0].attributes.as_path)

    def tell_sessions(self) -> None:
        """Report the state of all sessions, with fresh counts."""
        self.counts_changed = False
        for key, status in self.sessions.items():
            held = self.rib.adjacent.get(key, {})
            carried = self.peers[key].carried if key in self.peers else ()
            advertised = sum(family_of(p) in carried for p in self.offered) if key in self.up else 0
            shown = tuple(islice(held, SHOWN_PREFIXES))
            self.sessions[key] = replace(
                status, received=len(held), advertised=advertised, prefixes=shown
            )
        self._told = len(self.offered)
        self.out.append(Tell(SessionsChanged(tuple(self.sessions.values()))))

    def tick_if_due(self, now: float) -> None:
        """Report counts that changed, once a second at most."""
        changed = self.counts_changed or self._told != len(self.offered)
        if changed and self.sessions and now - self._told_at >= 1.0:
            self._told_at = now
            self.tell_sessions()

    def settled(self) -> bool:
        """Return whether every peer has said all it has, or is known to be down."""
        return all(
            key in self.failed or all((key, family) in self.ended for family in peer.carried)
            for key, peer in self.peers.items()
        )


def _filtered_otherwise(old: Peer, new: Peer) -> bool:
    """Return whether what the peer said has to be said again, under a filter of ours that changed.

    Any other change of a peer starts a new session by itself.
    """
    ours = (new.imports, new.local_preference)
    same_session = replace(old, imports=ours[0], local_preference=ours[1]) == new
    return same_session and (old.imports, old.local_preference) != ours
