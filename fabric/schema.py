"""Declarations of REST objects (fields, keys, links), and the checks of form that follow from them.

Contiv's order and texts: the key first, then field by field in alphabetical order, the first error wins.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from netfabric.fabric.errors import InvalidError

Object: TypeAlias = dict[str, Any]
Sort: TypeAlias = Literal["string", "int", "strings", "ints", "bool"]
Dialect: TypeAlias = Literal["v1", "v2"]

ZERO: Mapping[Sort, Any] = {"string": "", "int": 0, "strings": [], "ints": [], "bool": False}
_TYPES: Mapping[Sort, str] = {
    "string": "a string",
    "int": "a whole number",
    "strings": "a list of strings",
    "ints": "a list of whole numbers",
    "bool": "true or false",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One configuration field. `pattern` matches the whole value; of a list, each item's."""

    name: str
    sort: Sort = "string"
    pattern: str | None = None
    max_length: int = 0
    """Bytes; 0 is no limit."""
    low: int | None = None
    high: int | None = None
    default: Any = None
    v2_only: bool = False
    v2_pattern: str | None = None
    """Where `/api/v2` allows more than Contiv does."""
    v2_max_length: int = 0
    v2_default: Any = None
    remedy: str = ""
    secret: bool = False
    """Never shown: only `<name>Set`."""
    keeps_zero: bool = False
    """0, "" or false given by the client differs from nothing given."""

    def pattern_of(self, dialect: Dialect) -> str | None:
        """Return the pattern of a dialect of the API."""
        return self.v2_pattern if dialect == "v2" and self.v2_pattern else self.pattern

    def length_of(self, dialect: Dialect) -> int:
        """Return the most bytes that a dialect of the API takes; 0 is no limit."""
        return self.v2_max_length if dialect == "v2" and self.v2_max_length else self.max_length

    def default_of(self, dialect: Dialect) -> Any:
        """Return the default of a dialect of the API."""
        return self.v2_default if dialect == "v2" and self.v2_default is not None else self.default


@dataclass(frozen=True, slots=True)
class Reference:
    """Fields of an object that name another: `type`, in the same tenant where `scoped`, or `tenant:name`."""

    fields: tuple[str, ...]
    type: str
    scoped: bool = True

    def keys(self, obj: Mapping[str, Any]) -> Iterator[str]:
        """Yield the keys of the objects that `obj` names."""
        for field in self.fields:
            value = obj.get(field)
            for name in value if isinstance(value, list) else [value]:
                if name:
                    yield in_tenant(obj, str(name)) if self.scoped else str(name)


def in_tenant(obj: Mapping[str, Any], name: str) -> str:
    """Return the key of what an object names: in its own tenant, unless the name says which."""
    return name if ":" in name else f"{obj.get('tenantName', '')}:{name}"


@dataclass(frozen=True, slots=True)
class Link:
    """A link or link set called `name`: forward, what we refer to; backward, what refers to us.

    `fields` are those of the referring object; a link set that Contiv declares and never fills has none.
    """

    name: str
    type: str
    fields: tuple[str, ...] = ()
    backward: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """One type of object."""

    type: str
    plural: str
    """In `/api/v1`; "" where Contiv has no such type."""
    plural2: str
    """In `/api/v2`; "" where there is none."""
    key: tuple[str, ...]
    """The fields whose values, joined by colons, are the key."""
    fields: tuple[Field, ...]
    link_sets: tuple[Link, ...] | None = None
    """None: the object has no such member."""
    links: tuple[Link, ...] | None = None

    def field(self, name: str) -> Field | None:
        """Return the field of that name."""
        return next((f for f in self.fields if f.name == name), None)

    def fields_of(self, dialect: Dialect) -> list[Field]:
        """Return the fields that a dialect knows, in alphabetical order (capitals first)."""
        known = (f for f in self.fields if dialect == "v2" or not f.v2_only)
        return sorted(known, key=lambda f: f.name)

    def key_of(self, obj: Mapping[str, Any]) -> str:
        """Return the key that an object's fields make."""
        return ":".join(str(obj.get(part, "")) for part in self.key)

    def named(self, obj: Mapping[str, Any]) -> str:
        """Return `type key`, for messages."""
        return f"{self.type} {obj.get('key') or self.key_of(obj)}"


def validate(kind: Kind, obj: Object, dialect: Dialect = "v1") -> None:
    """Check an object's form and fill in defaults; `obj["key"]` is what the URL said.

    Raises InvalidError with Contiv's text for the first field that is wrong.
    """
    if obj.get("key") != kind.key_of(obj):
        raise InvalidError("Invalid Key", _key_remedy(kind))
    for field in kind.fields_of(dialect):
        value = obj.get(field.name)
        if value in (None, ZERO[field.sort]) and not (field.keeps_zero and value is not None):
            value = field.default_of(dialect)
            if value is not None:
                obj[field.name] = value
            elif field.sort == "string":
                value = ""
        if value is not None:
            _check(field, value, dialect)


def _key_remedy(kind: Kind) -> str:
    return f"the key must be {':'.join(kind.key)}, with the same names in the body as in the URL"


def _check(field: Field, value: Any, dialect: Dialect) -> None:
    if field.sort == "int":
        _check_bounds(field, value)
    elif field.sort == "ints":
        for number in value:
            _check_bounds(field, number)
    elif field.sort == "string":
        _check_text(field, value, dialect)
    elif field.sort == "strings":
        for text in value:
            _check_text(field, text, dialect)


def _check_bounds(field: Field, value: int) -> None:
    low = field.low if field.low is not None else 0
    if value < low or (field.high is not None and value > field.high):
        top = "" if field.high is None else f" to {field.high}"
        raise InvalidError(
            f"{field.name} Value Out of bound", field.remedy or f"choose a number from {low}{top}"
        )


def _check_text(field: Field, value: str, dialect: Dialect) -> None:
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise InvalidError(
            f"{field.name} string invalid format", "half a surrogate pair is no text"
        )
    longest = field.length_of(dialect)
    if longest and len(value.encode()) > longest:
        raise InvalidError(f"{field.name} string too long", f"{longest} bytes are the most")
    pattern = field.pattern_of(dialect)
    if pattern is not None and not _compiled(pattern).fullmatch(value):
        raise InvalidError(f"{field.name} string invalid format", field.remedy or f"not {value!r}")


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def fits(field: Field, value: Any) -> bool:
    """Return whether a JSON value has the field's type."""
    if field.sort == "string":
        return isinstance(value, str)
    if field.sort == "bool":
        return isinstance(value, bool)
    if field.sort == "int":
        return _whole(value)
    wanted = str if field.sort == "strings" else int
    return isinstance(value, list) and all(
        isinstance(item, wanted) and not isinstance(item, bool) for item in value
    )


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def read_v2(kind: Kind, body: Mapping[str, Any]) -> Object:
    """Return the fields of a v2 body, the empty ones left out; raise InvalidError naming what is wrong."""
    known = {f.name: f for f in kind.fields_of("v2")}
    obj: Object = {}
    for name, value in body.items():
        field = known.get(name)
        if name == "key" or name in _shown_only(kind):
            _check_shown(kind, name, value)
            continue
        if field is None:
            raise InvalidError(
                f"{kind.type}: unknown field {name!r}", f"known are {', '.join(sorted(known))}"
            )
        value = _as_wanted(field, value)
        if value is not None and not fits(field, value):
            raise InvalidError(
                f"{kind.type}: {name} is not {_TYPES[field.sort]}", f"give {_TYPES[field.sort]}"
            )
        obj[name] = value
    return without_zeros(kind, obj)


def shown_v2(kind: Kind, obj: Mapping[str, Any]) -> Object:
    """Return an object as v2 shows it: in the schema's order, a secret only as `…Set`."""
    found: Object = {"key": obj["key"]}
    for field in kind.fields_of("v2"):
        if field.name in obj:
            name, value = field.name, obj[field.name]
            found[f"{name}Set" if field.secret else name] = True if field.secret else value
    return found


def _as_wanted(field: Field, value: Any) -> Any:
    """Take AS numbers as numbers or as text: Contiv's objects have text, ours numbers."""
    if field.name not in ("as", "neighbor-as"):
        return value
    if field.sort == "int":
        return as_number(value)
    return str(value) if _whole(value) else value


def as_number(value: Any) -> Any:
    """Return an AS number that was written as a string as a number; anything else unchanged."""
    text = value.strip() if isinstance(value, str) else ""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else value


def _check_shown(kind: Kind, name: str, value: Any) -> None:
    """What we show and a client sends back: the key, and whether there is a secret."""
    wanted = isinstance(value, str) if name == "key" else value is True
    if not wanted and value is not None:
        raise InvalidError(
            f"{kind.type}: {name} is not {'a string' if name == 'key' else 'true'}", "leave it out"
        )


def _shown_only(kind: Kind) -> Sequence[str]:
    return [f"{f.name}Set" for f in kind.fields if f.secret]


def without_zeros(kind: Kind, obj: Mapping[str, Any]) -> Object:
    """Return an object without the values that mean nothing (Go's omitempty)."""
    kept: Object = {}
    for name, value in obj.items():
        field = kind.field(name)
        if value is None or field is None:
            continue
        if field.keeps_zero or value != ZERO[field.sort]:
            kept[name] = value
    return kept
