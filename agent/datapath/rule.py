"""Policy rules inside a container: what a further interface's address sends leaves by that interface."""

from dataclasses import dataclass
from ipaddress import ip_address

from netfabric.agent.datapath import table_rule
from netfabric.agent.datapath.message import Message, attribute, attributes, family, integer
from netfabric.fabric.kernel import PROTOCOL
from netfabric.fabric.prefix import Address

TABLE_BASE = 0x4E460000
"""A link's own table is this plus its index."""
_PRIORITY = 20000
"""Before the main table's 32766."""
_SOURCE = 2


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


def put(rule: Rule) -> Message:
    """Return the request for a rule; it fails where it is there (EEXIST)."""
    return table_rule.new(_body(rule))


def remove(rule: Rule) -> Message:
    """Return the request that removes a rule of ours."""
    return table_rule.delete(_body(rule))


def _body(rule: Rule) -> bytes:
    matches = attribute(_SOURCE, rule.source.packed)
    length = rule.source.max_prefixlen
    return table_rule.body(family(rule.source), _PRIORITY, rule.table, matches, length)


def parse(body: bytes) -> Rule | None:
    """Return the rule that a message describes, None if it is not ours."""
    found = attributes(body, table_rule.FIXED.size)
    source = found.get(_SOURCE)
    if source is None or found.get(table_rule.OWNER) != bytes((PROTOCOL,)):
        return None
    return Rule(ip_address(source), integer(found.get(table_rule.TABLE)))
