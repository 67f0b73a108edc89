"""rtnetlink messages as bytes: only what the fabric uses, built without looking anything up.

Layouts are those of linux/rtnetlink.h, linux/if_link.h, linux/neighbour.h and linux/nexthop.h.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from netfabric.fabric.prefix import Address, Prefix

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
RTM_NEWNEXTHOP, RTM_DELNEXTHOP, RTM_GETNEXTHOP = 104, 105, 106
NLMSG_ERROR, NLMSG_DONE = 2, 3

REQUEST, ACK, DUMP = 0x01, 0x04, 0x300
CREATE, REPLACE, EXCLUSIVE = 0x400, 0x100, 0x200

AF_UNSPEC, AF_INET, AF_INET6 = 0, 2, 10
NUD_PERMANENT = 0x80
IFF_UP, IFF_RUNNING = 0x1, 0x40

RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 0, 253
RTN_UNICAST, RTN_UNREACHABLE = 1, 7
RTPROT_KERNEL = 2

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINKINFO = 1, 3, 4, 18
IFLA_NET_NS_PID, IFLA_IFALIAS, IFLA_AF_SPEC, IFLA_GROUP, IFLA_NET_NS_FD = 19, 20, 26, 27, 28
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFLA_INET6_ADDR_GEN_MODE, ADDR_GEN_NONE = 8, 1
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS, IFA_F_NODAD = 1, 2, 8, 0x02
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_TABLE, RTA_NH_ID = (
    1,
    4,
    5,
    6,
    7,
    15,
    30,
)
RTNH_F_ONLINK = 4
NDA_DST, NDA_LLADDR = 1, 2
NHA_ID, NHA_GROUP, NHA_OIF, NHA_GATEWAY = 1, 2, 5, 6
NESTED = 0x8000

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=8BI")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")
_NEXTHOP = struct.Struct("=4BI")


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute, padded."""
    length = 4 + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + b"\0" * (-length % 4)


def number(kind: int, value: int) -> bytes:
    """Return an attribute of 32 bits."""
    return attribute(kind, struct.pack("=I", value))


def text(kind: int, value: str) -> bytes:
    """Return an attribute with a zero-terminated text."""
    return attribute(kind, value.encode() + b"\0")


def nested(kind: int, *inner: bytes) -> bytes:
    """Return an attribute that holds attributes."""
    return attribute(kind | NESTED, b"".join(inner))


def mac_bytes(mac: str) -> bytes:
    """Return a MAC's six octets."""
    return bytes.fromhex(mac.replace(":", ""))


def family(value: Address | Prefix) -> int:
    """Return AF_INET or AF_INET6."""
    return AF_INET if value.version == 4 else AF_INET6


@dataclass(frozen=True, slots=True)
class Message:
    """A request without its header's sequence number."""

    kind: int
    flags: int
    body: bytes

    def pack(self, sequence: int, flags: int = 0) -> bytes:
        """Return the bytes that go to the kernel."""
        size = 16 + len(self.body)
        return _HEADER.pack(size, self.kind, self.flags | flags | REQUEST, sequence, 0) + self.body


def veth(
    name: str,
    index: int,
    peer_name: str,
    peer_index: int,
    peer_namespace: int,
    mtu: int,
    mac: str,
    peer_mac: str,
    group: int,
) -> Message:
    """Return the request for a veth pair whose peer is born in another namespace (a file descriptor)."""
    peer = (
        _LINK.pack(AF_UNSPEC, 0, peer_index, 0, 0)
        + text(IFLA_IFNAME, peer_name)
        + number(IFLA_MTU, mtu)
        + attribute(IFLA_ADDRESS, mac_bytes(peer_mac))
        + number(IFLA_NET_NS_FD, peer_namespace)
    )
    info = nested(
        IFLA_LINKINFO,
        text(IFLA_INFO_KIND, "veth"),
        nested(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, peer)),
    )
    body = (
        _LINK.pack(AF_UNSPEC, 0, index, 0, 0)
        + text(IFLA_IFNAME, name)
        + number(IFLA_MTU, mtu)
        + attribute(IFLA_ADDRESS, mac_bytes(mac))
        + number(IFLA_GROUP, group)
        + info
    )
    return Message(RTM_NEWLINK, CREATE | EXCLUSIVE, body)


def link_up(index: int, *attributes: bytes) -> Message:
    """Return the request that sets a link up, and some of its attributes."""
    body = _LINK.pack(AF_UNSPEC, 0, index, IFF_UP, IFF_UP) + b"".join(attributes)
    return Message(RTM_NEWLINK, 0, body)


def no_link_local(index: int) -> Message:
    """Return the request that a link gets no IPv6 link-local address by itself."""
    mode = nested(AF_INET6, attribute(IFLA_INET6_ADDR_GEN_MODE, bytes([ADDR_GEN_NONE])))
    body = _LINK.pack(AF_UNSPEC, 0, index, 0, 0) + nested(IFLA_AF_SPEC, mode)
    return Message(RTM_NEWLINK, 0, body)


def link_delete(name: str) -> Message:
    """Return the request that removes a link by name."""
    return Message(RTM_DELLINK, 0, _LINK.pack(AF_UNSPEC, 0, 0, 0, 0) + text(IFLA_IFNAME, name))


def group_delete(group: int) -> Message:
    """Return the request that removes every link of a group."""
    return Message(RTM_DELLINK, 0, _LINK.pack(AF_UNSPEC, 0, 0, 0, 0) + number(IFLA_GROUP, group))


def address(index: int, value: Address, length: int, scope: int = RT_SCOPE_UNIVERSE) -> Message:
    """Return the request for an address on a link, without duplicate address detection."""
    body = _ADDRESS.pack(family(value), length, IFA_F_NODAD, scope, index)
    body += attribute(IFA_LOCAL, value.packed) + attribute(IFA_ADDRESS, value.packed)
    return Message(RTM_NEWADDR, CREATE | REPLACE, body)


def neighbour(index: int, value: Address, mac: str) -> Message:
    """Return the request for a permanent neighbour."""
    body = _NEIGHBOUR.pack(family(value), index, NUD_PERMANENT, 0, 1)
    body += attribute(NDA_DST, value.packed) + attribute(NDA_LLADDR, mac_bytes(mac))
    return Message(RTM_NEWNEIGH, CREATE | REPLACE, body)


def route_body(
    prefix: Prefix, table: int, protocol: int, scope: int, kind: int, flags: int = 0
) -> bytes:
    """Return a route's fixed part and destination."""
    low = table if table < 256 else 0
    body = _ROUTE.pack(family(prefix), prefix.prefixlen, 0, 0, low, protocol, scope, kind, flags)
    if prefix.prefixlen:
        body += attribute(RTA_DST, prefix.network_address.packed)
    return body + number(RTA_TABLE, table)


def link_route(
    prefix: Prefix,
    index: int,
    table: int,
    protocol: int,
    gateway: Address | None = None,
    source: Address | None = None,
    metric: int = 0,
) -> Message:
    """Return the request for a route out of a link, by an on-link gateway or directly."""
    scope = RT_SCOPE_UNIVERSE if gateway or prefix.version == 6 else RT_SCOPE_LINK
    flags = RTNH_F_ONLINK if gateway else 0
    body = route_body(prefix, table, protocol, scope, RTN_UNICAST, flags) + number(RTA_OIF, index)
    if gateway is not None:
        body += attribute(RTA_GATEWAY, gateway.packed)
    if source is not None:
        body += attribute(RTA_PREFSRC, source.packed)
    if metric:
        body += number(RTA_PRIORITY, metric)
    return Message(RTM_NEWROUTE, CREATE | REPLACE, body)


def nexthop_route(prefix: Prefix, table: int, protocol: int, nexthop: int, metric: int) -> Message:
    """Return the request for a route by a nexthop object; 0 makes it unreachable."""
    kind = RTN_UNICAST if nexthop else RTN_UNREACHABLE
    body = route_body(prefix, table, protocol, RT_SCOPE_UNIVERSE, kind)
    if nexthop:
        body += number(RTA_NH_ID, nexthop)
    return Message(RTM_NEWROUTE, CREATE | REPLACE, body + number(RTA_PRIORITY, metric))


def route_delete(prefix: Prefix, table: int, protocol: int, metric: int) -> Message:
    """Return the request that removes a route of ours, and no other."""
    body = route_body(prefix, table, protocol, 0xFF if prefix.version == 4 else 0, 0)
    return Message(RTM_DELROUTE, 0, body + (number(RTA_PRIORITY, metric) if metric else b""))


def nexthop(identity: int, protocol: int, index: int, gateway: Address) -> Message:
    """Return the request for a nexthop object."""
    body = _NEXTHOP.pack(family(gateway), 0, protocol, 0, RTNH_F_ONLINK)
    body += number(NHA_ID, identity) + number(NHA_OIF, index)
    return Message(RTM_NEWNEXTHOP, CREATE | REPLACE, body + attribute(NHA_GATEWAY, gateway.packed))


def nexthop_group(identity: int, protocol: int, members: tuple[int, ...]) -> Message:
    """Return the request for a group of nexthop objects with equal weights."""
    body = _NEXTHOP.pack(AF_UNSPEC, 0, protocol, 0, 0) + number(NHA_ID, identity)
    group = b"".join(struct.pack("=IBBH", member, 0, 0, 0) for member in members)
    return Message(RTM_NEWNEXTHOP, CREATE | REPLACE, body + attribute(NHA_GROUP, group))


def nexthop_delete(identity: int) -> Message:
    """Return the request that removes a nexthop object."""
    return Message(RTM_DELNEXTHOP, 0, _NEXTHOP.pack(0, 0, 0, 0, 0) + number(NHA_ID, identity))


def attributes(data: bytes) -> dict[int, bytes]:
    """Return the attributes in a run of bytes, by kind without flags."""
    found: dict[int, bytes] = {}
    while len(data) >= 4:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield (kind, flags, sequence, body) of every message in what was received."""
    while len(data) >= 16:
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data)
        if length < 16:
            return
        yield kind, flags, sequence, data[16:length]
        data = data[(length + 3) & ~3 :]
