"""Fields of the network configuration, each read as what it should be, or refused by its name."""

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from netfabric.agent.cni.problem import CniError, Code
from netfabric.agent.cni.value import addresses_of, mac_of
from netfabric.fabric.errors import InvalidError
from netfabric.fabric.prefix import Address

Json: TypeAlias = dict[str, Any]


def bad(key: str, cause: str, remedy: str) -> CniError:
    """Return the error of a field whose value cannot be."""
    return CniError(Code.BAD_CONFIGURATION, f"network configuration: {key}: {cause}", remedy)


def unsupported(key: str, value: object, remedy: str) -> CniError:
    """Return the error of a field that asks for what netfabric does not do (code 2 names key and value)."""
    what = f"network configuration: {key}: {shown(value)} is not what netfabric does"
    return CniError(Code.UNSUPPORTED_FIELD, what, remedy)


def shown(value: object) -> str:
    """Return a value for a message, which stays short."""
    return "missing" if value is None else json.dumps(value)[:64]


def wrong(key: str, value: object, kind: str) -> CniError:
    """Return the error of a field of another kind."""
    return bad(key, f"{shown(value)} is no {kind}", f"write {kind}")


def text(raw: Mapping[str, Any], key: str, path: str = "") -> str:
    """Return a short printable text, "" for none; raise CniError."""
    value = raw.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > 255 or not value.isprintable():
        raise wrong(path or key, value, "a short text")
    return value


def object_of(raw: Mapping[str, Any], key: str, path: str = "") -> Json:
    """Return an object, an empty one for none; raise CniError."""
    value = raw.get(key)
    if value is not None and not isinstance(value, dict):
        raise wrong(path or key, value, "an object")
    return value or {}


def texts(raw: Mapping[str, Any], key: str, path: str) -> list[str]:
    """Return a list of texts, an empty one for none; raise CniError."""
    value = raw.get(key) or []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise wrong(path, value, "a list of texts")
    return value


def addresses(raw: Mapping[str, Any], key: str, path: str) -> tuple[Address, ...]:
    """Return requested addresses, one a family at most; raise CniError."""
    try:
        return addresses_of(texts(raw, key, path))
    except InvalidError as error:
        raise bad(path, error.what, error.remedy) from None


def mac(raw: Mapping[str, Any], path: str) -> str:
    """Return a requested MAC, "" for none; raise CniError."""
    try:
        return mac_of(text(raw, "mac", path))
    except InvalidError as error:
        raise bad(path, error.what, error.remedy) from None


def labels(value: object, path: str) -> dict[str, str]:
    """Read [{"key": …, "value": …}], as CNI's conventions and Mesos write labels; raise CniError."""
    if value is None:
        return {}
    try:
        return {text(one, "key", path): text(one, "value", path) for one in value}  # type: ignore[attr-defined]
    except (TypeError, AttributeError):
        raise wrong(path, value, 'a list of {"key": …, "value": …}') from None
