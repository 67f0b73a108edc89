"""Rule messages: which packets a routing table is for (linux/fib_rules.h)."""

import struct

from netfabric.agent.datapath.message import (
    AF_INET,
    AF_INET6,
    CREATE,
    EXCLUSIVE,
    RTM_DELRULE,
    RTM_GETRULE,
    RTM_NEWRULE,
    Message,
    attribute,
    attributes,
    integer,
    number,
    text,
)
from netfabric.fabric.kernel import PROTOCOL, TableRule
from netfabric.fabric.prefix import Family

_TO_TABLE = 1
_IIF, _PRIORITY, _MARK, TABLE, _MASK, OWNER = 3, 6, 10, 15, 16, 21
FIXED = struct.Struct("=8BI")


def body(kind: int, priority: int, table: int, matches: bytes, source_length: int = 0) -> bytes:
    """Return the body of a rule of our protocol that leads to a table; `matches` are attributes."""
    return (
        FIXED.pack(kind, 0, source_length, 0, 0, 0, 0, _TO_TABLE, 0)
        + number(_PRIORITY, priority)
        + matches
        + number(TABLE, table)
        + attribute(OWNER, bytes((PROTOCOL,)))
    )


def new(rule: bytes) -> Message:
    """Return the request for a rule; it fails where it is there already (EEXIST)."""
    return Message(RTM_NEWRULE, CREATE | EXCLUSIVE, rule)


def delete(rule: bytes) -> Message:
    """Return the request that removes a rule of our protocol, and no other."""
    return Message(RTM_DELRULE, 0, rule)


def _body(rule: TableRule) -> bytes:
    mark = number(_MARK, rule.mark) + number(_MASK, rule.mask) if rule.mask else b""
    link = text(_IIF, rule.link) if rule.link else b""
    kind = AF_INET if rule.family == 4 else AF_INET6
    return body(kind, rule.priority, rule.table, mark + link)


def put(rule: TableRule) -> Message:
    """Return the request for a rule; it fails where it is there already (EEXIST)."""
    return new(_body(rule))


def remove(rule: TableRule) -> Message:
    """Return the request that removes a rule of our protocol, and no other."""
    return delete(_body(rule))


def get_all(family: Family) -> Message:
    """Return the dump request for a family's rules."""
    kind = AF_INET if family == 4 else AF_INET6
    return Message(RTM_GETRULE, 0, FIXED.pack(kind, 0, 0, 0, 0, 0, 0, 0, 0))


def parse(body: bytes) -> TableRule | None:
    """Return a rule of our protocol, None for any other's."""
    kind, _, _, _, low, *_ = FIXED.unpack_from(body)
    found = attributes(body, FIXED.size)
    if found.get(OWNER) != bytes((PROTOCOL,)):
        return None
    return TableRule(
        4 if kind == AF_INET else 6,
        integer(found.get(_PRIORITY)),
        integer(found.get(_MARK)),
        integer(found.get(_MASK)),
        integer(found.get(TABLE)) or low,
        found.get(_IIF, b"").rstrip(b"\0").decode(),
    )
