"""Fields of Docker's calls and options: read, checked, and refused by name."""

from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, TypeAlias

from netfabric.fabric.errors import InvalidError
from netfabric.fabric.prefix import Address, Prefix

Json: TypeAlias = Mapping[str, Any]


def text(body: Json, name: str) -> str:
    """Return a text, "" where there is none; raise InvalidError."""
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidError(f"{name}: {value!r:.60} is no text", "report it, with Docker's version")
    return value


def needed(body: Json, name: str) -> str:
    """Return a text that has to be there; raise InvalidError."""
    if found := text(body, name):
        return found
    raise InvalidError(f"{name}: missing in Docker's call", "report it, with Docker's version")


def object_of(body: Json, name: str) -> Json:
    """Return an object, {} where there is none; raise InvalidError."""
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidError(
            f"{name}: {value!r:.60} is no object", "report it, with Docker's version"
        )
    return value


def objects(body: Json, name: str) -> list[Json]:
    """Return a list of objects, [] where there is none; raise InvalidError."""
    value = body.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise InvalidError(f"{name}: {value!r:.60} is no list", "report it, with Docker's version")
    return value


def address_of(body: Json, name: str) -> Address | None:
    """Return an address, written with or without a length; raise InvalidError."""
    value = text(body, name)
    try:
        return ip_interface(value).ip if value else None
    except ValueError:
        raise InvalidError(f"{name}: {value!r} is no address", "write an IP address") from None


def bare_address(value: str) -> Address | None:
    """Return an address that a text is, or None."""
    try:
        return ip_address(value)
    except ValueError:
        return None


def prefix_of(body: Json, name: str) -> Prefix | None:
    """Return a prefix; raise InvalidError."""
    value = text(body, name)
    try:
        return ip_network(value) if value else None
    except ValueError:
        remedy = "write a subnet such as 10.1.0.0/24, with no bits set behind its length"
        raise InvalidError(f"{name}: {value!r} is no subnet", remedy) from None


def only(options: Json, known: Iterable[str], where: str) -> None:
    """Refuse an option that nobody knows: what is asked for and does not happen is worse."""
    names = tuple(known)
    for name in options:
        if name not in names and not name.startswith("com.docker."):
            raise InvalidError(
                f"{where}: no option {name!r}", f"options are {', '.join(sorted(names))}"
            )
