"""A packet filter's rules as values: what our one nftables table should hold, and what it was seen to hold.

A name says what a thing is; two values of one name are compared, and the difference is made up piece by piece.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal, TypeAlias

from netfabric.fabric.filter import PortRange
from netfabric.fabric.prefix import Address, Family, Prefix

TABLE = "netfabric"
"""Of family inet: the only one that is ever touched."""

Field: TypeAlias = Literal[
    "iif group",
    "oif group",
    "iif name",
    "oif name",
    "nf family",
    "protocol",
    "ct state",
    "ether source",
    "ip source",
    "ip destination",
    "ip6 source",
    "ip6 destination",
    "destination port",
    "icmp type",
]
"""What of a packet can be looked at."""


@dataclass(frozen=True, slots=True)
class Is:
    """A field has this value."""

    field: Field
    value: int


@dataclass(frozen=True, slots=True)
class HasBit:
    """A field has one of these bits."""

    field: Field
    bits: int


@dataclass(frozen=True, slots=True)
class Between:
    """A field lies between two values, both included."""

    field: Field
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Within:
    """An address lies in a prefix, or does not."""

    field: Field
    prefix: Prefix
    inside: bool = True


@dataclass(frozen=True, slots=True)
class In:
    """Fields, side by side, are an element of a set, or are not."""

    fields: tuple[Field, ...]
    set: str
    inside: bool = True


Match: TypeAlias = Is | HasBit | Between | Within | In


@dataclass(frozen=True, slots=True)
class Jump:
    """Go on in a chain, and with the next rule once that ends."""

    chain: str


@dataclass(frozen=True, slots=True)
class Goto:
    """Go on in a chain, and do not come back here."""

    chain: str


@dataclass(frozen=True, slots=True)
class SetMark:
    """Mark the packet, in the bits of `mask`, and return."""

    mark: int
    mask: int
    zone: int = 0
    """In which its connection is tracked; 0: unchanged."""


@dataclass(frozen=True, slots=True)
class SetDscp:
    """Set the DSCP (RFC 2474) of a packet of a family, and return."""

    family: Family
    value: int


Verdict: TypeAlias = Literal["accept", "drop", "return"] | Jump | Goto | SetMark | SetDscp


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule; `label` is kept in the kernel, and names it and all it says."""

    label: str
    matches: tuple[Match, ...] = field(default=(), compare=False)
    verdict: Verdict = field(default="return", compare=False)
    log: bool = field(default=False, compare=False)

    @property
    def id(self) -> str:
        """Return the name it was made with."""
        return self.label.rpartition(" ")[0]


def rule(
    identity: str, matches: tuple[Match, ...] = (), verdict: Verdict = "return", log: bool = False
) -> Rule:
    """Return a rule whose label changes with everything that it says; `identity` is unique in its chain."""
    digest = sha256(repr((matches, verdict, log)).encode()).hexdigest()[:12]
    return Rule(f"{identity} {digest}", matches, verdict, log)


Hook: TypeAlias = Literal["prerouting", "forward", "input", "postrouting"]


@dataclass(frozen=True, slots=True)
class Chain:
    """Rules in their order; a chain with a hook is where packets come in."""

    name: str
    rules: tuple[Rule, ...] = ()
    hook: Hook | None = None
    priority: int = 0


SetKind: TypeAlias = Literal[
    "ip", "ip6", "subnet", "subnet6", "port", "source", "source6", "own", "own6", "links"
]
"""subnet(6): intervals; source(6): link, MAC and address side by side; own(6): link and
address; links: their names."""


@dataclass(frozen=True, slots=True)
class NamedSet:
    """A set, without what is in it."""

    name: str
    kind: SetKind


@dataclass(frozen=True, slots=True)
class Source:
    """An address that an endpoint may send from."""

    link: str
    mac: str
    address: Address


Item: TypeAlias = Address | Prefix | PortRange | Source | str
"""What a set holds, by its kind; str: a link's name."""


@dataclass(frozen=True, slots=True)
class Element:
    """One thing in a set."""

    set: str
    item: Item


RulesetObject: TypeAlias = NamedSet | Chain | Element
RulesetKey: TypeAlias = tuple[str, str, Item]
"""("set", name, ""), ("chain", name, "") or ("element", set, item)."""


def ruleset_key(thing: RulesetObject) -> RulesetKey:
    """Return what makes two values the same thing in two rulesets."""
    match thing:
        case NamedSet(name=name):
            return ("set", name, "")
        case Chain(name=name):
            return ("chain", name, "")
        case Element(set=name, item=item):
            return ("element", name, item)


Ruleset: TypeAlias = Mapping[RulesetKey, RulesetObject]


@dataclass(frozen=True, slots=True)
class RulesetReading:
    """What the table held after the transaction of that number."""

    objects: Ruleset
    number: int = 0
