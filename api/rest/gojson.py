"""JSON as Contiv's Go server reads and writes it: omitempty, field order, messages of its decoder."""

import json
from collections.abc import Mapping
from typing import Any

from netfabric.fabric.errors import InvalidError
from netfabric.fabric.links import link_sets_of, links_of
from netfabric.fabric.schema import ZERO, Field, Kind, Object, Sort, fits
from netfabric.fabric.world import Fields, World

_ESCAPES = {
    "&": "\\u0026",
    "<": "\\u003c",
    ">": "\\u003e",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}
_GO_TYPES: Mapping[Sort, str] = {"string": "string", "int": "int", "strings": "[]string"}


def dumps(value: Any) -> bytes:
    """Return a line of JSON."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for char, escape in _ESCAPES.items():
        text = text.replace(char, escape)
    return text.encode() + b"\n"


def pruned(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping sorted by name, without empty values, however deep."""
    found: dict[str, Any] = {}
    for name in sorted(value):
        item = value[name]
        if isinstance(item, list):
            item = [pruned(part) if isinstance(part, Mapping) else part for part in item]
        if item not in ("", 0, None, [], {}):
            found[name] = item
    return found


def shown(kind: Kind, obj: Fields) -> dict[str, Any]:
    """Return an object's own fields as v1 shows them."""
    fields = [field.name for field in kind.fields_of("v1")]
    found = {name: obj[name] for name in ("key", *fields) if obj.get(name) not in (None, "", 0, [])}
    if found.get("encap") == "routed":
        found["encap"] = "vlan"
    return found


def rendered(world: World, kind: Kind, obj: Fields) -> dict[str, Any]:
    """Return an object with its links."""
    found = shown(kind, obj)
    if kind.link_sets is not None:
        found["link-sets"] = link_sets_of(world, kind, obj)
    if kind.links is not None:
        found["links"] = links_of(world, kind, obj)
    return found


def echoed(kind: Kind, obj: Fields, posted: Mapping[str, Any]) -> dict[str, Any]:
    """Return an updated object: fields as they are, links as the client sent them."""
    found = shown(kind, obj)
    for member, links in (("link-sets", kind.link_sets), ("links", kind.links)):
        sent = posted.get(member)
        given = sent if isinstance(sent, Mapping) else {}
        if links is None:
            continue
        names = sorted(link.name for link in links)
        if member == "links":
            found[member] = {name: given.get(name) or {} for name in names}
        else:
            found[member] = {name: given[name] for name in names if given.get(name)}
    return found


def parse(kind: Kind, text: bytes) -> Mapping[str, Any]:
    """Return the JSON object of a body; raise InvalidError with the text of Go's decoder."""
    if not text.strip():
        raise InvalidError("EOF", "send the object as JSON")
    try:
        found = json.loads(text)
    except UnicodeDecodeError:
        raise InvalidError("invalid character in body", "send UTF-8") from None
    except RecursionError:
        raise InvalidError("exceeded max depth", "send one flat object") from None
    except json.JSONDecodeError as error:
        rest = error.doc[error.pos :]
        if not rest.strip():
            raise InvalidError("unexpected EOF", "the JSON is cut off") from None
        raise InvalidError(_unexpected(rest), "send valid JSON") from None
    if not isinstance(found, Mapping):
        type_ = f"contivModel.{kind.type[0].upper()}{kind.type[1:]}"
        raise InvalidError(
            f"json: cannot unmarshal {_name(found)} into Go value of type {type_}",
            "send one JSON object",
        )
    return found


def _unexpected(rest: str) -> str:
    """Say what is wrong where the decoder stopped: a word that begins like a literal, or anything."""
    for literal in ("null", "true", "false"):
        if rest[0] != literal[0]:
            continue
        for char, expected in zip(rest, literal, strict=False):
            if char != expected:
                return f"invalid character {char!r} in literal {literal} (expecting {expected!r})"
    return f"invalid character {rest[0]!r} looking for beginning of value"


def read(kind: Kind, body: Mapping[str, Any]) -> Object:
    """Return a posted object's fields, unknown ones ignored, names in any case as Go takes them."""
    known = {field.name: field for field in kind.fields_of("v1")}
    folded = {name.lower(): field for name, field in known.items()}
    obj: Object = {}
    for name, value in body.items():
        field = known.get(name) or folded.get(name.lower())
        if field is None or value is None:
            continue
        _require(field, value)
        if value != ZERO[field.sort]:
            obj[field.name] = value
    return obj


def _require(field: Field, value: Any) -> None:
    if fits(field, value):
        return
    wanted = _GO_TYPES[field.sort]
    if field.sort == "strings" and isinstance(value, list):
        value = next(item for item in value if not isinstance(item, str))
        wanted = "string"
    name = f"number {value}" if isinstance(value, float) else _name(value)
    raise InvalidError(
        f"json: cannot unmarshal {name} into Go value of type {wanted}", f"field {field.name}"
    )


def _name(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "array"
    return "object" if isinstance(value, Mapping) else "number"
