"""A server that plays the Kubernetes API's list and watch protocol: versions, pages, chunked events, bookmarks, 410 Gone."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.kubernetes_objects import Object

PATHS = {
    "/api/v1/namespaces": ("", "namespaces", "Namespace"),
    "/api/v1/pods": ("", "pods", "Pod"),
    "/apis/networking.k8s.io/v1/networkpolicies": (
        "networking.k8s.io",
        "networkpolicies",
        "NetworkPolicy",
    ),
    "/api/v1/services": ("", "services", "Service"),
    "/apis/discovery.k8s.io/v1/endpointslices": (
        "discovery.k8s.io",
        "endpointslices",
        "EndpointSlice",
    ),
}
"""What is served: API group, resource, kind."""
TOKEN = "s3cret"


@dataclass
class Api:
    """Objects by resource, every event of them, and what was asked."""

    objects: dict[str, dict[str, Object]] = field(default_factory=dict)
    events: list[tuple[int, str, Object]] = field(default_factory=list)
    """(version, resource, event as it goes over the wire)."""
    version: int = 100
    floor: int = 0
    """Versions before this are forgotten."""
    as_status: bool = False
    """Say 410 as the answer's own status, and not as an event."""
    forbidden: frozenset[str] = frozenset()
    requests: list[tuple[str, str, str, str]] = field(default_factory=list)
    """(verb, API group, resource, resourceVersion or continue)."""
    token: str = TOKEN
    """Who comes without it is sent away."""
    tls: ssl.SSLContext | None = None
    port: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _streams: dict["asyncio.Task[Any]", web.Request] = field(default_factory=dict)
    _runner: web.AppRunner | None = None

    # what happens in the cluster

    def put(self, raw: Object) -> Object:
        """Create an object, or change it."""
        resource = next(r for _, r, kind in PATHS.values() if kind == raw["kind"])
        known = self.objects.setdefault(resource, {})
        key = _key(raw)
        self._happens("MODIFIED" if key in known else "ADDED", resource, raw)
        known[key] = self.events[-1][2]["object"]
        return raw

    def delete(self, resource: str, key: str) -> None:
        """Delete an object: the event has its last state."""
        self._happens("DELETED", resource, self.objects[resource].pop(key))

    def bookmark(self) -> None:
        """Let time pass for every kind of object, with nothing changed."""
        self.version += 1
        for _, resource, kind in PATHS.values():
            raw = {"kind": kind, "metadata": {"resourceVersion": str(self.version)}}
            self.events.append((self.version, resource, {"type": "BOOKMARK", "object": raw}))
        self._fire()

    def malformed(self, resource: str) -> None:
        """Say something that is no object."""
        self.version += 1
        self.events.append((self.version, resource, {"type": "ADDED", "object": {"kind": "Odd"}}))
        self._fire()

    def forget(self) -> None:
        """Compact: who has not seen the present version has to list again."""
        self.version += 1
        self.floor = self.version
        self.events.clear()

    def _happens(self, type_: str, resource: str, raw: Object) -> None:
        self.version += 1
        meta = raw["metadata"] | {"resourceVersion": str(self.version)}
        event = {"type": type_, "object": raw | {"metadata": meta}}
        self.events.append((self.version, resource, event))
        self._fire()

    def _fire(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # the server

    async def disconnect(self) -> None:
        """Break every watch off, in the middle of a chunk."""
        broken = list(self._streams.items())
        for task, request in broken:
            if isinstance(request.transport, asyncio.Transport):
                request.transport.abort()
            task.cancel()
        if broken:
            await asyncio.wait([task for task, _ in broken])

    async def start(self, listening: socket.socket | None = None) -> None:
        """Serve, on the port of before or on a socket that listens already."""
        app = web.Application()
        for path in PATHS:
            app.router.add_get(path, self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        if listening is not None:
            await web.SockSite(self._runner, listening).start()
            return
        site = web.TCPSite(
            self._runner, "127.0.0.1", self.port, reuse_address=True, ssl_context=self.tls
        )
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Be gone."""
        await self.disconnect()
        assert self._runner is not None
        await self._runner.cleanup()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Api"]:
        await self.start()
        yield self
        await self.stop()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        group, resource, kind = PATHS[request.path]
        query = request.query
        watching = query.get("watch") in ("1", "true")
        asked = query.get("resourceVersion", "") or query.get("continue", "")
        self.requests.append(("watch" if watching else "list", group, resource, asked))
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response(_status(401, "Unauthorized"), status=401)
        if resource in self.forbidden:
            return web.json_response(_status(403, "Forbidden"), status=403)
        if watching:
            return await self._watch(request, resource)
        return self._list(group, resource, kind, query)

    def _list(self, group: str, resource: str, kind: str, query: Any) -> web.Response:
        """Answer a page. In a list, objects don't say their kind."""
        every = [
            {name: value for name, value in raw.items() if name not in ("kind", "apiVersion")}
            for _, raw in sorted(self.objects.get(resource, {}).items())
        ]
        first, limit = int(query.get("continue") or 0), int(query.get("limit") or len(every) or 1)
        meta: Object = {"resourceVersion": str(self.version)}
        if first + limit < len(every):
            meta |= {
                "continue": str(first + limit),
                "remainingItemCount": len(every) - first - limit,
            }
        return web.json_response(
            {
                "kind": f"{kind}List",
                "apiVersion": f"{group}/v1".lstrip("/"),
                "metadata": meta,
                "items": every[first : first + limit],
            }
        )

    async def _watch(self, request: web.Request, resource: str) -> web.StreamResponse:
        seen = int(request.query["resourceVersion"])
        gone = _status(410, "Expired", f"too old resource version: {seen} ({self.floor})")
        if seen < self.floor and self.as_status:
            return web.json_response(gone, status=410)
        stream = web.StreamResponse(headers={"Content-Type": "application/json"})
        stream.enable_chunked_encoding()
        await stream.prepare(request)
        if seen < self.floor:
            await _write(stream, {"type": "ERROR", "object": gone})
            return stream
        task = asyncio.current_task()
        assert task is not None
        self._streams[task] = request
        try:
            async with asyncio.timeout(float(request.query.get("timeoutSeconds", "60"))):
                while True:
                    changed = self._changed
                    for version, of, event in list(self.events):
                        if version > seen and of == resource:
                            await _write(stream, event)
                    seen = max(seen, self.version)
                    await changed.wait()
        except (TimeoutError, ConnectionError):
            return stream
        finally:
            self._streams.pop(task, None)


async def _write(stream: web.StreamResponse, event: Object) -> None:
    await stream.write(json.dumps(event).encode() + b"\n")


def _status(code: int, reason: str, message: str = "") -> Object:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message or reason,
        "reason": reason,
        "code": code,
    }


def _key(raw: Object) -> str:
    meta = raw["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if "namespace" in meta else str(meta["name"])


def kubeconfig(port: int, token: str = TOKEN) -> str:
    """Return a KUBECONFIG for a server on loopback."""
    found = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
    }
    return json.dumps(found)
