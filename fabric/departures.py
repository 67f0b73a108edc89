"""UPDATEs that an endpoint waits for: which have not left for which peer yet."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from netfabric.fabric.endpoint import EndpointKey
from netfabric.fabric.prefix import Prefix

Departure: TypeAlias = tuple[str, Prefix, bool]
"""(peer, prefix, whether it is a withdrawal)."""


@dataclass(slots=True)
class Departures:
    """Who waits for which UPDATE. One endpoint waits for a prefix at a time: the one that has it."""

    waiting: dict[Departure, EndpointKey] = field(default_factory=dict)
    open: dict[EndpointKey, set[Departure]] = field(default_factory=dict)

    def expect(self, key: EndpointKey, departures: Iterable[Departure]) -> bool:
        """Wait for these, and for nothing from before; return whether there are any."""
        self.forget(key)
        expected = set(departures)
        if expected:
            self.open[key] = expected
            self.waiting.update(dict.fromkeys(expected, key))
        return bool(expected)

    def left(self, departure: Departure) -> EndpointKey | None:
        """Return the endpoint for which this was the last, if it was."""
        key = self.waiting.pop(departure, None)
        if key is None:
            return None
        rest = self.open[key]
        rest.discard(departure)
        if rest:
            return None
        del self.open[key]
        return key

    def peer_lost(self, peer: str) -> list[EndpointKey]:
        """Nothing more leaves for a peer; return the endpoints that have nothing left to wait for."""
        gone = [departure for departure in self.waiting if departure[0] == peer]
        return [key for departure in gone if (key := self.left(departure)) is not None]

    def forget(self, key: EndpointKey) -> None:
        """Wait no longer for an endpoint."""
        for departure in self.open.pop(key, ()):
            self.waiting.pop(departure, None)
