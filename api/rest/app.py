"""The REST server: routes of `/api/v1`, `/api/v2`, and what Contiv serves beside them."""

from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

from netfabric.api.rest import v1, v2
from netfabric.api.rest.problem import problem
from netfabric.api.rest.writer import Writer
from netfabric.api.version import version_info
from netfabric.fabric.errors import FabricError
from netfabric.fabric.oper import service_oper

MAX_BODY = 1 << 20
"""Bytes of a request's body."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
log = structlog.get_logger()


def make_app(writer: Writer, info: Callable[[], dict[str, object]]) -> web.Application:
    """Return the application; `info` tells what `/info` says."""
    app = web.Application(client_max_size=MAX_BODY, middlewares=[_logged])
    one, two = v1.V1(writer), v2.V2(writer)

    async def version(_: web.Request) -> web.StreamResponse:
        return v1.answer(version_info())

    async def about(_: web.Request) -> web.StreamResponse:
        return v1.answer(info())

    async def services(_: web.Request) -> web.StreamResponse:
        world = writer.world
        return v1.answer({str(s["key"]): service_oper(world, s) for s in world.all("serviceLB")})

    async def unknown(_: web.Request) -> web.StreamResponse:
        return v1.page_not_found()

    app.router.add_route("*", "/api/v1/{rest:.*}", one.handle)
    app.router.add_route("*", "/api/v2/{rest:.*}", two.handle)
    app.router.add_get("/version", version)
    app.router.add_get("/info", about)
    app.router.add_get("/services", services)
    app.router.add_route("*", "/{rest:.*}", unknown)
    return app


@web.middleware
async def _logged(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Log writes and failures, and turn a defect of ours into an answer."""
    try:
        response = await handler(request)
    except web.HTTPRequestEntityTooLarge:
        error = FabricError(f"the body is larger than {MAX_BODY} bytes", "send less")
        response = v1.refusal(error) if "/v1/" in request.path else problem(error, status=413)
    if request.method not in v2.READ or response.status >= 500:
        log.info("rest", method=request.method, path=request.path, status=response.status)
    return response
