"""Policy rules inside a container: what a further interface's address sends leaves by that interface."""

import struct
from dataclasses import dataclass
from ipaddress import ip_address

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
    family,
    integer,
    number,
)
from netfabric.fabric.kernel import PROTOCOL
from netfabric.fabric.prefix import Address, Family

TABLE_BASE = 0x4E460000
"""A link's own table is this plus its index."""
_PRIORITY = 20000
"""Before the main table's 32766."""
_SOURCE, _PRIORITY_KIND, _TABLE, _PROTOCOL = 2, 6, 15, 21
_TO_TABLE = 1
_FIXED = struct.Struct("=8BI")


@dataclass(frozen=True, slots=True)
class Rule:
    """One of ours: the table that packets from an address are routed by."""

    source: Address
    table: int

    @property
    def index(self) -> int:
        """Return the link's."""
        return self.table - TABLE_BASE


def of_link(source: Address, index: int) -> Rule:
    """Return the rule that a link's address has."""
    return Rule(source, TABLE_BASE + index)


def _body(rule: Rule) -> bytes:
    kind, length = family(rule.source), rule.source.max_prefixlen
    return (
        _FIXED.pack(kind, 0, length, 0, 0, 0, 0, _TO_TABLE, 0)
        + attribute(_SOURCE, rule.source.packed)
        + number(_PRIORITY_KIND, _PRIORITY)
        + number(_TABLE, rule.table)
        + attribute(_PROTOCOL, bytes([PROTOCOL]))
    )


def put(rule: Rule) -> Message:
    """Return the request for a rule; it fails where it is there (EEXIST)."""
    return Message(RTM_NEWRULE, CREATE | EXCLUSIVE, _body(rule))


def remove(rule: Rule) -> Message:
    """Return the request that removes a rule of ours."""
    return Message(RTM_DELRULE, 0, _body(rule))


def get_all(version: Family) -> Message:
    """Return the dump request for a family's rules."""
    kind = AF_INET if version == 4 else AF_INET6
    return Message(RTM_GETRULE, 0, _FIXED.pack(kind, 0, 0, 0, 0, 0, 0, 0, 0))


def parse(body: bytes) -> Rule | None:
    """Return the rule that a message describes, None if it is not ours."""
    found = attributes(body, _FIXED.size)
    source = found.get(_SOURCE)
    if source is None or found.get(_PROTOCOL, b"\0")[0] != PROTOCOL:
        return None
    return Rule(ip_address(source), integer(found.get(_TABLE)))
