"""The OpenAPI 3.1 document of the whole API, written from the same declarations that the server follows."""

from functools import cache
from http import HTTPStatus
from typing import Any

from netfabric.api.rest.schemas import READINGS, TEXT, Schema, all_schemas, named, ref
from netfabric.api.version import version_info
from netfabric.fabric import kinds
from netfabric.fabric.schema import Kind

Item = dict[str, Any]
KEY: Schema = {"name": "key", "in": "path", "required": True, "schema": TEXT}
ABOUT = """Networks, groups, policies and BGP peers of a netfabric, and what became of them.
`/api/v2` has HTTP's own statuses and problem details; `/api/v1` is Contiv's API, where every error is a 500 in plain text."""
LIST_ANSWERS = (404, 422, 503)
WRITE_ANSWERS = (400, 404, 409, 412, 413, 422, 503)


@cache
def document() -> Item:
    """Return the document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "netfabric", "version": version_info()["Version"], "description": ABOUT},
        "paths": _v2_paths() | _reading_paths() | _v1_paths() | _status_paths(),
        "components": {"schemas": all_schemas()},
    }


def _json(schema: Schema, about: str = "done") -> Item:
    return {"description": about, "content": {"application/json": {"schema": schema}}}


def _problems(*statuses: int) -> Item:
    content = {"application/problem+json": {"schema": ref("Problem")}}
    return {
        str(status): {"description": HTTPStatus(status).phrase, "content": content}
        for status in statuses
    }


def _query(name: str, about: str = "") -> Schema:
    return {
        "name": name,
        "in": "query",
        "schema": TEXT,
        "description": about or f"only of this {name}",
    }


def _header(name: str, about: str) -> Schema:
    return {"name": name, "in": "header", "schema": TEXT, "description": about}


_CONDITIONS = [
    _header("If-Match", "only if its ETag is one of these"),
    _header("If-None-Match", "* : only if it does not exist"),
]


_PAGING = [
    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 10_000}}
    | {"description": "a page of so many items, by key"},
    _query("after", "the page after this key: the `next` of the page before"),
]


def _flag(name: str, about: str) -> Schema:
    values = {"enum": ["0", "1", "false", "true"]}
    return {"name": name, "in": "query", "schema": values, "description": f"1: {about}"}


_WATCH = _flag(
    "watch", "server-sent events; put for each object, listed, then put and delete as they happen"
)
_DRY = _flag("dryRun", "answer what would change, and change nothing")


def _body(schema: str) -> Item:
    return {"required": True, "content": {"application/json": {"schema": ref(schema)}}}


def _operation(kind: str, name: str, summary: str, responses: Item, **more: Any) -> Item:
    return {"tags": [kind], "operationId": name, "summary": summary, "responses": responses, **more}


def _v2_paths() -> Item:
    found: Item = {}
    for plural, kind in kinds.V2.items():
        found[f"/api/v2/{plural}"] = _collection(plural, kind)
        found[f"/api/v2/{plural}/{{key}}"] = _object(plural, kind)
        found[f"/api/v2/inspect/{plural}/{{key}}"] = _inspection(plural, kind)
    return found


def _collection(plural: str, kind: Kind) -> Item:
    name = named(kind)
    filters = [
        _query(field.name, f"only with this {field.name}")
        for field in kind.fields_of("v2")
        if not field.secret
    ]
    made = {"201": _json(ref(name), "created"), "200": _json(ref("Plan"), "dry run")}
    wrong = _problems(400, 409, 413, 422, 503)
    found = {"200": _json(ref(f"{name}List"), "by key")} | _problems(*LIST_ANSWERS)
    found["200"]["content"]["text/event-stream"] = {"schema": TEXT}
    return {
        "get": _operation(
            *(plural, f"list{name}", f"List {plural}", found),
            parameters=[*filters, *_PAGING, _WATCH],
        ),
        "post": _operation(
            *(plural, f"post{name}", f"Create a {kind.type}", made | wrong),
            parameters=[_DRY],
            requestBody=_body(f"{name}Post"),
        ),
    }


def _object(plural: str, kind: Kind) -> Item:
    name = named(kind)
    one = {"200": _json(ref(name))}
    wrong = _problems(*WRITE_ANSWERS)
    changed = {"200": _json({"anyOf": [ref(name), ref("Plan")]}, "changed, or a dry run")} | wrong
    made = {"201": _json(ref(name), "created")}
    gone = {"204": {"description": "gone"}, "200": _json(ref("Plan"), "dry run")} | wrong

    def write(verb: str, summary: str, responses: Item, **more: Any) -> Item:
        return _operation(
            plural, f"{verb}{name}", summary, responses, parameters=[*_CONDITIONS, _DRY], **more
        )

    return {
        "parameters": [KEY | {"description": ":".join(kind.key)}],
        "get": _operation(plural, f"get{name}", f"Read a {kind.type}", one | _problems(404, 503)),
        "put": write(
            "put",
            f"Create or replace a {kind.type}",
            changed | made,
            requestBody=_body(f"{name}Put"),
        ),
        "patch": write(
            *("patch", "Change what is given (RFC 7396; null removes)", changed),
            requestBody=_body(f"{name}Patch"),
        ),
        "delete": write("delete", f"Remove a {kind.type}", gone),
    }


def _inspection(plural: str, kind: Kind) -> Item:
    schema: Schema = {
        "type": "object",
        "properties": {"Config": {"type": "object"}, "Oper": {"type": "object"}},
        "required": ["Config"],
    }
    responses = {"200": _json(schema, "as configured, with links, and its state")}
    get = _operation(
        plural, f"inspect{named(kind)}", f"Inspect a {kind.type}", responses | _problems(404, 503)
    )
    return {"parameters": [KEY], "get": get}


def _reading_paths() -> Item:
    found: Item = {}
    for plural, (_, filters) in READINGS.items():
        responses = {"200": _json(ref(plural.capitalize()))} | _problems(*LIST_ANSWERS)
        get = _operation(plural, f"list{plural.capitalize()}", f"List {plural}", responses)
        found[f"/api/v2/{plural}"] = {
            "get": get | {"parameters": [*map(_query, filters), *_PAGING]}
        }
    get = _operation(
        *("endpoints", "inspectEndpoint", "Find an endpoint by a part of its id or name"),
        {"200": _json({"type": "object"})} | _problems(404, 503),
    )
    found["/api/v2/inspect/endpoints/{key}"] = {"parameters": [KEY], "get": get}
    found["/api/v2/hosts/{key}"] = _host()
    return found


def _host() -> Item:
    read = {"200": _json(READINGS["hosts"][0])} | _problems(404, 503)
    gone = {"200": _json(ref("HostRemoval"), "what went, and what stayed")}
    flags = {
        "force": "also while its agent is connected: its session ends",
        "withIntent": "its Bgp, its peers and its ports, too",
    }
    return {
        "parameters": [KEY | {"description": "the host's name"}],
        "get": _operation("hosts", "getHost", "Read a host", read),
        "delete": _operation(
            *("hosts", "deleteHost", "Remove a host that is gone for good"),
            gone | _problems(404, 409, 422, 503),
            parameters=[*(_flag(name, words) for name, words in flags.items()), _DRY],
        ),
    }


def _v1_paths() -> Item:
    text = {"text/plain": {"schema": TEXT}}
    refused = {"500": {"description": "refused, and why", "content": text}}
    refused |= {"404": {"description": "no such URL", "content": text}}
    found: Item = {}
    for plural, kind in kinds.V1.items():
        name = f"V1{named(kind)}"
        one, body = {"200": _json(ref(name))} | refused, _body(name)

        def get(verb: str, schema: Schema, name: str = name) -> Item:
            answers = {"200": _json(schema)} | refused
            return _operation("Contiv", f"{verb}{name}", f"{verb} {name}", answers)

        found[f"/api/v1/{plural}/"] = {"get": get("list", {"type": "array", "items": ref(name)})}
        found[f"/api/v1/{plural}/{{key}}/"] = {
            "parameters": [KEY],
            "get": get("get", ref(name)),
            "post": _operation("Contiv", f"post{name}", "Create or update", one, requestBody=body),
            "put": _operation("Contiv", f"put{name}", "Create or update", one, requestBody=body),
            "delete": get("delete", TEXT),
        }
        found[f"/api/v1/inspect/{plural}/{{key}}/"] = {
            "parameters": [KEY],
            "get": get("inspect", {"type": "object"}),
        }
    return found


def _status_paths() -> Item:
    about = {
        "/version": "Which software this is",
        "/info": "Who leads, who is there",
        "/services": "Service load balancers and their providers",
        "/healthz": "Alive",
        "/readyz": "Ready to serve; also says whether the store answers",
        "/api/openapi.json": "This document",
    }
    found: Item = {}
    for path, summary in about.items():
        name = path.strip("/").replace("/", "_").partition(".")[0]
        responses = {"200": _json({"type": "object"})}
        if path == "/readyz":
            responses["503"] = _json({"type": "object"}, "not yet")
        found[path] = {"get": _operation("status", name, summary, responses)}
    metrics = {"description": "Prometheus text", "content": {"text/plain": {"schema": TEXT}}}
    found["/metrics"] = {"get": _operation("status", "metrics", "Metrics", {"200": metrics})}
    return found
