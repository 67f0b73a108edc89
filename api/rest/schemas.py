"""JSON schemas (2020-12) of what the API takes and answers, out of the declarations of the kinds."""

import re
from collections.abc import Mapping
from typing import Any

from netfabric.fabric import kinds
from netfabric.fabric.schema import Dialect, Field, Kind, Sort

Schema = dict[str, Any]

_SORTS: Mapping[Sort, Schema] = {
    "string": {"type": "string"},
    "int": {"type": "integer"},
    "bool": {"type": "boolean"},
    "strings": {"type": "array", "items": {"type": "string"}},
    "ints": {"type": "array", "items": {"type": "integer"}},
}
TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer"}
TEXTS: Schema = {"type": "array", "items": TEXT}


def ref(name: str) -> Schema:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def named(kind: Kind) -> str:
    """Return the name of a kind's schema: `Network`, `Bgp`, `ServiceLB`."""
    return kind.type[0].upper() + kind.type[1:]


def field_schema(field: Field, dialect: Dialect) -> Schema:
    """Return the schema of one field."""
    found: Schema = {**_SORTS[field.sort]}
    part = found
    if field.sort in ("strings", "ints"):
        part = found["items"] = {**found["items"]}
    pattern = field.pattern_of(dialect)
    if pattern is not None:
        part["pattern"] = f"^(?:{pattern})$"
    if longest := field.length_of(dialect):
        part["maxLength"] = longest
    if field.sort in ("int", "ints"):
        low = field.low if field.keeps_zero or field.sort == "ints" else 0  # 0 means nothing given
        part["minimum"] = low or 0
        part |= {"maximum": field.high} if field.high is not None else {}
    default = field.default_of(dialect)
    if default is not None:
        found["default"] = default
    if field.remedy:
        found["description"] = field.remedy
    if field.secret:
        found["writeOnly"] = True
    return found


def needed(kind: Kind) -> list[str]:
    """Return the fields that cannot be left out, those of the key among them."""
    return [f.name for f in kind.fields_of("v2") if f.name in kind.key or _cannot_be_empty(f)]


def _cannot_be_empty(field: Field) -> bool:
    pattern = field.pattern_of("v2")
    return (
        field.sort == "string"
        and pattern is not None
        and field.default_of("v2") is None
        and re.fullmatch(pattern, "") is None
    )


def _object(properties: Mapping[str, Schema], required: list[str] | None = None) -> Schema:
    found: Schema = {"type": "object", "properties": dict(properties)}
    return found | ({"required": required} if required else {})


def kind_schemas(kind: Kind) -> dict[str, Schema]:
    """Return what `/api/v2` answers for a kind, and takes: whole (PUT), new (POST), in part (PATCH)."""
    name = named(kind)
    fields = {f.name: field_schema(f, "v2") for f in kind.fields_of("v2")}
    told = {f"{f.name}Set": {"const": True} for f in kind.fields if f.secret}
    shown = {n: s for n, s in fields.items() if not s.get("writeOnly")}
    sent = fields | told | {"key": TEXT}
    closed = {"additionalProperties": False}
    must = [field for field in needed(kind) if field not in kind.key]
    return {
        name: _object({"key": TEXT, **shown, **told}, ["key", *kind.key]) | closed,
        f"{name}List": listing(ref(name)),
        f"{name}Put": _object(sent, must) | closed,
        f"{name}Post": _object(sent, needed(kind)) | closed,
        f"{name}Patch": _object({n: _or_null(s) for n, s in sent.items()}) | closed,
    }


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def listing(item: Schema) -> Schema:
    """Return the schema of a list."""
    items = {"type": "array", "items": item}
    return _object({"items": items, "revision": NUMBER, "next": TEXT}, ["items", "revision"])


def v1_schema(kind: Kind) -> Schema:
    """Return an object as `/api/v1` takes and answers it: unknown fields are ignored."""
    fields = {f.name: field_schema(f, "v1") for f in kind.fields_of("v1")}
    links = {"link-sets": kind.link_sets, "links": kind.links}
    return _object(
        {"key": TEXT, **fields}
        | {n: {"type": "object"} for n, of in links.items() if of is not None}
    )


SESSION = _object(
    {
        "key": TEXT,
        "host": TEXT,
        "peer": TEXT,
        "address": TEXT,
        "asn": NUMBER,
        "state": TEXT | {"description": "RFC 4271, section 8.2.2: idle … established"},
        "since": {"type": "number", "description": "seconds since the epoch"},
        "received": NUMBER,
        "advertised": NUMBER,
        "reason": TEXT | {"description": "why it is down"},
        "prefixes": TEXTS | {"description": "the first thousand received"},
    },
    ["key", "host", "peer", "address", "asn", "state"],
)
_ACTION: Schema = {"enum": ["allow", "deny"]}
_END = _object(dict.fromkeys(("name", "address", "tenant", "group"), TEXT))
_CONSIDERED = _object(
    dict.fromkeys(("rule", "group", "direction"), TEXT)
    | {"priority": NUMBER, "action": _ACTION}
    | {name: {"type": "boolean"} for name in ("matches", "decides")}
)
READINGS: Mapping[str, tuple[Schema, tuple[str, ...]]] = {
    "endpoints": (
        _object(
            dict.fromkeys(
                ("key", "tenant", "network", "group", "host", "container", "interface", "name"),
                TEXT,
            )
            | {"labels": {"type": "object"}, "addresses": TEXTS, "mac": TEXT, "link": TEXT}
            | {"mtu": NUMBER, "sequence": NUMBER},
            ["key", "tenant", "network", "host", "addresses"],
        ),
        ("host", "tenant", "network", "group", "container"),
    ),
    "sessions": (SESSION, ("host", "state")),
    "hosts": (
        _object(
            dict.fromkeys(("key", "name", "address", "software", "vtep"), TEXT)
            | {"state": {"enum": ["connected", "away"]}, "features": TEXTS, "endpoints": NUMBER}
            | {"blocks": {"type": "array", "items": _object({"network": TEXT, "prefix": TEXT})}}
            | {"sessions": {"type": "array", "items": SESSION}, "refused": NUMBER},
            ["key", "name", "state"],
        ),
        ("name", "state"),
    ),
    "routes": (
        _object(
            dict.fromkeys(("key", "prefix", "host", "origin", "tenant"), TEXT)
            | {"nextHops": TEXTS, "asPath": {"type": "array", "items": NUMBER}},
            ["key", "prefix", "host", "origin"],
        ),
        ("host", "tenant", "origin", "prefix", "covers"),
    ),
    "blocks": (
        _object(
            dict.fromkeys(("key", "network", "prefix", "host"), TEXT) | {"inUse": NUMBER},
            ["key", "network", "prefix", "host"],
        ),
        ("host", "network"),
    ),
    "pods": (
        _object(
            dict.fromkeys(("key", "host", "tenant", "network", "group", "filter"), TEXT)
            | {"state": {"enum": ["attached", "expected"]}, "peers": TEXTS}
            | {"labels": {"type": "object"}, "addresses": TEXTS},
            ["key", "host", "state", "tenant", "network"],
        ),
        ("host", "namespace", "tenant", "network"),
    ),
    "verdicts": (
        _object(
            {"key": TEXT, "from": _END, "to": _END, "protocol": NUMBER, "port": NUMBER}
            | {"action": _ACTION, "reason": TEXT}
            | {"considered": {"type": "array", "items": _CONSIDERED}},
            ["key", "from", "to", "action", "reason", "considered"],
        ),
        ("from", "to", "protocol", "port"),
    ),
}
PROBLEM = _object(
    {
        "type": TEXT,
        "title": TEXT,
        "status": NUMBER,
        "object": TEXT | {"description": "kind and key of what it is about"},
        "detail": TEXT | {"description": "the cause"},
        "remedy": TEXT | {"description": "what to do about it"},
    },
    ["type", "title", "status", "detail"],
) | {"description": "RFC 9457 problem details"}

PLAN = _object(
    {
        "dryRun": {"const": True},
        "changes": {
            "type": "array",
            "items": _object(
                {
                    "change": {"enum": ["create", "update", "delete", "allocate", "release"]},
                    "type": TEXT,
                    "key": TEXT,
                    "before": {"type": "object"},
                    "after": {"type": "object"},
                },
                ["change", "key"],
            ),
        },
    },
    ["dryRun", "changes"],
)


REMOVAL = _object(
    {"key": TEXT, "endpoints": NUMBER, "loans": NUMBER, "blocks": NUMBER}
    | {"objects": TEXTS, "objectsKept": TEXTS, "dryRun": {"type": "boolean"}}
    | {
        "kept": {
            "type": "array",
            "items": _object({"network": TEXT, "prefix": TEXT, "reason": TEXT}),
        }
    },
    ["key", "endpoints", "loans", "blocks", "kept", "objects", "objectsKept", "dryRun"],
)


def all_schemas() -> dict[str, Schema]:
    """Return every schema by name."""
    found: dict[str, Schema] = {"Problem": PROBLEM, "Plan": PLAN, "HostRemoval": REMOVAL}
    for kind in kinds.V2.values():
        found |= kind_schemas(kind)
    for kind in kinds.V1.values():
        found[f"V1{named(kind)}"] = v1_schema(kind)
    for plural, (item, _) in READINGS.items():
        found[plural.capitalize()] = listing(item)
    return found
