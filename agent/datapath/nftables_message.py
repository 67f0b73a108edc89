"""nfnetlink requests about our table: sets, chains, rules and elements.

Layouts and numbers are those of linux/netfilter/nfnetlink.h and nf_tables.h.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from struct import pack
from typing import Final

from netfabric.agent.datapath.message import CREATE, Message, attribute, mac_bytes, nested
from netfabric.agent.datapath.nftables_expression import expressions, string, u32
from netfabric.fabric.filter import PortRange
from netfabric.fabric.ruleset import (
    TABLE,
    Chain,
    Element,
    Hook,
    Item,
    NamedSet,
    Rule,
    SetKind,
    Source,
)

_SUBSYSTEM = 10
NEWTABLE, GETTABLE, DELTABLE = (_SUBSYSTEM << 8 | n for n in (0, 1, 2))
NEWCHAIN, GETCHAIN, DELCHAIN = (_SUBSYSTEM << 8 | n for n in (3, 4, 5))
NEWRULE, GETRULE, DELRULE = (_SUBSYSTEM << 8 | n for n in (6, 7, 8))
NEWSET, GETSET, DELSET = (_SUBSYSTEM << 8 | n for n in (9, 10, 11))
NEWELEMENT, GETELEMENT, DELELEMENT = (_SUBSYSTEM << 8 | n for n in (12, 13, 14))
GETGENERATION = _SUBSYSTEM << 8 | 16
_BEGIN, _END = 0x10, 0x11
APPEND = 0x800
_INET, _UNSPEC = 1, 0
HOOKS: Final[dict[Hook, int]] = {"prerouting": 0, "input": 1, "forward": 2, "postrouting": 4}
_ACCEPT = 1
COMMENT: Final = 0
_INTERVAL = 0x4
_IP, _IP6, _MAC, _PORT, _LINK = 7, 8, 9, 13, 41
"""Data types as nft numbers them, so that it can show our sets."""
INTERVAL_END = 1
_HOST_ORDER = 1


def _concatenated(*types: int) -> int:
    number = 0
    for one in types:
        number = number << 6 | one
    return number


_KINDS: dict[SetKind, tuple[int, int, int]] = {
    "ip": (0, _IP, 4),
    "ip6": (0, _IP6, 16),
    "subnet": (_INTERVAL, _IP, 4),
    "subnet6": (_INTERVAL, _IP6, 16),
    "port": (_INTERVAL, _PORT, 2),
    "source": (0, _concatenated(_LINK, _MAC, _IP), 28),
    "source6": (0, _concatenated(_LINK, _MAC, _IP6), 40),
    "own": (0, _concatenated(_LINK, _IP), 20),
    "own6": (0, _concatenated(_LINK, _IP6), 32),
    "links": (0, _LINK, 16),
}
"""Flags, key type and key length."""
KIND_OF = {(flags, type_): kind for kind, (flags, type_, _) in _KINDS.items()}
INTERVALS: Final[frozenset[SetKind]] = frozenset({"subnet", "subnet6", "port"})


def _message(
    kind: int, flags: int, *inner: bytes, family: int = _INET, resource: int = 0
) -> Message:
    return Message(kind, flags, pack(">BBH", family, 0, resource) + b"".join(inner))


def begin() -> Message:
    """Return the opening bracket of a transaction."""
    return _message(_BEGIN, 0, family=_UNSPEC, resource=_SUBSYSTEM)


def end() -> Message:
    """Return the closing bracket."""
    return _message(_END, 0, family=_UNSPEC, resource=_SUBSYSTEM)


def generation() -> Message:
    """Return the request for the number that every change of any table moves on."""
    return _message(GETGENERATION, 0, family=_UNSPEC)


def get_all(kind: int, *, set_name: str = "", chain: str = "") -> Message:
    """Return a dump request for chains, sets, rules (of one chain) or the elements of a set, in our table."""
    name = string(2, set_name or chain) if set_name or chain else b""
    return _message(kind, 0, string(1, TABLE), name)


def get_table() -> Message:
    """Return the request for our table."""
    return _message(GETTABLE, 0, string(1, TABLE))


def put_table() -> Message:
    """Return the request for our table; doing it twice is doing it once."""
    return _message(NEWTABLE, CREATE, string(1, TABLE))


def remove_table() -> Message:
    """Return the request that removes our table with all that is in it."""
    return _message(DELTABLE, 0, string(1, TABLE))


def put_set(wanted: NamedSet, identity: int) -> Message:
    """Return the request for a set; `identity` is unique in the transaction."""
    flags, type_, length = _KINDS[wanted.kind]
    inner = [
        string(1, TABLE),
        string(2, wanted.name),
        u32(3, flags),
        u32(4, type_),
        u32(5, length),
        u32(10, identity),
    ]
    if wanted.kind == "links":
        # Tells nft, and nobody else, that names of links are no big-endian numbers.
        inner.append(attribute(13, pack("=BBI", 0, 4, _HOST_ORDER)))
    return _message(NEWSET, CREATE, *inner)


def remove_set(name: str) -> Message:
    """Return the request that removes a set."""
    return _message(DELSET, 0, string(1, TABLE), string(2, name))


def put_chain(chain: Chain) -> Message:
    """Return the request for a chain, empty; one with a hook lets pass what no rule drops."""
    inner = [string(1, TABLE), string(3, chain.name)]
    if chain.hook is not None:
        hook = nested(4, u32(1, HOOKS[chain.hook]), u32(2, chain.priority))
        inner += [hook, u32(5, _ACCEPT), string(7, "filter")]
    return _message(NEWCHAIN, CREATE, *inner)


def remove_chain(name: str) -> Message:
    """Return the request that removes a chain without rules."""
    return _message(DELCHAIN, 0, string(1, TABLE), string(3, name))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rule goes: last, or behind a rule of the kernel's or of the same transaction, or first."""

    last: bool = False
    handle: int = 0
    identity: int = 0


def put_rule(chain: str, rule: Rule, place: Place, identity: int) -> Message:
    """Return the request for a rule; `identity` is unique in the transaction."""
    comment = rule.label.encode()[:240] + b"\0"
    inner = [
        string(1, TABLE),
        string(2, chain),
        nested(4, expressions(rule)),
        attribute(7, bytes((COMMENT, len(comment))) + comment),
        u32(9, identity),
    ]
    if place.handle and not place.last:
        inner.append(attribute(6, pack(">Q", place.handle)))
    elif place.identity and not place.last:
        inner.append(u32(10, place.identity))
    behind = place.last or place.handle or place.identity
    return _message(NEWRULE, CREATE | (APPEND if behind else 0), *inner)


def remove_rule(chain: str, handle: int) -> Message:
    """Return the request that removes a rule."""
    return _message(
        DELRULE, 0, string(1, TABLE), string(2, chain), attribute(3, pack(">Q", handle))
    )


def elements(kind: int, of: NamedSet, things: Sequence[Element]) -> Message:
    """Return the request that puts (NEWELEMENT) or takes (DELELEMENT) some elements of one set."""
    packed = b"".join(part for thing in things for part in _element(thing))
    flags = CREATE if kind == NEWELEMENT else 0
    return _message(kind, flags, string(1, TABLE), string(2, of.name), nested(3, packed))


def _element(thing: Element) -> Iterator[bytes]:
    first, after = _key(thing.item)
    yield nested(1, nested(1, attribute(1, first)))
    if after is not None:
        yield nested(1, nested(1, attribute(1, after)), u32(3, INTERVAL_END))


def _key(item: Item) -> tuple[bytes, bytes | None]:
    """Return an element's key, and for an interval the first key behind it, if there is one."""
    match item:
        case Source(link, "", address):
            return _name(link) + address.packed, None
        case Source(link, mac, address):
            return _name(link) + mac_bytes(mac) + b"\0\0" + address.packed, None
        case str():
            return _name(item), None
        case PortRange(first, last):
            return _interval(first, last, 2)
        case IPv4Network() | IPv6Network():
            ends = int(item.network_address), int(item.broadcast_address)
            return _interval(*ends, item.max_prefixlen // 8)
        case _:
            return item.packed, None


def _name(link: str) -> bytes:
    return link.encode().ljust(16, b"\0")


def _interval(first: int, last: int, length: int) -> tuple[bytes, bytes | None]:
    after = last + 1
    return first.to_bytes(length, "big"), (
        None if after >> 8 * length else after.to_bytes(length, "big")
    )
