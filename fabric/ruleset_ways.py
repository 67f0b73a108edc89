"""How a packet finds the chains of the group that its link belongs to: over a bucket of groups, by sets alone.

A map from links to chains would be shorter. But the kernel walks through every rule of the table when a way
into a chain is put into a map, so that an endpoint would cost more the more rules there are (4.8 ms with
10,000). As it is, an endpoint adds to sets, and a packet that opens a connection passes some 60 look-ups with
1,000 groups here, and two with one.
"""

from collections.abc import Mapping, Sequence
from zlib import crc32

from netfabric.fabric.prefix import FAMILIES
from netfabric.fabric.ruleset import (
    Chain,
    Field,
    Goto,
    In,
    NamedSet,
    Rule,
    RulesetObject,
    SetDscp,
    rule,
)
from netfabric.fabric.ruleset_base import ARRIVING, DSCP, IPV4, IPV6, LEAVING, family_is
from netfabric.fabric.ruleset_group import chain_name, name

BUCKETS = 32
_NOBODYS = rule("without policy", (), "drop")
"""A link of ours that no group has is closed."""


def bucket_of(group: str) -> int:
    """Return which bucket a group is in."""
    return crc32(group.encode()) % BUCKETS


def bucket_set(number: int) -> NamedSet:
    """Return the set of all links of a bucket's groups."""
    return NamedSet(f"bucket_{number}", "links")


def links_set(group: str) -> NamedSet:
    """Return the set of a group's links."""
    return NamedSet(name("links", group), "links")


def ways_into_buckets(used: Sequence[int]) -> list[RulesetObject]:
    """Return the chains that every packet of ours enters, with the buckets that have groups here."""
    return [
        Chain(LEAVING, (*(_into(n, "iif name", LEAVING) for n in used), _NOBODYS)),
        Chain(ARRIVING, (*(_into(n, "oif name", ARRIVING) for n in used), _NOBODYS)),
    ]


def marking_of(marked: Mapping[str, int]) -> Chain:
    """Return the chain that sets the DSCP of what some groups' endpoints send, by group."""
    rules = [
        rule(
            f"{group}#{family}",
            (family_is(IPV4 if family == 4 else IPV6), In(("iif name",), links_set(group).name)),
            SetDscp(family, marked[group]),
        )
        for group in sorted(marked)
        for family in FAMILIES
    ]
    return Chain(DSCP, tuple(rules))


def _into(number: int, field: Field, chain: str) -> Rule:
    there = Goto(f"{chain}_{number}")
    return rule(f"bucket {number:02}", (In((field,), bucket_set(number).name),), there)


def ways_into(number: int, groups: Sequence[str]) -> list[RulesetObject]:
    """Return a bucket's chains and sets."""
    if not groups:
        return []
    leaving = [
        rule(group, (In(("iif name",), links_set(group).name),), Goto(chain_name("out", group)))
        for group in groups
    ]
    arriving = [
        rule(group, (In(("oif name",), links_set(group).name),), Goto(chain_name("in", group)))
        for group in groups
    ]
    return [
        bucket_set(number),
        *(links_set(group) for group in groups),
        Chain(f"{LEAVING}_{number}", (*leaving, _NOBODYS)),
        Chain(f"{ARRIVING}_{number}", (*arriving, _NOBODYS)),
    ]
