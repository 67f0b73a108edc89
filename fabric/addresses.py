"""A host's addresses: the blocks and loans it holds, what cools down, and what it has to ask for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from netfabric.fabric.cooling import Cooling, Where
from netfabric.fabric.effects import Effect, JournalChange, Tell
from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.errors import FabricError
from netfabric.fabric.events import HostSettings, JournalState
from netfabric.fabric.ipam import Pool
from netfabric.fabric.ledger import Ledger
from netfabric.fabric.network import Network
from netfabric.fabric.prefix import Address, Family, Prefix, family_of
from netfabric.fabric.session import (
    BlockAnswered,
    BlockReturned,
    BlockWanted,
    HeldBlock,
    HeldLoan,
    LendAnswered,
    LendAsked,
    LoanReturned,
    Welcome,
)

WANT_AGAIN = 2.0
"""Seconds after which a block is asked for again."""


@dataclass(slots=True)
class Addresses:
    """Pools by (network, family), filled from the journal, netmaster and the kernel.

    What is given away (a lent address, a returned block) is given away durably first, and told then:
    a crash in between leaves it unused, never used twice.
    """

    settings: HostSettings
    out: list[Effect]
    ledger: Ledger
    pools: dict[tuple[str, Family], Pool] = field(default_factory=dict)
    """Those of networks that are gone stay while something in them is in use."""
    blocks: dict[HeldBlock, None] = field(default_factory=dict)
    """All held blocks, also of networks that are not known (yet)."""
    returned: set[HeldBlock] = field(default_factory=set)
    """Given back, as far as this host is concerned; a Welcome may not have it in yet."""
    loans: dict[str, HeldLoan] = field(default_factory=dict)
    lending: set[str] = field(default_factory=set)
    """Loans that are not durable here yet."""
    cooling: Cooling = field(default_factory=Cooling)
    reserved: dict[tuple[str, Address], float] = field(default_factory=dict)
    """What of it was reserved since start, and until when."""
    asked: dict[tuple[str, Family], tuple[BlockWanted, float]] = field(default_factory=dict)
    """What netmaster was asked for, one at a time for each pool, and when."""
    inherited: list[tuple[Where, float, bool]] = field(default_factory=list)
    """Cooling addresses whose network is not known yet, and whether they were ours (the journal has them)."""
    idle: set[str] = field(default_factory=set)
    """Borrowed loans that nobody used when they were last looked at."""

    def recover(self, journal: JournalState) -> None:
        """Start from what the journal holds; pools come with the intent."""
        self.blocks = dict.fromkeys(journal.blocks)
        self.loans = {loan.id: loan for loan in journal.loans}
        self.inherited = [(where, until, True) for where, until in journal.cooling]

    # networks

    def set_networks(self, networks: Mapping[str, Network], endpoints: Iterable[Endpoint]) -> None:
        """Follow the intent: pools for new networks, with what is held and used of them."""
        fresh = set()
        for network in networks.values():
            for range_ in network.ranges:
                key = (network.key, range_.family)
                if key in self.pools:
                    self.pools[key].retarget(network, range_)
                else:
                    self.pools[key] = Pool(network, range_)
                    fresh.add(key)
        for key in [k for k in self.pools if k[0] not in networks]:
            self._network_gone(key)
        if fresh:
            self._fill(fresh, endpoints)

    def _network_gone(self, key: tuple[str, Family]) -> None:
        """Give out nothing more of a network, and let go of what is not in use.

        Another network of the same name may come: what this host held of the old one is void then.
        """
        pool = self.pools[key]
        pool.closed |= pool.blocks.keys()
        for prefix in list(pool.blocks):
            self._return_block(pool, HeldBlock(key[0], prefix))
        for loan in self._loans_of(key):
            if loan.borrower != self.settings.host:
                self.loan_ended(loan.id)
            elif not pool.is_taken(loan.address):
                self._return_loan(pool, loan)
        if not pool.taken:
            del self.pools[key]

    def _loans_of(self, key: tuple[str, Family]) -> list[HeldLoan]:
        network, family = key
        return [
            loan
            for loan in self.loans.values()
            if loan.network == network and family_of(loan.block) == family
        ]

    def _fill(self, fresh: set[tuple[str, Family]], endpoints: Iterable[Endpoint]) -> None:
        for held in self.blocks:
            key = (held.network, family_of(held.prefix))
            if key in fresh:
                self.pools[key].add(held.prefix)
        for loan in self.loans.values():
            if loan.address and (loan.network, family_of(loan.address)) in fresh:
                self._apply_loan(loan)
        for endpoint in endpoints:
            self.use(f"{endpoint.tenant}:{endpoint.network}", endpoint.addresses)
        inherited, self.inherited = self.inherited, []
        for (network, address), until, ours in inherited:
            self.cool_unknown(address, until, network, ours=ours)

    def networks_of(self, address: Address) -> list[str]:
        """Return the networks of which a held block or loan has an address; of tenants that overlap, several."""
        return [
            network
            for (network, family), pool in self.pools.items()
            if family == family_of(address) and pool.has(address)
        ]

    def block_of(self, network: str, address: Address) -> Prefix | None:
        """Return the held block in which an address lies."""
        pool = self.pools.get((network, family_of(address)))
        return pool.held_block_of(address) if pool else None

    # addresses

    def use(self, network: str, addresses: Iterable[Address]) -> None:
        """Count addresses as taken, whoever took them."""
        for address in addresses:
            if pool := self.pools.get((network, family_of(address))):
                pool.reserve(address)

    def take(self, network: str, family: Family, wanted: Address | None) -> Address | None:
        """Return an address out of what is held, or None.

        Whoever asks for one that cools down here gets it; `give_back` lets it cool on.
        """
        pool = self.pools[network, family]
        if wanted is not None and pool.holds(wanted) and self.cooling.lift(network, wanted):
            return wanted
        return pool.take(wanted)

    def give_back(
        self, network: str, addresses: Iterable[Address]
    ) -> tuple[tuple[Where, float], ...]:
        """Free addresses at once: nobody has seen them; return those that have to cool on, and until when."""
        cooling = []
        for address in addresses:
            if until := self.cooling.restore(network, address):
                cooling.append(((network, address), until))
            else:
                self._release(network, address)
        return tuple(cooling)

    def _release(self, network: str, address: Address) -> None:
        if pool := self.pools.get((network, family_of(address))):
            pool.release(address)

    def keep_reserved(self, network: str, address: Address, until: float) -> None:
        """Count an address as reserved from now on: it cools down, and nobody has seen it yet."""
        self.cool(network, (address,), until)
        cooling = self.cooling.until
        self.reserved = {
            where: end for where, end in self.reserved.items() if cooling.get(where) == end
        }
        self.reserved[network, address] = until

    def recall_reserved(self, now: float) -> None:
        """Know after a restart what was reserved: nothing of ours cools down longer than `cool_down` otherwise."""
        longest = now + self.settings.cool_down
        for where, until in self.cooling.until.items():
            if until > longest and where not in self.cooling.foreign:
                self.reserved[where] = until

    def unreserve(self, network: str, address: Address) -> bool:
        """Return whether an address was reserved, and nothing more; it is so no longer, durably, and counts as taken."""
        where = (network, address)
        until = self.reserved.pop(where, None)
        if until is None or self.cooling.until.get(where) != until:
            return False
        self.cooling.drop(network, address)
        self.ledger.write(JournalChange(cooled=(where,)))
        return True

    def give_up(self, network: str, address: Address) -> None:
        """Free a reserved address; one that is something else by now stays as it is."""
        if self.unreserve(network, address):
            self._release(network, address)
            self._return_unused(network, address)

    def cool(self, network: str, addresses: Iterable[Address], until: float) -> None:
        """Keep addresses from being given out until then."""
        self.use(network, addresses)
        for address in addresses:
            self.cooling.add(network, address, until)

    def cool_unknown(
        self, address: Address, until: float, network: str = "", *, ours: bool = False
    ) -> None:
        """Keep an address from being given out until then, as soon as its network is known.

        Where it is not said of which network it is, it is kept in every one that has it.
        """
        found = [one for one in self.networks_of(address) if network in ("", one)]
        for one in found:
            self.use(one, (address,))
            self.cooling.add(one, address, until, ours=ours)
        if not found:
            self.inherited.append(((network, address), until, ours))

    def tick(self, now: float) -> bool:
        """Let addresses that have cooled down be used again; return whether any have.

        A block or a loan of which nothing is used any more may go back with them.
        """
        cooled = list(self.cooling.due(now))
        if not cooled:
            return False
        self.ledger.write(JournalChange(cooled=tuple(cooled)))
        for network, address in cooled:
            self._release(network, address)
            self._return_unused(network, address)
        return True

    # what netmaster gives

    def want(self, network: str, family: Family, address: Address | None, now: float) -> None:
        """Ask netmaster for a block, or for one address.

        One question a pool at a time, so that it is known which one an answer belongs to.
        """
        _, since = self.asked.get((network, family), (None, -WANT_AGAIN))
        if now - since >= WANT_AGAIN:
            wanted = BlockWanted(network, family, address)
            self.asked[network, family] = (wanted, now)
            self.out.append(Tell(wanted))

    def want_ahead(self, network: str, now: float) -> None:
        """Ask for another block before the last addresses are gone."""
        for family in (4, 6):
            pool = self.pools.get((network, family))
            low = self.settings.low_water
            if pool and pool.blocks and pool.free(low) < low:
                self.want(network, family, None, now)

    def answered(self, answer: BlockAnswered) -> Address | None:
        """Take what netmaster gave; return the address that it was asked for, None for any."""
        asked, _ = self.asked.pop((answer.network, answer.family), (None, 0.0))
        if answer.block is not None:
            self.hold(HeldBlock(answer.network, answer.block))
        if answer.loan is not None:
            self.borrow(answer.loan)
        return asked.address if asked else None

    def hold(self, block: HeldBlock) -> None:
        """Hold a block from now on, durably."""
        self.returned.discard(block)
        if block not in self.blocks:
            self.blocks[block] = None
            self.ledger.write(JournalChange(block=block))
        if pool := self.pools.get((block.network, family_of(block.prefix))):
            pool.add(block.prefix)

    def welcomed(self, welcome: Welcome, *, fresh: bool) -> list[HeldBlock]:
        """Follow what the store says is ours; return blocks that it does not give us, and that are in use.

        With a lost journal (`fresh`) there is nothing to compare.
        """
        for block in welcome.blocks:
            if block in self.returned:
                self.out.append(Tell(BlockReturned(block.network, block.prefix)))
            else:
                self.hold(block)
        for loan in welcome.loans:
            if loan.address:
                self.borrow(loan)
        if fresh:
            return []
        self._compare_loans({loan.id for loan in welcome.loans})
        lost = [block for block in self.blocks if block not in welcome.blocks]
        return [block for block in lost if self.lose(block)]

    def _compare_loans(self, listed: set[str]) -> None:
        """Use no loan that the store does not have. Whether one that we gave has ended, it is asked."""
        for loan in [x for x in self.loans.values() if x.id not in listed]:
            if loan.borrower != self.settings.host:
                self.out.append(Tell(LendAnswered(loan.id, loan.address)))
                continue
            pool = self.pools.get((loan.network, family_of(loan.block)))
            if pool and loan.address:
                pool.unlend(loan.address)
            if not (pool and pool.is_taken(loan.address)):
                del self.loans[loan.id]
                self.ledger.write(JournalChange(loan_gone=loan.id))

    def lose(self, block: HeldBlock) -> bool:
        """Give no more out of a block that the store says is not ours; return whether it is still in use."""
        pool = self.pools.get((block.network, family_of(block.prefix)))
        if pool and pool.used(block.prefix):
            pool.closed.add(block.prefix)
            return True
        self._drop(block)
        self.ledger.write(JournalChange(block_gone=block))
        return False

    def is_open(self, block: HeldBlock) -> bool:
        """Return whether a held block is given out of."""
        pool = self.pools.get((block.network, family_of(block.prefix)))
        return pool is not None and block.prefix in pool.blocks and block.prefix not in pool.closed

    def _drop(self, block: HeldBlock) -> None:
        self.blocks.pop(block, None)
        if pool := self.pools.get((block.network, family_of(block.prefix))):
            pool.drop(block.prefix)

    # loans

    def borrow(self, loan: HeldLoan) -> None:
        """Hold a single address of another host's block, or note one of ours that is lent."""
        if self.loans.get(loan.id) != loan:
            self.loans[loan.id] = loan
            self.ledger.write(JournalChange(loan=loan))
        if loan.address:
            self._apply_loan(loan)

    def _apply_loan(self, loan: HeldLoan) -> None:
        assert loan.address is not None
        pool = self.pools.get((loan.network, family_of(loan.address)))
        if pool and loan.borrower == self.settings.host:
            pool.lend_to_us(loan.address)
        elif pool:
            pool.reserve(loan.address)

    def lend(self, asked: LendAsked) -> None:
        """Give up a free address of a block of ours for another host, durably, and then say so."""
        known = self.loans.get(asked.loan)
        if known is not None:
            if known.id not in self.lending:
                self.out.append(Tell(LendAnswered(asked.loan, known.address)))
            return
        pool = self.pools.get((asked.network, family_of(asked.block)))
        address = None
        if pool and asked.block in pool.blocks and asked.block not in pool.closed:
            address = self._for_loan(pool, asked)
        if address is None:
            self.out.append(Tell(LendAnswered(asked.loan, None)))
            return
        host = self.settings.host
        loan = HeldLoan(asked.loan, asked.network, asked.block, host, "", address)
        self.loans[loan.id] = loan
        self.lending.add(loan.id)
        self.ledger.write(JournalChange(loan=loan), partial(self._lent, loan))

    def _for_loan(self, pool: Pool, asked: LendAsked) -> Address | None:
        """Take an address for another host: one reserved here goes to who asks for it, as a swarm's workers do."""
        if asked.wanted is None:
            return pool.take(block=asked.block)
        if self.unreserve(asked.network, asked.wanted):
            return asked.wanted
        return pool.take(asked.wanted)

    def _lent(self, loan: HeldLoan, error: FabricError | None, now: float) -> None:
        self.lending.discard(loan.id)
        if error is not None and loan.address is not None:
            del self.loans[loan.id]
            self._release(loan.network, loan.address)
        self.out.append(Tell(LendAnswered(loan.id, None if error else loan.address)))

    def loan_ended(self, loan_id: str) -> None:
        """A lent address came back."""
        loan = self.loans.pop(loan_id, None)
        if loan and loan.address:
            self.ledger.write(JournalChange(loan_gone=loan_id))
            self._release(loan.network, loan.address)

    # giving back

    def _return_unused(self, network: str, address: Address) -> None:
        pool = self.pools.get((network, family_of(address)))
        if pool is None:
            return
        if block := pool.held_block_of(address):
            self._return_block(pool, HeldBlock(network, block))
            return
        for loan in self._loans_of((network, pool.family)):
            if loan.address == address and loan.borrower == self.settings.host:
                self._return_loan(pool, loan)

    def return_idle_loans(self) -> None:
        """Give back borrowed addresses that nobody used at the last look and nobody uses now.

        Such a one came after its ADD gave up, or that ADD failed. Whoever asks again soon still finds it.
        """
        idle = {}
        for loan in self.loans.values():
            pool = self.pools.get((loan.network, family_of(loan.block)))
            ours = loan.borrower == self.settings.host and loan.address is not None
            if ours and pool and not pool.is_taken(loan.address):
                idle[loan.id] = (pool, loan)
        for loan_id in self.idle & idle.keys():
            self._return_loan(*idle.pop(loan_id))
        self.idle = set(idle)

    def _return_loan(self, pool: Pool, loan: HeldLoan) -> None:
        if loan.address:
            pool.unlend(loan.address)
        del self.loans[loan.id]
        self.ledger.write(JournalChange(loan_gone=loan.id), partial(self._loan_returned, loan.id))

    def _loan_returned(self, loan_id: str, error: FabricError | None, now: float) -> None:
        if error is None and loan_id not in self.loans:
            self.out.append(Tell(LoanReturned(loan_id)))

    def _return_block(self, pool: Pool, block: HeldBlock) -> None:
        """Give back a block that nobody uses: as long as another has room, or where it is closed anyway."""
        if pool.used(block.prefix):
            return
        if block.prefix not in pool.closed:
            others = pool.free() - block.prefix.num_addresses
            if len(pool.blocks) == 1 or others < 2 * self.settings.low_water:
                return
        self._drop(block)
        self.ledger.write(JournalChange(block_gone=block), partial(self._block_returned, block))

    def _block_returned(self, block: HeldBlock, error: FabricError | None, now: float) -> None:
        """Say so, unless netmaster gave it anew meanwhile; after an error a restart holds it again."""
        if error is None and block not in self.blocks:
            self.returned.add(block)
            self.out.append(Tell(BlockReturned(block.network, block.prefix)))

    def blocks_of(self, network: str) -> list[Prefix]:
        """Return the held blocks of a network."""
        return [block.prefix for block in self.blocks if block.network == network]
