"""How `/api/v2` changes objects: POST, PUT, PATCH and DELETE, under conditions, or only in thought (`?dryRun=1`)."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from aiohttp import web

from netfabric.api.rest.inspection import missing
from netfabric.api.rest.problem import MalformedError, PreconditionError
from netfabric.api.rest.reply import flag, reply
from netfabric.api.rest.writer import Writer
from netfabric.fabric import kinds
from netfabric.fabric.errors import ConflictError, InvalidError
from netfabric.fabric.rules import decide_delete, decide_put
from netfabric.fabric.schema import Kind, Object, read_v2, shown_v2, validate
from netfabric.fabric.world import Fields, World, Write

Make = Callable[[Fields | None], Object]
"""Returns the new object, given the old one or None; raises an OperatorError."""


@dataclass(slots=True)
class _Done:
    """What a write made of an object."""

    obj: Object
    created: bool
    wrote: bool = True
    revision: int = 0
    """Of the object as we leave it."""


class Changes:
    """Handlers of the methods that write."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def post(self, kind: Kind, request: web.Request) -> web.Response:
        """Create an object; raise ConflictError where it exists."""
        body = await _body(request)
        key = kind.key_of(read_v2(kind, body))
        new = _read(kind, key, body) | {"key": key}

        def make(old: Fields | None) -> Object:
            if old is not None:
                raise ConflictError(f"{kind.type} {key} exists already", "PUT or PATCH changes it")
            return dict(new)

        return await self._put(kind, key, make, request)

    async def put(self, kind: Kind, key: str, request: web.Request) -> web.Response:
        """Create or replace an object; a secret stays where the body says that it is set."""
        body = await _body(request)
        new = _named(kind, key, _read(kind, key, body))
        condition = self._condition(kind, key, request)
        kept = [f.name for f in kind.fields if f.secret and body.get(f"{f.name}Set") is True]

        def make(old: Fields | None) -> Object:
            condition()
            secrets = {n: (old or {}).get(n) for n in kept if n not in new}
            for name, value in secrets.items():
                if value is None:
                    raise InvalidError(f"{name}Set without a {name}", f"give {name}, or neither")
            return {**secrets, **new}

        return await self._put(kind, key, make, request)

    async def patch(self, kind: Kind, key: str, request: web.Request) -> web.Response:
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

        return await self._put(kind, key, make, request)

    async def delete(self, kind: Kind, key: str, request: web.Request) -> web.Response:
        """Remove an object."""
        condition = self._condition(kind, key, request)

        def decide(world: World) -> Write:
            condition()
            if world.get(kind.type, key) is None:
                raise missing(kind, key)
            return decide_delete(world, kind, key, "v2")

        if _dry(request):
            return self._planned(decide(self._writer.world))
        await self._writer.write(decide)
        return web.Response(status=204)

    async def _put(self, kind: Kind, key: str, make: Make, request: web.Request) -> web.Response:
        done = _Done({}, False)

        def decide(world: World) -> Write:
            old = world.get(kind.type, key)
            done.created, done.obj = old is None, make(old)
            done.revision = world.objects[kind.type][key].revision if old is not None else 0
            validate(kind, done.obj, "v2")
            write = decide_put(world, kind, done.obj, "v2")
            done.wrote = bool(write)
            return write

        if _dry(request):
            return self._planned(decide(self._writer.world))
        revision = await self._writer.write(decide)
        if done.wrote:
            done.revision = revision
        return self._said(kind, done)

    def _said(self, kind: Kind, done: _Done) -> web.Response:
        key = str(done.obj["key"])
        headers = {"ETag": f'"{done.revision}"'}  # not the view's: it may show the next change
        if done.created:
            headers["Location"] = f"/api/v2/{kind.plural2}/{quote(key, safe=':')}"
        return reply(shown_v2(kind, done.obj), 201 if done.created else 200, **headers)

    def _planned(self, write: Write) -> web.Response:
        """Say what would change, and change nothing."""
        changes = [*_puts(self._writer.world, write), *_deletes(write)]
        return reply({"dryRun": True, "changes": changes})

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


def _dry(request: web.Request) -> bool:
    """Return whether the request only asks what would be; raise InvalidError for any other question."""
    for name in request.query:
        if name != "dryRun":
            raise InvalidError(f"unknown parameter {name!r}", "dryRun is the only one")
    return flag(request.query, "dryRun")


def _puts(world: World, write: Write) -> Iterator[dict[str, Any]]:
    for where, obj in write.puts.items():
        area, _, rest = where.partition("/")
        if area != "intent":
            yield {"change": "allocate", "key": rest}
            continue
        type_, _, key = rest.partition("/")
        kind, old = kinds.KINDS[type_], world.get(type_, key)
        change = {"change": "update" if old else "create", "type": type_, "key": key}
        before = {"before": shown_v2(kind, old)} if old else {}
        yield change | before | {"after": shown_v2(kind, obj)}


def _deletes(write: Write) -> Iterator[dict[str, Any]]:
    for where in write.deletes:
        area, _, rest = where.partition("/")
        type_, _, key = rest.partition("/")
        if area == "intent":
            yield {"change": "delete", "type": type_, "key": key}
        elif area == "alloc":
            yield {"change": "release", "key": rest}


def _matches(header: str, tag: str | None) -> bool:
    if tag is None:
        return False
    return header.strip() == "*" or tag in (part.strip() for part in header.split(","))


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
