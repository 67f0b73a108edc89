"""One peer: what ExaBGP was told to announce to it, what it announced, and how its session fares."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from math import inf
from typing import Literal, TypeAlias

from netfabric.bgp import commands, events, reasons
from netfabric.fabric.events import (
    Advertised,
    EndOfRib,
    Event,
    PathsReceived,
    PeerDown,
    PeerUp,
)
from netfabric.fabric.peer import Asn, Peer
from netfabric.fabric.prefix import Address, Family, Prefix, family_of
from netfabric.fabric.route import Announcement

ECHO_TIMEOUT = 4.0
"""Seconds after ExaBGP's answer after which an UPDATE that it did not echo no longer holds its prefix up."""
DOUBT_TIMEOUT = 0.3
"""The same where ExaBGP may have had the route already, and then sends and echoes nothing."""
REFRESH_TIMEOUT = 3.0
"""Seconds after which a peer that does not mark the end of its routes is taken to have sent them."""
EOR_TIMEOUT = 10.0
"""Seconds after which End-of-RIB is sent although some echo is missing."""
SILENCE = 4.0
"""Seconds without any sign of a peer after which it is said to be down."""
REASON_LASTS = 60.0
"""Seconds for which a NOTIFICATION explains the bare closings that follow it."""
UNKNOWN = "?"
"""In place of an attribute text: ExaBGP has the route, of an agent before us."""

State: TypeAlias = Literal["down", "connected", "up"]
Ends: TypeAlias = tuple[str, Address, Address | None, Asn, Asn]


def ends_of(peer: Peer, asn: Asn) -> Ends:
    """Return what makes a session another one for ExaBGP: it then starts from nothing."""
    return peer.key, peer.address, peer.local_address, peer.asn, asn


@dataclass(frozen=True, slots=True)
class Change:
    """What brings a prefix in step: the attribute text to announce or to withdraw it with."""

    announcing: bool
    text: str


@dataclass(frozen=True, slots=True)
class Flight:
    """An UPDATE that ExaBGP has not echoed yet, and when that no longer matters."""

    announcing: bool
    until: float = inf
    patience: float = ECHO_TIMEOUT


@dataclass(slots=True)
class Session:
    """What is known of one peer. Methods that hear something yield the events that follow from it."""

    peer: Peer
    asn: Asn
    state: State = "down"
    witnessed: bool = False
    """We saw it come up: all that the peer has sent since is known, and marked stale it would be lost."""
    told: dict[Prefix, str] = field(default_factory=dict)
    """What ExaBGP holds for this peer, with the text it was given."""
    dirty: dict[Prefix, None] = field(default_factory=dict)
    in_flight: dict[Prefix, Flight] = field(default_factory=dict)
    refreshing: dict[Family, float] = field(default_factory=dict)
    asked: set[Family] = field(default_factory=set)
    """Families that we asked the peer to send again, and whose end has not come."""
    held: set[Prefix] = field(default_factory=set)
    """What the peer has announced."""
    stale: set[Prefix] = field(default_factory=set)
    """Of that, what it has not repeated since it began to send everything anew."""
    eor_due: float = 0.0
    """When End-of-RIB goes out at the latest; 0: nothing is owed."""
    blocked_until: float = 0.0
    resumes_by: float = 0.0
    """ExaBGP died under an established session: until then the peer's routes are kept (RFC 4724, 4.1)."""
    quiet_since: float = 0.0
    reason: str = ""
    reason_at: float = 0.0

    @property
    def key(self) -> str:
        """Return the peer's key."""
        return self.peer.key

    @property
    def ends(self) -> Ends:
        """Return what makes it this session."""
        return ends_of(self.peer, self.asn)

    # what to announce

    def carries(self, prefix: Prefix) -> bool:
        """Return whether a prefix is of a family of this session."""
        return family_of(prefix) in self.peer.carried

    def touch(self, prefixes: Iterable[Prefix]) -> None:
        """Look at these again."""
        self.dirty.update((p, None) for p in prefixes if self.carries(p))

    def change(self, prefix: Prefix, wanted: Announcement | None, replayed: bool) -> Change | None:
        """Return what brings a prefix in step, or None if it is.

        Before the end of the replay, what an earlier agent announced is left alone.
        """
        told = self.told.get(prefix)
        if wanted is not None:
            text = commands.attributes(wanted, self.peer, self.asn)
            return None if told == text else Change(True, text)
        if told is None or (told == UNKNOWN and not replayed):
            return None
        if told == UNKNOWN:
            told = commands.attributes(Announcement(prefix), self.peer, self.asn)
        return Change(False, told)

    def may_say(self, change: Change) -> bool:
        """Return whether a change may go to ExaBGP now.

        A route that waits for a session makes ExaBGP lose every reload, so nothing is announced
        before the session is up; but what was withdrawn meanwhile must not come back with it.
        """
        return self.state == "up" or (self.state == "connected" and not change.announcing)

    def note(self, prefixes: Iterable[Prefix], change: Change) -> None:
        """A change was said."""
        for prefix in prefixes:
            doubt = change.announcing and self.told.get(prefix) == UNKNOWN
            if change.announcing:
                self.told[prefix] = change.text
            else:
                self.told.pop(prefix, None)
            if self.state == "up":
                patience = DOUBT_TIMEOUT if doubt else ECHO_TIMEOUT
                self.in_flight[prefix] = Flight(change.announcing, inf, patience)

    def taken(self, prefixes: Iterable[Prefix], now: float) -> None:
        """ExaBGP has put a change into its RIB: it leaves with the next flush."""
        for prefix in prefixes:
            if flight := self.in_flight.get(prefix):
                self.in_flight[prefix] = replace(flight, until=now + flight.patience)

    def refused(self, prefixes: Iterable[Prefix], now: float) -> None:
        """ExaBGP did not take a change: it does not know the peer (yet)."""
        self.blocked_until = now + 0.2
        for prefix in prefixes:
            self.in_flight.pop(prefix, None)
            self.told[prefix] = UNKNOWN
            self.dirty[prefix] = None

    def holds(self, out: Iterable[Prefix]) -> None:
        """ExaBGP was asked what it holds for this peer."""
        self.told = {prefix: self.told.get(prefix, UNKNOWN) for prefix in out}

    def eor_is_due(self, now: float) -> bool:
        """Return whether End-of-RIB may go out: everything before it has left, or took too long."""
        if self.state != "up" or not self.eor_due:
            return False
        return not (self.dirty or self.in_flight) or now >= self.eor_due

    # how the session fares

    def came_up(self, replayed: bool, now: float) -> Iterator[Event]:
        """The session is established: the peer sends all it has, and so does ExaBGP."""
        self.state = "up"
        self.reason = ""
        self.resumes_by = 0.0
        self.in_flight = {p: Flight(True, now + ECHO_TIMEOUT) for p in self.told}
        self.eor_due = now + EOR_TIMEOUT if replayed else 0.0
        self.begin_refresh(self.peer.carried, now)
        yield PeerUp(self.key)

    def went_down(self, reason: str, now: float) -> Iterator[Event]:
        """The session ended, or an attempt failed."""
        self.quiet_since = now
        was_up, self.state = self.state == "up", "down"
        self.in_flight.clear()
        self.refreshing.clear()
        self.asked.clear()
        self.eor_due = 0.0
        if not self.resumes_by:
            yield from self._explain(reason, was_up, now)

    def _explain(self, reason: str, was_up: bool, now: float) -> Iterator[Event]:
        recent = self.reason and now < self.reason_at + REASON_LASTS
        if was_up or not (recent and reasons.is_vague(reason)):
            words = reasons.in_words(self.peer, self.asn, reason, was_up)
            self.reason_at = now
            if was_up or words != self.reason:
                yield from self.void(words, now)

    def void(self, words: str, now: float) -> Iterator[Event]:
        """Forget what the peer announced, and say why."""
        self.state = "down"
        self.resumes_by = 0.0
        self.held.clear()
        self.stale.clear()
        self.reason, self.reason_at = words, now
        yield PeerDown(self.key, words)

    def lost(self, reason: str, now: float) -> Iterator[Event]:
        """ExaBGP ended. With graceful restart it is given the hold time to come back."""
        self.told.clear()
        if self.state == "up" and self.peer.graceful_restart:
            self.resumes_by = now + self.peer.hold_time
        yield from self.went_down(reason, now)

    def patience_ends(self, trouble: str, now: float) -> Iterator[Event]:
        """Let nothing wait for ever; `trouble` is why ExaBGP does not run, if it does not."""
        self.in_flight = {p: f for p, f in self.in_flight.items() if f.until > now}
        for family in [f for f, until in self.refreshing.items() if until <= now]:
            yield from self.end_refresh(family)
        if self.resumes_by and self.resumes_by <= now:
            yield from self.void(trouble or reasons.NOT_BACK, now)
        quiet = self.state != "up" and now > self.quiet_since + SILENCE
        if quiet and not (self.reason or self.resumes_by):
            yield from self.void(trouble or reasons.silent(self.peer), now)

    # what the peer announces

    def begin_refresh(self, families: Iterable[Family], now: float) -> None:
        """The peer begins to send everything of these families."""
        for family in families:
            self.refreshing[family] = now + REFRESH_TIMEOUT
            self.stale.update(p for p in self.held if p.version == family)

    def end_refresh(self, family: Family) -> Iterator[Event]:
        """The peer has sent everything of a family: what it did not repeat is gone (RFC 4724, 4.2)."""
        self.refreshing.pop(family, None)
        gone = {p for p in self.stale if p.version == family}
        self.stale -= gone
        self.held -= gone
        if gone:
            yield PathsReceived(self.key, None, (), tuple(gone))
        yield EndOfRib(self.key, family)

    def hears(self, event: events.ExaEvent, now: float) -> Iterator[Event]:
        """Take an UPDATE, an End-of-RIB or a refresh mark, received or echoed."""
        match event:
            case events.Update(_, True, _, announced, withdrawn):
                yield from self._echo(announced, withdrawn)
            case events.Update(_, False, attributes, announced, withdrawn):
                self.held.difference_update(withdrawn)
                self.held.update(announced)
                self.stale.difference_update(withdrawn, announced)
                yield PathsReceived(self.key, attributes, announced, withdrawn)
            case events.Refresh(_, family, "begin"):
                # FRR 8.4, asked before it has sent its first table, marks the beginning after the routes
                if family not in self.asked:
                    self.begin_refresh((family,), now)
            case events.Refresh(_, family, "end"):
                self.asked.discard(family)
                yield from self.end_refresh(family)
            case events.Eor(_, False, family):
                yield from self.end_refresh(family)

    def _echo(
        self, announced: tuple[Prefix, ...], withdrawn: tuple[Prefix, ...]
    ) -> Iterator[Event]:
        for prefixes, announcing in ((announced, True), (withdrawn, False)):
            for prefix in prefixes:
                flight = self.in_flight.get(prefix)
                if flight is not None and flight.announcing == announcing:
                    del self.in_flight[prefix]
        yield Advertised(self.key, announced, withdrawn)

    @property
    def over_limit(self) -> bool:
        """Return whether the peer has announced more than it may."""
        return len(self.held) > self.peer.imports.max_prefixes
