"""A host's addresses: the blocks and loans it holds, what cools down, and what it has to ask for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush

from netfabric.fabric.effects import Effect, JournalChange, Record, Tell
from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.events import HostSettings, JournalState
from netfabric.fabric.ipam import Pool, block_of
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
)

WANT_AGAIN = 2.0
"""Seconds after which a block is asked for again."""


@dataclass(slots=True)
class Addresses:
    """Pools by (network, family), filled from the journal, netmaster and the kernel."""

    settings: HostSettings
    out: list[Effect]
    pools: dict[tuple[str, Family], Pool] = field(default_factory=dict)
    blocks: dict[HeldBlock, None] = field(default_factory=dict)
    """All held blocks, also of networks that are not known (yet)."""
    loans: dict[str, HeldLoan] = field(default_factory=dict)
    cooling: list[tuple[float, str, Address]] = field(default_factory=list)
    """A heap of (time, network key, address)."""
    asked: dict[BlockWanted, float] = field(default_factory=dict)
    """What netmaster was asked for, and when."""
    inherited: list[tuple[Address, float]] = field(default_factory=list)
    """Cooling addresses of the journal whose network is not known yet."""

    def recover(self, journal: JournalState) -> None:
        """Start from what the journal holds; pools come with the intent."""
        self.blocks = dict.fromkeys(journal.blocks)
        self.loans = {loan.id: loan for loan in journal.loans}
        self.inherited = list(journal.cooling)

    def set_networks(self, networks: Mapping[str, Network], endpoints: Iterable[Endpoint]) -> None:
        """Follow the intent: pools for new networks, with what is held and used of them."""
        fresh = []
        for network in networks.values():
            for range_ in network.ranges:
                key = (network.key, range_.family)
                if key in self.pools:
                    self.pools[key].retarget(network, range_)
                else:
                    self.pools[key] = Pool(network, range_)
                    fresh.append(key)
        for key in [k for k in self.pools if k[0] not in networks]:
            del self.pools[key]
        if fresh:
            self._fill(set(fresh), endpoints)

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
        still = []
        for address, until in self.inherited:
            network = self.network_of(address)
            if network:
                self.cool(network, (address,), until)
            else:
                still.append((address, until))
        self.inherited = still

    def network_of(self, address: Address) -> str:
        """Return the key of the network whose held block or loan has an address, or ""."""
        for (network, family), pool in self.pools.items():
            if family == family_of(address) and pool.holds(address):
                return network
        return ""

    def use(self, network: str, addresses: Iterable[Address]) -> None:
        """Count addresses as taken, whoever took them."""
        for address in addresses:
            if pool := self.pools.get((network, family_of(address))):
                pool.reserve(address)

    def take(self, network: str, family: Family, wanted: Address | None) -> Address | None:
        """Return an address out of what is held, or None."""
        return self.pools[network, family].take(wanted)

    def give_back(self, network: str, addresses: Iterable[Address]) -> None:
        """Free addresses at once: nobody has seen them."""
        for address in addresses:
            if pool := self.pools.get((network, family_of(address))):
                pool.release(address)

    def cool(self, network: str, addresses: Iterable[Address], until: float) -> None:
        """Keep addresses from being given out until then."""
        for address in addresses:
            if pool := self.pools.get((network, family_of(address))):
                pool.reserve(address)
            heappush(self.cooling, (until, network, address))

    def want(self, network: str, family: Family, address: Address | None, now: float) -> None:
        """Ask netmaster for a block, or for the block of one address; not twice within a while."""
        wanted = BlockWanted(network, family, address)
        if now - self.asked.get(wanted, -WANT_AGAIN) >= WANT_AGAIN:
            self.asked[wanted] = now
            self.out.append(Tell(wanted))

    def want_ahead(self, network: str, now: float) -> None:
        """Ask for another block before the last addresses are gone."""
        for family in (4, 6):
            pool = self.pools.get((network, family))
            low = self.settings.low_water
            if pool and pool.free(low) < low and pool.blocks:
                self.want(network, family, None, now)

    def answered(self, answer: BlockAnswered) -> None:
        """Take what netmaster gave."""
        for wanted in [
            w for w in self.asked if (w.network, w.family) == (answer.network, answer.family)
        ]:
            del self.asked[wanted]
        if answer.block is not None:
            self.hold(HeldBlock(answer.network, answer.block))
        if answer.loan is not None:
            self.borrow(answer.loan)

    def hold(self, block: HeldBlock) -> None:
        """Hold a block from now on, durably."""
        if block not in self.blocks:
            self.blocks[block] = None
            self.out.append(Record(JournalChange(block=block)))
        if pool := self.pools.get((block.network, family_of(block.prefix))):
            pool.add(block.prefix)

    def lose(self, block: HeldBlock) -> bool:
        """Give no more out of a block that the store says is not ours; return whether it is still in use."""
        pool = self.pools.get((block.network, family_of(block.prefix)))
        if pool and pool.users_of(block.prefix):
            pool.closed.add(block.prefix)
            return True
        self._drop(block)
        return False

    def _drop(self, block: HeldBlock) -> None:
        self.blocks.pop(block, None)
        self.out.append(Record(JournalChange(block_gone=block)))
        if pool := self.pools.get((block.network, family_of(block.prefix))):
            pool.drop(block.prefix)

    def borrow(self, loan: HeldLoan) -> None:
        """Hold a single address of another host's block, or note one of ours that is lent."""
        if self.loans.get(loan.id) != loan:
            self.loans[loan.id] = loan
            self.out.append(Record(JournalChange(loan=loan)))
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
        pool = self.pools.get((asked.network, family_of(asked.block)))
        known = self.loans.get(asked.loan)
        address = known.address if known else None
        if address is None and pool and asked.block in pool.blocks:
            address = pool.take(asked.wanted) if asked.wanted else pool.take(block=asked.block)
        if address is not None:
            host = self.settings.host
            self.borrow(HeldLoan(asked.loan, asked.network, asked.block, host, "", address))
        self.out.append(Tell(LendAnswered(asked.loan, address)))

    def loan_ended(self, loan_id: str) -> None:
        """A lent address came back."""
        loan = self.loans.pop(loan_id, None)
        if loan and loan.address:
            self.out.append(Record(JournalChange(loan_gone=loan_id)))
            self.give_back(loan.network, (loan.address,))

    def tick(self, now: float) -> None:
        """Let addresses that have cooled down be used again; return what is needed no more."""
        cooled: list[tuple[str, Address]] = []
        while self.cooling and self.cooling[0][0] <= now:
            _, network, address = heappop(self.cooling)
            cooled.append((network, address))
        if not cooled:
            return
        self.out.append(Record(JournalChange(cooled=tuple(a for _, a in cooled))))
        for network, address in cooled:
            self.give_back(network, (address,))
            self._return_unused(network, address)

    def _return_unused(self, network: str, address: Address) -> None:
        pool = self.pools.get((network, family_of(address)))
        if pool is None:
            return
        for loan in [
            x for x in self.loans.values() if x.address == address and x.network == network
        ]:
            if loan.borrower == self.settings.host:
                pool.unlend(address)
                del self.loans[loan.id]
                self.out += [Record(JournalChange(loan_gone=loan.id)), Tell(LoanReturned(loan.id))]
        self._return_block(pool, HeldBlock(network, block_of(pool.range, address)))

    def _return_block(self, pool: Pool, block: HeldBlock) -> None:
        """Give a block back that nobody uses, as long as another one has room."""
        if block.prefix not in pool.blocks or pool.users_of(block.prefix):
            return
        others = pool.free() - block.prefix.num_addresses
        if len(pool.blocks) > 1 and others >= 2 * self.settings.low_water:
            self._drop(block)
            self.out.append(Tell(BlockReturned(block.network, block.prefix)))

    def blocks_of(self, network: str) -> list[Prefix]:
        """Return the held blocks of a network."""
        return [block.prefix for block in self.blocks if block.network == network]
