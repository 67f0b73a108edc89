"""Who is in the groups that rules name as peers, as netmaster tells it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from netfabric.fabric.filter import Members
from netfabric.fabric.prefix import Address
from netfabric.fabric.session import MembersChanged


@dataclass(slots=True)
class Membership:
    """Addresses by group (`tenant:group`). A group without members is not in it."""

    groups: dict[str, set[Address]] = field(default_factory=dict)

    def of(self, group: str) -> frozenset[Address]:
        """Return a group's members."""
        return frozenset(self.groups.get(group, ()))

    def all(self) -> tuple[Members, ...]:
        """Return every group's members."""
        return tuple(Members(group, self.of(group)) for group in sorted(self.groups))

    def take(self, change: MembersChanged) -> MembersChanged:
        """Take a change; return the delta that it made, where nothing is said that was so before."""
        added = {m.group: set(m.addresses) for m in change.added}
        removed = {m.group: set(m.addresses) for m in change.removed}
        if change.full:
            removed = {g: known - added.get(g, set()) for g, known in self.groups.items()}
        came = {g: found - self.groups.get(g, set()) for g, found in added.items()}
        went = {g: found & self.groups.get(g, set()) for g, found in removed.items()}
        for group, addresses in came.items():
            if addresses:
                self.groups.setdefault(group, set()).update(addresses)
        for group, addresses in went.items():
            self._drop(group, addresses)
        return MembersChanged(False, members_of(came), members_of(went))

    def _drop(self, group: str, addresses: set[Address]) -> None:
        if left := self.groups.pop(group, set()).difference(addresses):
            self.groups[group] = left


def members_of(groups: Mapping[str, Iterable[Address]]) -> tuple[Members, ...]:
    """Return groups that have addresses, by name."""
    found = (Members(group, frozenset(groups[group])) for group in sorted(groups))
    return tuple(members for members in found if members.addresses)
