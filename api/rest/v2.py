"""`/api/v2`: the same objects with right statuses, problem details, ETags and partial updates."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from aiohttp import web

from netfabric.api.rest.inspection import inspected, missing
from netfabric.api.rest.problem import MalformedError, PreconditionError, problem
from netfabric.api.rest.readings import READINGS
from netfabric.api.rest.writer import Writer
from netfabric.fabric import kinds
from netfabric.fabric.errors import ConflictError, FabricError, InvalidError, NotFoundError
from netfabric.fabric.rules import decide_delete, decide_put
from netfabric.fabric.schema import Kind, Object, read_v2, shown_v2, validate
from netfabric.fabric.world import Fields, World, Write

KINDS = kinds.V2
READ = ("GET", "HEAD")


def reply(value: object, status: int = 200, **headers: str) -> web.Response:
    """Return JSON."""
    sent = {"Content-Type": "application/json", **headers}
    body = json.dumps(value, ensure_ascii=False).encode() + b"\n"
    return web.Response(status=status, body=body, headers=sent)


@dataclass(frozen=True, slots=True)
class _Done:
    """What a write made of an object."""

    obj: Object
    created: bool
    revision: int


class V2:
    """Handlers of every v2 URL."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

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
        kind = KINDS.get(plural)
        if kind is None:
            return self._reading(request, plural, key)
        method = request.method
        if not key:
            if method in READ:
                return self._listed(kind, request)
            return (
                await self._post(kind, request) if method == "POST" else _not_allowed("GET, POST")
            )
        if method in READ:
            return self._one(kind, key)
        if method == "PUT":
            return await self._put(kind, key, request)
        if method == "PATCH":
            return await self._patch(kind, key, request)
        if method == "DELETE":
            return await self._delete(kind, key, request)
        return _not_allowed("GET, PUT, PATCH, DELETE")

    def _inspected(self, request: web.Request, plural: str, key: str) -> web.Response:
        if request.method not in READ:
            return _not_allowed("GET")
        return reply(inspected(self._writer.world, plural, key))

    def _reading(self, request: web.Request, plural: str, key: str) -> web.Response:
        reading = READINGS.get(plural)
        if reading is None or key:
            known = ", ".join(sorted([*KINDS, *READINGS]))
            raise NotFoundError(f"no such URL: {request.path}", f"there are {known}")
        if request.method not in READ:
            return _not_allowed("GET")
        view = self._writer.view
        return reply({"items": reading(view, request.query), "revision": view.revision})

    def _listed(self, kind: Kind, request: web.Request) -> web.Response:
        unknown = [name for name in request.query if kind.field(name) is None]
        if unknown:
            raise InvalidError(
                f"unknown filter {unknown[0]!r}", "filter by a field of the object, or not at all"
            )
        items = [
            shown_v2(kind, obj)
            for obj in sorted(self._writer.world.all(kind.type), key=lambda o: str(o["key"]))
            if all(str(obj.get(name, "")) == value for name, value in request.query.items())
        ]
        return reply({"items": items, "revision": self._writer.view.revision})

    def _one(self, kind: Kind, key: str) -> web.Response:
        stored = self._writer.view.objects.get(kind.type, {}).get(key)
        if stored is None:
            raise missing(kind, key)
        return reply(shown_v2(kind, stored.value), ETag=f'"{stored.revision}"')

    async def _post(self, kind: Kind, request: web.Request) -> web.Response:
        body = await _body(request)
        key = kind.key_of(read_v2(kind, body))
        new = _read(kind, key, body) | {"key": key}

        def make(old: Fields | None) -> Object:
            if old is not None:
                raise ConflictError(f"{kind.type} {key} exists already", "PUT or PATCH changes it")
            return dict(new)

        return self._said(kind, await self._write(kind, key, make))

    async def _put(self, kind: Kind, key: str, request: web.Request) -> web.Response:
        body = await _body(request)
        new = _named(kind, key, _read(kind, key, body))
        condition = self._condition(kind, key, request)
        kept = [f.name for f in kind.fields if f.secret and body.get(f"{f.name}Set") is True]

        def make(old: Fields | None) -> Object:
            condition()
            secrets = {n: old[n] for n in kept if old and n in old and n not in new}
            return {**secrets, **new}

        return self._said(kind, await self._write(kind, key, make))

    async def _patch(self, kind: Kind, key: str, request: web.Request) -> web.Response:
        """RFC 7396: what is given is changed, null removes."""
        body = await _body(request)
        given = _read(kind, key, body)
        condition = self._condition(kind, key, request)
        names = {f.name for f in kind.fields}

        def make(old: Fields | None) -> Object:
            condition()
            if old is None:
                raise missing(kind, key)
            own = {n: v for n, v in old.items() if n in names and (n not in body or n in given)}
            return _named(kind, key, own | given)

        return self._said(kind, await self._write(kind, key, make))

    async def _delete(self, kind: Kind, key: str, request: web.Request) -> web.Response:
        condition = self._condition(kind, key, request)

        def decide(world: World) -> Write:
            condition()
            if world.get(kind.type, key) is None:
                raise missing(kind, key)
            return decide_delete(world, kind, key, "v2")

        await self._writer.write(decide)
        return web.Response(status=204)

    async def _write(self, kind: Kind, key: str, make: Callable[[Fields | None], Object]) -> _Done:
        new: Object = {}
        created = False

        def decide(world: World) -> Write:
            nonlocal new, created
            old = world.get(kind.type, key)
            created = old is None
            new = make(old)
            validate(kind, new, "v2")
            return decide_put(world, kind, new, "v2")

        revision = await self._writer.write(decide)
        return _Done(new, created, revision)

    def _said(self, kind: Kind, done: _Done) -> web.Response:
        key = str(done.obj["key"])
        stored = self._writer.view.objects.get(kind.type, {}).get(key)
        headers = {"ETag": f'"{stored.revision if stored else done.revision}"'}
        if done.created:
            headers["Location"] = f"/api/v2/{kind.plural2}/{quote(key, safe=':')}"
        return reply(shown_v2(kind, done.obj), 201 if done.created else 200, **headers)

    def _condition(self, kind: Kind, key: str, request: web.Request) -> Callable[[], None]:
        """Return the check of If-Match and If-None-Match (RFC 9110, section 13.1)."""
        wanted, unwanted = request.headers.get("If-Match"), request.headers.get("If-None-Match")

        def check() -> None:
            stored = self._writer.view.objects.get(kind.type, {}).get(key)
            tag = f'"{stored.revision}"' if stored else None
            if wanted is not None and not _matches(wanted, tag):
                raise PreconditionError(
                    f"{kind.type} {key} has changed", "read it again, and use its new ETag"
                )
            if unwanted is not None and _matches(unwanted, tag):
                raise PreconditionError(f"{kind.type} {key} exists already", "PATCH changes it")

        return check


def _matches(header: str, tag: str | None) -> bool:
    if tag is None:
        return False
    return header.strip() == "*" or tag in (part.strip() for part in header.split(","))


def _about(words: list[str]) -> str:
    kind = KINDS.get(words[0])
    if kind is None:
        return ""
    return f"{kind.type} {words[1]}" if len(words) == 2 else kind.type


def _not_allowed(methods: str) -> web.Response:
    error = InvalidError("method not allowed here", f"use {methods}")
    response = problem(error, status=405)
    response.headers["Allow"] = methods
    return response


async def _body(request: web.Request) -> Mapping[str, Any]:
    try:
        found = json.loads(await request.read())
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"the body is not JSON: {error}", "send one JSON object") from None
    if not isinstance(found, Mapping):
        raise MalformedError("the body is not a JSON object", "send one JSON object")
    return found


def _read(kind: Kind, key: str, body: Mapping[str, Any]) -> Object:
    """Return a body's fields; raise InvalidError also where it is of another object."""
    if body.get("key") not in (None, key) and isinstance(body["key"], str):
        raise InvalidError(f"{kind.type} {key}: the body is of {body['key']}", "make both the same")
    return read_v2(kind, body)


def _named(kind: Kind, key: str, obj: Object) -> Object:
    """Fill in the name fields that the body leaves to the URL."""
    parts = key.split(":", len(kind.key) - 1)
    if len(parts) == len(kind.key):
        for name, part in zip(kind.key, parts, strict=True):
            obj.setdefault(name, part)
    return obj | {"key": key}
