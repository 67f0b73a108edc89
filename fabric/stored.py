"""Values of the model as JSON, for the store, the journal and the wire; and back."""

import json
from collections.abc import Callable
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, TypeVar

import cattrs
from cattrs.errors import BaseValidationError, CattrsError

from netfabric.fabric.errors import InvalidError
from netfabric.fabric.prefix import Address, Interface, Prefix

Value = TypeVar("Value")

_converter = cattrs.Converter(detailed_validation=False)


def _by_text(kind: Any, parse: Callable[[Any], Any]) -> None:
    """Write a kind of address as text. The union's members share the hook."""
    for member in kind.__args__:
        _converter.register_unstructure_hook(member, str)
        _converter.register_structure_hook(member, lambda value, _: parse(value))
    _converter.register_unstructure_hook(kind, str)
    _converter.register_structure_hook(kind, lambda value, _: parse(value))
    _converter.register_unstructure_hook(
        kind | None, lambda value: None if value is None else str(value)
    )
    _converter.register_structure_hook(
        kind | None, lambda value, _: None if value is None else parse(value)
    )


def _pair(kind: Any, names: tuple[str, str], parse: Callable[[Any], Any], second: Any) -> None:
    """Write a pair as an object: protobuf has no lists of lists."""
    _converter.register_unstructure_hook_func(
        lambda found: found == kind, lambda pair: {names[0]: str(pair[0]), names[1]: pair[1]}
    )
    _converter.register_structure_hook_func(
        lambda found: found == kind,
        lambda value, _: (parse(value[names[0]]), second(value[names[1]])),
    )


_by_text(Address, ip_address)
_converter.register_unstructure_hook_func(
    lambda found: found == frozenset[Address], lambda value: sorted(str(item) for item in value)
)
_by_text(Prefix, ip_network)
_by_text(Interface, ip_interface)
_pair(tuple[str, str], ("name", "value"), str, str)
_pair(tuple[Prefix, int], ("prefix", "longest"), ip_network, int)


def plain(value: Any) -> Any:
    """Return a value of the model as dicts, lists, texts and numbers."""
    return _converter.unstructure(value)


def shaped(kind: type[Value], raw: Any) -> Value:
    """Return the value of the model that `raw` describes; raise InvalidError."""
    try:
        return _converter.structure(raw, kind)
    except (
        BaseValidationError,
        CattrsError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:
        raise InvalidError(f"{kind.__name__}: {error!r}", "written by another version?") from None


def dump(value: Any) -> str:
    """Return a value of the model as JSON text."""
    return json.dumps(plain(value), separators=(",", ":"))


def load(kind: type[Value], text: str | bytes) -> Value:
    """Return the value that JSON text describes; raise InvalidError."""
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise InvalidError(f"{kind.__name__}: no JSON: {error}", "see what wrote it") from None
    return shaped(kind, raw)
