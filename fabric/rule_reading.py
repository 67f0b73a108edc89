"""What a stored rule means: peers, ports and protocols read out of an object of the REST API."""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, ip_address, summarize_address_range
from typing import Any, cast

from netfabric.fabric.errors import InvalidError
from netfabric.fabric.filter import Action, Direction, FilterRule, PeerMatch, PortRange
from netfabric.fabric.network import Network
from netfabric.fabric.prefix import Prefix, parse_prefix
from netfabric.fabric.schema import in_tenant

Object = Mapping[str, Any]
WITH_PORTS = ("tcp", "udp", "6", "17", "132")
"""Protocols whose packets have ports; 132: SCTP."""
WITH_TYPES = ("icmp", "1", "58")


def addresses(text: str) -> tuple[Prefix, ...]:
    """Return the prefixes that `a.b.c.d`, `a.b.c.d/len`, `a.b.c.d-e` or an IPv6 prefix means; raise InvalidError.

    A range ends at a last octet, as in Contiv; a length after it says nothing more.
    """
    first, dash, last = text.partition("-")
    if not dash:
        return (_loose(text),)
    low = IPv4Address(first)
    high = IPv4Address(int(low) & ~0xFF | int(last.partition("/")[0]))
    if high < low:
        raise InvalidError(f"address range {text}: ends before it begins", "the lower one first")
    return tuple(summarize_address_range(low, high))


def _loose(text: str) -> Prefix:
    """Read a prefix of which host bits may be set."""
    address, _, length = text.partition("/")
    try:
        width = ip_address(address).max_prefixlen
    except ValueError as error:
        raise InvalidError(f"address {text}: {error}", "write an address or a prefix") from None
    number = int(length or width)
    if number > width:
        raise InvalidError(f"prefix {text}: its length is above {width}", "choose a shorter one")
    base = int(ip_address(address)) >> (width - number) << (width - number)
    return parse_prefix(f"{ip_address(base.to_bytes(width // 8, 'big'))}/{number}")


def port_ranges(texts: Iterable[str]) -> tuple[PortRange, ...]:
    """Return the ranges that `80` and `8000-8080` mean, in order; raise InvalidError."""
    return tuple(sorted((_port_range(text) for text in texts), key=lambda r: (r.first, r.last)))


def _port_range(text: str) -> PortRange:
    first, dash, last = text.partition("-")
    low, high = int(first), int(last if dash else first)
    if not 1 <= low <= high <= 65535:
        raise InvalidError(
            f"ports {text}: no range of ports", "1 to 65535, the lower one first: 8000-8080"
        )
    return PortRange(low, high)


def protocol_of(obj: Object) -> str:
    """Return a rule's protocol as filters have it; raise InvalidError for a number above 255."""
    text = str(obj.get("protocol") or "")
    if not text.isdecimal():
        return text
    if int(text) > 255:
        raise InvalidError(f"protocol {text}: there is none", "choose a number from 0 to 255")
    return str(int(text))


def ports_of(obj: Object) -> tuple[PortRange, ...]:
    """Return a rule's ports; as in Contiv, without a protocol that has ports they say nothing."""
    if protocol_of(obj) not in WITH_PORTS:
        return ()
    texts = [*(obj.get("ports") or ()), *([str(obj["port"])] if obj.get("port") else ())]
    return port_ranges(texts)


def rule_of(obj: Object, networks: Mapping[str, Network]) -> FilterRule | None:
    """Return a stored rule as hosts need it; None where it names a network that is gone: it matches nothing.

    Raises InvalidError.
    """
    direction = cast(Direction, str(obj["direction"]))
    here, there = ("to", "from") if direction == "in" else ("from", "to")
    tenant = str(obj["tenantName"])
    network = obj.get(f"{there}Network")
    found = networks.get(f"{tenant}:{network}") if network else None
    if network and found is None:
        return None
    group = obj.get(f"{there}EndpointGroup")
    prefixes = tuple(r.subnet for r in found.ranges) if found else ()
    protocol = protocol_of(obj)
    return FilterRule(
        id=str(obj["ruleId"]),
        policy=f"{tenant}:{obj['policyName']}",
        direction=direction,
        action=cast(Action, str(obj["action"])),
        priority=int(obj.get("priority") or 1),
        protocol=protocol,
        ports=ports_of(obj),
        icmp_types=tuple(obj.get("icmpTypes") or ()) if protocol in WITH_TYPES else (),
        peer=PeerMatch(
            group=in_tenant(obj, str(group)) if group else "",
            prefixes=prefixes or _prefixes(obj, f"{there}IpAddress"),
        ),
        own=_prefixes(obj, f"{here}IpAddress"),
        log=bool(obj.get("log")),
    )


def _prefixes(obj: Object, field: str) -> tuple[Prefix, ...]:
    text = str(obj.get(field) or "")
    return addresses(text) if text else ()
