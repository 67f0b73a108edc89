"""Address messages: a link's own addresses."""

import struct
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from netfabric.agent.datapath.message import (
    AF_INET6,
    AF_UNSPEC,
    CREATE,
    REPLACE,
    RTM_DELADDR,
    RTM_GETADDR,
    RTM_NEWADDR,
    Message,
    attribute,
    attributes,
    family,
    integer,
)
from netfabric.fabric.prefix import Address, Prefix

_ADDRESS, _LOCAL, _CACHE_INFO, _FLAGS = 1, 2, 6, 8
_SCOPE_HOST = 254
_DEPRECATED = struct.pack("=IIII", 0, 0xFFFFFFFF, 0, 0)
"""Preferred for no time, valid forever."""
_NO_DAD, _DAD_FAILED, _IS_DEPRECATED = 0x02, 0x08, 0x20
_FIXED = struct.Struct("=BBBBI")


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """An address on a link."""

    index: int
    address: Address
    subnet: Prefix
    """The other end's, on a point-to-point link."""
    failed: bool
    """Somebody else has it (RFC 4862, section 5.4.5)."""
    only_answers: bool = False
    """It has the scope, or the age, that `put_gateway` gives."""

    @property
    def alone(self) -> bool:
        """Return whether it is a /32 or /128: no subnet comes with it."""
        return self.subnet.prefixlen == self.subnet.max_prefixlen


def put(index: int, address: Address) -> Message:
    """Return the request for a /32 or /128, without duplicate address detection."""
    body = _FIXED.pack(family(address), address.max_prefixlen, _NO_DAD, 0, index)
    body += attribute(_LOCAL, address.packed) + attribute(_ADDRESS, address.packed)
    return Message(RTM_NEWADDR, CREATE | REPLACE, body)


def put_gateway(index: int, address: Address) -> Message:
    """Return the request for an address that a link answers for, and from which nothing is ever sent.

    IPv4's has the scope of the host itself; IPv6's is deprecated from the start (RFC 4862, section 5.5.4).
    """
    scope = _SCOPE_HOST if address.version == 4 else 0
    body = _FIXED.pack(family(address), address.max_prefixlen, _NO_DAD, scope, index)
    body += attribute(_LOCAL, address.packed) + attribute(_ADDRESS, address.packed)
    if address.version == 6:
        body += attribute(_CACHE_INFO, _DEPRECATED)
    return Message(RTM_NEWADDR, CREATE | REPLACE, body)


def remove(index: int, address: Address) -> Message:
    """Return the request that takes a /32 or /128 from a link, and nothing else.

    IPv4 heeds the length only where the other end's address is named, too.
    """
    body = _FIXED.pack(family(address), address.max_prefixlen, 0, 0, index)
    body += attribute(_LOCAL, address.packed) + attribute(_ADDRESS, address.packed)
    return Message(RTM_DELADDR, 0, body)


def get_all(index: int = 0) -> Message:
    """Return the dump request for all addresses, or one link's."""
    return Message(RTM_GETADDR, 0, _FIXED.pack(AF_UNSPEC, 0, 0, 0, index))


def parse(body: bytes) -> LinkAddress:
    """Return the address that a message describes."""
    kind, length, low_flags, scope, index = _FIXED.unpack_from(body)
    found = attributes(body, 8)
    other = found.get(_ADDRESS) or found[_LOCAL]
    flags = integer(found.get(_FLAGS)) or low_flags
    return LinkAddress(
        index=index,
        address=ip_address(found.get(_LOCAL) or other),
        subnet=ip_network((other, length), strict=False),
        failed=bool(flags & _DAD_FAILED),
        only_answers=bool(flags & _IS_DEPRECATED) if kind == AF_INET6 else scope == _SCOPE_HOST,
    )


def index_of(body: bytes) -> int:
    """Return the link's index."""
    return int(_FIXED.unpack_from(body)[4])
