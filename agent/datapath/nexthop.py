"""Nexthop object messages: gateways on links, groups of them, and what the kernel has."""

import struct
from dataclasses import dataclass
from ipaddress import ip_address

from netfabric.agent.datapath.message import (
    AF_UNSPEC,
    CREATE,
    REPLACE,
    RTM_DELNEXTHOP,
    RTM_GETNEXTHOP,
    RTM_NEWNEXTHOP,
    Message,
    attribute,
    attributes,
    family,
    integer,
    number,
)
from netfabric.fabric.kernel import NEXTHOP_BASE, PROTOCOL, NexthopGroup
from netfabric.fabric.prefix import Address

_ID, _GROUP, _OIF, _GATEWAY = 1, 2, 5, 6
_ONLINK = 4
_FIXED = struct.Struct("=4BI")
_MEMBER = struct.Struct("=IBBH")
_OURS = range(NEXTHOP_BASE, NEXTHOP_BASE + 0x10000)


@dataclass(frozen=True, slots=True)
class NexthopObject:
    """A nexthop object as the kernel describes it."""

    id: int
    protocol: int
    index: int
    gateway: Address | None
    members: tuple[int, ...]

    @property
    def ours(self) -> bool:
        """Return whether it carries our marks: the id's range and the protocol."""
        return self.id in _OURS and self.protocol == PROTOCOL


def put(identity: int, gateway: Address, index: int) -> Message:
    """Return the request for a gateway on a link; it need not be in a subnet of the link."""
    body = _FIXED.pack(family(gateway), 0, PROTOCOL, 0, _ONLINK)
    body += number(_ID, identity) + number(_OIF, index) + attribute(_GATEWAY, gateway.packed)
    return Message(RTM_NEWNEXTHOP, CREATE | REPLACE, body)


def put_group(group: NexthopGroup) -> Message:
    """Return the request for a group with equal weights."""
    members = b"".join(_MEMBER.pack(member, 0, 0, 0) for member in group.members)
    body = _FIXED.pack(AF_UNSPEC, 0, PROTOCOL, 0, 0) + number(_ID, group.id)
    return Message(RTM_NEWNEXTHOP, CREATE | REPLACE, body + attribute(_GROUP, members))


def remove(identity: int) -> Message:
    """Return the request that removes an object, and with it every route that uses it."""
    return Message(RTM_DELNEXTHOP, 0, _FIXED.pack(AF_UNSPEC, 0, 0, 0, 0) + number(_ID, identity))


def get(identity: int) -> Message:
    """Return the request for one object."""
    return Message(RTM_GETNEXTHOP, 0, _FIXED.pack(AF_UNSPEC, 0, 0, 0, 0) + number(_ID, identity))


def get_all() -> Message:
    """Return the dump request for all objects."""
    return Message(RTM_GETNEXTHOP, 0, _FIXED.pack(AF_UNSPEC, 0, 0, 0, 0))


def parse(body: bytes) -> NexthopObject:
    """Return the object that a message describes."""
    found = attributes(body, 8)
    gateway = found.get(_GATEWAY)
    group = found.get(_GROUP, b"")
    return NexthopObject(
        id=integer(found.get(_ID)),
        protocol=body[2],
        index=integer(found.get(_OIF)),
        gateway=ip_address(gateway) if gateway else None,
        members=tuple(sorted(member for member, *_ in _MEMBER.iter_unpack(group))),
    )
