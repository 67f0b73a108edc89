"""What an agent knows, told to whoever connects to its status socket: one JSON document, then the end."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from netfabric.agent.callers import Callers
from netfabric.agent.datapath_thread import DatapathThread
from netfabric.agent.stream import Stream
from netfabric.agent.warnings import Warnings
from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.host import Host
from netfabric.fabric.session import SessionStatus
from netfabric.fabric.stored import dump

PATIENCE = 5.0
"""Seconds that a reader may take."""


class Status:
    """Reads the agent's parts, and changes none."""

    def __init__(
        self,
        host: Host,
        stream: Stream,
        callers: Callers,
        warnings: Warnings,
        datapath: DatapathThread,
        started: float,
    ) -> None:
        self._host = host
        self._datapath = datapath
        self._stream = stream
        self._callers = callers
        self._warnings = warnings
        self._started = started

    def report(self) -> Mapping[str, Any]:
        """Return everything, as JSON has it."""
        host = self._host
        version = host.intent.version if host.intent else None
        return {
            "host": host.settings.host,
            "software": host.settings.software,
            "pid": os.getpid(),
            "started": self._started,
            "unready": self._callers.unready(),
            "waiting": self._callers.waiting,
            "netmaster": self._stream.following,
            "intent": {"epoch": version.epoch, "revision": version.revision} if version else None,
            "speaker": (
                {"asn": host.speaking.speaker.asn, "routerId": host.speaking.speaker.router_id}
                if host.speaking.speaker
                else None
            ),
            "networks": sorted(host.networks),
            "blocks": self._blocks(),
            "loans": [loan.id for loan in host.addresses.loans.values()],
            "sessions": [_session(s) for s in host.speaking.sessions.values()],
            "endpoints": [
                _endpoint(a.endpoint, a.phase.value)
                for a in host.attachments.known.values()
                if a.endpoint
            ],
            "routes": len(host.upkeep.routes()),
            "announced": len(host.speaking.offered),
            "audits": self._datapath.audits,
            "features": list(host.settings.features),
            "vtep": str(host.settings.vtep or ""),
            "remotes": len(host.overlay.remotes),
            "warnings": dict(self._warnings.all()),
        }

    def _blocks(self) -> Iterable[Mapping[str, Any]]:
        used = [address for e in self._callers.endpoints() for address in e.addresses]
        return [
            {
                "network": block.network,
                "prefix": str(block.prefix),
                "used": sum(address in block.prefix for address in used),
            }
            for block in self._host.held()
        ]


def _session(status: SessionStatus) -> Mapping[str, Any]:
    return {
        "peer": status.peer,
        "address": str(status.address),
        "asn": status.asn,
        "state": status.state,
        "since": status.since,
        "received": status.received,
        "advertised": status.advertised,
        "reason": status.reason,
    }


def _endpoint(endpoint: Endpoint, phase: str) -> Mapping[str, Any]:
    return {
        "container": endpoint.key.container,
        "interface": endpoint.key.interface,
        "network": f"{endpoint.tenant}:{endpoint.network}",
        "addresses": [str(address) for address in endpoint.addresses],
        "link": endpoint.link,
        "name": endpoint.name,
        "state": phase,
    }


async def serve(path: Path, report: Callable[[], Mapping[str, Any]]) -> None:
    """Tell the status to whoever connects, until cancelled; only root may."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                writer.write(dump(report()).encode())
                await writer.drain()
        except (OSError, TimeoutError):
            pass  # the reader's loss
        finally:
            writer.close()

    server = await asyncio.start_unix_server(answer, sock=_listen(path))
    async with server:
        await server.serve_forever()


def _listen(path: Path) -> socket.socket:
    """Return a bound socket; nobody else serves there, since the run directory is ours."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    return listener
