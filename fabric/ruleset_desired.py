"""The ruleset that a host should have, kept in step change by change: one change touches only what it is about."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.filter import GroupFilter, Members
from netfabric.fabric.network import Network
from netfabric.fabric.placement import is_of_pods
from netfabric.fabric.prefix import FAMILIES, Address, Prefix, family_of
from netfabric.fabric.ruleset import (
    Element,
    Item,
    Ruleset,
    RulesetKey,
    RulesetObject,
    Source,
    ruleset_key,
)
from netfabric.fabric.ruleset_base import (
    FABRIC,
    FABRIC6,
    PORTS,
    PORTS6,
    SOURCES,
    SOURCES6,
    base,
)
from netfabric.fabric.ruleset_group import (
    chains_of,
    disjoint,
    members_set,
    tenant_set,
)
from netfabric.fabric.ruleset_vrf import links_of, marking, sets_of
from netfabric.fabric.ruleset_ways import (
    bucket_of,
    bucket_set,
    links_set,
    marking_of,
    ways_into,
    ways_into_buckets,
)
from netfabric.fabric.vrf import Mark, Vrf

_Part: TypeAlias = tuple[str, str, Item]


@dataclass(slots=True)
class Parts:
    """Objects, each there as long as some part wants it; parts that want the same thing want it equal."""

    objects: dict[RulesetKey, RulesetObject] = field(default_factory=dict)
    _uses: Counter[RulesetKey] = field(default_factory=Counter)
    _of: dict[_Part, tuple[RulesetKey, ...]] = field(default_factory=dict)

    def put(self, part: _Part, things: Iterable[RulesetObject]) -> set[RulesetKey]:
        """Let a part be exactly these things; return the keys of what may have changed."""
        new = {ruleset_key(thing): thing for thing in things}
        old = self._of.pop(part, ())
        for key, thing in new.items():
            self._uses[key] += 1
            self.objects[key] = thing
        for key in old:
            self._uses[key] -= 1
            if not self._uses[key]:
                del self._uses[key], self.objects[key]
        if new:
            self._of[part] = tuple(new)
        return {*new, *old}


@dataclass(slots=True)
class DesiredRuleset:
    """What a host's table should hold, from its endpoints, their groups' policies and these' members."""

    parts: Parts = field(default_factory=Parts)
    filters: dict[str, GroupFilter] = field(default_factory=dict)
    told: dict[str, set[Address]] = field(default_factory=dict)
    """By group: its members, as netmaster says."""
    subnets: dict[str, tuple[Prefix, ...]] = field(default_factory=dict)
    """By tenant."""
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    """By link."""
    _here: defaultdict[str, Counter[Address]] = field(default_factory=lambda: defaultdict(Counter))
    """By group: addresses of this host's own endpoints."""
    _links: Counter[str] = field(default_factory=Counter)
    """By group whose chains are needed (`tenant:` without one): by how many endpoints here, and filters of pods."""
    _marked: dict[str, int] = field(default_factory=dict)
    """By group that is here: the DSCP of what its endpoints send."""
    _also: dict[str, str] = field(default_factory=dict)
    """By filter that is here: the group whose chains it leads on to."""
    _tenants: Counter[str] = field(default_factory=Counter)
    _peers: dict[str, frozenset[str]] = field(default_factory=dict)
    """By group that is here: the groups that its rules speak of."""
    _mentioned: Counter[str] = field(default_factory=Counter)
    _buckets: defaultdict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Groups that are here, by what `bucket_of` says."""

    _marks: dict[str, Mark] = field(default_factory=dict)
    """By link."""
    _in_vrf: Counter[Vrf] = field(default_factory=Counter)
    """How many links have a mark of each."""
    _overlays: dict[Vrf, tuple[Prefix, ...]] = field(default_factory=dict)
    """The subnets of tenants' overlays."""
    _vrfs: frozenset[Vrf] = frozenset()

    def __post_init__(self) -> None:
        self.parts.put(("base", "", ""), base())
        self.parts.put(("dscp", "", ""), [marking_of({})])
        self.parts.put(("ways", "", ""), ways_into_buckets(()))
        self.parts.put(("vrfs", "", ""), [marking(())])

    @property
    def objects(self) -> Ruleset:
        """Return all of it."""
        return self.parts.objects

    # endpoints

    def put_endpoint(self, endpoint: Endpoint) -> set[RulesetKey]:
        """Guard an endpoint; return the keys of what may have changed."""
        if self.endpoints.get(endpoint.link) == endpoint:
            return set()
        changed = self.remove_endpoint(endpoint.link)
        group, guarding = group_of(endpoint), filter_of(endpoint)
        self.endpoints[endpoint.link] = endpoint
        self._here[group].update(endpoint.addresses)
        self._tenants[endpoint.tenant] += 1
        if self._tenants[endpoint.tenant] == 1:
            changed |= self._tenant(endpoint.tenant)
        changed |= self._need(guarding)
        changed |= self._follow(group, endpoint.addresses)
        return changed | self.parts.put(("endpoint", endpoint.link, ""), _guard(endpoint, guarding))

    def guards_of(self, link: str) -> tuple[Element, ...]:
        """Return the elements that an endpoint's own part consists of; () for one that is not here."""
        endpoint = self.endpoints.get(link)
        found = _guard(endpoint, filter_of(endpoint)) if endpoint is not None else []
        return tuple(thing for thing in found if isinstance(thing, Element))

    def remove_endpoint(self, link: str) -> set[RulesetKey]:
        """Forget an endpoint whose link is gone."""
        endpoint = self.endpoints.pop(link, None)
        if endpoint is None:
            return set()
        group, guarding = group_of(endpoint), filter_of(endpoint)
        changed = self.parts.put(("endpoint", link, ""), ())
        here = self._here[group]
        here.subtract(endpoint.addresses)
        for address in endpoint.addresses:
            if not here[address]:
                del here[address]
        self._tenants[endpoint.tenant] -= 1
        changed |= self._let_go(guarding)
        if not self._tenants[endpoint.tenant]:
            changed |= self._tenant(endpoint.tenant)
        return changed | self._follow(group, endpoint.addresses)

    # overlays

    def set_mark(self, link: str, mark: Mark | None) -> set[RulesetKey]:
        """Mark what comes in by a link; None: no more. Return the keys of what may have changed."""
        found = self._marks.pop(link, None)
        before, now = found.places() if found else {}, mark.places() if mark else {}
        things: list[RulesetObject] = []
        if mark is not None:
            self._marks[link] = mark
        for vrf, whole in now.items():
            named = links_of(vrf, whole=whole)
            things += [named, Element(named.name, link)]
        changed = self.parts.put(("mark", link, ""), things)
        for vrf in before.keys() | now.keys():
            self._in_vrf[vrf] += (vrf in now) - (vrf in before)
            changed |= self._vrf(vrf)
        return changed

    def set_overlay(self, vrf: Vrf, subnets: Sequence[Prefix]) -> set[RulesetKey]:
        """Follow the subnets of a tenant's overlay."""
        self._overlays[vrf] = disjoint(tuple(subnets))
        return self._vrf(vrf)

    def _vrf(self, vrf: Vrf) -> set[RulesetKey]:
        """Keep a tenant's marks as long as a link has them, whatever becomes of its networks."""
        if not self._in_vrf[vrf]:
            self._in_vrf.pop(vrf, None)
        if not (self._in_vrf[vrf] or self._overlays.get(vrf)):
            self._overlays.pop(vrf, None)
        known = self._in_vrf.keys() | self._overlays.keys()
        sets = sets_of(vrf, self._overlays.get(vrf, ())) if vrf in known else []
        changed = self.parts.put(("vrf", str(vrf.table), ""), sets)
        if known != self._vrfs:
            self._vrfs = frozenset(known)
            changed |= self.parts.put(("vrfs", "", ""), [marking(self._vrfs)])
        return changed

    # intent

    def set_networks(self, networks: Iterable[Network]) -> set[RulesetKey]:
        """Take all networks: whose tenant an address is, is told by its subnet."""
        found: defaultdict[str, list[Prefix]] = defaultdict(list)
        for network in networks:
            if not network.infra:
                found[network.tenant] += [r.subnet for r in network.ranges]
        before, self.subnets = self.subnets, {t: disjoint(tuple(p)) for t, p in found.items()}
        if before == self.subnets:
            return set()
        everything = disjoint(tuple(p for prefixes in self.subnets.values() for p in prefixes))
        changed = self.parts.put(
            ("fabric", "", ""),
            [Element(FABRIC if p.version == 4 else FABRIC6, p) for p in everything],
        )
        for tenant in [t for t, count in self._tenants.items() if count]:
            if before.get(tenant) != self.subnets.get(tenant):
                changed |= self._tenant(tenant)
        return changed

    def set_filters(self, filters: Mapping[str, GroupFilter]) -> set[RulesetKey]:
        """Take the policies of all groups. The filter of a pod goes only when its pods have another."""
        still = {g: f for g, f in self.filters.items() if is_of_pods(g) and self._links[g]}
        filters = {**still, **filters}
        different = [
            group
            for group in {**self.filters, **filters}
            if self.filters.get(group) != filters.get(group)
        ]
        self.filters = dict(filters)
        changed: set[RulesetKey] = set()
        for group in different:
            if self._links[group]:
                changed |= self._group(group)
        for group in {*different, *(g for g, also in self._also.items() if also in different)}:
            changed |= self._marking_of(group)
        return changed

    def set_members(
        self, full: bool, added: Iterable[Members], removed: Iterable[Members] = ()
    ) -> set[RulesetKey]:
        """Follow the members of groups that rules speak of; `full` replaces all that was known."""
        touched: defaultdict[str, set[Address]] = defaultdict(set)
        if full:
            touched.update(self.told)
            self.told = {}
        for one in added:
            self.told.setdefault(one.group, set()).update(one.addresses)
            touched[one.group] |= one.addresses
        for one in removed:
            self.told.setdefault(one.group, set()).difference_update(one.addresses)
            touched[one.group] |= one.addresses
        changed: set[RulesetKey] = set()
        for group, addresses in touched.items():
            changed |= self._follow(group, addresses)
        return changed

    def filtered(self) -> tuple[str, ...]:
        """Return the groups that have a filter, and endpoints here."""
        return tuple(group for group, n in self._links.items() if n and group in self.filters)

    # parts

    def _need(self, group: str) -> set[RulesetKey]:
        """Have a group's chains for one user more."""
        self._links[group] += 1
        if self._links[group] > 1:
            return set()
        return self._group(group) | self._ways(group) | self._marking_of(group)

    def _let_go(self, group: str) -> set[RulesetKey]:
        """Have them for one user less."""
        self._links[group] -= 1
        if self._links[group]:
            return set()
        return self._group(group) | self._ways(group) | self._marking_of(group)

    def _lead_on(self, group: str, also: str) -> set[RulesetKey]:
        """Have the chains that a filter leads on to, and no longer those that it did."""
        before = self._also.pop(group, "")
        if also:
            self._also[group] = also
        if also == before:
            return set()
        changed = self._need(also) if also else set()
        return changed | (self._let_go(before) if before else set())

    def _group(self, group: str) -> set[RulesetKey]:
        """Make, change or remove a group's chains and the sets that they need."""
        wanted = self.filters.get(group) if self._links[group] else None
        old, new = self._peers.pop(group, frozenset()), wanted.peers if wanted else frozenset()
        if new:
            self._peers[group] = new
        sets = [members_set(peer, family) for peer in new for family in FAMILIES]
        changed = self.parts.put(("peers", group, ""), sets)
        for peer in new - old:
            self._mentioned[peer] += 1
            changed |= self._follow(peer, self._all_members(peer))
        changed |= self._chains(group) | self._lead_on(group, wanted.also if wanted else "")
        for peer in old - new:
            self._mentioned[peer] -= 1
            if not self._mentioned[peer]:
                del self._mentioned[peer]
            changed |= self._follow(peer, self._all_members(peer))
        return changed

    def _chains(self, group: str) -> set[RulesetKey]:
        part = ("group", group, "")
        if not self._links[group]:
            return self.parts.put(part, ())
        tenant, _, own = group.partition(":")
        wanted = self.filters.get(group) if own else GroupFilter(group)
        return self.parts.put(part, chains_of(group, tenant, wanted))

    def _marking_of(self, group: str) -> set[RulesetKey]:
        """Follow what a group's profile says of the DSCP, where that is another now; a pod's filter takes its group's."""
        found = self.filters.get(group) if self._links[group] else None
        whose = self.filters.get(found.also, found) if found else None
        value = whose.profile.dscp if whose else 0
        if self._marked.get(group, 0) == value:
            return set()
        self._marked.pop(group, None)
        if value:
            self._marked[group] = value
        return self.parts.put(("dscp", "", ""), [marking_of(self._marked)])

    def _ways(self, group: str) -> set[RulesetKey]:
        """Follow a group that came or went: how a packet finds its chains."""
        number = bucket_of(group)
        groups, before = self._buckets[number], bool(self._buckets[number])
        if self._links[group]:
            groups.add(group)
        else:
            groups.discard(group)
        changed = self.parts.put(("bucket", str(number), ""), ways_into(number, sorted(groups)))
        if bool(groups) != before:
            used = sorted(n for n, some in self._buckets.items() if some)
            changed |= self.parts.put(("ways", "", ""), ways_into_buckets(used))
        return changed

    def _tenant(self, tenant: str) -> set[RulesetKey]:
        things: list[RulesetObject] = []
        if self._tenants[tenant]:
            for family in FAMILIES:
                named = tenant_set(tenant, family)
                things.append(named)
                own = (p for p in self.subnets.get(tenant, ()) if family_of(p) == family)
                things += [Element(named.name, p) for p in own]
        return self.parts.put(("tenant", tenant, ""), things)

    def _all_members(self, group: str) -> set[Address]:
        return {*self.told.get(group, ()), *self._here[group]}

    def _follow(self, group: str, addresses: Iterable[Address]) -> set[RulesetKey]:
        """Put or take members, one by one."""
        changed: set[RulesetKey] = set()
        told, here = self.told.get(group, ()), self._here[group]
        for address in addresses:
            things = []
            if self._mentioned[group] and (address in told or here[address]):
                things = [Element(members_set(group, family_of(address)).name, address)]
            changed |= self.parts.put(("member", group, address), things)
        return changed


def group_of(endpoint: Endpoint) -> str:
    """Return the key of an endpoint's group; `tenant:` without one."""
    return f"{endpoint.tenant}:{endpoint.group}"


def filter_of(endpoint: Endpoint) -> str:
    """Return whose rules are in force for an endpoint; `tenant:` if nobody's."""
    return endpoint.filter or group_of(endpoint)


def _guard(endpoint: Endpoint, group: str) -> list[RulesetObject]:
    """Return what an endpoint adds: what it may send from, and the way to its group's chains."""
    named = (SOURCES, SOURCES6) if endpoint.mac else (PORTS, PORTS6)
    return [
        *(
            Element(
                named[address.version == 6],
                Source(endpoint.link, endpoint.mac, address),
            )
            for address in endpoint.addresses
        ),
        Element(bucket_set(bucket_of(group)).name, endpoint.link),
        Element(links_set(group).name, endpoint.link),
    ]
