"""What Contiv serves beside its API (`/version`, `/info`, `/services`), and probes: alive, ready, metrics."""

from importlib.resources import files

from aiohttp import web

from netfabric.api.rest.gojson import dumps
from netfabric.api.rest.metrics import CONTENT_TYPE, Metrics
from netfabric.api.rest.openapi import document
from netfabric.api.rest.writer import Writer
from netfabric.api.standing import Standing
from netfabric.api.version import version_info
from netfabric.fabric.oper import service_oper

JSON = {"Content-Type": "application/json"}


class Status:
    """Handlers of everything that is not under /api/."""

    def __init__(self, writer: Writer, standing: Standing, metrics: Metrics) -> None:
        self._writer = writer
        self._standing = standing
        self._metrics = metrics

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the URLs."""
        router.add_get("/version", self._version)
        router.add_get("/info", self._info)
        router.add_get("/services", self._services)
        router.add_get("/healthz", self._alive)
        router.add_get("/readyz", self._ready)
        router.add_get("/metrics", self._measured)
        router.add_get("/api/openapi.json", self._described)
        router.add_get("/api/", self._page)

    async def _version(self, _: web.Request) -> web.Response:
        return _json(version_info())

    async def _info(self, _: web.Request) -> web.Response:
        standing = self._standing
        leads = standing.leader == standing.address
        return _json(
            {
                "local-ip": standing.address,
                "leader-ip": standing.leader,
                "current-state": "leader" if leads else "follower",
                "netplugin-nodes": sorted(h.address for h in self._writer.view.hosts.values()),
                "netmaster-nodes": sorted(standing.masters),
            }
        )

    async def _services(self, _: web.Request) -> web.Response:
        world = self._writer.world
        return _json({str(s["key"]): service_oper(world, s) for s in world.all("serviceLB")})

    async def _alive(self, _: web.Request) -> web.Response:
        return _json({"status": "ok"})

    async def _ready(self, _: web.Request) -> web.Response:
        """Ready once the store has been read: with the store away, reads are still served."""
        trouble = await self._writer.trouble()
        if not self._writer.listed:
            return _json({"status": "starting", "store": trouble or "being read"}, 503)
        return _json({"status": "degraded", "store": trouble} if trouble else {"status": "ok"})

    async def _measured(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def _described(self, _: web.Request) -> web.Response:
        return _json(document())

    async def _page(self, _: web.Request) -> web.Response:
        """A page to browse the document with; it needs nothing from anywhere else."""
        page = files("netfabric.api.rest").joinpath("page.html").read_text()
        return web.Response(text=page, content_type="text/html")


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=dumps(value), headers=JSON)
