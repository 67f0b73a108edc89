"""Whether a packet that opens a connection passes, and which rule decides: out of the filters that hosts have."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from netfabric.fabric.filter import Action, Direction, FilterRule, GroupFilter
from netfabric.fabric.prefix import Address, Prefix

NUMBERS = {"tcp": 6, "udp": 17, "icmp": 1}
ICMP6 = 58
WITH_PORTS = (6, 17, 132)
FiltersOf = Callable[[str], GroupFilter | None]


@dataclass(frozen=True, slots=True)
class End:
    """Where a packet comes from, or goes to."""

    name: str
    address: Address
    tenant: str = ""
    """Empty: outside the fabric."""
    group: str = ""
    """`tenant:group` of the filter in force; empty: none."""
    groups: frozenset[str] = frozenset()
    """All groups that rules may know it by, where these are more than that one."""

    def is_in(self, group: str) -> bool:
        """Return whether a rule that names a group as its peer means this end."""
        return group in (self.groups or (self.group,))


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet that opens a connection. `icmp_type` is that of an echo request in the packet's family."""

    source: End
    target: End
    protocol: int
    port: int = 0

    @property
    def icmp_type(self) -> int:
        """Return an echo request's type."""
        return 8 if self.source.address.version == 4 else 128


@dataclass(frozen=True, slots=True)
class Considered:
    """A rule that was looked at, in the order in which they are."""

    group: str
    direction: Direction
    rule: FilterRule
    matches: bool
    decides: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer, who gave it in words, and every rule of both groups."""

    action: Action
    reason: str
    considered: tuple[Considered, ...] = ()


def judge(packet: Packet, filters: FiltersOf) -> Verdict:
    """Return what becomes of a packet: the sender's group decides first, then the receiver's."""
    source, target = packet.source, packet.target
    sides: tuple[tuple[Direction, End, End], ...] = (
        ("out", source, target),
        ("in", target, source),
    )
    found = [_side(packet, direction, own, other, filters) for direction, own, other in sides]
    considered = tuple(one for side in found for one in side.considered)
    decisive = next((side for side in found if side.action == "deny"), found[-1])
    if decisive.action == "allow":
        reasons = dict.fromkeys(side.reason for side in found if side.reason)
        return Verdict("allow", "; ".join(reasons) or "neither end has a group", considered)
    return Verdict("deny", decisive.reason, considered)


def _side(
    packet: Packet, direction: Direction, own: End, other: End, filters: FiltersOf
) -> Verdict:
    crossing = bool(own.tenant and other.tenant and own.tenant != other.tenant)
    if not own.group:
        return Verdict("deny", _isolated(own, other)) if crossing else Verdict("allow", "")
    found = filters(own.group)
    if found is None:
        return Verdict("deny", f"group {own.group} does not exist")
    rules = [rule for rule in found.rules if rule.direction == direction]
    if crossing:
        rules = [rule for rule in rules if rule.action == "deny" or _foreign(rule, own)]
    decisive = next((rule for rule in rules if matches(rule, packet, own, other)), None)
    considered = tuple(_considered(packet, found.group, rules, own, other, decisive))
    if decisive is None and crossing:
        reason = f"{_isolated(own, other)}: group {own.group} has none, {_words(direction)}"
        answer = Verdict("deny", reason, considered)
    elif decisive is None:
        reason = f"default of group {own.group}, {_words(direction)}"
        answer = Verdict(found.default, reason, considered)
    else:
        reason = f"rule {decisive.policy}:{decisive.id} of group {own.group}, {_words(direction)}"
        answer = Verdict(decisive.action, reason, considered)
    if not found.also or answer.action == "deny":
        return answer
    then = _side(packet, direction, replace(own, group=found.also), other, filters)
    reason = then.reason if then.action == "deny" else f"{answer.reason}; {then.reason}"
    return Verdict(then.action, reason, (*considered, *then.considered))


def _foreign(rule: FilterRule, own: End) -> bool:
    """Return whether a rule speaks of another tenant's group: nothing else opens a way between tenants."""
    return bool(rule.peer.group) and rule.peer.group.partition(":")[0] != own.tenant


def _isolated(own: End, other: End) -> str:
    return f"tenants {own.tenant} and {other.tenant} do not talk without a rule of each about a group of the other"


def _words(direction: Direction) -> str:
    return "incoming" if direction == "in" else "outgoing"


def _considered(
    packet: Packet,
    group: str,
    rules: list[FilterRule],
    own: End,
    other: End,
    decisive: FilterRule | None,
) -> Iterator[Considered]:
    for rule in rules:
        fits = matches(rule, packet, own, other)
        yield Considered(group, rule.direction, rule, fits, rule is decisive)


def matches(rule: FilterRule, packet: Packet, own: End, other: End) -> bool:
    """Return whether a rule speaks of a packet; `own` is the end in the rule's group."""
    peer = rule.peer
    return (
        (not peer.group or other.is_in(peer.group))
        and _among(other.address, peer.prefixes)
        and not (peer.without and _among(other.address, peer.without))
        and _among(own.address, rule.own)
        and _protocol_fits(rule, packet)
    )


def _among(address: Address, prefixes: tuple[Prefix, ...]) -> bool:
    return not prefixes or any(p.version == address.version and address in p for p in prefixes)


def _protocol_fits(rule: FilterRule, packet: Packet) -> bool:
    if not rule.protocol:
        return True
    number = NUMBERS.get(rule.protocol) or int(rule.protocol)
    if rule.protocol == "icmp" and packet.source.address.version == 6:
        number = ICMP6
    if number != packet.protocol:
        return False
    if rule.icmp_types:
        return packet.icmp_type in rule.icmp_types
    in_range = any(r.first <= packet.port <= r.last for r in rule.ports)
    return not rule.ports or number not in WITH_PORTS or in_range
