"""Route messages: one way to write each route of ours, and routes as the kernel describes them."""

import struct
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address, ip_network

from netfabric.agent.datapath.message import (
    AF_INET,
    AF_INET6,
    CREATE,
    EXCLUSIVE,
    REPLACE,
    RTM_DELROUTE,
    RTM_GETROUTE,
    RTM_NEWROUTE,
    Message,
    attribute,
    attributes,
    family,
    integer,
    number,
)
from netfabric.fabric.kernel import MAIN_TABLE, PROTOCOL
from netfabric.fabric.prefix import DEFAULT_ROUTES, Address, Family, Prefix

UNICAST, LOCAL, UNREACHABLE = 1, 2, 7
_ANY_SCOPE, _UNIVERSE, _LINK_SCOPE = 255, 0, 253
_ONLINK, _CLONED, _FIB_MATCH = 4, 0x200, 0x2000
_DESTINATION, _OIF, _GATEWAY, _PRIORITY, _SOURCE, _TABLE, _NEXTHOP = 1, 4, 5, 6, 7, 15, 30
_VIA = 18
_FIXED = struct.Struct("=8BI")


@dataclass(frozen=True, slots=True)
class Route:
    """A route as the kernel describes it."""

    prefix: Prefix
    table: int
    protocol: int
    kind: int
    metric: int
    index: int
    """The outgoing link's; 0 without one."""
    gateway: Address | None
    nexthop: int


def endpoint_metric(address: Address | Prefix) -> int:
    """Return the metric of an endpoint's own route, better than any other: 0 means 1024 in IPv6."""
    return 0 if address.version == 4 else 1


def _body(prefix: Prefix, table: int, scope: int, kind: int, flags: int = 0) -> bytes:
    low = table if table < 256 else 0
    fixed = _FIXED.pack(family(prefix), prefix.prefixlen, 0, 0, low, PROTOCOL, scope, kind, flags)
    if prefix.prefixlen:
        return fixed + attribute(_DESTINATION, prefix.network_address.packed)
    return fixed


def to_endpoint(prefix: Prefix, index: int, table: int = MAIN_TABLE) -> Message:
    """Return the request for an endpoint's route; it fails where there is one already (EEXIST)."""
    scope = _LINK_SCOPE if prefix.version == 4 else _UNIVERSE
    body = _body(prefix, table, scope, UNICAST) + number(_OIF, index) + number(_TABLE, table)
    if metric := endpoint_metric(prefix):
        body += number(_PRIORITY, metric)
    return Message(RTM_NEWROUTE, CREATE | EXCLUSIVE, body)


def not_to_endpoint(found: "Route") -> Message:
    """Return the request that removes a route of ours on one link."""
    body = _body(found.prefix, found.table, _ANY_SCOPE if found.prefix.version == 4 else 0, 0)
    body += number(_OIF, found.index) + number(_TABLE, found.table)
    body += number(_PRIORITY, found.metric) if found.metric else b""
    return Message(RTM_DELROUTE, 0, body)


def default(gateway: Address, index: int, table: int = MAIN_TABLE) -> Message:
    """Return the request for a container's default route by an on-link gateway."""
    prefix = DEFAULT_ROUTES[0 if gateway.version == 4 else 1]
    body = _body(prefix, table, _UNIVERSE, UNICAST, _ONLINK)
    body += number(_OIF, index) + attribute(_GATEWAY, gateway.packed) + number(_TABLE, table)
    return Message(RTM_NEWROUTE, CREATE | REPLACE, body)


@lru_cache(maxsize=256)
def _tail(nexthop: int, table: int, metric: int) -> bytes:
    return (
        (number(_NEXTHOP, nexthop) if nexthop else b"")
        + (number(_PRIORITY, metric) if metric else b"")
        + number(_TABLE, table)
    )


def by_nexthop(prefix: Prefix, nexthop: int, table: int, metric: int, replace: bool) -> Message:
    """Return the request for a route by a nexthop object; without one it is unreachable.

    Where `replace` is false, any route with that prefix and metric makes it fail (EEXIST).
    """
    kind = UNICAST if nexthop else UNREACHABLE
    body = _body(prefix, table, _UNIVERSE, kind) + _tail(nexthop, table, metric)
    return Message(RTM_NEWROUTE, CREATE | (REPLACE if replace else EXCLUSIVE), body)


def over_link(
    prefix: Prefix, index: int, gateway: Address | None, table: int, metric: int, replace: bool
) -> Message:
    """Return the request for a route over one link, by a gateway there whatever its subnets, or without one.

    The gateway may be of the other family (RFC 5549). `replace` as in `by_nexthop`.
    """
    scope = _LINK_SCOPE if prefix.version == 4 and gateway is None else _UNIVERSE
    body = _body(prefix, table, scope, UNICAST, _ONLINK if gateway else 0)
    body += _tail(0, table, metric) + number(_OIF, index)
    if gateway is not None and gateway.version == prefix.version:
        body += attribute(_GATEWAY, gateway.packed)
    elif gateway is not None:
        body += attribute(_VIA, struct.pack("=H", family(gateway)) + gateway.packed)
    return Message(RTM_NEWROUTE, CREATE | (REPLACE if replace else EXCLUSIVE), body)


def remove(prefix: Prefix, table: int, metric: int) -> Message:
    """Return the request that removes a route of our protocol with that metric, and no other."""
    scope = _ANY_SCOPE if prefix.version == 4 else 0
    return Message(RTM_DELROUTE, 0, _body(prefix, table, scope, 0) + _tail(0, table, metric))


def remove_exactly(found: Route) -> Message:
    """Return the request that removes one route of our protocol, told apart by all it has."""
    request = remove(found.prefix, found.table, found.metric)
    if found.nexthop:
        return Message(RTM_DELROUTE, 0, request.body + number(_NEXTHOP, found.nexthop))
    if found.kind == UNICAST and found.index:
        return Message(RTM_DELROUTE, 0, request.body + number(_OIF, found.index))
    return request


def get_ours(version: Family, index: int = 0) -> Message:
    """Return the dump request for the routes of our protocol, of one link or all."""
    body = _FIXED.pack(AF_INET if version == 4 else AF_INET6, 0, 0, 0, 0, PROTOCOL, 0, 0, 0)
    return Message(RTM_GETROUTE, 0, body + (number(_OIF, index) if index else b""))


def get_main(version: Family) -> Message:
    """Return the dump request for the unicast routes of the main table."""
    kind = AF_INET if version == 4 else AF_INET6
    return Message(RTM_GETROUTE, 0, _FIXED.pack(kind, 0, 0, 0, MAIN_TABLE, 0, 0, UNICAST, 0))


def look_up(address: Address, *, entry: bool = False) -> Message:
    """Return the request for the route that a packet to an address would take.

    With `entry` the answer is the table's entry; without, what becomes of it (with its source address).
    """
    flags = _FIB_MATCH if entry else 0
    body = _FIXED.pack(family(address), address.max_prefixlen, 0, 0, 0, 0, 0, 0, flags)
    return Message(RTM_GETROUTE, 0, body + attribute(_DESTINATION, address.packed))


def source_of(body: bytes) -> Address | None:
    """Return the source address that a look-up's answer names."""
    source = attributes(body, 12).get(_SOURCE)
    return ip_address(source) if source else None


def is_local(body: bytes) -> bool:
    """Return whether a look-up's answer is that the address is the host's own."""
    return body[7] == LOCAL


def protocol_of(body: bytes) -> int:
    """Return a route's protocol number."""
    return body[5]


def parse(body: bytes) -> Route | None:
    """Return the route that a message describes, None for a cached exception."""
    kind, length, _, _, low, protocol, _, type_, flags = _FIXED.unpack_from(body)
    if flags & _CLONED:
        return None
    found = attributes(body, 12)
    gateway = found.get(_GATEWAY) or found.get(_VIA, b"")[2:]
    default_route = DEFAULT_ROUTES[0 if kind == AF_INET else 1]
    return Route(
        prefix=ip_network((found[_DESTINATION], length)) if length else default_route,
        table=integer(found.get(_TABLE)) or low,
        protocol=protocol,
        kind=type_,
        metric=integer(found.get(_PRIORITY)),
        index=integer(found.get(_OIF)),
        gateway=ip_address(gateway) if gateway else None,
        nexthop=integer(found.get(_NEXTHOP)),
    )
