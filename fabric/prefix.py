"""Addresses and prefixes: the words every other module uses for them."""

from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_network,
)
from typing import Literal, TypeAlias

from netfabric.fabric.errors import InvalidError

Address: TypeAlias = IPv4Address | IPv6Address
Interface: TypeAlias = IPv4Interface | IPv6Interface
Prefix: TypeAlias = IPv4Network | IPv6Network
Family: TypeAlias = Literal[4, 6]

FAMILIES: tuple[Family, Family] = (4, 6)
DEFAULT_ROUTES: tuple[Prefix, Prefix] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))


def host_prefix(address: Address) -> Prefix:
    """Return the /32 or /128 of an address."""
    return ip_network(address)


def parse_prefix(text: str) -> Prefix:
    """Return the prefix that `text` writes, host bits clear; raise InvalidError."""
    try:
        return ip_network(text)
    except ValueError as error:
        raise InvalidError(f"prefix {text!r}: {error}", "write it as ADDRESS/LENGTH") from None


def family_of(value: Address | Prefix | Interface) -> Family:
    """Return 4 or 6."""
    return 4 if value.version == 4 else 6
