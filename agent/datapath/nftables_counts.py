"""What a group's rules have counted, read from the kernel chain by chain."""

from collections.abc import Iterator
from typing import Final

from netfabric.agent.datapath.nftables import Nftables
from netfabric.fabric.counts import Reading, counted
from netfabric.fabric.filter import Direction
from netfabric.fabric.ruleset_group import chain_name, others_name
from netfabric.fabric.session import RuleCount

_DIRECTIONS: Final[tuple[Direction, Direction]] = ("in", "out")


def rule_counts(table: Nftables, group: str) -> Iterator[RuleCount]:
    """Yield what a group's rules counted in both directions; a chain that is gone has counted nothing."""
    for direction in _DIRECTIONS:
        own = _readings(table, chain_name(direction, group))
        others = _readings(table, others_name(direction, group))
        yield from counted(group, direction, own, others)


def _readings(table: Nftables, chain: str) -> list[Reading]:
    return [Reading(one.rule.id, one.packets, one.octets) for one in table.rules(chain)]
