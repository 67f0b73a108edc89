"""rtnetlink messages as bytes: the header, attributes, and the constants that the fabric uses.

Layouts and numbers are those of linux/netlink.h, rtnetlink.h, if_link.h, neighbour.h and nexthop.h.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from netfabric.fabric.prefix import Address, Prefix

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46
RTM_NEWNEXTHOP, RTM_DELNEXTHOP, RTM_GETNEXTHOP = 104, 105, 106
NLMSG_ERROR, NLMSG_DONE = 2, 3

REQUEST, ACK, DUMP = 0x01, 0x04, 0x300
CREATE, REPLACE, EXCLUSIVE = 0x400, 0x100, 0x200
DUMP_INTERRUPTED = 0x10

AF_UNSPEC, AF_INET, AF_INET6 = 0, 2, 10
NESTED = 0x8000

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_NUMBER = struct.Struct("=HHI")


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute, padded to 4 octets."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def number(kind: int, value: int) -> bytes:
    """Return an attribute of 32 bits."""
    return _NUMBER.pack(8, kind, value)


def text(kind: int, value: str) -> bytes:
    """Return an attribute with a zero-terminated text."""
    return attribute(kind, value.encode() + b"\0")


def nested(kind: int, *inner: bytes) -> bytes:
    """Return an attribute that holds attributes."""
    return attribute(kind | NESTED, b"".join(inner))


def family(value: Address | Prefix) -> int:
    """Return AF_INET or AF_INET6."""
    return AF_INET if value.version == 4 else AF_INET6


def mac_bytes(mac: str) -> bytes:
    """Return a MAC's six octets."""
    return bytes.fromhex(mac.replace(":", ""))


def mac_text(octets: bytes) -> str:
    """Return a MAC in small letters."""
    return octets.hex(":")


@dataclass(frozen=True, slots=True)
class Message:
    """A request without its sequence number."""

    kind: int
    flags: int
    body: bytes
    """Length a multiple of 4, as every fixed part and padded attribute is."""

    def pack(self, sequence: int, flags: int = 0) -> bytes:
        """Return the bytes that go to the kernel."""
        size = 16 + len(self.body)
        return _HEADER.pack(size, self.kind, self.flags | flags | REQUEST, sequence, 0) + self.body


@dataclass(frozen=True, slots=True)
class Received:
    """One message of the kernel's."""

    kind: int
    flags: int
    sequence: int
    port: int
    """In a notification: the socket whose request made the change; 0 where the kernel did it itself."""
    body: bytes


def messages(data: bytes) -> Iterator[Received]:
    """Yield every message of one datagram."""
    offset, end = 0, len(data)
    while offset + 16 <= end:
        length, kind, flags, sequence, port = _HEADER.unpack_from(data, offset)
        if length < 16:
            return
        yield Received(kind, flags, sequence, port, data[offset + 16 : offset + length])
        offset += (length + 3) & ~3


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Return the attributes from `offset` on, by kind without flags; of two of a kind, the last."""
    found: dict[int, bytes] = {}
    end = len(data)
    unpack = _ATTRIBUTE.unpack_from
    while offset + 4 <= end:
        length, kind = unpack(data, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def integer(value: bytes | None) -> int:
    """Return a 32-bit attribute's value, 0 where it is missing."""
    return int.from_bytes(value, "little" if _LITTLE else "big") if value else 0


_LITTLE = struct.pack("=H", 1) == b"\x01\x00"
