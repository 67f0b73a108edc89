"""`State`: endpoints, hosts, BGP sessions and blocks over gRPC, with the filters of `/api/v2`."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

from google.protobuf.message import Message

from netfabric.api.rest.readings import host_names, in_use
from netfabric.api.rpc.hub import Hub
from netfabric.api.rpc.intent_pages import ListRequest, page
from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.errors import NotFoundError
from netfabric.fabric.prefix import Prefix
from netfabric.fabric.session import SessionStatus
from netfabric.fabric.stored import plain
from netfabric.fabric.view import HostStatus, View
from netfabric.proto import fabric_pb2 as fabric
from netfabric.proto import intent_pb2 as pb

Item = TypeVar("Item")
Shown = TypeVar("Shown", bound=Message)
CONNECTED, AWAY = "connected", "away"


class State:
    """The calls of the service; each raises a FabricError that tells the client why not."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def endpoints(self, request: pb.ListEndpointsRequest) -> pb.ListEndpointsResponse:
        """Return a page of the attached containers."""
        view = await self._view(request.host)
        found = {
            f"{host}/{key}": endpoint
            for (host, key), endpoint in _endpoints_on(view, request.host)
            if _fits(request.tenant, endpoint.tenant)
            and _fits(request.network, endpoint.network)
            and _fits(request.group, endpoint.group)
            and _fits(request.container, key.container)
        }
        items, token = _page(found, request, _endpoint)
        return pb.ListEndpointsResponse(
            endpoints=items, next_page_token=token, version=self._version()
        )

    async def hosts(self, request: pb.ListHostsRequest) -> pb.ListHostsResponse:
        """Return a page of the hosts."""
        view = await self._view()
        found = {
            name: view.hosts.get(name)
            for name in host_names(view)
            if _fits(request.name, name)
            and _fits(request.state, CONNECTED if name in view.hosts else AWAY)
        }
        items, token = _page(found, request, lambda name, status: _host(view, name, status))
        return pb.ListHostsResponse(hosts=items, next_page_token=token, version=self._version())

    async def sessions(self, request: pb.ListSessionsRequest) -> pb.ListSessionsResponse:
        """Return a page of the BGP sessions of connected hosts."""
        view = await self._view(request.host)
        found = {
            f"{host}/{session.peer}": (host, session)
            for host, status in view.hosts.items()
            if _fits(request.host, host)
            for session in status.sessions
            if _fits(request.state, session.state)
        }
        items, token = _page(found, request, lambda _, pair: _session_on(*pair))
        return pb.ListSessionsResponse(
            sessions=items, next_page_token=token, version=self._version()
        )

    async def blocks(self, request: pb.ListBlocksRequest) -> pb.ListBlocksResponse:
        """Return a page of the address blocks."""
        view = await self._view(request.host)
        found = {
            f"{network} {prefix}": (network, prefix, host)
            for (network, prefix), host in view.blocks.items()
            if _fits(request.host, host) and _fits(request.network, network)
        }
        items, token = _page(found, request, lambda _, block: _block(view, *block))
        return pb.ListBlocksResponse(blocks=items, next_page_token=token, version=self._version())

    async def _view(self, host: str = "") -> View:
        """Return the view once it is complete; raise NotFoundError for a host that is unknown."""
        await self._hub.listed()
        if host and host not in host_names(self._hub.view):
            raise NotFoundError(f"host {host} is unknown", "ListHosts names the hosts")
        return self._hub.view

    def _version(self) -> fabric.Version:
        return fabric.Version(epoch=self._hub.store.epoch, revision=self._hub.view.revision)


def _fits(wanted: str, value: str) -> bool:
    return not wanted or wanted == value


def _page(
    found: Mapping[str, Item], request: Message, show: Callable[[str, Item], Shown]
) -> tuple[list[Shown], str]:
    return page(found, cast(ListRequest, request), lambda key: show(key, found[key]))


def _endpoints_on(view: View, host: str) -> Iterable[tuple[tuple[str, EndpointKey], Endpoint]]:
    if not host:
        return view.endpoints.items()
    return [((host, k), view.endpoints[host, k]) for k in view.endpoints_by_host.get(host, ())]


def _endpoint(_: str, endpoint: Endpoint) -> fabric.Endpoint:
    return fabric.Endpoint(**plain(endpoint))


def _session(session: SessionStatus) -> fabric.SessionStatus:
    return fabric.SessionStatus(**plain(session))


def _session_on(host: str, session: SessionStatus) -> pb.HostSession:
    return pb.HostSession(host=host, session=_session(session))


def _block(view: View, network: str, prefix: Prefix, host: str) -> pb.Block:
    used = in_use(view, network, prefix)
    return pb.Block(network=network, prefix=str(prefix), host=host, in_use=used)


def _host(view: View, name: str, status: HostStatus | None) -> pb.Host:
    told = status or HostStatus(name)
    held: Iterable[Any] = sorted(view.blocks_by_host.get(name, ()), key=str)
    return pb.Host(
        name=name,
        address=told.address,
        software=told.software,
        state=CONNECTED if status else AWAY,
        features=told.features,
        endpoints=len(view.endpoints_by_host.get(name, ())),
        blocks=[fabric.HeldBlock(network=network, prefix=str(prefix)) for network, prefix in held],
        sessions=[_session(session) for session in told.sessions],
        refused=told.refused,
    )
