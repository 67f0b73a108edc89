"""Endpoint groups' filters and members, out of the objects and endpoints that a netmaster knows.

One changed object or endpoint costs the groups that it concerns, never a look at all of them.
"""

from collections import Counter, deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.errors import InvalidError
from netfabric.fabric.filter import FilterRule, GroupFilter
from netfabric.fabric.membership import members_of
from netfabric.fabric.placement import pod_of
from netfabric.fabric.prefix import Address
from netfabric.fabric.profile import NO_PROFILE, Profile, profile_of
from netfabric.fabric.rule_reading import rule_of
from netfabric.fabric.session import MembersChanged
from netfabric.fabric.view import View, ViewChange

Where = tuple[str, EndpointKey]
STEPS = 50_000
"""Changes of members that are remembered."""


def group_of(endpoint: Endpoint) -> str:
    """Return the key of an endpoint's group, "" where it has none."""
    return f"{endpoint.tenant}:{endpoint.group}" if endpoint.group else ""


@dataclass(slots=True)
class Policies:
    """Filters by group, and the members of every group that some filter names as a peer."""

    view: View
    filters: dict[str, GroupFilter] = field(default_factory=dict)
    serial: int = 0
    """Of the last change of a named group's members."""
    floor: int = 0
    """The oldest serial from which a delta can be told."""
    limit: int = STEPS
    _rules: dict[str, FilterRule | None] = field(default_factory=dict)
    _named: Counter[str] = field(default_factory=Counter)
    """How many filters name a group."""
    _members: dict[str, Counter[Address]] = field(default_factory=dict)
    """By group, how many endpoints have an address: for a moment it may be two."""
    _places: dict[Where, tuple[tuple[str, ...], tuple[Address, ...]]] = field(default_factory=dict)
    """Groups and addresses of every endpoint in a group; a pod is also in those of peers that it matches."""
    _of_pods: dict[str, set[Where]] = field(default_factory=dict)
    """Endpoints by pod."""
    _pods: dict[Where, str] = field(default_factory=dict)
    _log: deque[tuple[int, str, Address, bool]] = field(default_factory=deque)
    """(serial, group, address, whether it is a member now)."""

    def begin(self) -> None:
        """Start at the view as it is, whatever was known before: the store may have been replaced."""
        if self.filters or self._places:
            self.serial += 1
            self._forget()
        for where in self.view.endpoints:
            self._move(where)
        for group in self.view.objects.get("endpointGroup", {}):
            self._resolve(group)
        for name in self.view.filters:
            self._resolve(name)
        self._log.clear()
        self.floor = self.serial

    def _forget(self) -> None:
        self.filters.clear()
        self._rules.clear()
        self._named.clear()
        self._members.clear()
        self._places.clear()
        self._of_pods.clear()
        self._pods.clear()

    # filters

    def follow(self, change: ViewChange) -> frozenset[str]:
        """Take a change of the view; return the groups whose filter is another now, or gone."""
        for where in change.endpoints:
            self._move(where)
        for pod in {pod for _, pod in change.pods}:
            for where in tuple(self._of_pods.get(pod, ())):
                self._move(where)
        for rule in self._touched_rules(change):
            self._rules.pop(rule, None)
        changed = frozenset(group for group in self._touched(change) if self._resolve(group))
        if self._log and self._log[-1][0] > self.serial:
            self.serial += 1
        while len(self._log) > self.limit:
            self.floor = self._log.popleft()[0]
        return changed

    def _touched_rules(self, change: ViewChange) -> set[str]:
        found = {key for type_, key in change.objects if type_ == "rule"}
        for network in change.networks:
            for side in ("fromNetwork", "toNetwork"):
                found.update(self.view.index.users("rule", side, network))
        return found

    def _touched(self, change: ViewChange) -> set[str]:
        """Return the groups that a change concerns."""
        groups = {key for type_, key in change.objects if type_ == "endpointGroup"} | change.filters
        policies = {key for type_, key in change.objects if type_ == "policy"}
        policies |= {rule.rpartition(":")[0] for rule in self._touched_rules(change)}
        for policy in policies:
            groups.update(self.view.index.users("endpointGroup", "policies", policy))
        for profile in (key for type_, key in change.objects if type_ == "netprofile"):
            groups.update(self.view.index.users("endpointGroup", "netProfile", profile))
        return groups

    def _resolve(self, group: str) -> bool:
        """Bring a group's filter up to date; return whether it changed."""
        before, now = self.filters.pop(group, None), self.filter_of(group)
        if now is not None:
            self.filters[group] = now
        if before == now:
            return False
        was = before.peers if before else frozenset()
        named = now.peers if now else frozenset()
        for peer in named - was:
            self._name(peer)
        for peer in was - named:
            self._unname(peer)
        return True

    def filter_of(self, group: str) -> GroupFilter | None:
        """Return a group's filter as the view has it now; None where there is no such group."""
        stored = self.view.objects.get("endpointGroup", {}).get(group)
        if stored is None:
            return self.view.filters.get(group)
        obj = stored.value
        tenant = obj["tenantName"]
        rules = [
            rule
            for policy in dict.fromkeys(obj.get("policies") or ())
            for key in self.view.index.users("rule", "policyName", f"{tenant}:{policy}")
            if (rule := self._rule(key)) is not None
        ]
        return GroupFilter(
            group,
            "deny" if obj.get("defaultAction") == "deny" else "allow",
            tuple(sorted(rules, key=lambda rule: rule.order)),
            f"{tenant}:{obj['networkName']}",
            profile=self._profile(f"{tenant}:{obj.get('netProfile', '')}"),
        )

    def _profile(self, name: str) -> Profile:
        stored = self.view.objects.get("netprofile", {}).get(name)
        return profile_of(stored.value) if stored is not None else NO_PROFILE

    def _rule(self, key: str) -> FilterRule | None:
        if key not in self._rules:
            stored = self.view.objects["rule"][key]
            self._rules[key] = None
            with suppress(InvalidError):  # written past the API: it matches nothing
                self._rules[key] = rule_of(stored.value, self.view.networks)
        return self._rules[key]

    # members

    def _name(self, group: str) -> None:
        self._named[group] += 1
        if self._named[group] == 1:
            self._note(group, self._members.get(group, ()), present=True)

    def _unname(self, group: str) -> None:
        self._named[group] -= 1
        if not self._named[group]:
            del self._named[group]
            self._note(group, self._members.get(group, ()), present=False)

    def _note(self, group: str, addresses: Iterable[Address], *, present: bool) -> None:
        at = self.serial + 1
        self._log.extend((at, group, address, present) for address in addresses)

    def _move(self, where: Where) -> None:
        """Take in where an endpoint is now, if it is anywhere."""
        before = self._places.pop(where, ((), ()))
        endpoint = self.view.endpoints.get(where)
        self._note_pod(where, endpoint)
        now = (self.groups_of(endpoint), endpoint.addresses) if endpoint else ((), ())
        if now[0]:
            self._places[where] = now
        if before == now:
            return
        for group in now[0]:
            self._join(group, now[1])
        for group in before[0]:
            self._leave(group, before[1])

    def groups_of(self, endpoint: Endpoint) -> tuple[str, ...]:
        """Return every group that an endpoint is in: its own, and those of peers that its pod matches."""
        own = (group_of(endpoint),) if endpoint.group else ()
        placed = self.view.pods.get(pod_of(endpoint.name, endpoint.labels))
        return (*own, *placed.peers) if placed and placed.fits(endpoint) else own

    def _note_pod(self, where: Where, endpoint: Endpoint | None) -> None:
        """Keep the index of pods' endpoints."""
        before = self._pods.pop(where, "")
        if before:
            self._of_pods[before].discard(where)
            if not self._of_pods[before]:
                del self._of_pods[before]
        if endpoint is not None and (pod := pod_of(endpoint.name, endpoint.labels)):
            self._pods[where] = pod
            self._of_pods.setdefault(pod, set()).add(where)

    def _join(self, group: str, addresses: Iterable[Address]) -> None:
        members = self._members.setdefault(group, Counter())
        new = [address for address in addresses if address not in members]
        members.update(addresses)
        if group in self._named:
            self._note(group, new, present=True)

    def _leave(self, group: str, addresses: Iterable[Address]) -> None:
        members = self._members[group]
        members.subtract(addresses)
        gone = [address for address in addresses if not members[address]]
        for address in gone:
            del members[address]
        if not members:
            del self._members[group]
        if group in self._named:
            self._note(group, gone, present=False)

    def members(self) -> MembersChanged:
        """Return the members of every group that a filter names."""
        named = {group: self._members.get(group, Counter()) for group in self._named}
        return MembersChanged(full=True, added=members_of(named))

    def since(self, serial: int) -> MembersChanged:
        """Return what changed in members since a serial; everything where that is not remembered."""
        if serial < self.floor:
            return self.members()
        latest: dict[tuple[str, Address], bool] = {}
        for at, group, address, present in reversed(self._log):
            if at <= serial:
                break
            latest.setdefault((group, address), present)
        added: dict[str, list[Address]] = {}
        removed: dict[str, list[Address]] = {}
        for (group, address), present in latest.items():
            (added if present else removed).setdefault(group, []).append(address)
        return MembersChanged(False, members_of(added), members_of(removed))
