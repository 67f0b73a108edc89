"""Reading a namespace's kernel: dumps, turned into the values of the model."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from netfabric.agent.datapath import message as nl
from netfabric.agent.datapath.netlink import Netlink
from netfabric.fabric.prefix import Address, Prefix


@dataclass(slots=True)
class Link:
    """A device."""

    index: int
    name: str
    mac: str
    mtu: int
    up: bool
    group: int
    alias: str
    kind: str


@dataclass(slots=True)
class Route:
    """A route, as dumped."""

    prefix: Prefix
    table: int
    kind: int
    protocol: int
    link: int
    gateway: Address | None
    nexthop: int
    metric: int


@dataclass(slots=True)
class NexthopObject:
    """A nexthop object or a group of them, as dumped."""

    id: int
    protocol: int
    link: int
    gateway: Address | None
    members: tuple[int, ...] = field(default=())


def address_of(data: bytes | None) -> Address | None:
    """Return four or sixteen octets as an address."""
    if not data:
        return None
    return IPv4Address(data) if len(data) == 4 else IPv6Address(data)


def _number(data: bytes | None) -> int:
    return int(struct.unpack("=I", data)[0]) if data else 0


def _text(data: bytes | None) -> str:
    return data.rstrip(b"\0").decode(errors="replace") if data else ""


def mac_text(data: bytes | None) -> str:
    """Return six octets as text."""
    return ":".join(f"{octet:02x}" for octet in data or b"")


_FIXED_LINK = struct.pack("=BxHiII", 0, 0, 0, 0, 0)


def links(netlink: Netlink) -> Iterator[Link]:
    """Yield every device."""
    for body in netlink.dump(nl.Message(nl.RTM_GETLINK, 0, _FIXED_LINK)):
        yield _link(body)


def link_named(netlink: Netlink, name: str) -> Link | None:
    """Return one device, found by the kernel."""
    request = nl.Message(nl.RTM_GETLINK, 0, _FIXED_LINK + nl.text(nl.IFLA_IFNAME, name))
    failed, body = netlink.ask(request)
    return None if failed else _link(body)


def _link(body: bytes) -> Link:
    _, _, index, flags, _ = struct.unpack_from("=BxHiII", body)
    found = nl.attributes(body[16:])
    info = nl.attributes(found.get(nl.IFLA_LINKINFO, b""))
    return Link(
        index,
        _text(found.get(nl.IFLA_IFNAME)),
        mac_text(found.get(nl.IFLA_ADDRESS)),
        _number(found.get(nl.IFLA_MTU)),
        bool(flags & nl.IFF_UP),
        _number(found.get(nl.IFLA_GROUP)),
        _text(found.get(nl.IFLA_IFALIAS)),
        _text(info.get(nl.IFLA_INFO_KIND)),
    )


def addresses(netlink: Netlink) -> Iterator[tuple[int, Address, int]]:
    """Yield (link index, address, prefix length) of every address."""
    request = nl.Message(nl.RTM_GETADDR, 0, struct.pack("=BBBBI", 0, 0, 0, 0, 0))
    for body in netlink.dump(request):
        length, index = body[1], struct.unpack_from("=I", body, 4)[0]
        found = nl.attributes(body[8:])
        local = address_of(found.get(nl.IFA_LOCAL) or found.get(nl.IFA_ADDRESS))
        if local is not None:
            yield index, local, length


def routes(netlink: Netlink, protocol: int = 0) -> Iterator[Route]:
    """Yield every unicast and unreachable route, or those of one protocol (the kernel filters)."""
    for family in (nl.AF_INET, nl.AF_INET6):
        fixed = struct.pack("=8BI", family, 0, 0, 0, 0, protocol, 0, 0, 0)
        for body in netlink.dump(nl.Message(nl.RTM_GETROUTE, 0, fixed)):
            route = _route(family, body)
            if route is not None and (not protocol or route.protocol == protocol):
                yield route


def _route(family: int, body: bytes) -> Route | None:
    length, low, found_protocol, kind = body[1], body[4], body[5], body[7]
    if kind not in (nl.RTN_UNICAST, nl.RTN_UNREACHABLE):
        return None
    found = nl.attributes(body[12:])
    prefix: Prefix
    if family == nl.AF_INET:
        prefix = IPv4Network((found.get(nl.RTA_DST, bytes(4)), length))
    else:
        prefix = IPv6Network((found.get(nl.RTA_DST, bytes(16)), length))
    return Route(
        prefix,
        _number(found.get(nl.RTA_TABLE)) or low,
        kind,
        found_protocol,
        _number(found.get(nl.RTA_OIF)),
        address_of(found.get(nl.RTA_GATEWAY)),
        _number(found.get(nl.RTA_NH_ID)),
        _number(found.get(nl.RTA_PRIORITY)),
    )


def neighbours(netlink: Netlink) -> Iterator[tuple[int, Address, str, bool]]:
    """Yield (link index, address, MAC, permanent) of every neighbour."""
    for family in (nl.AF_INET, nl.AF_INET6):
        fixed = struct.pack("=BxxxiHBB", family, 0, 0, 0, 0)
        for body in netlink.dump(nl.Message(nl.RTM_GETNEIGH, 0, fixed)):
            index, state = struct.unpack_from("=iH", body, 4)
            found = nl.attributes(body[12:])
            address = address_of(found.get(nl.NDA_DST))
            if address is not None:
                mac = mac_text(found.get(nl.NDA_LLADDR))
                yield index, address, mac, bool(state & nl.NUD_PERMANENT)


def nexthops(netlink: Netlink) -> Iterator[NexthopObject]:
    """Yield every nexthop object and group."""
    for body in netlink.dump(nl.Message(nl.RTM_GETNEXTHOP, 0, struct.pack("=4BI", 0, 0, 0, 0, 0))):
        found = nl.attributes(body[8:])
        group = found.get(nl.NHA_GROUP, b"")
        yield NexthopObject(
            _number(found.get(nl.NHA_ID)),
            body[2],
            _number(found.get(nl.NHA_OIF)),
            address_of(found.get(nl.NHA_GATEWAY)),
            tuple(struct.unpack_from("=I", group, at)[0] for at in range(0, len(group), 8)),
        )
