"""Intent as one file: what it holds, in which order it is made, and how it differs from what there is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from netfabric.fabric import kinds
from netfabric.fabric.errors import InvalidError
from netfabric.fabric.schema import Kind, Object, read_v2, shown_v2, validate

ORDER = (
    "globals",
    "tenants",
    "networks",
    "netprofiles",
    "policies",
    "ext-contracts-groups",
    "endpoint-groups",
    "rules",
    "app-profiles",
    "services",
    "bgps",
    "peers",
    "ports",
    "aci-gws",
)
"""Kinds by their plurals, what is referred to before what refers to it."""
NEVER_PRUNED = (("globals", "global"), ("tenants", "default"))

Action: TypeAlias = Literal["create", "change", "same", "remove"]
Items: TypeAlias = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Step:
    """What has to be done for one object. `body` is what is sent, `before` and `after` what is shown."""

    action: Action
    plural: str
    key: str
    body: Mapping[str, Any]
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    secret: bool = False
    """The file has a secret, which nobody can compare: only the server can tell whether it changes."""

    def __str__(self) -> str:
        return f"{kinds.V2[self.plural].type} {self.key}"


def read_file(path: str, text: str) -> Items:
    """Return a file's objects by kind; raise InvalidError for what is no such file."""
    import yaml

    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        why = " ".join(str(error).split())
        raise InvalidError(f"{path}: neither YAML nor JSON: {why}", "see netctl export") from None
    if not isinstance(found, Mapping):
        raise InvalidError(f"{path}: no kinds", "write networks: and a list, as netctl export does")
    for plural, objects in found.items():
        if plural not in ORDER:
            raise InvalidError(f"{path}: unknown kind {plural!r}", f"known are {', '.join(ORDER)}")
        if not isinstance(objects, list) or not all(isinstance(o, Mapping) for o in objects):
            raise InvalidError(f"{path}: {plural} is no list of objects", "begin each with a dash")
    return found


def read_path(path: str) -> str:
    """Return a file's text, or that of standard input for `-`; raise InvalidError."""
    import sys

    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidError(
            f"{path}: {error}", "name a readable file, or - for standard input"
        ) from None


def _read(kind: Kind, body: Mapping[str, Any]) -> Object:
    """Return an object of a file, checked as the server will."""
    obj = read_v2(kind, body)
    key = kind.key_of(obj)
    if body.get("key") not in (None, key):
        raise InvalidError(f"{kind.type} {key}: its key is given as {body['key']}", "leave key out")
    obj["key"] = key
    try:
        validate(kind, obj, "v2")
    except InvalidError as error:
        raise InvalidError(f"{kind.type} {key}: {error.what}", error.remedy) from None
    return obj


def _step(plural: str, body: Mapping[str, Any], there: Mapping[str, Any] | None) -> Step:
    kind = kinds.V2[plural]
    obj = _read(kind, body)
    shown = shown_v2(kind, obj)
    secret = any(field.name in obj for field in kind.fields if field.secret)
    kept = {name: True for name in body if name.endswith("Set") and body[name] is True}
    after = shown | kept
    action: Action = "create" if there is None else "same" if there == after else "change"
    return Step(action, plural, obj["key"], {**obj, **kept}, there or {}, after, secret)


def steps(wanted: Items, there: Items, prune: bool) -> Iterator[Step]:
    """Yield what has to be done, in order; raise InvalidError for a wrong object.

    With `prune`, objects of the file's kinds that it does not name are removed, what refers first.
    """
    for plural in ORDER:
        known = {str(item["key"]): item for item in there.get(plural, ())}
        for body in wanted.get(plural, ()):
            kind = kinds.V2[plural]
            yield _step(plural, body, known.get(kind.key_of(body)))
    if prune:
        yield from _leftover(wanted, there)


def _leftover(wanted: Items, there: Items) -> Iterator[Step]:
    for plural in reversed(ORDER):
        if plural not in wanted:
            continue
        named = {kinds.V2[plural].key_of(body) for body in wanted[plural]}
        for item in there.get(plural, ()):
            key = str(item["key"])
            if key not in named and (plural, key) not in NEVER_PRUNED:
                yield Step("remove", plural, key, {}, item, {})


def exported(there: Items) -> dict[str, list[dict[str, Any]]]:
    """Return everything as a file has it: without keys, which the fields make."""
    return {
        plural: [{n: v for n, v in item.items() if n != "key"} for item in there[plural]]
        for plural in ORDER
        if there.get(plural)
    }


def differences(step: Step) -> Iterator[str]:
    """Yield a step's changes, a line each: `- field: old`, `+ field: new`."""
    for name in sorted({*step.before, *step.after} - {"key"}):
        old, new = step.before.get(name), step.after.get(name)
        if old == new:
            continue
        if old is not None:
            yield f"- {name}: {old}"
        if new is not None:
            yield f"+ {name}: {new}"
