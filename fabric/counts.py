"""What policies' rules have counted: on one host, and over all of them."""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from re import compile as pattern
from typing import Final

from netfabric.fabric.effects import Count, Effect, Tell
from netfabric.fabric.filter import Direction
from netfabric.fabric.session import CountsChanged, RuleCount

DEFAULT: Final = "default"
"""The name of what a group's default has counted."""
OTHER_TENANT: Final = "other tenant"
"""The name of what was dropped because it came from another tenant, or went there."""
LIMIT = 5000
"""Rules of one host of which is told: the busiest."""
INTERVAL = 10.0
"""Seconds between two readings."""
RATE = 100
"""So many groups, or rules that have counted, make it a second more: what is read, sent and stored is bounded."""

_VARIANT = pattern(r"#[46](\.\d+)?$")
"""A rule of a policy becomes one for each family, and ICMP type."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A rule's name in the packet filter, and what it counted."""

    name: str
    packets: int
    octets: int


def counted(
    group: str, direction: Direction, own: Iterable[Reading], others: Iterable[Reading]
) -> list[RuleCount]:
    """Return what a group's rules counted, added up by rule; those with nothing are left out.

    `own` is the group's chain, `others` the one for packets from and to other tenants, where it has one.
    """
    others = list(others)
    packets: Counter[str] = Counter()
    octets: Counter[str] = Counter()
    for one in [*own, *others]:
        rule = _VARIANT.sub("", one.name)
        if others and rule == OTHER_TENANT and one.name != rule:
            continue  # it leads to the other chain, which says what became of the packet
        packets[rule] += one.packets
        octets[rule] += one.octets
    return [
        RuleCount(group, direction, rule, number, octets[rule])
        for rule, number in packets.items()
        if number
    ]


@dataclass(slots=True)
class Counting:
    """Has rules' counters read from time to time, and tells netmaster of those that moved."""

    out: list[Effect]
    told: tuple[RuleCount, ...] = ()
    due: float = 0.0
    """When they are read next."""

    def connected(self) -> None:
        """Tell a netmaster that has just been reached; what it knows of this host goes with its last session."""
        if self.told:
            self.out.append(Tell(CountsChanged(self.told)))

    def tick(self, now: float, groups_of: Callable[[], tuple[str, ...]]) -> None:
        """Have the counters of the groups that there are read, if it is time."""
        if now < self.due:
            return
        groups = groups_of()
        self.due = now + INTERVAL + len(groups) / RATE
        if groups or self.told:
            self.out.append(Count(groups))

    def counted(self, counts: tuple[RuleCount, ...], now: float) -> None:
        """Take what was read."""
        if len(counts) > LIMIT:
            counts = tuple(sorted(counts, key=lambda one: -one.packets)[:LIMIT])
        self.due = max(self.due, now + INTERVAL + len(counts) / RATE)
        if counts != self.told:
            self.told = counts
            self.out.append(Tell(CountsChanged(counts)))


@dataclass(slots=True)
class Tally:
    """Counts over all hosts that are connected; one changed host costs what it has to say."""

    hosts: dict[str, tuple[RuleCount, ...]] = field(default_factory=dict)
    packets: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    octets: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def put(self, host: str, counts: tuple[RuleCount, ...]) -> None:
        """Let a host's counts be these."""
        for sign, some in ((1, counts), (-1, self.hosts.pop(host, ()))):
            for one in some:
                key = (one.group, one.direction, one.rule)
                self.packets[key] += sign * one.packets
                self.octets[key] += sign * one.octets
                if not self.packets[key]:
                    del self.packets[key], self.octets[key]
        if counts:
            self.hosts[host] = counts

    def of(self, group: str, direction: str, rule: str) -> tuple[int, int]:
        """Return the packets and octets that a rule of a group has counted, over all hosts."""
        key = (group, direction, rule)
        return self.packets[key], self.octets[key]


def dump_counts(counts: Iterable[RuleCount]) -> bytes:
    """Return a host's counts as JSON: by group and direction, so that each is named once."""
    found: dict[str, dict[str, dict[str, list[int]]]] = {}
    for one in counts:
        of_group = found.setdefault(one.group, {})
        of_group.setdefault(one.direction, {})[one.rule] = [one.packets, one.octets]
    return json.dumps(found, separators=(",", ":")).encode()


def load_counts(value: bytes) -> tuple[RuleCount, ...]:
    """Return the counts that `dump_counts` wrote; raise ValueError, TypeError or AttributeError."""
    return tuple(
        RuleCount(group, direction, rule, int(packets), int(octets))
        for group, directions in json.loads(value).items()
        for direction, rules in directions.items()
        for rule, (packets, octets) in rules.items()
    )
