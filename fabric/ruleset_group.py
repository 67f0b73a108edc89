"""An endpoint group's policy as two chains of rules, with the sets of addresses and ports that those look into."""

from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from re import sub

from netfabric.fabric.filter import Direction, FilterRule, GroupFilter, PortRange
from netfabric.fabric.prefix import FAMILIES, Family, Prefix, family_of
from netfabric.fabric.ruleset import (
    Between,
    Chain,
    Element,
    Field,
    Goto,
    In,
    Is,
    Match,
    NamedSet,
    Rule,
    RulesetObject,
    Verdict,
    Within,
    rule,
)
from netfabric.fabric.ruleset_base import FABRIC, FABRIC6, ICMP, ICMP6, SCTP, TCP, UDP, family_is

_NUMBERS = {"tcp": TCP, "udp": UDP}
_WITH_PORTS = {TCP, UDP, SCTP}
_ICMP: dict[Family, int] = {4: ICMP, 6: ICMP6}
_SOURCE: dict[Family, Field] = {4: "ip source", 6: "ip6 source"}
_DESTINATION: dict[Family, Field] = {4: "ip destination", 6: "ip6 destination"}
_NF: dict[Family, Match] = {4: family_is(2), 6: family_is(10)}


@lru_cache(maxsize=1 << 14)
def name(kind: str, key: str) -> str:
    """Return a chain's or set's name: readable, of the letters that nft takes, and unique."""
    readable = sub(r"[^A-Za-z0-9.]", "_", key)[:48]
    return f"{kind}_{readable}_{sha256(key.encode()).hexdigest()[:8]}"


def members_set(group: str, family: Family) -> NamedSet:
    """Return the set of a group's addresses."""
    if family == 4:
        return NamedSet(name("members", group), "ip")
    return NamedSet(name("members6", group), "ip6")


def tenant_set(tenant: str, family: Family) -> NamedSet:
    """Return the set of a tenant's subnets."""
    if family == 4:
        return NamedSet(name("tenant", tenant), "subnet")
    return NamedSet(name("tenant6", tenant), "subnet6")


def chain_name(direction: Direction, group: str) -> str:
    """Return the name of a group's chain; a group `tenant:` stands for endpoints without one."""
    return name(direction, group)


def others_name(direction: Direction, group: str) -> str:
    """Return the name of a group's chain for packets from, or to, other tenants."""
    return name(f"{direction}_others", group)


def disjoint(prefixes: tuple[Prefix, ...]) -> tuple[Prefix, ...]:
    """Return the prefixes that lie in no other one: intervals of a set must not overlap."""
    kept: list[Prefix] = []
    for prefix in sorted(
        set(prefixes), key=lambda p: (p.version, int(p.network_address), p.prefixlen)
    ):
        last = kept[-1] if kept else None
        if last is None or last.version != prefix.version or prefix[0] not in last:
            kept.append(prefix)
    return tuple(kept)


def merged(ports: tuple[PortRange, ...]) -> tuple[PortRange, ...]:
    """Return the same ports as ranges that neither overlap nor touch."""
    out: list[PortRange] = []
    for one in sorted(ports, key=lambda p: (p.first, p.last)):
        if out and one.first <= out[-1].last + 1:
            out[-1] = PortRange(out[-1].first, max(out[-1].last, one.last))
        else:
            out.append(one)
    return tuple(out)


class _Compiled:
    """What one chain's rules need besides themselves."""

    def __init__(self, direction: Direction, allowed: Verdict) -> None:
        incoming = direction == "in"
        self._allowed = allowed
        self._peer = _SOURCE if incoming else _DESTINATION
        self._own = _DESTINATION if incoming else _SOURCE
        self.things: list[RulesetObject] = []

    def rules(self, one: FilterRule) -> Iterator[Rule]:
        """Yield what a policy's rule becomes: one for each family and ICMP type, or one for both families."""
        verdict: Verdict = self._allowed if one.action == "allow" else "drop"
        for suffix, matches in self._variants(one):
            yield rule(f"{one.policy}/{one.id}{suffix}", matches, verdict, one.log)

    def _variants(self, one: FilterRule) -> Iterator[tuple[str, tuple[Match, ...]]]:
        peer = one.peer
        plain = not (peer.group or peer.prefixes or peer.without or one.own)
        if plain and one.protocol != "icmp":
            yield "", self._protocol(one, None)
            return
        for family in FAMILIES:
            addresses = self._addresses(one, family)
            if addresses is None:
                continue
            start = (_NF[family], *addresses)
            if one.protocol == "icmp" and one.icmp_types:
                for kind in one.icmp_types:
                    what = (Is("protocol", _ICMP[family]), Is("icmp type", kind))
                    yield f"#{family}.{kind}", (*start, *what)
            else:
                yield f"#{family}", (*start, *self._protocol(one, family))

    def _addresses(self, one: FilterRule, family: Family) -> list[Match] | None:
        """Return the matches on both ends' addresses, None where no packet of the family can match."""
        peer, field = one.peer, self._peer[family]
        found: list[Match] = []
        if peer.group:
            found.append(In((field,), members_set(peer.group, family).name))
        for wanted, end in ((peer.prefixes, field), (one.own, self._own[family])):
            of_family = tuple(p for p in wanted if family_of(p) == family)
            if wanted and not of_family:
                return None
            if of_family:
                found.append(self._within(end, of_family, inside=True))
        without = tuple(p for p in peer.without if family_of(p) == family)
        if without:
            found.append(self._within(field, without, inside=False))
        return found

    def _within(self, field: Field, prefixes: tuple[Prefix, ...], *, inside: bool) -> Match:
        prefixes = disjoint(prefixes)
        if len(prefixes) == 1:
            return Within(field, prefixes[0], inside)
        named = name("subnets", " ".join(map(str, prefixes)))
        self._set(NamedSet(named, "subnet" if prefixes[0].version == 4 else "subnet6"), prefixes)
        return In((field,), named, inside)

    def _set(self, made: NamedSet, items: tuple[Prefix, ...] | tuple[PortRange, ...]) -> None:
        self.things += [made, *(Element(made.name, item) for item in items)]

    def _protocol(self, one: FilterRule, family: Family | None) -> tuple[Match, ...]:
        if not one.protocol:
            return ()
        if one.protocol == "icmp":
            assert family is not None
            return (Is("protocol", _ICMP[family]),)
        number = _NUMBERS.get(one.protocol) or int(one.protocol)
        found: Match = Is("protocol", number)
        if number in _WITH_PORTS and one.ports:
            return (found, self._ports(merged(one.ports)))
        return (found,)

    def _ports(self, ports: tuple[PortRange, ...]) -> Match:
        if len(ports) == 1:
            return Between("destination port", ports[0].first, ports[0].last)
        named = name("ports", " ".join(f"{p.first}-{p.last}" for p in ports))
        self._set(NamedSet(named, "port"), ports)
        return In(("destination port",), named)


def chains_of(group: str, tenant: str, wanted: GroupFilter | None) -> list[RulesetObject]:
    """Return a group's chains and their sets, for endpoints of `group` in `tenant`.

    Without a filter (netmaster has not told of the group yet) nothing opens a connection to or from them.
    """
    things: list[RulesetObject] = []
    directions: tuple[Direction, Direction] = ("in", "out")
    for direction in directions:
        if wanted is None:
            unknown = (rule("policy not known yet", (), "drop"),)
            things.append(Chain(chain_name(direction, group), unknown))
            continue
        rules = [one for one in wanted.rules if one.direction == direction]
        things += _chain(direction, group, tenant, sorted(rules, key=lambda r: r.order), wanted)
    return things


def _chain(
    direction: Direction, group: str, tenant: str, rules: list[FilterRule], wanted: GroupFilter
) -> list[RulesetObject]:
    allowed: Verdict = Goto(chain_name(direction, wanted.also)) if wanted.also else "return"
    compiled = _Compiled(direction, allowed)
    own_name = chain_name(direction, group)
    foreign = [one for one in rules if _foreign(one, tenant)]
    isolated: Verdict = "drop"
    extra: list[RulesetObject] = []
    if foreign:
        isolated = Goto(others_name(direction, group))
        crossing = [one for one in rules if one.action == "deny" or _foreign(one, tenant)]
        made = tuple(r for one in crossing for r in compiled.rules(one))
        extra.append(Chain(isolated.chain, (*made, rule("other tenant", (), "drop"))))
    end: Verdict = allowed if wanted.default == "allow" else "drop"
    listed = (
        *_isolation(direction, tenant, isolated),
        *(made for one in rules for made in compiled.rules(one)),
        rule("default", (), end),
    )
    return [Chain(own_name, listed), *extra, *compiled.things]


def _foreign(one: FilterRule, tenant: str) -> bool:
    """Return whether a rule speaks of another tenant's group: nothing else opens a way between tenants."""
    return bool(one.peer.group) and one.peer.group.partition(":")[0] != tenant


def _isolation(direction: Direction, tenant: str, verdict: Verdict) -> Iterator[Rule]:
    ends = _SOURCE if direction == "in" else _DESTINATION
    for family in FAMILIES:
        end = ends[family]
        everything = FABRIC if family == 4 else FABRIC6
        theirs = (
            _NF[family],
            In((end,), everything),
            In((end,), tenant_set(tenant, family).name, inside=False),
        )
        yield rule(f"other tenant#{family}", theirs, verdict)
