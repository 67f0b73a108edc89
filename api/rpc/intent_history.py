"""What changed in the intent of late, encoded once for everybody who watches."""

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile

from netfabric.api.mirror import Mirror
from netfabric.api.rpc.hub import GATHER, Pulse
from netfabric.fabric.errors import CompactedError
from netfabric.fabric.schema import Kind
from netfabric.fabric.view import ViewChange
from netfabric.proto import intent_pb2 as pb
from netfabric.proto.intent_codec import FORMS, change_to_wire

LIMIT = 10_000
"""Changes kept for clients that resume, and for those that are slow."""
OCTETS = 32_000_000
"""What they may weigh."""
GAPS = 1000
TOLD = 5_000
"""Messages a second that watches may cost: with many of them changes are gathered longer."""


@dataclass(frozen=True, slots=True)
class Told:
    """A change as clients get it: a WatchResponse that holds it alone. Joined octets are one with all of them."""

    revision: int
    """Of the batch that it came in."""
    kind: Kind
    key: str
    octets: bytes


@dataclass(frozen=True, slots=True)
class _Gap:
    """The store was listed again: what happened between two revisions is known by its outcome alone."""

    after: int
    until: int


class History:
    """Follows a mirror. `moved` is fired soon after intent has changed."""

    def __init__(self, mirror: Mirror, limit: int = LIMIT, octets: int = OCTETS) -> None:
        self._mirror = mirror
        self._limit = limit
        self._octets = octets
        self._log: deque[Told] = deque()
        self._weight = 0
        self._gaps: deque[_Gap] = deque()
        self._listings = mirror.listings
        self.revision = self._floor = mirror.view.revision
        self._gathering = False
        self.watching = 0
        """Clients that follow."""
        self.moved = Pulse()
        mirror.follow(self._follow)

    def outran(self, revision: int) -> bool:
        """Return whether changes after a revision have been dropped."""
        return revision < self._floor

    def since(self, revision: int) -> list[Told]:
        """Return the changes after a revision, in order; raise CompactedError where they are not all known."""
        if not self._floor <= revision <= self.revision:
            raise CompactedError(
                f"revision {revision} is gone; history begins at {self._floor}",
                "watch anew, without since",
            )
        if any(gap.after < revision < gap.until for gap in self._gaps):
            raise CompactedError(
                f"revision {revision}: the store was out of reach then", "watch anew, without since"
            )
        return list(takewhile(lambda told: told.revision > revision, reversed(self._log)))[::-1]

    def _follow(self, change: ViewChange) -> None:
        first = not self._listings
        if self._listings != self._mirror.listings:
            self._listings = self._mirror.listings
            if (
                first or change.revision < self.revision
            ):  # nothing known, or the store's data replaced
                self._begin(change.revision)
                return
            self._gaps.append(_Gap(self.revision, change.revision))
            if len(self._gaps) > GAPS:
                self._floor = max(self._floor, self._gaps.popleft().until)
        self.revision = change.revision
        if change.objects:
            for told in self._encoded(change):
                self._log.append(told)
                self._weight += len(told.octets)
            self._trim()
            self._gather()

    def _begin(self, revision: int) -> None:
        self._log.clear()
        self._gaps.clear()
        self._weight = 0
        self.revision = self._floor = revision
        self._gather()

    def _gather(self) -> None:
        """Wake those who watch in a moment: what comes close together is one message to each."""
        if not self._gathering:
            self._gathering = True
            pause = max(GATHER, self.watching / TOLD)
            asyncio.get_running_loop().call_later(pause, self._wake)

    def _wake(self) -> None:
        self._gathering = False
        self.moved.fire()

    def _encoded(self, change: ViewChange) -> Iterator[Told]:
        for type_, key in sorted(change.objects):
            if type_ in FORMS:
                yield Told(change.revision, FORMS[type_].kind, key, self.encode(type_, key))

    def encode(self, type_: str, key: str) -> bytes:
        """Return a WatchResponse that says how an object is now, or that it is gone."""
        stored = self._mirror.view.objects.get(type_, {}).get(key)
        kind = FORMS[type_].kind
        if stored is None:
            change = change_to_wire(kind, key, None, self.revision)
        else:
            change = change_to_wire(kind, key, stored.value, stored.revision)
        return pb.WatchResponse(changes=[change]).SerializeToString()

    def _trim(self) -> None:
        while len(self._log) > self._limit or self._weight > self._octets:
            gone = self._log.popleft()
            self._weight -= len(gone.octets)
            self._floor = gone.revision
        while self._gaps and self._gaps[0].until <= self._floor:
            self._gaps.popleft()
