"""From the Loc-RIB to kernel objects: next hops to links, several next hops to groups, ids that stay."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from netfabric.fabric.kernel import (
    NEXTHOP_BASE,
    KernelKey,
    KernelObject,
    KernelRoute,
    Nexthop,
    NexthopGroup,
    Uplink,
    key_of,
)
from netfabric.fabric.prefix import Address, Prefix
from netfabric.fabric.route import Path

_Identity: TypeAlias = tuple[Address, str] | tuple[int, ...]


def link_to(next_hop: Address, uplinks: Iterable[Uplink]) -> str | None:
    """Return the link on which a next hop is directly reachable, by the longest matching subnet."""
    found = [
        uplink
        for uplink in uplinks
        if uplink.subnet.version == next_hop.version and next_hop in uplink.subnet
    ]
    return max(found, key=lambda uplink: uplink.subnet.prefixlen).link if found else None


@dataclass(slots=True)
class NexthopIds:
    """Gives each gateway and each group an id that stays while it is used, also over a restart."""

    ids: dict[_Identity, int] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)

    def adopt(self, observed: Iterable[KernelObject]) -> None:
        """Go on with the ids that the kernel has already."""
        for thing in observed:
            if isinstance(thing, Nexthop):
                self._keep((thing.gateway, thing.link), thing.id)
            elif isinstance(thing, NexthopGroup):
                self._keep(thing.members, thing.id)

    def _keep(self, identity: _Identity, number: int) -> None:
        if identity not in self.ids:
            self.ids[identity] = number
        self.used.add(number)

    def id_of(self, identity: _Identity) -> int:
        """Return the id of a gateway on a link, or of a group by its members' ids."""
        if identity not in self.ids:
            number = NEXTHOP_BASE + 1
            while number in self.used:
                number += 1
            self._keep(identity, number)
        return self.ids[identity]

    def free(self, number: int) -> None:
        """Let an id be used anew."""
        self.used.discard(number)
        for identity in [i for i, n in self.ids.items() if n == number]:
            del self.ids[identity]


@dataclass(slots=True)
class Resolver:
    """The desired nexthops, groups and routes, kept in step prefix by prefix."""

    uplinks: tuple[Uplink, ...] = ()
    ids: NexthopIds = field(default_factory=NexthopIds)
    objects: dict[KernelKey, KernelObject] = field(default_factory=dict)
    _uses: Counter[int] = field(default_factory=Counter)
    _links: dict[Address, str | None] = field(default_factory=dict)
    """Next hops looked up since the uplinks last changed."""
    _hops: set[KernelKey] = field(default_factory=set)
    """Keys of the nexthops and groups: few, however many routes there are."""

    def set_paths(
        self, prefixes: Iterable[Prefix], table: Mapping[Prefix, tuple[Path, ...]]
    ) -> set[KernelKey]:
        """Take the best paths of prefixes (none: no route); return the keys of what may have changed.

        A next hop whose link is not found is no next hop (RFC 4271, section 9.1.2).
        """
        changed: set[KernelKey] = set()
        for prefix in prefixes:
            changed |= self._drop(prefix)
            changed |= self._install(prefix, table.get(prefix, ()))
        return changed | self._sweep()

    def set_unreachable(self, prefix: Prefix, wanted: bool) -> set[KernelKey]:
        """Put or take the unreachable route of an aggregate's unused rest."""
        changed = self._drop(prefix)
        if wanted:
            route = KernelRoute(prefix, "unreachable")
            self.objects[key_of(route)] = route
            changed.add(key_of(route))
        return changed | self._sweep()

    def set_uplinks(
        self, uplinks: tuple[Uplink, ...], table: Mapping[Prefix, tuple[Path, ...]]
    ) -> set[KernelKey]:
        """Follow the host's own links: every route is resolved again; return what may have changed."""
        self.uplinks = uplinks
        self._links.clear()
        return self.set_paths(table, table)

    def _link_to(self, next_hop: Address) -> str | None:
        if next_hop not in self._links:
            self._links[next_hop] = link_to(next_hop, self.uplinks)
        return self._links[next_hop]

    def _install(self, prefix: Prefix, paths: tuple[Path, ...]) -> set[KernelKey]:
        hops = {path.attributes.next_hop for path in paths}
        found = [(hop, link) for hop in hops if (link := self._link_to(hop)) is not None]
        if not found:
            return set()
        things: list[KernelObject] = [
            Nexthop(self.ids.id_of((hop, link)), hop, link) for hop, link in found
        ]
        members = tuple(sorted(self.ids.id_of(identity) for identity in found))
        target = members[0]
        if len(members) > 1:
            target = self.ids.id_of(members)
            things.append(NexthopGroup(target, members))
        hop_keys = {key_of(thing): thing for thing in things}
        route = KernelRoute(prefix, nexthop=target)
        self.objects.update(hop_keys)
        self.objects[key_of(route)] = route
        self._hops |= hop_keys.keys()
        self._uses[target] += 1
        return {*hop_keys, key_of(route)}

    def _drop(self, prefix: Prefix) -> set[KernelKey]:
        key = key_of(KernelRoute(prefix))
        route = self.objects.pop(key, None)
        if isinstance(route, KernelRoute) and route.nexthop:
            self._uses[route.nexthop] -= 1
        return {key} if route else set()

    def _sweep(self) -> set[KernelKey]:
        """Drop groups that no route uses, then nexthops that neither route nor group uses."""
        gone: set[KernelKey] = set()
        hops = {key: self.objects[key] for key in self._hops}
        for key, thing in hops.items():
            if isinstance(thing, NexthopGroup) and not self._uses[thing.id]:
                gone.add(key)
        kept = [thing for key, thing in hops.items() if key not in gone]
        grouped = {m for thing in kept if isinstance(thing, NexthopGroup) for m in thing.members}
        for key, thing in hops.items():
            if isinstance(thing, Nexthop) and not self._uses[thing.id] and thing.id not in grouped:
                gone.add(key)
        for key in gone:
            del self.objects[key]
        self._hops -= gone
        return gone
