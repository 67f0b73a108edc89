"""Docker's plugin socket: HTTP with JSON, one POST a call."""

import asyncio
import errno
import json
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import structlog
from aiohttp import web

from netfabric.agent.cnm.driver import Driver
from netfabric.agent.cnm.field import Json
from netfabric.agent.cnm.ipam import Ipam
from netfabric.agent.cnm.memory import Memory
from netfabric.agent.requests import AddressRequests
from netfabric.agent.settings import Scope
from netfabric.agent.unix_socket import check_length, listening
from netfabric.fabric.errors import ConflictError, FabricError, InvalidError

log = structlog.get_logger(__name__)

_MEDIA_TYPE = "application/vnd.docker.plugins.v1.2+json"
_BODY_LIMIT = 1 << 20
BACKLOG = 128
FAREWELL = 0.2
"""Seconds that calls under way get at the end; dockerd asks the next agent."""

Call: TypeAlias = Callable[[Json], Awaitable[dict[str, Any]]]


def calls(driver: Driver, ipam: Ipam) -> Mapping[str, Call]:
    """Return every call that Docker has."""
    return {
        "Plugin.Activate": _activate,
        "NetworkDriver.GetCapabilities": driver.capabilities,
        "NetworkDriver.AllocateNetwork": driver.allocate_network,
        "NetworkDriver.FreeNetwork": driver.nothing,
        "NetworkDriver.CreateNetwork": driver.create_network,
        "NetworkDriver.DeleteNetwork": driver.delete_network,
        "NetworkDriver.CreateEndpoint": driver.create_endpoint,
        "NetworkDriver.DeleteEndpoint": driver.delete_endpoint,
        "NetworkDriver.EndpointOperInfo": driver.no_information,
        "NetworkDriver.Join": driver.join,
        "NetworkDriver.Leave": driver.leave,
        "NetworkDriver.DiscoverNew": driver.nothing,
        "NetworkDriver.DiscoverDelete": driver.nothing,
        "NetworkDriver.ProgramExternalConnectivity": driver.nothing,
        "NetworkDriver.RevokeExternalConnectivity": driver.nothing,
        "NetworkDriver.GwAllocCheck": _no_gateway,
        "IpamDriver.GetCapabilities": ipam.capabilities,
        "IpamDriver.GetDefaultAddressSpaces": ipam.spaces,
        "IpamDriver.RequestPool": ipam.request_pool,
        "IpamDriver.ReleasePool": ipam.release_pool,
        "IpamDriver.RequestAddress": ipam.request_address,
        "IpamDriver.ReleaseAddress": ipam.release_address,
    }


async def _activate(_: Json) -> dict[str, Any]:
    return {"Implements": ["NetworkDriver", "IpamDriver"]}


async def _no_gateway(_: Json) -> dict[str, Any]:
    """Have gateways asked for, as always: they cost no address, and one may say which network is meant."""
    return {"SkipIPv4": False, "SkipIPv6": False}


class CnmServer:
    """Serves Docker on a unix socket that only root may use."""

    def __init__(
        self, requests: AddressRequests, path: Path, state: Path, scope: Scope = "local"
    ) -> None:
        """`state` is the file of what Docker says only once."""
        self._path = path
        self._memory = Memory(state)
        self._calls = calls(
            Driver(requests, self._memory, scope), Ipam(requests, self._memory, scope)
        )

    async def run(self) -> None:
        """Serve until cancelled; raise ConflictError where another agent has the socket, KernelError, InvalidError."""
        self._memory.read()
        listener = _listen(self._path)
        ours = self._path.stat().st_ino
        application = web.Application(client_max_size=_BODY_LIMIT)
        application.router.add_post("/{call}", self._serve)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=FAREWELL)
        await runner.setup()
        try:
            await web.SockSite(runner, listener, backlog=BACKLOG).start()
            await _forever()
        finally:
            with suppress(FileNotFoundError):
                if self._path.stat().st_ino == ours:
                    self._path.unlink()
            await runner.cleanup()

    async def _serve(self, request: web.Request) -> web.Response:
        name = request.match_info["call"]
        call = self._calls.get(name)
        if call is None:
            return _answer({"Err": f"{name}: netfabric has no such call"}, 404)
        begun = time.monotonic()
        status, answer = await _carry_out(call, name, await request.read())
        took = round((time.monotonic() - begun) * 1e3, 2)
        problem = {"error": answer["Err"]} if status != 200 else {}
        log.info("CNM", call=name, milliseconds=took, **problem)
        return _answer(answer, status)


async def _carry_out(call: Call, name: str, data: bytes) -> tuple[int, dict[str, Any]]:
    """Return status and answer, whatever happens."""
    try:
        return 200, await call(_body(name, data))
    except FabricError as error:
        return 500, {"Err": str(error)}
    except Exception:  # one call's defect must not end the agent
        log.exception("a defect in the Docker plugin", call=name)
        return 500, {"Err": f"{name}: the agent failed on this call: see its log, and report it"}


def _body(name: str, data: bytes) -> Json:
    try:
        body = json.loads(data) if data.strip() else {}
    except (ValueError, RecursionError) as error:
        raise InvalidError(
            f"{name}: no JSON: {error}", "report it, with Docker's version"
        ) from None
    if body is None:
        return {}
    if not isinstance(body, dict):
        raise InvalidError(f"{name}: no JSON object", "report it, with Docker's version")
    return body


def _answer(value: dict[str, Any], status: int) -> web.Response:
    return web.Response(
        text=json.dumps(value, separators=(",", ":")), status=status, content_type=_MEDIA_TYPE
    )


async def _forever() -> None:
    await asyncio.get_running_loop().create_future()


def _listen(path: Path) -> socket.socket:
    """Return a listening socket at a path, in place of one left behind."""
    check_length(path, "--cnm-socket", "choose a shorter one")
    _refuse_second(path)
    remedy = "run as root, or choose another --cnm-socket (none turns it off)"
    return listening(path, BACKLOG, "Docker plugin socket", remedy)


def _refuse_second(path: Path) -> None:
    """Raise ConflictError where somebody serves on a socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as asker:
        refused = asker.connect_ex(str(path))
    if refused in (0, errno.EAGAIN, errno.EINPROGRESS):
        raise ConflictError(
            f"Docker plugin socket {path}: another agent serves there",
            "give this one another --cnm-socket, or none",
        )
