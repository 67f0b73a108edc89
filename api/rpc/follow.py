"""`Routes.List` and `Routes.Watch`: the fabric's routes for any client, each at its own pace."""

import asyncio
from collections.abc import Iterator
from typing import Any, TypeAlias

import grpc.aio

from netfabric.api.rpc.hub import Hub
from netfabric.fabric.controller_routes import RouteFilter, RouteKey
from netfabric.fabric.errors import ExhaustedError, InvalidError
from netfabric.fabric.prefix import parse_prefix
from netfabric.fabric.route import LearnedRoute
from netfabric.proto import fabric_pb2 as pb
from netfabric.proto.routes import BATCH, pack

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
ORIGINS = ("", "bgp", "endpoint")


def filter_of(wire: pb.RouteFilter) -> RouteFilter:
    """Return a filter; raise InvalidError."""
    if wire.origin not in ORIGINS:
        raise InvalidError(f"origin {wire.origin!r}: unknown", "choose bgp, endpoint, or none")
    inside = parse_prefix(wire.prefix) if wire.prefix else None
    return RouteFilter(wire.tenant, inside, wire.host, wire.origin)


class Follow:
    """Serves lists and watches out of one table. What several clients ask alike is encoded once."""

    def __init__(self, hub: Hub, stall: float) -> None:
        self._hub = hub
        self._stall = stall
        self._encoded: dict[tuple[RouteFilter, int], list[bytes]] = {}
        self._encoded_at = -1

    async def show(self, wire: pb.RouteFilter, context: Context) -> None:
        """Send every route; raise a FabricError that tells the client why not."""
        await self._all(filter_of(wire), context)

    async def watch(self, wire: pb.RouteFilter, context: Context) -> None:
        """Send every route, and then what changes, until the client goes."""
        filter_ = filter_of(wire)
        serial = await self._all(filter_, context)
        while True:
            if serial == self._hub.table.serial:
                await self._hub.routes_changed.wait()
            batches, serial = self._since(filter_, serial), self._hub.table.serial
            await self._send(context, batches)

    async def _all(self, filter_: RouteFilter, context: Context) -> int:
        await self._hub.listed()
        batches, serial = self._since(filter_, -1), self._hub.table.serial
        await self._send(context, batches)
        return serial

    async def _send(self, context: Context, batches: list[bytes]) -> None:
        for octets in batches:
            try:
                async with asyncio.timeout(self._stall):
                    await context.write(octets)
            except TimeoutError:
                raise ExhaustedError(
                    "routes: the client does not read what it asked for", "watch again"
                ) from None

    def _since(self, filter_: RouteFilter, serial: int) -> list[bytes]:
        """Return the batches that lead from a place in the log (-1: from nothing) to its end."""
        if self._encoded_at != self._hub.table.serial:
            self._encoded_at = self._hub.table.serial
            self._encoded.clear()
        key = (filter_, serial)
        if key not in self._encoded:
            self._encoded[key] = list(self._batches(filter_, serial))
        return self._encoded[key]

    def _batches(self, filter_: RouteFilter, serial: int) -> Iterator[bytes]:
        changes = None if serial < 0 else self._hub.table.since(serial)
        if changes is None:
            yield from self._encode(self._hub.table.wanted(filter_), [], full=True)
            return
        wanted = {key: route for key, route in changes.items() if filter_.passes(key)}
        here = [route for route in wanted.values() if route is not None]
        gone = [_gone(key) for key, route in wanted.items() if route is None]
        if wanted:
            yield from self._encode(here, gone, full=False)

    def _encode(
        self, here: list[LearnedRoute], gone: list[LearnedRoute], *, full: bool
    ) -> Iterator[bytes]:
        """A full list begins with a batch marked `full` and ends with one marked `end`, which may be the same."""
        version = pb.Version(epoch=self._hub.intents.epoch, revision=self._hub.view.revision)
        count = max(1, -(-max(len(here), len(gone)) // BATCH))
        for at in range(count):
            part = slice(at * BATCH, (at + 1) * BATCH)
            batch = pack(here[part], gone[part])
            batch.full, batch.end = full and at == 0, full and at == count - 1
            batch.version.CopyFrom(version)
            yield batch.SerializeToString()


def _gone(key: RouteKey) -> LearnedRoute:
    host, tenant, origin, prefix = key
    return LearnedRoute(
        prefix, host, (), origin="bgp" if origin == "bgp" else "endpoint", tenant=tenant
    )
