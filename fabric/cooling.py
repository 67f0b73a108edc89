"""Addresses that were released a moment ago: not given to others while the fabric and its caches forget them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush

from netfabric.fabric.prefix import Address

Where = tuple[str, Address]
"""Network key and address."""


@dataclass(slots=True)
class Cooling:
    """What cools down, until when, and what of it was given to an explicit request meanwhile.

    Cooling keeps an address from *other* hosts' and containers' eyes that still look here. For this host to announce
    it again is safe: whoever still has the old route comes to the right place. So whoever asks for it by name gets it,
    as `podman network reload` does (DEL, then ADD with the old address).
    """

    until: dict[Where, float] = field(default_factory=dict)
    foreign: set[Where] = field(default_factory=set)
    """Found on a link that nobody knows: a container may be using it, so it is given to nobody."""
    again: dict[Where, float] = field(default_factory=dict)
    """Given again before their time, as long as that ADD may fail."""
    _heap: list[tuple[float, str, int, Address]] = field(default_factory=list)
    """An entry whose time is not that of `until` is void."""

    def add(self, network: str, address: Address, until: float, *, ours: bool = True) -> None:
        """Let an address cool down; the later of two times counts."""
        where = (network, address)
        self.again.pop(where, None)
        self.until[where] = until = max(until, self.until.get(where, until))
        if not ours:
            self.foreign.add(where)
        heappush(self._heap, (until, network, address.version, address))

    def due(self, now: float) -> Iterator[Where]:
        """Yield what has cooled down; it does so no more."""
        while self._heap and self._heap[0][0] <= now:
            until, network, _, address = heappop(self._heap)
            where = (network, address)
            if self.until.get(where) == until:
                del self.until[where]
                self.foreign.discard(where)
                yield where

    def lift(self, network: str, address: Address) -> bool:
        """Return whether an address cools down and may be given to who asks for it; it then cools no more."""
        where = (network, address)
        if where not in self.until or where in self.foreign:
            return False
        self.again[where] = self.until.pop(where)
        return True

    def drop(self, network: str, address: Address) -> None:
        """Let an address cool down no more."""
        self.until.pop((network, address), None)

    def lifted(self, network: str, addresses: Iterable[Address]) -> tuple[Where, ...]:
        """Return which of these were given again."""
        return tuple((network, a) for a in addresses if (network, a) in self.again)

    def settle(self, network: str, addresses: Iterable[Address]) -> None:
        """What was given again is in use."""
        for address in addresses:
            self.again.pop((network, address), None)

    def restore(self, network: str, address: Address) -> float | None:
        """Let an address that was given again in vain cool for the rest of its time; return until when, or None."""
        until = self.again.pop((network, address), None)
        if until is not None:
            self.add(network, address, until)
        return until
