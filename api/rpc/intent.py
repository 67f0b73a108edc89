"""`Intent`: objects read and written over gRPC, by the rules and the writer of `/api/v2`."""

from typing import cast

from netfabric.api.rest.writer import Writer
from netfabric.api.rpc.hub import Hub
from netfabric.api.rpc.intent_pages import ListRequest, page
from netfabric.api.rpc.intent_tenant import in_tenant, require_tenant_in
from netfabric.api.statuses import ExistsError, PreconditionError
from netfabric.fabric.errors import InvalidError, NotFoundError
from netfabric.fabric.rules import decide_delete
from netfabric.fabric.schema import Kind, read_v2
from netfabric.fabric.several import Became, Outcome, Wish, decide_several, naming
from netfabric.fabric.trial import NOT_YET
from netfabric.fabric.world import World, Write
from netfabric.proto import fabric_pb2 as fabric
from netfabric.proto import intent_pb2 as pb
from netfabric.proto.intent_codec import kind_of, object_from_wire, object_to_wire

MAX_OCTETS = 1 << 20
"""Of a request that writes, as of a body of `/api/v2`: what fits in a transaction, and in an answer."""
MAX_OBJECTS = 1000
"""Of one Apply."""
_OUTCOMES: dict[Outcome, pb.Outcome.ValueType] = {
    "created": pb.OUTCOME_CREATED,
    "changed": pb.OUTCOME_CHANGED,
    "unchanged": pb.OUTCOME_UNCHANGED,
}


class Intent:
    """The calls of the service but Watch; each raises a FabricError that tells the client why not."""

    def __init__(self, hub: Hub, writer: Writer) -> None:
        self._hub = hub
        self._writer = writer

    def _version(self, revision: int) -> fabric.Version:
        return fabric.Version(epoch=self._hub.store.epoch, revision=revision)

    async def get(self, request: pb.GetRequest) -> pb.Object:
        """Return an object."""
        kind = kind_of(request.kind)
        await self._hub.listed()
        stored = self._writer.view.objects.get(kind.type, {}).get(request.key)
        if stored is None:
            raise _missing(kind, request.key)
        return object_to_wire(kind, stored.value, stored.revision)

    async def list(self, request: pb.ListRequest) -> pb.ListResponse:
        """Return a page of a kind's objects."""
        kind = kind_of(request.kind)
        if request.tenant:
            require_tenant_in(kind)
        await self._hub.listed()
        view = self._writer.view
        there = view.objects.get(kind.type, {})

        def show(key: str) -> pb.Object:
            return object_to_wire(kind, there[key].value, there[key].revision)

        wanted = (key for key in there if in_tenant(kind, key, request.tenant))
        found, token = page(wanted, cast(ListRequest, request), show)
        return pb.ListResponse(
            objects=found, next_page_token=token, version=self._version(view.revision)
        )

    async def put(self, request: pb.PutRequest) -> pb.PutResponse:
        """Create or replace an object."""
        _require_small(request)
        wish = _wish(request.object)
        expected = request.expected_revision if request.HasField("expected_revision") else None
        await self._hub.listed()
        became: tuple[Became, ...] = ()

        def decide(world: World) -> Write:
            nonlocal became
            _require(world, wish.kind, str(wish.obj["key"]), expected)
            write, became = decide_several(self._writer.view, world, [wish])
            return write

        revision = await self._writer.write(decide)
        return _result(wish, became[0], revision)

    async def delete(self, request: pb.DeleteRequest) -> pb.DeleteResponse:
        """Remove an object."""
        kind, key = kind_of(request.kind), request.key
        expected = request.expected_revision if request.HasField("expected_revision") else None
        await self._hub.listed()

        def decide(world: World) -> Write:
            if world.get(kind.type, key) is None:
                raise _missing(kind, key)
            _require(world, kind, key, expected)
            with naming(kind, key):
                return decide_delete(world, kind, key, "v2")

        revision = await self._writer.write(decide)
        return pb.DeleteResponse(version=self._version(revision))

    async def apply(self, request: pb.ApplyRequest) -> pb.ApplyResponse:
        """Put all objects, or none."""
        _require_small(request)
        if len(request.objects) > MAX_OBJECTS:
            raise InvalidError(
                f"{len(request.objects)} objects in one Apply", f"{MAX_OBJECTS} are the most"
            )
        wishes = [_wish(wire) for wire in request.objects]
        await self._hub.listed()
        became: tuple[Became, ...] = ()

        def decide(world: World) -> Write:
            nonlocal became
            write, became = decide_several(self._writer.view, world, wishes)
            return write

        if request.dry_run:
            decide(self._writer.world)
            revision, at = self._writer.view.revision, 0
        else:
            revision = at = await self._writer.write(decide)
        results = [_result(wish, one, at) for wish, one in zip(wishes, became, strict=True)]
        return pb.ApplyResponse(results=results, version=self._version(revision))


def _require_small(request: pb.PutRequest | pb.ApplyRequest) -> None:
    if request.ByteSize() > MAX_OCTETS:
        raise InvalidError(
            f"the request has {request.ByteSize()} octets", f"{MAX_OCTETS} are the most"
        )


def _wish(wire: pb.Object) -> Wish:
    kind, body = object_from_wire(wire)
    new = read_v2(kind, body)
    new["key"] = wire.key or kind.key_of(new)
    kept = [f.name for f in kind.fields if f.secret and body.get(f"{f.name}Set") is True]
    return Wish(kind, new, tuple(kept))


def _result(wish: Wish, became: Became, revision: int) -> pb.PutResponse:
    """Return what became of a wish; where it was carried out with others, all have one revision."""
    found = object_to_wire(wish.kind, became.obj, became.at(revision))
    return pb.PutResponse(object=found, outcome=_OUTCOMES[became.outcome])


def _require(world: World, kind: Kind, key: str, expected: int | None) -> None:
    """Raise an error where an object is not at the revision that the client expects; 0: there is none."""
    stored = world.objects.get(kind.type, {}).get(key)
    now = stored.revision if stored else 0
    if expected is None or now == expected:
        return
    if stored and not expected:
        raise ExistsError(
            f"{kind.type} {key} exists already", "leave expected_revision out to replace it"
        )
    told = f"is at revision {now}" if now != NOT_YET else "has changed"
    raise PreconditionError(
        f"{kind.type} {key} {told if stored else 'is gone'}, not at {expected}",
        "get it again, and expect its new revision",
    )


def _missing(kind: Kind, key: str) -> NotFoundError:
    return NotFoundError(f"{kind.type} {key} does not exist", "List names those that do")
