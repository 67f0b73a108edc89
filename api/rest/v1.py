"""`/api/v1`: Contiv's URLs and conventions, to the byte."""

from aiohttp import web

from netfabric.api.rest import gojson
from netfabric.api.rest.writer import Writer
from netfabric.fabric import kinds
from netfabric.fabric.errors import FabricError
from netfabric.fabric.oper import OPER, find_endpoint
from netfabric.fabric.rules import decide_delete, decide_put, not_found
from netfabric.fabric.schema import Kind, Object, validate
from netfabric.fabric.world import World, Write

_PLAIN = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
_MAX_LINE = 500


def answer(value: object) -> web.Response:
    """Return a 200 with a line of JSON."""
    return web.Response(body=gojson.dumps(value), headers={"Content-Type": "application/json"})


def refusal(error: FabricError) -> web.Response:
    """Return the 500 that Contiv's clients expect: one line that says why."""
    line = " ".join(error.what.splitlines())[:_MAX_LINE] if "\n" in error.what else error.what
    return web.Response(status=500, body=f"{line}\n".encode(), headers=_PLAIN)


def page_not_found() -> web.Response:
    """Return what Go's router says to an unknown URL or method."""
    return web.Response(status=404, body=b"404 page not found\n", headers=_PLAIN)


KINDS = kinds.V1


class V1:
    """Handlers of every v1 URL."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve a URL under /api/v1/."""
        words = request.match_info["rest"].split("/")
        try:
            return await self._route(request, words)
        except FabricError as error:
            return refusal(error)

    async def _route(self, request: web.Request, words: list[str]) -> web.StreamResponse:
        match request.method, words:
            case "GET" | "HEAD", ["inspect", "endpoints", key, ""] if key:
                return answer({"Oper": gojson.pruned(find_endpoint(self._writer.world, key))})
            case "GET" | "HEAD", ["inspect", plural, key, ""] if plural in KINDS and key:
                return answer(self._inspected(KINDS[plural], key))
            case "GET" | "HEAD", [plural, ""] if plural in KINDS:
                return answer(self._listed(KINDS[plural]))
            case "GET" | "HEAD", [plural, key, ""] if plural in KINDS and key:
                world = self._writer.world
                return answer(
                    gojson.rendered(world, KINDS[plural], found(world, KINDS[plural], key))
                )
            case "POST" | "PUT", [plural, key, ""] if plural in KINDS and key:
                return answer(await self._put(KINDS[plural], key, await request.read()))
            case "DELETE", [plural, key, ""] if plural in KINDS and key:
                kind = KINDS[plural]
                await self._writer.write(lambda world: decide_delete(world, kind, key, "v1"))
                return answer(key)
        return page_not_found()

    def _listed(self, kind: Kind) -> list[object]:
        world = self._writer.world
        objects = sorted(world.all(kind.type), key=lambda obj: str(obj["key"]))
        return [gojson.rendered(world, kind, obj) for obj in objects]

    def _inspected(self, kind: Kind, key: str) -> object:
        world = self._writer.world
        obj = found(world, kind, key)
        inspected: dict[str, object] = {"Config": gojson.rendered(world, kind, obj)}
        if kind.type in OPER:
            inspected["Oper"] = gojson.pruned(OPER[kind.type](world, obj))
        return inspected

    async def _put(self, kind: Kind, key: str, body: bytes) -> object:
        posted = gojson.parse(kind, body)
        sent: Object = gojson.read(kind, posted) | {"key": key}
        validate(kind, sent, "v1")
        new: Object = {}
        created = False

        def decide(world: World) -> Write:
            nonlocal new, created
            new = dict(sent)
            created = world.get(kind.type, key) is None
            return decide_put(world, kind, new, "v1")

        await self._writer.write(decide)
        if created:
            return gojson.rendered(self._writer.world, kind, new)
        return gojson.echoed(kind, new, posted)


def found(world: World, kind: Kind, key: str) -> Object:
    """Return an object; raise NotFoundError."""
    obj = world.get(kind.type, key)
    if obj is None:
        raise not_found(kind, key)
    return dict(obj)
