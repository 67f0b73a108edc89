"""A host wants addresses: a block for it, or a single address that another host lends."""

import asyncio
import time
import uuid
from collections.abc import Container
from functools import partial

import structlog

from netfabric.api.rpc.desk import Desk, Pace
from netfabric.api.rpc.hub import Hub
from netfabric.api.statuses import SupersededError
from netfabric.fabric.controller_blocks import (
    BlockDecision,
    Given,
    Lending,
    decide_block,
    decide_withdrawal,
)
from netfabric.fabric.errors import ConflictError, FabricError, UnavailableError
from netfabric.fabric.prefix import Prefix
from netfabric.fabric.session import BlockAnswered, BlockWanted, HeldLoan, Welcome

log = structlog.get_logger(__name__)


class Borrowing:
    """Finds what a host's wish gets. Owners may be served by any netmaster: the store carries question and answer."""

    def __init__(self, hub: Hub, desk: Desk, pace: Pace, host: str) -> None:
        self._hub = hub
        self._desk = desk
        self._pace = pace
        self._host = host
        self._asked: dict[str, asyncio.Future[HeldLoan | None]] = {}
        self._told_loans: set[str] = set()
        self._told: set[tuple[str, Prefix]] = set()
        """Blocks that the agent holds, as far as it was told and has not given back."""
        self._returning: set[tuple[str, Prefix]] = set()
        """Blocks that the agent gives back, until the store has them."""

    def welcome(self, welcome: Welcome) -> None:
        """Note what the agent is told that it holds."""
        self._told.update((held.network, held.prefix) for held in welcome.blocks)
        self._told_loans.update(loan.id for loan in welcome.loans if loan.address)

    def returning(self, network: str, block: Prefix) -> None:
        """Note that the agent has dropped a block, and that the store still says it has it."""
        self._told.discard((network, block))
        self._returning.add((network, block))

    def returned(self, network: str, block: Prefix) -> None:
        """Note that the store knows."""
        self._returning.discard((network, block))

    def loan_changed(self, loan: str, after: HeldLoan | None) -> None:
        """Go on where an owner has answered: with a loan that has an address now, or that is gone."""
        waiting = self._asked.get(loan)
        if waiting is not None and not waiting.done() and (after is None or after.address):
            waiting.set_result(after)

    async def answer(self, wanted: BlockWanted) -> BlockAnswered:
        """Return the answer to a wish; a failure is an answer too."""
        try:
            return await self._find(wanted)
        except SupersededError:
            raise
        except FabricError as error:
            log.info("no addresses", host=self._host, network=wanted.network, reason=str(error))
            return BlockAnswered(
                wanted.network, wanted.family, error=error.what, remedy=error.remedy
            )

    async def _find(self, wanted: BlockWanted) -> BlockAnswered:
        until = time.monotonic() + self._pace.borrow
        tried: set[Prefix] = set()
        while True:
            loan_id = uuid.uuid4().hex
            self._asked[loan_id] = asyncio.get_running_loop().create_future()
            try:
                decision = await self._decide(wanted, loan_id, tried)
                if isinstance(decision, Given):
                    self._told.add((wanted.network, decision.block))
                    return BlockAnswered(wanted.network, wanted.family, block=decision.block)
                loan = await self._lent(decision, until)
            finally:
                del self._asked[loan_id]
            if loan is not None:
                self._told_loans.add(loan.id)
                return BlockAnswered(wanted.network, wanted.family, loan=loan)
            tried.add(decision.loan.block)
            if time.monotonic() >= until:
                raise UnavailableError(
                    f"network {wanted.network}: no free block, and {len(tried)} hosts that were asked"
                    " for an address gave none in time",
                    "try again, or create a network with a larger subnet",
                )

    async def _decide(
        self, wanted: BlockWanted, loan_id: str, tried: Container[Prefix]
    ) -> BlockDecision:
        """Return what the host gets; what cannot be is said at once, without asking the store."""
        if wanted.address is None and (block := self._untold(wanted)):
            return Given(block)
        decide = partial(decide_block, self._hub.view, self._host, wanted, loan_id, tried)
        self._refuse_known(decide(), wanted)
        try:
            async with asyncio.timeout(self._pace.claim), self._hub.claiming:
                return self._refuse_known(await self._desk.commit(decide), wanted)
        except TimeoutError:
            raise UnavailableError(
                f"network {wanted.network}: the store does not answer, no block can be claimed",
                "see that etcd runs; addresses of blocks that a host holds are given out without it",
            ) from None

    def _untold(self, wanted: BlockWanted) -> Prefix | None:
        """Return a block that was claimed for the host, though the store's answer did not come in time."""
        for held in self._hub.view.blocks_by_host.get(self._host, ()):
            network, block = held
            fits = network == wanted.network and block.version == wanted.family
            if fits and held not in self._told and held not in self._returning:
                return block
        return None

    def _refuse_known(self, decision: BlockDecision, wanted: BlockWanted) -> BlockDecision:
        """Never give what the agent has: its BlockReturned or LoanReturned may be on the way."""
        if isinstance(decision, Given):
            held = (wanted.network, decision.block)
            known = not decision.write and (held in self._told or held in self._returning)
        else:
            known = decision.loan.id in self._told_loans
        if known:
            raise ConflictError(
                f"network {wanted.network}: address {wanted.address} is in use, or cooling down,"
                f" on host {self._host}",
                "choose another address, or try again when it has cooled down",
            )
        return decision

    async def _lent(self, decision: Lending, until: float) -> HeldLoan | None:
        """Return the loan once it has an address, None where its owner has none to give or is silent."""
        loan = decision.loan
        if loan.address is not None:
            return loan
        patience = max(0.05, min(self._pace.lend, until - time.monotonic()))
        try:
            async with asyncio.timeout(patience):
                return await self._asked[loan.id]
        except TimeoutError:
            log.info("no answer to a lend", owner=loan.owner, block=str(loan.block))
        await self._desk.commit(lambda: decide_withdrawal(self._hub.view, loan.id))
        late = self._hub.view.loans.get(loan.id)
        return late if late is not None and late.address is not None else None
