"""Listening for REST clients."""

import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from aiohttp import web

from netfabric.api.settings import Listen, server_context
from netfabric.fabric.errors import ConflictError, InvalidError

GRACE = 1.0
"""Seconds that requests in progress get at the end."""


@asynccontextmanager
async def listening(app: web.Application, listen: Listen) -> AsyncIterator[Listen]:
    """Serve while the context lasts; yield the address with its real port.

    Raises ConflictError (port in use) or InvalidError (no such address here, no right to the port, bad TLS files).
    """
    context = server_context(listen.tls)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=GRACE)
    await runner.setup()
    try:
        site = web.TCPSite(runner, listen.host, listen.port, ssl_context=context, backlog=1024)
        await _start(site, listen)
        port = runner.addresses[0][1]
        yield replace(listen, port=port)
    finally:
        await runner.cleanup()


async def _start(site: web.TCPSite, listen: Listen) -> None:
    try:
        await site.start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConflictError(
                f"--rest {listen}: the port is in use",
                f"stop what listens there (ss -ltnp 'sport = :{listen.port}'), or choose another",
            ) from None
        remedy = "give an address of this host, and a port above 1023 unless you are root"
        raise InvalidError(f"--rest {listen}: {os.strerror(error.errno or 0)}", remedy) from None
