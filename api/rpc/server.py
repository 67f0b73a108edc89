"""The gRPC server: the fabric's services, health, reflection; TLS where it is wanted."""

from pathlib import Path

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from netfabric.api.rest.writer import Writer
from netfabric.api.rpc import session
from netfabric.api.rpc.desk import PACE, Pace
from netfabric.api.rpc.follow import Follow
from netfabric.api.rpc.hub import Hub
from netfabric.api.rpc.intent_serving import INTENT, STATE, intent_handlers
from netfabric.api.rpc.status import Context, told
from netfabric.api.settings import Listen, Tls
from netfabric.fabric.errors import InvalidError, UnavailableError
from netfabric.proto import fabric_pb2 as pb

log = structlog.get_logger(__name__)

OPTIONS = (
    ("grpc.so_reuseport", 0),  # two netmasters on one port would share it without a word
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.keepalive_time_ms", 5000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 2000),
    ("grpc.http2.max_ping_strikes", 0),
)
"""An agent that does not answer for eight seconds is gone; agents may ping every five."""

SERVICES = tuple(
    service.full_name for service in (*pb.DESCRIPTOR.services_by_name.values(), INTENT, STATE)
)


class Server:
    """A server with its health service; messages to clients are sent as they were encoded."""

    def __init__(self, server: grpc.aio.Server, checks: health.aio.HealthServicer) -> None:
        self.grpc = server
        self._checks = checks

    async def ready(self, serving: bool) -> None:
        """Answer health checks with SERVING, or with NOT_SERVING."""
        status = health_pb2.HealthCheckResponse
        state = status.SERVING if serving else status.NOT_SERVING
        for service in ("", *SERVICES):
            await self._checks.set(service, state)

    def listen(self, where: Listen) -> int:
        """Take the port and return it; raise UnavailableError where it is in use."""
        credentials = credentials_of(where.tls)
        try:
            if credentials is None:
                port = self.grpc.add_insecure_port(str(where))
            else:
                port = self.grpc.add_secure_port(str(where), credentials)
        except RuntimeError:
            port = 0
        if not port:
            raise UnavailableError(
                f"--grpc {where}: the port is in use, or the address is not this machine's",
                "stop who has it (ss -ltnp shows it), or choose another",
            )
        return int(port)


def make_server(hub: Hub, writer: Writer, pace: Pace = PACE) -> Server:
    """Return a server that is not started; every service ends with a status that says what is wrong."""
    server = grpc.aio.server(options=OPTIONS)
    follow = Follow(hub, pace.stall)

    async def serve_session(_: object, context: Context) -> None:
        await told(context, lambda: session.serve(hub, context, pace))

    async def serve_list(wire: pb.RouteFilter, context: Context) -> None:
        await told(context, lambda: follow.show(wire, context))

    async def serve_watch(wire: pb.RouteFilter, context: Context) -> None:
        await told(context, lambda: follow.watch(wire, context))

    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "netfabric.v1.Fabric",
                {
                    "Session": grpc.stream_stream_rpc_method_handler(
                        serve_session, request_deserializer=pb.AgentMessage.FromString
                    )
                },
            ),
            grpc.method_handlers_generic_handler(
                "netfabric.v1.Routes",
                {
                    "List": grpc.unary_stream_rpc_method_handler(
                        serve_list, request_deserializer=pb.RouteFilter.FromString
                    ),
                    "Watch": grpc.unary_stream_rpc_method_handler(
                        serve_watch, request_deserializer=pb.RouteFilter.FromString
                    ),
                },
            ),
            *intent_handlers(hub, writer, pace.stall),
        )
    )
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    return Server(server, checks)


def credentials_of(tls: Tls) -> grpc.ServerCredentials | None:
    """Return what a listener shows and asks for, None for plain text; raise InvalidError."""
    if not tls.certificate:
        return None
    try:
        pair = Path(tls.key).read_bytes(), Path(tls.certificate).read_bytes()
        ca = Path(tls.ca).read_bytes() if tls.ca else None
    except OSError as error:
        raise InvalidError(
            f"--grpc-cert, --grpc-key, --grpc-client-ca: {error.filename}: {error.strerror}",
            "name readable PEM files",
        ) from None
    return grpc.ssl_server_credentials([pair], ca, require_client_auth=ca is not None)
