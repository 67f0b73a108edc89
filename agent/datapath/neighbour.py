"""Neighbour messages: permanent ARP and ND entries, so that nobody has to ask."""

import struct
from dataclasses import dataclass
from ipaddress import ip_address

from netfabric.agent.datapath.message import (
    AF_INET,
    AF_INET6,
    AF_UNSPEC,
    CREATE,
    REPLACE,
    RTM_DELNEIGH,
    RTM_GETNEIGH,
    RTM_NEWNEIGH,
    Message,
    attribute,
    attributes,
    family,
    mac_bytes,
    mac_text,
    number,
)
from netfabric.fabric.prefix import Address

PERMANENT = 0x80
_PROXY = 0x08
_DESTINATION, _MAC, _INDEX = 1, 2, 8
_FIXED = struct.Struct("=BxxxiHBB")


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A permanent neighbour."""

    index: int
    address: Address
    mac: str


def put(index: int, address: Address, mac: str) -> Message:
    """Return the request for a permanent neighbour."""
    body = _FIXED.pack(family(address), index, PERMANENT, 0, 0)
    body += attribute(_DESTINATION, address.packed) + attribute(_MAC, mac_bytes(mac))
    return Message(RTM_NEWNEIGH, CREATE | REPLACE, body)


def remove(index: int, address: Address) -> Message:
    """Return the request that removes a neighbour."""
    body = _FIXED.pack(family(address), index, 0, 0, 0) + attribute(_DESTINATION, address.packed)
    return Message(RTM_DELNEIGH, 0, body)


def put_proxy(index: int, address: Address) -> Message:
    """Return the request to have a link answer ARP or ND for an address."""
    body = _FIXED.pack(family(address), index, PERMANENT, _PROXY, 0)
    body += attribute(_DESTINATION, address.packed)
    return Message(RTM_NEWNEIGH, CREATE | REPLACE, body)


def remove_proxy(index: int, address: Address) -> Message:
    """Return the request that ends that."""
    body = _FIXED.pack(family(address), index, 0, _PROXY, 0)
    return Message(RTM_DELNEIGH, 0, body + attribute(_DESTINATION, address.packed))


def get_proxies() -> Message:
    """Return the dump request for the addresses that links answer for."""
    return Message(RTM_GETNEIGH, 0, _FIXED.pack(AF_UNSPEC, 0, 0, _PROXY, 0))


def parse_proxy(body: bytes) -> tuple[int, Address] | None:
    """Return a link's index and an address that it answers for, None for any other entry."""
    kind, index, _, flags, _ = _FIXED.unpack_from(body)
    found = attributes(body, 12).get(_DESTINATION)
    if not flags & _PROXY or kind not in (AF_INET, AF_INET6) or found is None:
        return None
    return index, ip_address(found)


def get_all(index: int = 0) -> Message:
    """Return the dump request for all neighbours, or one link's."""
    body = _FIXED.pack(AF_UNSPEC, 0, 0, 0, 0)
    return Message(RTM_GETNEIGH, 0, body + (number(_INDEX, index) if index else b""))


def index_of(body: bytes) -> int:
    """Return the link's index."""
    return int(_FIXED.unpack_from(body)[1])


def parse(body: bytes) -> Neighbour | None:
    """Return the permanent neighbour that a message describes, None for any other."""
    kind, index, state, _, _ = _FIXED.unpack_from(body)
    if not state & PERMANENT or kind not in (AF_INET, AF_INET6):
        return None
    found = attributes(body, 12)
    if _DESTINATION not in found or _MAC not in found:
        return None
    return Neighbour(index, ip_address(found[_DESTINATION]), mac_text(found[_MAC]))
