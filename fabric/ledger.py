"""Journal writes that something waits for: what happens once they are durable, or failed."""

from collections.abc import Callable
from dataclasses import dataclass, field

from netfabric.fabric.effects import Effect, JournalChange, Record
from netfabric.fabric.errors import FabricError


@dataclass(slots=True)
class Ledger:
    """Numbers the writes whose outcome matters."""

    out: list[Effect]
    awaited: dict[int, Callable[[FabricError | None, float], None]] = field(default_factory=dict)
    _serial: int = 0

    def write(
        self, change: JournalChange, then: Callable[[FabricError | None, float], None] | None = None
    ) -> None:
        """Make a change durable; `then` is called with the error (None: durable) and the time."""
        if then is None:
            self.out.append(Record(change))
            return
        self._serial += 1
        self.awaited[self._serial] = then
        self.out.append(Record(change, self._serial))

    def recorded(self, number: int, error: FabricError | None, now: float) -> None:
        """A write's outcome is known; one that was heard of already changes nothing."""
        if then := self.awaited.pop(number, None):
            then(error, now)
