"""A rule's matches and verdict as the expressions of nftables' virtual machine.

Layouts and numbers are those of linux/netfilter/nf_tables.h; all integers of attributes are big-endian.
"""

from collections.abc import Iterator
from struct import pack
from typing import Final

from netfabric.agent.datapath.message import attribute, nested
from netfabric.fabric.prefix import Prefix
from netfabric.fabric.ruleset import (
    Between,
    Field,
    Goto,
    HasBit,
    In,
    Is,
    Jump,
    Match,
    Rule,
    SetDscp,
    SetMark,
    Verdict,
    Within,
)

_ELEMENT: Final = 1
_NAME, _DATA = 1, 2
_VALUE, _VERDICT = 1, 2
_CODE, _CHAIN = 1, 2
_CODES = {"drop": 0, "accept": 1, "return": -5}
_JUMP, _GOTO = -3, -4
_VERDICT_REGISTER, _REGISTER, _FIRST_REGISTER32 = 0, 1, 8
"""A register of 16 octets; those of 4 octets lie in the same memory."""
_EQUAL, _NOT_EQUAL = 0, 1
_LINK_HEADER, _NETWORK_HEADER, _TRANSPORT_HEADER = 0, 1, 2
LOG_GROUP = 0x4E46
LOG_PREFIX = "netfabric"

_META: dict[Field, tuple[int, int]] = {
    "iif name": (6, 16),
    "oif name": (7, 16),
    "nf family": (15, 1),
    "protocol": (16, 1),
    "iif group": (21, 4),
    "oif group": (22, 4),
}
"""Key and length."""
_PAYLOAD: dict[Field, tuple[int, int, int]] = {
    "ether source": (_LINK_HEADER, 6, 6),
    "ip source": (_NETWORK_HEADER, 12, 4),
    "ip destination": (_NETWORK_HEADER, 16, 4),
    "ip6 source": (_NETWORK_HEADER, 8, 16),
    "ip6 destination": (_NETWORK_HEADER, 24, 16),
    "destination port": (_TRANSPORT_HEADER, 2, 2),
    "icmp type": (_TRANSPORT_HEADER, 0, 1),
}
"""Base, offset and length."""
_CT_STATE, _CT_ZONE = 0, 17
_META_MARK = 3
_HOST_ORDER = {"iif group", "oif group", "ct state"}


def u32(kind: int, value: int) -> bytes:
    """Return an attribute of 32 bits, big-endian; negative ones as two's complement."""
    return pack("=HH", 8, kind) + pack(">I", value & 0xFFFFFFFF)


def string(kind: int, value: str) -> bytes:
    """Return an attribute with a zero-terminated text."""
    return attribute(kind, value.encode() + b"\0")


def _expression(kind: str, *attributes: bytes) -> bytes:
    return nested(_ELEMENT, string(_NAME, kind), nested(_DATA, *attributes))


def _value(kind: int, octets: bytes) -> bytes:
    return nested(kind, attribute(_VALUE, octets))


def _length(field: Field) -> int:
    if field == "ct state":
        return 4
    return _META[field][1] if field in _META else _PAYLOAD[field][2]


def _octets(field: Field, value: int) -> bytes:
    if field in _HOST_ORDER:
        return pack("=I", value)
    return value.to_bytes(_length(field), "big")


def _load(field: Field, register: int = _REGISTER, length: int | None = None) -> bytes:
    if field in _META:
        return _expression("meta", u32(2, _META[field][0]), u32(1, register))
    if field == "ct state":
        return _expression("ct", u32(2, _CT_STATE), u32(1, register))
    base, offset, whole = _PAYLOAD[field]
    return _expression(
        "payload",
        u32(1, register),
        u32(2, base),
        u32(3, offset),
        u32(4, whole if length is None else length),
    )


def _compare(octets: bytes, *, equal: bool = True) -> bytes:
    return _expression(
        "cmp", u32(1, _REGISTER), u32(2, _EQUAL if equal else _NOT_EQUAL), _value(3, octets)
    )


def _mask(mask: bytes) -> bytes:
    return _expression(
        "bitwise",
        u32(1, _REGISTER),
        u32(2, _REGISTER),
        u32(3, len(mask)),
        _value(4, mask),
        _value(5, bytes(len(mask))),
    )


def _match(match: Match) -> Iterator[bytes]:
    match match:
        case Is(field, value):
            yield _load(field)
            yield _compare(_octets(field, value))
        case HasBit(field, bits):
            yield _load(field)
            yield _mask(_octets(field, bits))
            yield _compare(bytes(_length(field)), equal=False)
        case Between(field, first, last):
            yield from _between(field, first, last)
        case Within(field, prefix, inside):
            yield from _within(field, prefix, inside)
        case In(fields, name, inside):
            yield from _look_up(fields, name, inside)


def _between(field: Field, first: int, last: int) -> Iterator[bytes]:
    yield _load(field)
    if first == last:
        yield _compare(_octets(field, first))
        return
    ends = _value(3, _octets(field, first)), _value(4, _octets(field, last))
    yield _expression("range", u32(1, _REGISTER), u32(2, _EQUAL), *ends)


def _within(field: Field, prefix: Prefix, inside: bool) -> Iterator[bytes]:
    """A prefix that ends between two octets is masked, another one loads no more than matters."""
    whole, bits = divmod(prefix.prefixlen, 8)
    masked = bits or not whole
    length = prefix.max_prefixlen // 8 if masked else whole
    yield _load(field, length=length)
    if masked:
        yield _mask(prefix.netmask.packed)
    yield _compare(prefix.network_address.packed[:length], equal=inside)


def _look_up(fields: tuple[Field, ...], name: str, inside: bool) -> Iterator[bytes]:
    register = _FIRST_REGISTER32
    for field in fields:
        yield _load(field, register)
        register += -(-_length(field) // 4)
    inverted = [] if inside else [u32(5, 1)]
    yield _expression("lookup", string(1, name), u32(2, _FIRST_REGISTER32), *inverted)


def _set_dscp(wanted: SetDscp) -> bytes:
    """Write the DSCP into the first two octets of the IP header: IPv4's checksum follows."""
    shift, checksum = (2, u32(6, 1) + u32(7, 10)) if wanted.family == 4 else (6, b"")
    kept, value = ~(0x3F << shift) & 0xFFFF, wanted.value << shift
    where = u32(2, _NETWORK_HEADER) + u32(3, 0) + u32(4, 2)
    return b"".join(
        (
            _expression("payload", u32(1, _REGISTER), where),
            _expression(
                "bitwise",
                u32(1, _REGISTER),
                u32(2, _REGISTER),
                u32(3, 2),
                _value(4, pack(">H", kept)),
                _value(5, pack(">H", value)),
            ),
            _expression("payload", u32(5, _REGISTER), where, checksum),
        )
    )


def _verdict(verdict: Verdict) -> bytes:
    match verdict:
        case SetMark():
            return _set_mark(verdict) + _verdict("return")
        case SetDscp():
            return _set_dscp(verdict) + _verdict("return")
        case Jump(chain):
            inner = u32(_CODE, _JUMP) + string(_CHAIN, chain)
        case Goto(chain):
            inner = u32(_CODE, _GOTO) + string(_CHAIN, chain)
        case _:
            inner = u32(_CODE, _CODES[verdict])
    data = nested(_DATA, nested(_VERDICT, inner))
    return _expression("immediate", u32(1, _VERDICT_REGISTER), data)


def _set_mark(wanted: SetMark) -> bytes:
    """Change our bits of the mark alone; the zone counts for packets that connection tracking has not seen."""
    mask, mark = pack("=I", ~wanted.mask & 0xFFFFFFFF), pack("=I", wanted.mark)
    register = u32(1, _REGISTER)
    zone = (
        _expression(
            "immediate", register, nested(_DATA, attribute(_VALUE, pack("=H", wanted.zone)))
        ),
        _expression("ct", u32(2, _CT_ZONE), u32(4, _REGISTER)),
    )
    return b"".join(
        (
            _expression("meta", u32(2, _META_MARK), register),
            _expression(
                "bitwise",
                register,
                u32(2, _REGISTER),
                u32(3, 4),
                nested(4, attribute(_VALUE, mask)),
                nested(5, attribute(_VALUE, mark)),
            ),
            _expression("meta", u32(2, _META_MARK), u32(3, _REGISTER)),
            *(zone if wanted.zone else ()),
        )
    )


def expressions(rule: Rule) -> bytes:
    """Return a rule's expressions, each counted: matches, a counter, the log, the verdict."""
    log = [_expression("log", _u16(1, LOG_GROUP), string(2, LOG_PREFIX))] if rule.log else []
    return b"".join(
        (
            *(part for match in rule.matches for part in _match(match)),
            _expression("counter"),
            *log,
            _verdict(rule.verdict),
        )
    )


def _u16(kind: int, value: int) -> bytes:
    return attribute(kind, pack(">H", value))
