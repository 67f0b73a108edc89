"""A host wants addresses: a block for it, or a single address that another host lends."""

import asyncio
import time
import uuid
from collections.abc import Container

import structlog

from netfabric.api.rpc.desk import Desk, Pace
from netfabric.api.rpc.hub import Hub
from netfabric.api.rpc.status import SupersededError
from netfabric.fabric.controller_blocks import (
    BlockDecision,
    Given,
    Lending,
    decide_block,
    decide_withdrawal,
)
from netfabric.fabric.errors import FabricError, UnavailableError
from netfabric.fabric.prefix import Prefix
from netfabric.fabric.session import BlockAnswered, BlockWanted, HeldLoan

log = structlog.get_logger(__name__)


class Borrowing:
    """Finds what a host's wish gets. Owners may be served by any netmaster: the store carries question and answer."""

    def __init__(self, hub: Hub, desk: Desk, pace: Pace, host: str) -> None:
        self._hub = hub
        self._desk = desk
        self._pace = pace
        self._host = host
        self._asked: dict[str, asyncio.Future[HeldLoan | None]] = {}

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
                    return BlockAnswered(wanted.network, wanted.family, block=decision.block)
                loan = await self._lent(decision, until)
            finally:
                del self._asked[loan_id]
            if loan is not None:
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
        view = self._hub.view
        async with self._hub.claiming:
            return await self._desk.commit(
                lambda: decide_block(view, self._host, wanted, loan_id, tried)
            )

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
