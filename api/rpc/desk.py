"""What one host's agent says and asks, decided and stored under the fence of its session."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import structlog

from netfabric.api.commit import Decided
from netfabric.api.rpc.hub import Hub
from netfabric.api.rpc.presence import Presence
from netfabric.fabric.controller import decide_abandoned, decide_claims
from netfabric.fabric.controller_blocks import decide_lent, decide_loan_end, decide_return
from netfabric.fabric.controller_endpoints import decide_endpoints
from netfabric.fabric.controller_routes import admit
from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.errors import UnauthorizedError, UnavailableError
from netfabric.fabric.prefix import Prefix
from netfabric.fabric.session import (
    AgentMessage,
    BlockReturned,
    BlockWanted,
    CountsChanged,
    EndpointsAnswered,
    EndpointsChanged,
    Hello,
    LendAnswered,
    LoanEnded,
    LoanReturned,
    MasterMessage,
    RefusedEndpoint,
    RoutesLearned,
    SessionsChanged,
    StoredEndpoint,
)

log = structlog.get_logger(__name__)
D = TypeVar("D", bound=Decided)


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a session is patient, in seconds."""

    stall: float = 10.0
    """For an agent that does not read."""
    store: float = 10.0
    """For a store that does not answer while the agent has something to be stored."""
    retry: float = 0.3
    claim: float = 5.0
    """For a block to be claimed: an agent's ADD waits eight seconds."""
    lend: float = 0.8
    """For one owner's answer."""
    borrow: float = 1.8
    """For all owners': an agent asks again after two seconds."""
    lease: float = 15.0
    """How long a host counts as connected after its netmaster died."""


PACE = Pace()


class Desk:
    """Carries out what a host's agent says. `tell` sends an answer, `want` takes a wish for a block."""

    def __init__(
        self,
        hub: Hub,
        presence: Presence,
        pace: Pace,
        tell: Callable[[MasterMessage], None],
        want: Callable[[BlockWanted], None],
    ) -> None:
        self._hub = hub
        self._presence = presence
        self._pace = pace
        self._tell = tell
        self._want = want
        self._host = presence.status.name
        self._refused: set[Prefix] = set()

    async def commit(self, decide: Callable[[], D]) -> D:
        """Decide and commit; raise what deciding raises, SupersededError from the fence, UnavailableError."""
        async with self._presence.turn:
            return await self._hub.commits.carry_out(decide, self._presence)

    async def patiently(self, decide: Callable[[], D]) -> D:
        """The same, again for a while where the store does not answer."""
        until = time.monotonic() + self._pace.store
        while True:
            try:
                return await self.commit(decide)
            except UnavailableError:
                if time.monotonic() >= until:
                    raise
            await asyncio.sleep(self._pace.retry)

    async def reconcile(self, hello: Hello) -> None:
        """Bring the store up to what a Hello proves; where the journal is lost it proves nothing is absent."""
        view, host = self._hub.view, self._host
        while (await self.patiently(lambda: decide_abandoned(view, host))).write:
            pass
        while (await self.patiently(lambda: decide_claims(view, host, hello.blocks))).write:
            pass

    async def handle(self, messages: Sequence[AgentMessage]) -> None:
        """Carry out messages in order; endpoints first, since others rely on them and they on nothing here."""
        reported: dict[EndpointKey, Endpoint | None] = {}
        for message in messages:
            if isinstance(message, EndpointsChanged):
                reported.update((endpoint.key, endpoint) for endpoint in message.up)
                reported.update(dict.fromkeys(message.down))
        await self.endpoints(reported)
        for message in messages:
            await self._one(message)

    async def _one(self, message: AgentMessage) -> None:
        view, host = self._hub.view, self._host
        match message:
            case BlockWanted():
                self._want(message)
            case RoutesLearned():
                self._learn(message)
            case SessionsChanged(sessions):
                self._presence.change(replace(self._presence.status, sessions=sessions))
            case CountsChanged(counts):
                self._presence.count(counts)
            case BlockReturned():
                await self.patiently(lambda: decide_return(view, host, message))
            case LoanReturned(loan):
                await self.patiently(lambda: decide_loan_end(view, host, loan))
            case LendAnswered():
                await self._lent(message)
            case EndpointsChanged():
                pass  # stored already
            case Hello():
                log.warning("a second Hello is ignored", host=host)

    async def endpoints(self, reported: dict[EndpointKey, Endpoint | None]) -> None:
        """Store endpoints that came up and forget those that are gone, and say what became of them."""
        stored: list[StoredEndpoint] = []
        refused: list[RefusedEndpoint] = []
        while reported:
            done = await self.patiently(
                partial(decide_endpoints, self._hub.view, self._host, reported)
            )
            stored += done.stored
            refused += done.refused
            gone = set(done.done)
            reported = {key: value for key, value in reported.items() if key not in gone}
        if stored or refused:
            self._tell(EndpointsAnswered(tuple(stored), tuple(refused)))
        for endpoint in refused:
            log.warning("endpoint refused", host=self._host, reason=endpoint.reason)
        self._presence.refused(len(refused))

    def _learn(self, news: RoutesLearned) -> None:
        taken, refused = admit(self._hub.view, self._hub.subnets, self._host, news.routes)
        known = set() if news.full else self._refused
        new = {route.prefix for route in refused} - known
        self._refused = known | new
        away = (*news.withdrawn, *(route.prefix for route in refused))
        self._presence.learn(RoutesLearned(news.full, tuple(taken), away))
        self._presence.refused(len(new))

    async def _lent(self, answer: LendAnswered) -> None:
        try:
            done = await self.patiently(lambda: decide_lent(self._hub.view, self._host, answer))
        except UnauthorizedError as error:
            log.warning("loan refused", host=self._host, reason=str(error))
            self._presence.refused(1)
        else:
            if done.ended:
                self._tell(LoanEnded(answer.loan))
