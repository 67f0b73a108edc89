"""The loop that owns the host's brain: events in, effects carried out, outcomes back as events."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from netfabric.agent.callers import Answer, Callers
from netfabric.agent.counting import CountingThread
from netfabric.agent.datapath_thread import DatapathThread
from netfabric.agent.inbox import Inbox
from netfabric.agent.journal import Journal, when_done
from netfabric.agent.sessions import BgpSpeaker, Sessions
from netfabric.agent.warnings import Warnings
from netfabric.fabric.effects import (
    Announce,
    Attach,
    AttachAnswer,
    Audit,
    ConfigureSpeaker,
    Count,
    Detach,
    DetachAnswer,
    Effect,
    EndReplay,
    Filter,
    Program,
    Record,
    Refuse,
    ReserveAnswer,
    TearDown,
    Tell,
    Warn,
    Withdraw,
)
from netfabric.fabric.errors import FabricError
from netfabric.fabric.events import Event, Recorded, Tick, UplinksChanged
from netfabric.fabric.host import Host
from netfabric.fabric.session import AgentMessage

TICK = 1.0
"""Seconds between Ticks at most."""
AGAIN = 1.0
"""Seconds after which sessions that could not be settled are tried again."""


class Teller(Protocol):
    """What carries messages to netmaster."""

    def tell(self, message: AgentMessage) -> None:
        """Send, or drop where no session is up."""
        ...


@dataclass(frozen=True, slots=True)
class Hands:
    """Everything that carries effects out."""

    journal: Journal
    datapath: DatapathThread
    bgp: BgpSpeaker
    sessions: Sessions
    netmaster: Teller
    callers: Callers
    warnings: Warnings
    counting: CountingThread


class Loop:
    """One task that alone calls `Host.handle`."""

    def __init__(self, host: Host, inbox: Inbox, hands: Hands, clock: Callable[[], float]) -> None:
        """`clock` tells wall-clock seconds that never jump."""
        self._host = host
        self._inbox = inbox
        self._hands = hands
        self._clock = clock
        self._unsettled = asyncio.Event()

    async def run(self) -> None:
        """Handle events until cancelled. An error in here is a defect and ends the agent."""
        while True:
            await self._inbox.wait(self._patience())
            effects = self._handle(self._inbox.take() or [Tick()])
            if self._answer(effects):
                await asyncio.sleep(0)  # those who were waited for go first: an engine stands still
            self._carry_out(effects)
            await asyncio.sleep(0)

    def _answer(self, effects: Iterable[Effect]) -> bool:
        """Give the answers among these to their callers; return whether there were any."""
        answers = [e for e in effects if isinstance(e, Answer)]
        for answer in answers:
            self._hands.callers.answer(answer)
        return bool(answers)

    def _patience(self) -> float:
        """Return seconds until a Tick is needed."""
        deadline = self._host.next_deadline()
        if deadline is None:
            return TICK
        return min(max(deadline - self._clock(), 0.001), TICK)

    def _handle(self, events: Iterable[Event]) -> list[Effect]:
        effects: list[Effect] = []
        for event in events:
            if isinstance(event, UplinksChanged):
                self._hands.sessions.uplinks_changed(event.uplinks)
                self._unsettled.set()
            effects += self._host.handle(event, self._clock())
        return effects

    def tell_sessions_again(self) -> None:
        """Have ExaBGP's supervision told everything: it starts anew."""
        self._hands.sessions.again()
        self._unsettled.set()

    async def settle_sessions(self) -> None:
        """Follow what changes the sessions, until cancelled."""
        while True:
            await self._unsettled.wait()
            self._unsettled.clear()
            try:
                await self._hands.sessions.settle()
            except FabricError as error:
                self._hands.warnings.put("BGP sessions", str(error))
                asyncio.get_running_loop().call_later(AGAIN, self._unsettled.set)
            else:
                self._hands.warnings.put("BGP sessions", "")

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            self._start(effect)
        self._hands.datapath.flush()

    def _start(self, effect: Effect) -> None:
        """Begin one effect; none is waited for."""
        hands = self._hands
        match effect:
            case Record():
                self._record(effect)
            case Attach() | Detach() | Program() | Filter():
                hands.datapath.perform(effect)
            case Audit():
                hands.datapath.perform(effect)
                if hands.sessions.homeless:
                    self._unsettled.set()
            case Count(groups):
                hands.counting.count(groups)
            case ConfigureSpeaker(speaker, peers):
                hands.sessions.want(speaker, peers)
                self._unsettled.set()
            case Announce(routes):
                hands.bgp.announce(routes)
            case Withdraw(routes):
                hands.bgp.withdraw(routes)
            case EndReplay():
                hands.bgp.end_replay()
            case TearDown(peer, subcode):
                hands.bgp.teardown(peer, subcode)
            case Tell(message):
                hands.netmaster.tell(message)
            case AttachAnswer() | DetachAnswer() | ReserveAnswer() | Refuse():
                pass  # has been given already
            case Warn(subject, text):
                hands.warnings.put(subject, text)

    def _record(self, effect: Record) -> None:
        def done(error: FabricError | None) -> None:
            self._hands.warnings.put("journal", str(error) if error else "")
            if effect.id:
                self._inbox.post(Recorded(effect.id, error))

        loop = asyncio.get_running_loop()
        when_done(self._hands.journal.record(effect.change), loop, done)
