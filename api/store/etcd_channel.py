"""The members of an etcd cluster as gRPC channels: which one is asked, and which comes next."""

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
from grpc import aio

from netfabric.fabric.errors import UnavailableError
from netfabric.proto import etcd_pb2 as pb
from netfabric.proto import etcd_pb2_grpc as rpc

if TYPE_CHECKING:
    from netfabric.proto.etcd_pb2_grpc import (
        AuthAsyncStub,
        KVAsyncStub,
        LeaseAsyncStub,
        WatchAsyncStub,
    )

TIMEOUT = 5.0
"""Seconds that a call may take over all members: more than etcd needs to elect another leader."""
_PROBE = 0.5
"""Seconds that asking for the reason of a failure may take."""

_OPTIONS: tuple[tuple[str, int | str], ...] = (
    # etcd ends a connection that pings more often than every 5 s, or without a call (a watch is one)
    ("grpc.keepalive_time_ms", 6_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # also the pings that measure bandwidth: an unanswered one holds back those that keep alive
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    # gRPC's own defaults would leave a returned member alone for up to two minutes
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 3_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # a page of large values is larger than the default of 4 MiB
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    # members must not share a connection with another store of this process
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """Where an etcd cluster is, and who we are to it."""

    endpoints: tuple[str, ...]
    """`host:port`, each; IPv6 as `[::1]:2379`."""
    tls: bool = False
    ca: bytes | None = None
    """PEM, whom we believe; None: whom gRPC believes."""
    cert: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    """PEM of our own certificate and its key, for members that ask for one."""
    server_name: str = ""
    """The name in the members' certificates, where it is not the one that we dial."""
    user: str = ""
    password: str = field(default="", repr=False)
    timeout: float = TIMEOUT
    """Seconds that a call may take, over all endpoints."""

    def __str__(self) -> str:
        return f"etcd {', '.join(self.endpoints)}"


class Member:
    """One endpoint of the cluster: its channel, and etcd's services on it."""

    def __init__(self, endpoint: str, settings: EtcdSettings) -> None:
        self.endpoint = endpoint
        self.channel = _channel(endpoint, settings)
        self.kv: KVAsyncStub = rpc.KVStub(self.channel)
        self.watch: WatchAsyncStub = rpc.WatchStub(self.channel)
        self.lease: LeaseAsyncStub = rpc.LeaseStub(self.channel)
        self.auth: AuthAsyncStub = rpc.AuthStub(self.channel)

    @property
    def connected(self) -> bool:
        """Return whether there is a connection, as far as we know."""
        return self.channel.get_state() is grpc.ChannelConnectivity.READY

    async def trouble(self) -> str:
        """Return why there is no connection, in gRPC's words, "" where there is one."""
        try:
            await self.kv.Range(pb.RangeRequest(key=b"/"), timeout=_PROBE)
        except aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                return (error.details() or "").rpartition("last error: ")[2]
            return "no answer" if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED else ""
        return ""


def _channel(endpoint: str, settings: EtcdSettings) -> aio.Channel:
    if not settings.tls:
        return aio.insecure_channel(endpoint, options=_OPTIONS)
    options = list(_OPTIONS)
    if settings.server_name:
        options.append(("grpc.ssl_target_name_override", settings.server_name))
    credentials = grpc.ssl_channel_credentials(settings.ca, settings.key, settings.cert)
    return aio.secure_channel(endpoint, credentials, options=options)


class Members:
    """All endpoints. One is asked as long as it answers; then the first that has a connection.

    A channel each, and not one for all: a name is then resolved again when it moves, each certificate is
    held against the name dialled, and we know whether a request can have been sent at all.
    """

    def __init__(self, settings: EtcdSettings) -> None:
        self._members = [Member(endpoint, settings) for endpoint in settings.endpoints]
        self._closed = asyncio.Event()

    async def connected(self) -> Member:
        """Return a member that we have a connection to, as soon as there is one."""
        while not self._closed.is_set():
            for member in self._members:
                if member.connected:
                    return member
            await self._first_connected()
        raise UnavailableError("etcd: the store was closed", "open it again")

    async def _first_connected(self) -> None:
        """Let all try to connect, until one has, or we close (which ends no such attempt by itself)."""
        over = asyncio.Event()

        async def connect(member: Member) -> None:
            await member.channel.channel_ready()
            over.set()

        async def close() -> None:
            await self._closed.wait()
            over.set()

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(connect(member)) for member in self._members]
                tasks.append(group.create_task(close()))
                await over.wait()
                for task in tasks:
                    task.cancel()
        except* aio.UsageError:  # a channel that was closed meanwhile
            self._closed.set()

    def avoid(self, member: Member) -> None:
        """Ask the others first from now on."""
        if self._members[0] is member:
            self._members.append(self._members.pop(0))

    async def trouble(self) -> str:
        """Return why there is no connection, for each member."""
        said = await asyncio.gather(*(member.trouble() for member in self._members))
        return "; ".join(dict.fromkeys(words for words in said if words))

    async def close(self) -> None:
        """End all connections, and the calls on them."""
        self._closed.set()
        for member in self._members:
            await member.channel.close()
