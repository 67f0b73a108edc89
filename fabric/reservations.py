"""Addresses given out ahead of their endpoint, as Docker wants them: for a while nobody else gets one."""

from dataclasses import dataclass, field
from functools import partial

from netfabric.fabric import admission
from netfabric.fabric.addresses import Addresses
from netfabric.fabric.attachments import Attachments
from netfabric.fabric.effects import Effect, JournalChange, Refuse, ReserveAnswer
from netfabric.fabric.errors import ExhaustedError, FabricError
from netfabric.fabric.events import ReserveRequested
from netfabric.fabric.ledger import Ledger
from netfabric.fabric.prefix import Address
from netfabric.fabric.session import BlockAnswered

RESERVED_FOR = 600.0
"""Seconds after which a reservation that no endpoint came for lapses.

Docker's endpoint follows within a second. Were one to come later still, its attach takes the address if it is
free, and is refused if it is not: the bound decides how long an address may lie idle, never who owns it.
"""


@dataclass(slots=True)
class Reservations:
    """Those who wait for an address, and what they got.

    A reserved address cools down from the start: the journal keeps it, nobody is given it, and who attaches
    with it by name (`Cooling.lift`) gets it.
    """

    attachments: Attachments
    addresses: Addresses
    ledger: Ledger
    out: list[Effect]
    waiting: dict[int, tuple[ReserveRequested, float]] = field(default_factory=dict)
    """By token, with the time at which it is too late."""

    def reserve(self, asked: ReserveRequested, now: float) -> None:
        """Give an address, as soon as there is one."""
        self.waiting[asked.token] = (asked, now + self.attachments.settings.block_timeout)

    def look(self, now: float) -> None:
        """See whether those that wait can be served."""
        for asked, deadline in list(self.waiting.values()):
            try:
                if self._serve(asked, now):
                    del self.waiting[asked.token]
                elif now >= deadline:
                    raise self._too_late(asked)
            except FabricError as error:
                self._refuse(asked, error)

    def _refuse(self, asked: ReserveRequested, error: FabricError) -> None:
        del self.waiting[asked.token]
        self.out.append(Refuse(asked.token, error))

    def _serve(self, asked: ReserveRequested, now: float) -> bool:
        attachments, key = self.attachments, asked.network
        if not (attachments.ready and attachments.informed):
            return False
        network = attachments.networks.get(key)
        admission.admit_reservation(asked, network, attachments.settings.host, attachments.lacking)
        address = self.addresses.take(key, asked.family, asked.wanted)
        if address is None:
            if asked.wanted and self.addresses.pools[key, asked.family].holds(asked.wanted):
                raise admission.in_use(asked.wanted, key)
            self.addresses.want(key, asked.family, asked.wanted, now)
            return False
        self._hold(asked, address, now + RESERVED_FOR)
        self.addresses.want_ahead(key, now)
        return True

    def _hold(self, asked: ReserveRequested, address: Address, until: float) -> None:
        self.addresses.keep_reserved(asked.network, address, until)
        change = JournalChange(cooling=(((asked.network, address), until),))
        self.ledger.write(change, partial(self._durable, asked, address))

    def _durable(
        self, asked: ReserveRequested, address: Address, error: FabricError | None, now: float
    ) -> None:
        if error is None:
            self.out.append(ReserveAnswer(asked.token, address))
        else:
            self.addresses.give_up(asked.network, address)
            self.out.append(Refuse(asked.token, error))

    def _too_late(self, asked: ReserveRequested) -> FabricError:
        settings = self.attachments.settings
        if not self.attachments.ready:
            return admission.journal_lost(settings.host)
        if not self.attachments.informed:
            return admission.no_intent(settings.host)
        return admission.no_block(asked.network, settings.block_timeout)

    def no_block(self, answer: BlockAnswered, wanted: Address | None) -> None:
        """netmaster has no address: those that asked for that one (or any) are told."""
        question = (answer.network, answer.family, wanted)
        for asked, _ in list(self.waiting.values()):
            if (asked.network, asked.family, asked.wanted) == question:
                self._refuse(asked, ExhaustedError(answer.error, answer.remedy))
