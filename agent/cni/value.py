"""Requested addresses and MACs, wherever they are written: CNI_ARGS, runtimeConfig, args.cni."""

import re
from collections.abc import Iterable
from ipaddress import ip_address

from netfabric.fabric.errors import InvalidError
from netfabric.fabric.prefix import Address, family_of

_MAC = re.compile(r"[0-9a-fA-F]{2}([:-])[0-9a-fA-F]{2}(\1[0-9a-fA-F]{2}){4}", re.ASCII)


def addresses_of(texts: Iterable[str]) -> tuple[Address, ...]:
    """Return requested addresses, IPv4 first; a prefix length behind one says nothing here. Raise InvalidError."""
    found: dict[int, Address] = {}
    for text in texts:
        address = _address(text)
        if found.setdefault(family_of(address), address) != address:
            both = f"{found[family_of(address)]} and {address}"
            raise InvalidError(f"addresses {both} are of one family", "ask for one a family")
    return tuple(found[family] for family in sorted(found))


def _address(text: str) -> Address:
    try:
        address = ip_address(text.strip().partition("/")[0])
    except ValueError:
        raise InvalidError(f"{text[:64]!r} is no IP address", "write 10.1.2.3 or fd00::3") from None
    if address.is_unspecified or address.is_multicast or getattr(address, "scope_id", None):
        raise InvalidError(
            f"{address} is no address for a container", "choose one of the network's"
        )
    return address


def mac_of(text: str) -> str:
    """Return a requested MAC as 02:00:… in lower case, "" for none; raise InvalidError."""
    mac = text.strip().lower().replace("-", ":")
    if not mac:
        return ""
    if not _MAC.fullmatch(text.strip()) or int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise InvalidError(
            f"{text[:64]!r} is no MAC of one station", "write it as 02:42:0a:01:02:03"
        )
    return mac
