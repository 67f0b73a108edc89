"""The services Intent and State as the gRPC server takes them."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import structlog

from netfabric.api.rest.writer import Writer
from netfabric.api.rpc.hub import Hub
from netfabric.api.rpc.intent import Intent
from netfabric.api.rpc.intent_history import History
from netfabric.api.rpc.intent_state import State
from netfabric.api.rpc.intent_watch import Watch
from netfabric.api.rpc.status import Context, told
from netfabric.api.statuses import status_of
from netfabric.fabric.errors import FabricError
from netfabric.proto import intent_pb2 as pb
from netfabric.proto.intent_codec import FORMS, object_from_wire

log = structlog.get_logger(__name__)
INTENT, STATE = (pb.DESCRIPTOR.services_by_name[name] for name in ("Intent", "State"))
Call = Callable[[Any], Awaitable[Any]]


def intent_handlers(hub: Hub, writer: Writer, stall: float) -> tuple[grpc.GenericRpcHandler, ...]:
    """Return what serves both; `stall`: seconds for which a watcher may leave a message unread."""
    intent, state = Intent(hub, writer), State(hub)
    watch = Watch(hub, writer, History(hub.mirror), stall)

    async def serve_watch(request: pb.WatchRequest, context: Context) -> None:
        await told(context, lambda: watch.serve(request, context))

    return (
        grpc.method_handlers_generic_handler(
            INTENT.full_name,
            {
                "Get": _unary(intent.get, pb.GetRequest),
                "List": _unary(intent.list, pb.ListRequest),
                "Put": _unary(_logged("Put", intent.put), pb.PutRequest),
                "Delete": _unary(_logged("Delete", intent.delete), pb.DeleteRequest),
                "Apply": _unary(_logged("Apply", intent.apply), pb.ApplyRequest),
                # changes are sent as they were encoded, once for all
                "Watch": grpc.unary_stream_rpc_method_handler(
                    serve_watch, request_deserializer=pb.WatchRequest.FromString
                ),
            },
        ),
        grpc.method_handlers_generic_handler(
            STATE.full_name,
            {
                "ListEndpoints": _unary(state.endpoints, pb.ListEndpointsRequest),
                "ListHosts": _unary(state.hosts, pb.ListHostsRequest),
                "ListSessions": _unary(state.sessions, pb.ListSessionsRequest),
                "ListBlocks": _unary(state.blocks, pb.ListBlocksRequest),
            },
        ),
    )


def _unary(call: Call, request: Any) -> Any:
    async def serve(wire: Any, context: Context) -> Any:
        return await told(context, lambda: call(wire))

    return grpc.unary_unary_rpc_method_handler(
        serve,
        request_deserializer=request.FromString,
        response_serializer=lambda answer: answer.SerializeToString(),
    )


def _logged(method: str, call: Call) -> Call:
    """Log what is written, and what is refused."""

    async def logged(wire: Any) -> Any:
        status = grpc.StatusCode.UNKNOWN
        try:
            answer = await call(wire)
            status = grpc.StatusCode.OK
            return answer
        except FabricError as error:
            status = status_of(error).grpc
            raise
        finally:
            log.info("grpc", method=method, about=_about(wire), status=status.name)

    return logged


def _about(wire: Any) -> str:
    """Say what a request is of, and no more: objects hold secrets."""
    if isinstance(wire, pb.ApplyRequest):
        return f"{len(wire.objects)} objects{', dry run' if wire.dry_run else ''}"
    if isinstance(wire, pb.DeleteRequest):
        form = next((form for form in FORMS.values() if form.number == wire.kind), None)
        return f"{form.kind.type if form else wire.kind} {wire.key}"
    if wire.object.WhichOneof("spec") is None:
        return "nothing"
    kind, body = object_from_wire(wire.object)
    return f"{kind.type} {kind.key_of(body)}"
