"""`/api/v2`: the same objects with right statuses, problem details, ETags, partial updates, pages and watches."""

from aiohttp import web

from netfabric.api.rest.changes import Changes
from netfabric.api.rest.hosts import Hosts
from netfabric.api.rest.inspection import inspected, missing
from netfabric.api.rest.problem import MalformedError, problem
from netfabric.api.rest.readings import READINGS
from netfabric.api.rest.reply import PAGING, flag, listed, not_allowed, reply, without_paging
from netfabric.api.rest.watch import Wanted, Watches
from netfabric.api.rest.writer import Writer
from netfabric.fabric import kinds
from netfabric.fabric.errors import FabricError, InvalidError, NotFoundError
from netfabric.fabric.schema import Kind, shown_v2

KINDS = kinds.V2
READ = ("GET", "HEAD")


class V2:
    """Handlers of every v2 URL."""

    def __init__(self, writer: Writer, watches: Watches) -> None:
        self._writer = writer
        self._watches = watches
        self._changes = Changes(writer)
        self._hosts = Hosts(writer)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve a URL under /api/v2/."""
        words = request.match_info["rest"].rstrip("/").split("/", 1)
        try:
            return await self._route(request, words[0], words[1] if len(words) == 2 else "")
        except MalformedError as error:
            return problem(error, _about(words), 400)
        except FabricError as error:
            return problem(error, _about(words))

    async def _route(self, request: web.Request, plural: str, key: str) -> web.StreamResponse:
        if plural == "inspect":
            return self._inspected(request, *key.partition("/")[::2])
        if plural == "hosts" and key:
            return await self._hosts.handle(key, request)
        kind = KINDS.get(plural)
        if kind is None:
            return self._reading(request, plural, key)
        match request.method, key:
            case "GET" | "HEAD", "":
                return await self._list(kind, request)
            case "POST", "":
                return await self._changes.post(kind, request)
            case _, "":
                return not_allowed("GET, POST")
            case "GET" | "HEAD", _:
                return self._one(kind, key)
            case "PUT", _:
                return await self._changes.put(kind, key, request)
            case "PATCH", _:
                return await self._changes.patch(kind, key, request)
            case "DELETE", _:
                return await self._changes.delete(kind, key, request)
        return not_allowed("GET, PUT, PATCH, DELETE")

    def _inspected(self, request: web.Request, plural: str, key: str) -> web.Response:
        if request.method not in READ:
            return not_allowed("GET")
        return reply(inspected(self._writer.world, plural, key))

    def _reading(self, request: web.Request, plural: str, key: str) -> web.Response:
        reading = READINGS.get(plural)
        if reading is None or key:
            known = ", ".join(sorted([*KINDS, *READINGS]))
            raise NotFoundError(f"no such URL: {request.path}", f"there are {known}")
        if request.method not in READ:
            return not_allowed("GET")
        view, query = self._writer.view, request.query
        return listed(reading(view, without_paging(query)), view.revision, query)

    async def _list(self, kind: Kind, request: web.Request) -> web.StreamResponse:
        wanted = _filter(kind, request)
        if flag(request.query, "watch"):
            return await self._watches.serve(kind, wanted, request)
        objects = sorted(self._writer.world.all(kind.type), key=lambda o: str(o["key"]))
        items = [shown_v2(kind, obj) for obj in objects if wanted(obj)]
        return listed(items, self._writer.view.revision, request.query)

    def _one(self, kind: Kind, key: str) -> web.Response:
        stored = self._writer.view.objects.get(kind.type, {}).get(key)
        if stored is None:
            raise missing(kind, key)
        return reply(shown_v2(kind, stored.value), ETag=f'"{stored.revision}"')


def _filter(kind: Kind, request: web.Request) -> Wanted:
    """Return the condition that a query sets; raise InvalidError for an unknown field, or a secret one."""
    asked = {n: v for n, v in request.query.items() if n not in (*PAGING, "watch")}
    for name in asked:
        field = kind.field(name)
        if field is None or field.secret:
            raise InvalidError(
                f"unknown filter {name!r}", "filter by a field of the object, or not at all"
            )
    return lambda obj: all(str(obj.get(name, "")) == value for name, value in asked.items())


def _about(words: list[str]) -> str:
    if words[0] == "hosts" and len(words) == 2:
        return f"host {words[1]}"
    kind = KINDS.get(words[0])
    if kind is None:
        return ""
    return f"{kind.type} {words[1]}" if len(words) == 2 else kind.type
