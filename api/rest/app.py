"""The REST server: routes of `/api/v1`, `/api/v2`, and what is served beside them."""

import time
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

from netfabric.api.rest import v1, v2
from netfabric.api.rest.metrics import Metrics
from netfabric.api.rest.problem import problem
from netfabric.api.rest.status import Status
from netfabric.api.rest.watch import Watches
from netfabric.api.rest.writer import Writer
from netfabric.api.standing import Standing
from netfabric.fabric.errors import FabricError, UnavailableError

MAX_BODY = 1 << 20
"""Bytes of a request's body."""

ANYTHING = r"{rest:[\s\S]*}"
"""The rest of a path, line breaks included."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
log = structlog.get_logger()


def make_app(writer: Writer, standing: Standing) -> web.Application:
    """Return the application that serves what `writer` sees and writes."""
    metrics = Metrics(writer.view)
    watches = Watches(writer.view, writer.follow)
    app = web.Application(client_max_size=MAX_BODY, middlewares=[_Border(writer, metrics).pass_on])
    app.on_shutdown.append(watches.end)
    app.router.add_route("*", f"/api/v1/{ANYTHING}", v1.V1(writer).handle)
    app.router.add_route("*", f"/api/v2/{ANYTHING}", v2.V2(writer, watches).handle)
    Status(writer, standing, metrics).add_to(app.router)
    app.router.add_route("*", f"/{ANYTHING}", _unknown)
    return app


async def _unknown(_: web.Request) -> web.StreamResponse:
    return v1.page_not_found()


class _Border:
    """What happens around every request: count, log, refuse early, answer also for a defect of ours."""

    def __init__(self, writer: Writer, metrics: Metrics) -> None:
        self._writer = writer
        self._metrics = metrics

    @web.middleware
    async def pass_on(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        start = time.perf_counter()
        response = await self._answer(request, handler)
        took = time.perf_counter() - start
        self._metrics.answered(_api(request), request.method, response.status, took)
        if request.method not in v2.READ or response.status >= 500:
            log.info("rest", method=request.method, path=request.path, status=response.status)
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if _api(request) != "other" and not self._writer.listed:
                raise UnavailableError("the store has not been read yet", "try again in a moment")
            return await handler(request)
        except web.HTTPRequestEntityTooLarge:
            large = FabricError(f"the body is larger than {MAX_BODY} bytes", "send less")
            return _refused(request, large, 413)
        except FabricError as error:
            return _refused(request, error)
        except (web.HTTPException, ConnectionError):
            raise
        except Exception:  # a defect of ours ends here: one request is lost, not the process
            log.exception("defect", method=request.method, path=request.path)
            defect = FabricError("netmaster failed on this request", "its log says where")
            return _refused(request, defect)


def _refused(request: web.Request, error: FabricError, status: int = 0) -> web.Response:
    return v1.refusal(error) if _api(request) == "v1" else problem(error, status=status)


def _api(request: web.Request) -> str:
    for api in ("v1", "v2"):
        if request.path.startswith(f"/api/{api}/"):
            return api
    return "other"
