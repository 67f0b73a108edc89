"""`Intent.Watch`: what is there, then every change, to each client at its own pace."""

import asyncio
from collections.abc import Iterable, Iterator

import structlog

from netfabric.api.rest.writer import Writer
from netfabric.api.rpc.hub import Hub
from netfabric.api.rpc.intent_history import History, Told
from netfabric.api.rpc.intent_tenant import in_tenant, require_tenant_in
from netfabric.api.rpc.status import Context
from netfabric.fabric.errors import CompactedError, ExhaustedError
from netfabric.fabric.schema import Kind
from netfabric.fabric.view import Stored
from netfabric.proto import fabric_pb2 as fabric
from netfabric.proto import intent_pb2 as pb
from netfabric.proto.intent_codec import FORMS, change_to_wire, kind_of

log = structlog.get_logger(__name__)

PART = 1 << 20
"""Octets of a message, about: clients take 4 MB unless told otherwise."""
SKIPPED = 1000
"""Changes of no interest after which a client is told how far it has come, so that it can resume there."""


class Wanted:
    """Which objects a client wants to know of."""

    def __init__(self, request: pb.WatchRequest) -> None:
        """Raise InvalidError for a kind that there is none of, or that no tenant has."""
        named = [kind_of(number) for number in request.kinds]
        for kind in named if request.tenant else ():
            require_tenant_in(kind)
        self.kinds = named or [form.kind for form in FORMS.values()]
        self._types = {kind.type for kind in self.kinds}
        self._tenant = request.tenant

    def passes(self, kind: Kind, key: str) -> bool:
        """Return whether an object is among them."""
        return kind.type in self._types and in_tenant(kind, key, self._tenant)


class Watch:
    """Serves one client until it goes away."""

    def __init__(self, hub: Hub, writer: Writer, history: History, stall: float) -> None:
        """`stall`: seconds for which a client may leave a message unread."""
        self._hub = hub
        self._writer = writer
        self._history = history
        self._stall = stall

    async def serve(self, request: pb.WatchRequest, context: Context) -> None:
        """Send what is asked for; raise a FabricError that tells the client why not."""
        self._history.watching += 1
        try:
            await self._serve(request, context)
        finally:
            self._history.watching -= 1

    async def _serve(self, request: pb.WatchRequest, context: Context) -> None:
        wanted = Wanted(request)
        await self._hub.listed()
        missed: Iterable[bytes]
        if request.HasField("since"):
            missed = await self._missed(wanted, request.since)
        elif request.changes_only:
            missed = []
        else:
            # encoded part by part, out of objects that nobody changes: all of one revision
            there = list(self._there(wanted))
            missed = (_encoded(*one) for one in there)
        at = self._history.revision
        await self._send(context, missed, at)
        await self._follow(wanted, at, context)

    async def _missed(self, wanted: Wanted, since: fabric.Version) -> Iterable[bytes]:
        """Return what happened after a version; raise CompactedError where that is not known here."""
        if since.epoch and since.epoch != self._hub.store.epoch:
            raise CompactedError(
                "since: a version of another store, or of one that was replaced",
                "watch anew, without since",
            )
        await self._writer.reached(since.revision)  # another netmaster may have been ahead of us
        return _ours(wanted, self._history.since(since.revision))

    def _there(self, wanted: Wanted) -> Iterator[tuple[Kind, str, Stored]]:
        for kind in wanted.kinds:
            for key, stored in sorted(self._hub.view.objects.get(kind.type, {}).items()):
                if wanted.passes(kind, key):
                    yield kind, key, stored

    async def _follow(self, wanted: Wanted, at: int, context: Context) -> None:
        history, skipped = self._history, 0
        while True:
            changes, at = self._since(at, context), history.revision
            ours = _ours(wanted, changes)
            skipped += len(changes) - len(ours)
            if ours or skipped >= SKIPPED:
                skipped = 0
                await self._send(context, ours, at)
            if at == history.revision:
                await history.moved.wait()

    def _since(self, revision: int, context: Context) -> list[Told]:
        if self._history.outran(revision):
            raise _slow(context)
        return self._history.since(revision)

    async def _send(self, context: Context, changes: Iterable[bytes], revision: int) -> None:
        """Send changes in parts, with the version on the last."""
        version = fabric.Version(epoch=self._hub.store.epoch, revision=revision)
        end = pb.WatchResponse(version=version).SerializeToString()
        for part in _parts(changes, end):
            try:
                async with asyncio.timeout(self._stall):
                    await context.write(part)
            except TimeoutError:
                raise _slow(context) from None


def _ours(wanted: Wanted, changes: Iterable[Told]) -> list[bytes]:
    return [told.octets for told in changes if wanted.passes(told.kind, told.key)]


def _slow(context: Context) -> ExhaustedError:
    log.warning("a watch is cut off: its client does not read", client=context.peer())
    return ExhaustedError(
        "the client does not read what it asked for", "watch on from the last version it has"
    )


def _encoded(kind: Kind, key: str, stored: Stored) -> bytes:
    change = change_to_wire(kind, key, stored.value, stored.revision)
    return pb.WatchResponse(changes=[change]).SerializeToString()


def _parts(encoded: Iterable[bytes], end: bytes) -> Iterator[bytes]:
    """Join messages: encodings one after the other are the encoding of all of them merged."""
    part: list[bytes] = []
    weight = 0
    for octets in encoded:
        if part and weight + len(octets) > PART:
            yield b"".join(part)
            part, weight = [], 0
        part.append(octets)
        weight += len(octets)
    yield b"".join((*part, end))
