"""`?watch=1`: a kind's objects as server-sent events, first what is there, then every change.

Each watcher has a set of keys that changed since it was last served, not a queue of events: a slow one
gets the latest state of each, costs no more than the objects there are, and holds up nobody.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from netfabric.fabric.schema import Kind, shown_v2
from netfabric.fabric.view import View, ViewChange
from netfabric.fabric.world import Fields

HEARTBEAT = 15.0
"""Seconds of silence after which a comment is sent, so that a dead connection is found."""

Wanted = Callable[[Fields], bool]


class _Watcher:
    """One client, what it wants to know of, and what it has not been told yet."""

    def __init__(self, type_: str) -> None:
        self.type = type_
        self.changed: set[str] = set()
        self.wake = asyncio.Event()


class Watches:
    """All clients that watch."""

    def __init__(self, view: View, follow: Callable[[Callable[[ViewChange], None]], None]) -> None:
        self._view = view
        self._watchers: set[_Watcher] = set()
        self._ended = False
        follow(self._take)

    def _take(self, change: ViewChange) -> None:
        for watcher in self._watchers:
            keys = {key for type_, key in change.objects if type_ == watcher.type}
            if keys:
                watcher.changed |= keys
                watcher.wake.set()

    async def end(self, _: web.Application) -> None:
        """Let every client go: the server stops."""
        self._ended = True
        for watcher in self._watchers:
            watcher.wake.set()

    async def serve(self, kind: Kind, wanted: Wanted, request: web.Request) -> web.StreamResponse:
        """Send events until the client goes away. `put` has the object, `delete` its key, `listed` ends the first part."""
        watcher = _Watcher(kind.type)
        self._watchers.add(watcher)
        try:
            response = await _begin(request)
            told = await self._send_all(kind, wanted, response)
            while not self._ended:
                await self._send_changes(kind, wanted, watcher, told, response)
        except ConnectionError:
            pass
        finally:
            self._watchers.discard(watcher)
        return response

    async def _send_all(self, kind: Kind, wanted: Wanted, response: web.StreamResponse) -> set[str]:
        told = set()
        revision = self._view.revision
        for key, stored in sorted(self._view.objects.get(kind.type, {}).items()):
            if wanted(stored.value):
                told.add(key)
                await _send(response, "put", stored.revision, shown_v2(kind, stored.value))
        await _send(response, "listed", revision, {"revision": revision})
        return told

    async def _send_changes(
        self,
        kind: Kind,
        wanted: Wanted,
        watcher: _Watcher,
        told: set[str],
        response: web.StreamResponse,
    ) -> None:
        try:
            await asyncio.wait_for(watcher.wake.wait(), HEARTBEAT)
        except TimeoutError:
            await response.write(b": alive\n\n")
            return
        watcher.wake.clear()
        changed, watcher.changed = sorted(watcher.changed), set()
        for key in changed:
            stored = self._view.objects.get(kind.type, {}).get(key)
            if stored is not None and wanted(stored.value):
                told.add(key)
                await _send(response, "put", stored.revision, shown_v2(kind, stored.value))
            elif key in told:
                told.discard(key)
                await _send(response, "delete", self._view.revision, {"key": key})


async def _begin(request: web.Request) -> web.StreamResponse:
    headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    return response


async def _send(response: web.StreamResponse, event: str, revision: int, data: Any) -> None:
    text = json.dumps(data, ensure_ascii=False)
    await response.write(f"event: {event}\nid: {revision}\ndata: {text}\n\n".encode())
