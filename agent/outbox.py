"""What waits to be said to netmaster: news of the same thing merge, so that the queue stays small."""

import asyncio
from collections import deque
from itertools import islice

from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.prefix import Prefix
from netfabric.fabric.route import LearnedRoute
from netfabric.fabric.session import (
    AgentMessage,
    CountsChanged,
    EndpointsChanged,
    RoutesLearned,
    SessionsChanged,
)

BATCH = 5000
"""Routes, or endpoints, in a message at most."""


class Outbox:
    """A queue in which later news of a route, an endpoint, the sessions or rules' counts replace earlier ones.

    Merged news may come earlier than what was put between, which nobody minds: routes and sessions
    depend on nothing else, and an endpoint only on blocks and loans that netmaster gave before.
    """

    def __init__(self) -> None:
        self._queue: deque[AgentMessage | type[AgentMessage]] = deque()
        self._routes: dict[Prefix, LearnedRoute | None] = {}
        self._full = False
        self._endpoints: dict[EndpointKey, Endpoint | None] = {}
        self._sessions = SessionsChanged(())
        self._counts = CountsChanged(())
        self._filled = asyncio.Event()

    def put(self, message: AgentMessage) -> None:
        """Add a message."""
        match message:
            case RoutesLearned():
                if message.full:
                    self._routes.clear()
                    self._full = True
                self._routes.update((route.prefix, route) for route in message.routes)
                self._routes.update(dict.fromkeys(message.withdrawn))
                self._line_up(RoutesLearned)
            case EndpointsChanged(up, down):
                self._endpoints.update((endpoint.key, endpoint) for endpoint in up)
                self._endpoints.update(dict.fromkeys(down))
                self._line_up(EndpointsChanged)
            case SessionsChanged():
                self._sessions = message
                self._line_up(SessionsChanged)
            case CountsChanged():
                self._counts = message
                self._line_up(CountsChanged)
            case _:
                self._queue.append(message)
        self._filled.set()

    def _line_up(self, kind: type[AgentMessage]) -> None:
        if kind not in self._queue:
            self._queue.append(kind)

    @property
    def waiting(self) -> int:
        """Return how many messages wait, at least."""
        return len(self._queue)

    def clear(self) -> None:
        """Forget everything: whoever connects next starts with a Hello."""
        self._queue.clear()
        self._routes.clear()
        self._endpoints.clear()
        self._full = False
        self._filled.clear()

    async def take(self) -> AgentMessage:
        """Return the next message; wait for one."""
        while not self._queue:
            self._filled.clear()
            await self._filled.wait()
        first = self._queue.popleft()
        if first is RoutesLearned:
            return self._take_routes()
        if first is EndpointsChanged:
            return self._take_endpoints()
        if first is SessionsChanged:
            return self._sessions
        if first is CountsChanged:
            return self._counts
        assert not isinstance(first, type)
        return first

    def _take_routes(self) -> RoutesLearned:
        batch = list(islice(self._routes.items(), BATCH))
        full, self._full = self._full, False
        for prefix, _ in batch:
            del self._routes[prefix]
        if self._routes:
            self._queue.appendleft(RoutesLearned)
        routes = tuple(route for _, route in batch if route is not None)
        # What replaces everything need not say what is not there.
        gone = () if full else tuple(prefix for prefix, route in batch if route is None)
        return RoutesLearned(full, routes, gone)

    def _take_endpoints(self) -> EndpointsChanged:
        batch = list(islice(self._endpoints.items(), BATCH))
        for key, _ in batch:
            del self._endpoints[key]
        if self._endpoints:
            self._queue.appendleft(EndpointsChanged)
        return EndpointsChanged(
            tuple(endpoint for _, endpoint in batch if endpoint is not None),
            tuple(key for key, endpoint in batch if endpoint is None),
        )
