"""The conversation with ExaBGP: finding out where it stands, having it reload, saying what changed.

Two changes of one prefix within one flush may leave the older one at the peer (ExaBGP 5.0.15), so one
change a prefix is in flight, and the echo of the UPDATE that left is the barrier. A reload while a
route waits to be sent is lost without a word, so it waits for the echoes, and is checked afterwards.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from netfabric.bgp import commands, events, reasons
from netfabric.bgp.session import EOR_TIMEOUT, Change, Ends, Session, ends_of
from netfabric.fabric.events import Event
from netfabric.fabric.peer import Asn, Peer
from netfabric.fabric.prefix import Address, Prefix
from netfabric.fabric.route import Announcement

OUTSTANDING = 4
"""Commands without an answer; more only lengthen ExaBGP's own queue, which it scans each time."""
RELOAD_PAUSE = 0.2
RELOADS = 20
"""Reloads without effect after which ExaBGP has to be restarted."""
REST = 60.0
"""Seconds for which a session that was torn down for too many prefixes is not tried again."""
MAXIMUM_PREFIXES = 1
"""Subcode of Cease (RFC 4486)."""


class Phase(Enum):
    """How far the conversation is."""

    AWAY = "no helper attached"
    ASKING = "asking which sessions are up"
    CHECKING = "asking which configuration ExaBGP runs"
    RELOADING = "having it reload"
    READING = "reading what ExaBGP announces"
    TALKING = "in step"
    SETTLING = "in step, waiting for what was said to leave before a reload"


@dataclass(frozen=True, slots=True)
class Command:
    """A command that was sent and is not answered yet."""

    line: str
    session: str = ""
    prefixes: tuple[Prefix, ...] = ()
    change: Change | None = None


class SpeakerMachine:
    """Everything about the conversation but the pipes. Lines to write and events gather in two lists."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.events: list[Event] = []
        self.phase = Phase.AWAY
        self.sessions: dict[str, Session] = {}
        self.wanted: dict[Prefix, Announcement] = {}
        self.outstanding: deque[Command] = deque()
        self.replayed = False
        self.resting: dict[str, float] = {}
        """Peers that must be left out of the configuration, and until when."""
        self.stuck = False
        """ExaBGP does not follow its configuration: only a restart helps."""
        self.trouble = ""
        """Why ExaBGP does not run."""
        self.garbage = 0
        self._mark = ""
        self._confirmed = ""
        self._reloads = 0
        self._again_at: float | None = None
        self._heard = False
        self._said = 0
        """Commands since the first question."""
        self._skipped = 0
        """Answers to come that are to nothing we wait for."""
        self._endings: list[tuple[Peer, int]] = []
        self._marks: set[str] = set()
        self._out: dict[Address, set[Prefix]] = {}
        self._leaving: dict[Ends, Session] = {}
        self._by_address: dict[Address, Session] = {}

    # from above

    def configure(self, asn: Asn, peers: Iterable[Peer], mark: str, now: float) -> None:
        """Run sessions with exactly these peers; `mark` is in the description of each in ExaBGP's file."""
        before = self.sessions
        self.sessions = {}
        for peer in peers:
            session = before.pop(peer.key, None)
            if session is None or session.ends != ends_of(peer, asn):
                if session is not None:
                    before[peer.key] = session
                session = self._begin(peer, asn, now)
            session.peer = peer
            session.touch((*self.wanted, *session.told))
            self.sessions[peer.key] = session
        # ExaBGP runs these until it has reloaded
        self._leaving.update((session.ends, session) for session in before.values())
        self._by_address = {
            session.peer.address: session
            for session in (*self._leaving.values(), *self.sessions.values())
        }
        self._mark = mark
        self._reloads = 0
        if self.phase is Phase.TALKING and mark != self._confirmed:
            self.phase = Phase.SETTLING
        self.pump(now)

    def _begin(self, peer: Peer, asn: Asn, now: float) -> Session:
        """Return a new session, or the one that ExaBGP was to end but was not told so yet."""
        session = self._leaving.pop(ends_of(peer, asn), None)
        if session is None:
            return Session(peer, asn, quiet_since=now)
        if session.state == "up":
            self.events += session.came_up(self.replayed, now)
            session.witnessed = False  # its routes were forgotten with it
        return session

    def announce(self, routes: Iterable[Announcement], now: float) -> None:
        """Offer routes to every peer that carries their family."""
        offered = {route.prefix: route for route in routes}
        self.wanted.update(offered)
        self._touch(offered)
        self.pump(now)

    def withdraw(self, routes: Iterable[Announcement], now: float) -> None:
        """Take routes back."""
        gone = [route.prefix for route in routes]
        for prefix in gone:
            self.wanted.pop(prefix, None)
        self._touch(gone)
        self.pump(now)

    def _touch(self, prefixes: Iterable[Prefix]) -> None:
        prefixes = tuple(prefixes)
        for session in self.sessions.values():
            session.touch(prefixes)

    def end_replay(self, now: float) -> None:
        """All that is wanted has been said: what ExaBGP announces besides is stale."""
        self.replayed = True
        for session in self.sessions.values():
            session.touch(session.told.keys() - self.wanted.keys())
            if session.state == "up":
                session.eor_due = now + EOR_TIMEOUT
        self.pump(now)

    def tear_down(self, peer: str, subcode: int, now: float) -> None:
        """End a session with Cease (not seen by a peer with graceful restart)."""
        session = self.sessions.get(peer)
        if session is None:
            return
        self._endings.append((session.peer, subcode))
        if subcode == MAXIMUM_PREFIXES:
            # ExaBGP would connect again at once
            self.resting[peer] = now + REST
            self.events += session.void(reasons.over_limit(session.peer, REST), now)
        self.pump(now)

    # the pipes and the process

    def attached(self, now: float) -> None:
        """A helper handed its pipes over: find out where ExaBGP stands."""
        self.detached(now)
        self.trouble = ""
        self._reloads = 0
        for session in self.sessions.values():
            session.witnessed = False
        self.phase = Phase.ASKING
        self._heard = False
        self._skipped = self._said = 0
        self.lines += ["", commands.WHO_IS_UP]  # the empty line ends half a command

    def detached(self, now: float) -> None:
        """The pipes closed; sessions go on as long as ExaBGP does."""
        self.phase = Phase.AWAY
        self._drop_outstanding(now)
        self.lines.clear()
        self._endings.clear()
        self._again_at = None

    def _drop_outstanding(self, now: float) -> None:
        for command in self.outstanding:
            if session := self.sessions.get(command.session):
                session.refused(command.prefixes, now)
        self.outstanding.clear()

    def lost(self, reason: str, now: float) -> None:
        """ExaBGP ended."""
        self.detached(now)
        self.stuck = False
        self._leaving.clear()
        for session in self.sessions.values():
            self.events += session.lost(reason, now)

    def feed(self, line: str, now: float) -> None:
        """Take one line from ExaBGP."""
        event = events.parse(line)
        match event:
            case events.Ack(ok):
                self._answered(ok, now)
            case events.Neighbors(up):
                self._who_is_up(up, now)
            case events.Mark(text):
                self._marks.add(text)
            case events.Out(address, prefixes):
                self._out.setdefault(address, set()).update(prefixes)
            case events.Unknown():
                self.garbage += 1
            case events.Notification():
                pass  # the state that follows says it
            case _:
                self._of_peer(event, now)
        self.pump(now)

    # finding out where ExaBGP stands

    def _who_is_up(self, up: Mapping[Address, bool], now: float) -> None:
        if self.phase is Phase.AWAY:
            return
        if self._heard:
            # What came until now were answers to an earlier agent, who asked for the same list. Now
            # ours comes; after it the answers to everything that we said too early.
            self.phase = Phase.ASKING
            self._again_at = None
            self._skipped = 1 + self._said
            self._drop_outstanding(now)
        self._heard = True
        for session in self.sessions.values():
            if up.get(session.peer.address):
                self._is_up(session, now)
            elif session.state == "up":
                self.events += session.went_down(reasons.UNSEEN, now)

    def _is_up(self, session: Session, now: float) -> None:
        if session.state == "up":
            if not session.witnessed:
                session.begin_refresh(session.peer.carried, now)
        else:
            self.events += session.came_up(self.replayed, now)

    def _answered(self, ok: bool, now: float) -> None:
        if self._skipped:
            self._skipped -= 1
            if not self._skipped:
                self._check()
            return
        match self.phase:
            case Phase.ASKING if ok and self._heard:
                self._check()
            case Phase.CHECKING if ok:
                self._checked()
            case Phase.RELOADING if ok:
                self._again_at = now + (RELOAD_PAUSE if self._reloads > 1 else 0)
            case Phase.READING if ok:
                self._start_talking(now)
            case Phase.TALKING | Phase.SETTLING if self.outstanding:
                command = self.outstanding.popleft()
                if session := self.sessions.get(command.session):
                    (session.taken if ok else session.refused)(command.prefixes, now)

    def _check(self) -> None:
        self.phase = Phase.CHECKING
        self._marks.clear()
        self._again_at = None
        self._write(commands.WHAT_IS_CONFIGURED)

    def _checked(self) -> None:
        if self._marks == {self._mark}:
            self._confirmed = self._mark
            self._leaving.clear()
            self.phase = Phase.READING
            self._out.clear()
            self._write(commands.WHAT_IS_OUT)
            return
        self.phase = Phase.RELOADING
        self._reloads += 1
        self.stuck = self._reloads > RELOADS
        self._write(commands.RELOAD)

    def _start_talking(self, now: float) -> None:
        self.phase = Phase.TALKING if self._mark == self._confirmed else Phase.SETTLING
        self._reloads = 0
        for session in self.sessions.values():
            session.holds(self._out.get(session.peer.address, ()))
            session.dirty.clear()
            session.touch((*self.wanted, *session.told))
            if session.state == "up":
                for family in () if session.witnessed else session.refreshing:
                    session.asked.add(family)
                    self._say(Command(commands.refresh(session.peer, family)))
                if self.replayed:
                    session.eor_due = now + EOR_TIMEOUT

    # peers

    def _of_peer(self, event: events.ExaEvent, now: float) -> None:
        address = getattr(event, "peer", None)
        session = self._by_address.get(address) if address is not None else None
        if session is None:
            return
        heard: Iterable[Event] = ()
        match event:
            case events.State(_, "connected", _):
                session.state = "connected"
            case events.State(_, "up", _):
                heard = session.came_up(self.replayed, now)
                session.witnessed = True
            case events.State(_, "down", reason):
                heard = session.went_down(reason, now)
            case _ if session.state == "up":
                heard = session.hears(event, now)
        heard = list(heard)
        if self.sessions.get(session.key) is session:
            self.events += heard
            if session.over_limit and session.key not in self.resting:
                self.tear_down(session.key, MAXIMUM_PREFIXES, now)

    # what to say next

    def pump(self, now: float) -> None:
        """Say what may be said: at most OUTSTANDING commands, one change a prefix in flight."""
        if self._again_at is not None and now >= self._again_at:
            self._check()
        if self.phase is Phase.SETTLING and self._nothing_left():
            self._check()
        if self.phase is not Phase.TALKING:
            return
        if self._endings:
            self._end_sessions()
            return
        for session in self.sessions.values():
            self._pump(session, now)
            if session.eor_is_due(now):
                session.eor_due = 0.0
                for family in session.peer.carried:
                    self._say(Command(commands.end_of_rib(session.peer, family)))

    def _end_sessions(self) -> None:
        """ExaBGP answers these at once, before what it was told earlier: so they go alone."""
        if not self.outstanding:
            peer, subcode = self._endings.pop(0)
            self._say(Command(commands.tear_down(peer, subcode)))

    def _nothing_left(self) -> bool:
        return not self.outstanding and not any(s.in_flight for s in self.sessions.values())

    def _pump(self, session: Session, now: float) -> None:
        while len(self.outstanding) < OUTSTANDING and now >= session.blocked_until:
            change, prefixes = self._next(session)
            if change is None:
                return
            say = commands.announce if change.announcing else commands.withdraw
            line = say(session.peer, change.text, prefixes)
            self._say(Command(line, session.key, prefixes, change))
            session.note(prefixes, change)

    def _next(self, session: Session) -> tuple[Change | None, tuple[Prefix, ...]]:
        """Return one change, and as many dirty prefixes as need the same."""
        first: Change | None = None
        chosen: list[Prefix] = []
        for prefix, change in self._changes(session):
            if first is None:
                first = change
            if change == first:
                chosen.append(prefix)
                del session.dirty[prefix]
                if len(chosen) == commands.BATCH:
                    break
        return first, tuple(chosen)

    def _changes(self, session: Session) -> Iterator[tuple[Prefix, Change]]:
        """Yield what may be said now, and forget about what is in step already."""
        for prefix in list(session.dirty):
            if prefix in session.in_flight:
                continue
            change = session.change(prefix, self.wanted.get(prefix), self.replayed)
            if change is None:
                del session.dirty[prefix]
            elif session.may_say(change):
                yield prefix, change

    def _say(self, command: Command) -> None:
        self._write(command.line)
        self.outstanding.append(command)

    def _write(self, line: str) -> None:
        self.lines.append(line)
        self._said += 1

    def tick(self, now: float) -> None:
        """Let nothing wait for ever."""
        for session in self.sessions.values():
            self.events += session.patience_ends(self.trouble, now)
        for key in [key for key, until in self.resting.items() if until <= now]:
            del self.resting[key]
        self.pump(now)
