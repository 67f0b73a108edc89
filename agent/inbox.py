"""Events on their way to the host's brain, in the order in which they came."""

import asyncio
from collections import deque

from netfabric.fabric.events import Event

BURST = 64
"""Events that are handled before others in the event loop get their turn."""


class Inbox:
    """A queue of the event loop's thread. `post` never waits."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()

    def post(self, event: Event) -> None:
        """Add an event."""
        self._events.append(event)
        self._arrived.set()

    async def wait(self, seconds: float) -> None:
        """Return when there is an event, or after so many seconds."""
        timer = asyncio.get_running_loop().call_later(seconds, self._arrived.set)
        try:
            await self._arrived.wait()
        finally:
            timer.cancel()

    def take(self) -> list[Event]:
        """Return the oldest events, a burst of them at most."""
        taken = [self._events.popleft() for _ in range(min(BURST, len(self._events)))]
        if not self._events:
            self._arrived.clear()
        return taken
