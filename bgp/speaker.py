"""The conversation with ExaBGP: what it was told, what has left, and what has to be said next.

Two changes of one prefix within one flush may leave the older one at the peer (ExaBGP 5.0.15), so one
change a prefix is in flight, and the echo of the UPDATE that left is the barrier.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

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

OUTSTANDING = 4
"""Commands without an answer; more only lengthen ExaBGP's own queue, which it scans each time."""
ECHO_TIMEOUT = 2.0
"""Seconds after which an UPDATE that was not echoed no longer holds its prefix up."""
REFRESH_TIMEOUT = 3.0
"""Seconds after which a peer that does not mark the end of a refresh is taken to have ended it."""
EOR_TIMEOUT = 10.0
"""Seconds after which End-of-RIB is sent although some echo is missing."""
UNKNOWN = "?"
"""In place of an attribute text: ExaBGP has the route, of an agent before us."""


class Phase(Enum):
    """How far the conversation is."""

    AWAY = "no helper attached"
    ASKING = "asking which sessions are up"
    READING = "reading what ExaBGP announces"
    TALKING = "in step"


@dataclass(slots=True)
class Session:
    """One peer: what ExaBGP was told to announce to it."""

    peer: Peer
    up: bool = False
    told: dict[Prefix, str] = field(default_factory=dict)
    dirty: dict[Prefix, None] = field(default_factory=dict)
    in_flight: dict[Prefix, float] = field(default_factory=dict)
    unechoed: set[Prefix] = field(default_factory=set)
    """Announced before the session came up: ExaBGP sends them by itself, and End-of-RIB waits for it."""
    refreshing: dict[Family, float] = field(default_factory=dict)
    eor_due: float = 0.0
    """When End-of-RIB goes out at the latest; 0: nothing is owed."""
    blocked_until: float = 0.0


@dataclass(frozen=True, slots=True)
class Command:
    """A command that was sent and is not answered yet."""

    line: str
    session: str = ""
    prefixes: tuple[Prefix, ...] = ()
    text: str | None = None
    """The attribute text announced; None for a withdrawal or a question."""


class SpeakerMachine:
    """Everything about the conversation but the pipes. Lines to write and events gather in two lists."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.events: list[Event] = []
        self.phase = Phase.AWAY
        self.asn = Asn(0)
        self.sessions: dict[str, Session] = {}
        self.wanted: dict[Prefix, Announcement] = {}
        self.outstanding: deque[Command] = deque()
        self.replayed = False
        self.garbage = 0
        self._heard = False
        self._by_address: dict[Address, str] = {}

    # from above

    def configure(self, asn: Asn, peers: Iterable[Peer], now: float) -> None:
        """Run sessions with exactly these peers. One that changed starts from nothing, as in ExaBGP."""
        given = {peer.key: peer for peer in peers}
        if asn != self.asn:
            self.sessions.clear()
        self.asn = asn
        for key in [k for k, s in self.sessions.items() if given.get(k) != s.peer]:
            del self.sessions[key]
        for key, peer in given.items():
            if key not in self.sessions:
                self.sessions[key] = Session(peer, dirty=self._carried(peer, self.wanted))
        self._by_address = {s.peer.address: key for key, s in self.sessions.items()}
        self.pump(now)

    @staticmethod
    def _carried(peer: Peer, prefixes: Iterable[Prefix]) -> dict[Prefix, None]:
        return {p: None for p in prefixes if family_of(p) in peer.carried}

    def announce(self, routes: Iterable[Announcement], now: float) -> None:
        """Offer routes to every peer that carries their family."""
        self._want({route.prefix: route for route in routes}, now)

    def withdraw(self, routes: Iterable[Announcement], now: float) -> None:
        """Take routes back."""
        gone = [route.prefix for route in routes]
        for prefix in gone:
            self.wanted.pop(prefix, None)
        self._touch(gone)
        self.pump(now)

    def _want(self, routes: dict[Prefix, Announcement], now: float) -> None:
        self.wanted.update(routes)
        self._touch(routes)
        self.pump(now)

    def _touch(self, prefixes: Iterable[Prefix]) -> None:
        prefixes = list(prefixes)
        for session in self.sessions.values():
            session.dirty.update(self._carried(session.peer, prefixes))

    def end_replay(self, now: float) -> None:
        """All that is wanted has been said: what ExaBGP announces besides is stale."""
        self.replayed = True
        for session in self.sessions.values():
            session.dirty.update(dict.fromkeys(session.told.keys() - self.wanted.keys()))
            if session.up:
                session.eor_due = now + EOR_TIMEOUT
        self.pump(now)

    def tear_down(self, peer: str, subcode: int) -> None:
        """End a session with Cease."""
        if session := self.sessions.get(peer):
            self._say(Command(commands.tear_down(session.peer, subcode)))

    # the pipes

    def attached(self) -> None:
        """A helper handed its pipes over: find out where ExaBGP stands."""
        self.phase = Phase.ASKING
        self._heard = False
        self.outstanding.clear()
        self.lines.clear()
        for session in self.sessions.values():
            session.told.clear()
            session.in_flight.clear()
        self.lines += ["", commands.WHO_IS_UP]  # the empty line ends half a command

    def detached(self, reason: str) -> None:
        """The pipes closed: the helper or ExaBGP died."""
        self.phase = Phase.AWAY
        self.outstanding.clear()
        self.lines.clear()
        for key, session in self.sessions.items():
            if session.up:
                self._down(key, session, reason)

    def feed(self, line: str, now: float) -> None:
        """Take one line from ExaBGP."""
        event = events.parse(line)
        match event:
            case events.Ack(ok):
                self._answered(ok, now)
            case events.Neighbors(up):
                self._who_is_up(up, now)
            case events.Out(address, prefixes):
                self._what_is_out(address, prefixes)
            case events.Unknown():
                self.garbage += 1
            case events.Notification():
                pass  # the state that follows says it
            case _:
                self._of_peer(event, now)
        self.pump(now)

    def _who_is_up(self, up: Mapping[Address, bool], now: float) -> None:
        if self.phase is not Phase.ASKING:
            return
        self._heard = True
        for address, is_up in up.items():
            key = self._by_address.get(address)
            if key and is_up:
                self._up(key, self.sessions[key], now)
                self._ask_again(self.sessions[key], now)

    def _ask_again(self, session: Session, now: float) -> None:
        """Learn anew what the peer announced while no agent listened."""
        for family in session.peer.carried:
            session.refreshing[family] = now + REFRESH_TIMEOUT

    def _what_is_out(self, address: Address, prefixes: Sequence[Prefix]) -> None:
        key = self._by_address.get(address)
        if key and self.phase is Phase.READING:
            self.sessions[key].told.update(dict.fromkeys(prefixes, UNKNOWN))

    def _answered(self, ok: bool, now: float) -> None:
        if self.phase is Phase.ASKING:
            # Answers to an earlier agent's commands end with the one to our question, which lists
            # the neighbours just before it. With no neighbour up yet that is no different.
            if ok and self._heard:
                self.phase = Phase.READING
                self.lines.append(commands.WHAT_IS_OUT)
            return
        if self.phase is Phase.READING:
            self.phase = Phase.TALKING
            self._start_talking(now)
            return
        if self.outstanding:
            self._settle(self.outstanding.popleft(), ok, now)

    def _start_talking(self, now: float) -> None:
        for session in self.sessions.values():
            for family in session.refreshing:
                self._say(Command(commands.refresh(session.peer, family)))
            session.dirty = self._carried(session.peer, self.wanted)
            if self.replayed:
                session.dirty.update(dict.fromkeys(session.told.keys() - self.wanted.keys()))
                if session.up:
                    session.eor_due = now + EOR_TIMEOUT

    def _settle(self, command: Command, ok: bool, now: float) -> None:
        session = self.sessions.get(command.session)
        if session is None or ok:
            return
        # ExaBGP refuses a peer it does not know (yet): a reload is under way
        session.blocked_until = now + 1.0
        for prefix in command.prefixes:
            session.in_flight.pop(prefix, None)
            if command.text is not None:
                session.told.pop(prefix, None)
            session.dirty[prefix] = None

    # peers

    def _of_peer(self, event: events.ExaEvent, now: float) -> None:
        address = getattr(event, "peer", None)
        key = self._by_address.get(address) if address is not None else None
        if key is None:
            return
        session = self.sessions[key]
        match event:
            case events.State(_, "up", _):
                self._up(key, session, now)
                session.unechoed = set(session.told) - set(session.in_flight)
            case events.State(_, "down", reason):
                self._down(key, session, reason)
            case events.Update(_, True, _, announced, withdrawn):
                self._echoed(key, session, announced, withdrawn)
            case events.Update(_, False, attributes, announced, withdrawn):
                self.events.append(PathsReceived(key, attributes, announced, withdrawn))
            case events.Eor(_, False, family) | events.Refresh(_, family, "end"):
                session.refreshing.pop(family, None)
                self.events.append(EndOfRib(key, family))

    def _up(self, key: str, session: Session, now: float) -> None:
        session.up = True
        session.in_flight.clear()
        self.events.append(PeerUp(key))
        if self.replayed:
            session.eor_due = now + EOR_TIMEOUT

    def _down(self, key: str, session: Session, reason: str) -> None:
        session.up = False
        session.in_flight.clear()
        session.unechoed.clear()
        session.refreshing.clear()
        session.eor_due = 0.0
        self.events.append(PeerDown(key, reasons.in_words(session.peer, self.asn, reason)))

    def _echoed(
        self,
        key: str,
        session: Session,
        announced: tuple[Prefix, ...],
        withdrawn: tuple[Prefix, ...],
    ) -> None:
        for prefix in (*announced, *withdrawn):
            session.in_flight.pop(prefix, None)
            session.unechoed.discard(prefix)
        self.events.append(Advertised(key, announced, withdrawn))

    # what to say next

    def pump(self, now: float) -> None:
        """Say what may be said: at most OUTSTANDING commands, one change a prefix in flight."""
        if self.phase is not Phase.TALKING:
            return
        for key, session in self.sessions.items():
            while len(self.outstanding) < OUTSTANDING and now >= session.blocked_until:
                command = self._next(key, session)
                if command is None:
                    break
                self._say(command)
                self._note(command, session, now)
            if self._eor_is_due(session, now):
                session.eor_due = 0.0
                for family in session.peer.carried:
                    self._say(Command(commands.end_of_rib(session.peer, family)))

    def _next(self, key: str, session: Session) -> Command | None:
        """Return one command for as many dirty prefixes as go together."""
        chosen: list[Prefix] = []
        group: tuple[bool, str] | None = None
        for prefix in list(session.dirty):
            if prefix in session.in_flight:
                continue
            change = self._change(session, prefix)
            if change is None:
                del session.dirty[prefix]
                continue
            if group is None:
                group = change
            if change == group:
                chosen.append(prefix)
                del session.dirty[prefix]
                if len(chosen) == commands.BATCH:
                    break
        if group is None:
            return None
        announcing, text = group
        say = commands.announce if announcing else commands.withdraw
        line = say(session.peer, text, chosen)
        return Command(line, key, tuple(chosen), text if announcing else None)

    def _change(self, session: Session, prefix: Prefix) -> tuple[bool, str] | None:
        """Return (announce?, text) that brings a prefix in step, or None if it is."""
        wanted = self.wanted.get(prefix)
        told = session.told.get(prefix)
        if wanted is not None:
            text = commands.attributes(wanted, session.peer, self.asn)
            return None if told == text else (True, text)
        if told is None or (told == UNKNOWN and not self.replayed):
            return None
        if told == UNKNOWN:
            plain = Announcement(prefix)
            return (False, commands.attributes(plain, session.peer, self.asn))
        return (False, told)

    def _note(self, command: Command, session: Session, now: float) -> None:
        for prefix in command.prefixes:
            before = session.told.get(prefix)
            if command.text is None:
                session.told.pop(prefix, None)
                session.unechoed.discard(prefix)
            else:
                session.told[prefix] = command.text
            # what an earlier agent announced is not sent again if it is the same: no echo to wait for
            if session.up and not (command.text is not None and before == UNKNOWN):
                session.in_flight[prefix] = now + ECHO_TIMEOUT

    @staticmethod
    def _eor_is_due(session: Session, now: float) -> bool:
        if not session.up or not session.eor_due:
            return False
        idle = not (session.dirty or session.in_flight or session.unechoed)
        return idle or now >= session.eor_due

    def _say(self, command: Command) -> None:
        self.lines.append(command.line)
        self.outstanding.append(command)

    def tick(self, now: float) -> None:
        """Let nothing wait for ever."""
        for key, session in self.sessions.items():
            for prefix in [p for p, until in session.in_flight.items() if until <= now]:
                del session.in_flight[prefix]
            for family in [f for f, until in session.refreshing.items() if until <= now]:
                del session.refreshing[family]
                self.events.append(EndOfRib(key, family))
        self.pump(now)
