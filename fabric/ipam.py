"""Addresses: how a range is cut into blocks, and how a host gives out what it holds."""

from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from netfabric.fabric.network import Network, Range
from netfabric.fabric.prefix import Address, Family, Prefix


def _address(family: Family, number: int) -> Address:
    return IPv4Address(number) if family == 4 else IPv6Address(number)


def _prefix(family: Family, number: int, length: int) -> Prefix:
    return IPv4Network((number, length)) if family == 4 else IPv6Network((number, length))


def _length(range_: Range) -> int:
    """A block is never larger than its subnet."""
    return max(range_.block_length, range_.subnet.prefixlen)


def block_of(range_: Range, address: Address) -> Prefix:
    """Return the block of a range in which an address lies."""
    length = _length(range_)
    shift = (32 if range_.family == 4 else 128) - length
    return _prefix(range_.family, int(address) >> shift << shift, length)


def candidate_blocks(range_: Range, taken: Container[Prefix]) -> Iterator[Prefix]:
    """Yield the blocks that hold an address of the range and are not taken, lowest first."""
    length = _length(range_)
    size = 1 << ((32 if range_.family == 4 else 128) - length)
    start = int(block_of(range_, range_.first).network_address)
    while start <= int(range_.last):
        block = _prefix(range_.family, start, length)
        if block not in taken:
            yield block
        start += size


def usable(network: Network, range_: Range, address: Address) -> bool:
    """Return whether an address may be given out at all: in range, no gateway, not reserved."""
    return (
        address.version == range_.family
        and int(range_.first) <= int(address) <= int(range_.last)
        and address != range_.gateway
        and not any(p.version == address.version and address in p for p in network.reserved)
    )


@dataclass(slots=True)
class _Block:
    """A held block: what lies above `next` was never given out; `returned` was, and is free again."""

    next: int
    end: int
    returned: list[int] = field(default_factory=list)
    """A heap; a number in it may be taken again (asked for by name)."""
    listed: set[int] = field(default_factory=set)
    """What `returned` holds."""
    used: int = 0
    """How many of its addresses are taken."""

    def put_back(self, number: int) -> None:
        """List a number as free, unless it is still to come or listed."""
        if number < self.next and number not in self.listed:
            self.listed.add(number)
            heappush(self.returned, number)

    def numbers(self) -> Iterator[int]:
        """Yield what may be free, lowest returned ones first, each removed from where it was kept."""
        while self.returned:
            number = heappop(self.returned)
            self.listed.discard(number)
            yield number
        while self.next < self.end:
            self.next += 1
            yield self.next - 1


@dataclass(slots=True)
class Pool:
    """The addresses of one network and family that a host holds.

    Taking and releasing cost the same whatever is taken. Cooling down is the caller's: it releases later.
    """

    network: Network
    range: Range
    blocks: dict[Prefix, _Block] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)
    loans: set[int] = field(default_factory=set)
    """Single addresses borrowed of other hosts' blocks."""
    closed: set[Prefix] = field(default_factory=set)
    """Blocks that are no longer given out of (the store says they are not ours)."""

    @property
    def family(self) -> Family:
        """Return 4 or 6."""
        return self.range.family

    def add(self, block: Prefix) -> None:
        """Hold a block; adding it again changes nothing."""
        self.closed.discard(block)
        if block not in self.blocks:
            low, high = self._bounds(block)
            held = self.blocks[block] = _Block(low, high + 1)
            first, last = int(block.network_address), int(block.broadcast_address)
            held.used = sum(first <= number <= last for number in self.taken)

    def _bounds(self, block: Prefix) -> tuple[int, int]:
        """Return the first and last number of a block that lie in the range."""
        return (
            max(int(block.network_address), int(self.range.first)),
            min(int(block.broadcast_address), int(self.range.last)),
        )

    def drop(self, block: Prefix) -> None:
        """Hold a block no longer."""
        self.blocks.pop(block, None)
        self.closed.discard(block)

    def lend_to_us(self, address: Address) -> None:
        """Hold a single borrowed address."""
        self.loans.add(int(address))

    def unlend(self, address: Address) -> None:
        """Hold a borrowed address no longer."""
        self.loans.discard(int(address))

    def has(self, address: Address) -> bool:
        """Return whether an address lies in a held block, open or closed, or is borrowed."""
        return int(address) in self.loans or self.held_block_of(address) is not None

    def holds(self, address: Address) -> bool:
        """Return whether an address lies in an open held block or is borrowed."""
        if int(address) in self.loans:
            return True
        block = self.held_block_of(address)
        return block is not None and block not in self.closed

    def held_block_of(self, address: Address) -> Prefix | None:
        """Return the held block, open or closed, in which an address lies."""
        block = block_of(self.range, address)
        return block if block in self.blocks else None

    def is_taken(self, address: Address | None) -> bool:
        """Return whether an address is in use, cooling down, or lent."""
        return address is not None and int(address) in self.taken

    def is_free(self, address: Address) -> bool:
        """Return whether `take(address)` would give it."""
        return (
            self.holds(address)
            and int(address) not in self.taken
            and usable(self.network, self.range, address)
        )

    def take(self, wanted: Address | None = None, block: Prefix | None = None) -> Address | None:
        """Return a free address and count it as taken: `wanted`, or the next one (of `block`); or None."""
        if wanted is not None:
            if not self.is_free(wanted):
                return None
            self.reserve(wanted)
            return wanted
        for number in self._free_numbers(block):
            address = _address(self.family, number)
            if number not in self.taken and usable(self.network, self.range, address):
                self.reserve(address)
                return address
        return None

    def _free_numbers(self, only: Prefix | None) -> Iterator[int]:
        for prefix in self.blocks if only is None else (only,):
            if prefix in self.blocks and prefix not in self.closed:
                yield from self.blocks[prefix].numbers()
        if only is None:
            yield from sorted(self.loans - self.taken)

    def reserve(self, address: Address) -> None:
        """Count an address as taken, whatever was known of it (found in the journal or the kernel)."""
        number = int(address)
        if number not in self.taken:
            self.taken.add(number)
            self._count(address, 1)

    def _count(self, address: Address, more: int) -> _Block | None:
        block = self.blocks.get(block_of(self.range, address))
        if block is not None:
            block.used += more
        return block

    def release(self, address: Address) -> None:
        """Make an address free again."""
        number = int(address)
        if number in self.taken:
            self.taken.discard(number)
            if block := self._count(address, -1):
                block.put_back(number)

    def free(self, enough: int = 1 << 30) -> int:
        """Return how many addresses are free, counted up to `enough` (an estimate from above)."""
        total = len(self.loans - self.taken) if self.loans else 0
        for prefix, block in self.blocks.items():
            if prefix not in self.closed:
                total += block.end - block.next + len(block.returned)
            if total >= enough:
                return enough
        return total

    def used(self, block: Prefix) -> int:
        """Return how many addresses of a held block are taken."""
        held = self.blocks.get(block)
        return held.used if held else 0

    def retarget(self, network: Network, range_: Range) -> None:
        """Follow a change of the network's intent; what is taken stays taken."""
        before = (self.range, self.network.reserved)
        self.network, self.range = network, range_
        if before == (range_, network.reserved):
            return
        for prefix, block in self.blocks.items():
            # What could not be given out before may be free now.
            low, high = self._bounds(prefix)
            block.next, block.end = low, high + 1
            block.returned.clear()
            block.listed.clear()
