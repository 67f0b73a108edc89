"""A host's packet filter kept as it should be: each change by itself, and what others did to it repaired."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from netfabric.fabric.effects import Audit, Effect, Filter, Warn
from netfabric.fabric.endpoint import AttachRequest, Endpoint
from netfabric.fabric.errors import FabricError, KernelError
from netfabric.fabric.filter import GroupFilter
from netfabric.fabric.network import Network
from netfabric.fabric.prefix import Prefix
from netfabric.fabric.profile import NO_LIMITS, Bandwidth
from netfabric.fabric.ruleset import Element, RulesetKey, RulesetObject, RulesetReading
from netfabric.fabric.ruleset_desired import DesiredRuleset
from netfabric.fabric.ruleset_plan import Transaction, transaction
from netfabric.fabric.session import MembersChanged
from netfabric.fabric.vrf import Mark, Vrf

FEATURE = "nftables"
_SUBJECT = "packet filter"


@dataclass(slots=True)
class Guard:
    """Desired and believed ruleset. Nothing is changed before `activate`: a restart adopts what is there."""

    out: list[Effect]
    enabled: bool
    """Whether this kernel has nftables."""
    desired: DesiredRuleset = field(default_factory=DesiredRuleset)
    actual: dict[RulesetKey, RulesetObject] | None = None
    """What we believe the table holds; None while that is not known."""
    active: bool = False
    number: int = 0
    """Of the last transaction."""
    doubtful: bool = False
    """One failed, and no reading has shown since that all is well: the next failure waits for its audit."""

    def start(self, observed: RulesetReading | None) -> None:
        """Adopt what is there."""
        self.actual = dict(observed.objects) if observed is not None else {}

    def activate(self) -> None:
        """From here on all of the intent is known: make the table so."""
        if not self.active:
            self.active = True
            self._change(None)

    # what is wanted

    def require(self, request: AttachRequest, pods: str = "") -> None:
        """Raise KernelError where what an endpoint needs cannot be enforced; `pods`: its filter as a pod."""
        if self.enabled and self.active and self.actual is None:
            raise KernelError(
                f"endpoint {request.key}: the packet filter of this host is being repaired",
                "try again; the agent's log says what is wrong if it lasts",
            )
        if pods and not self.enabled:
            raise KernelError(
                f"endpoint {request.key}: network policies select the pod, and this host's kernel"
                " lacks nftables",
                "load the module nf_tables with its families, or keep such pods off this host",
            )
        wanted = self.desired.filters.get(f"{request.tenant}:{request.group}")
        if self.enabled or wanted is None or not (wanted.rules or wanted.default == "deny"):
            return
        raise KernelError(
            f"endpoint {request.key}: group {wanted.group} has policies,"
            " and this host's kernel lacks nftables",
            "load the module nf_tables with its families, or run it on another host",
        )

    def adopt(self, endpoint: Endpoint, mark: Mark | None = None) -> None:
        """Guard an endpoint that was there before; in force with what comes next."""
        keys = self.desired.put_endpoint(endpoint) | self.desired.set_mark(endpoint.link, mark)
        if self.active:
            self._change(keys)

    def admit(self, endpoint: Endpoint, mark: Mark | None = None) -> Transaction | None:
        """Return what has to be in force before a new endpoint stands."""
        marked = self.desired.set_mark(endpoint.link, mark)
        return self._transaction(self.desired.put_endpoint(endpoint) | marked)

    def mark(self, link: str, mark: Mark | None) -> None:
        """Mark what comes in by a link, so that its tenant's table routes it; None: no more."""
        self._change(self.desired.set_mark(link, mark))

    def overlay(self, vrf: Vrf, subnets: Sequence[Prefix], devices: Iterable[Mark]) -> None:
        """Follow the subnets of a tenant's overlay, and the devices by which it comes in."""
        changed = self.desired.set_overlay(vrf, subnets)
        for mark in devices:
            changed |= self.desired.set_mark(mark.link, mark)
        self._change(changed)

    def elements(self, endpoint: Endpoint) -> tuple[Element, ...]:
        """Return what of an endpoint the table should hold now; () where no table is kept."""
        kept = self.enabled and self.active and self.actual is not None
        return self.desired.guards_of(endpoint.link) if kept else ()

    def limited(self, endpoint: Endpoint) -> Endpoint:
        """Return an endpoint with the limits that its link has to keep: its own, or its group's."""
        found = self.desired.filters.get(f"{endpoint.tenant}:{endpoint.group}")
        if endpoint.bandwidth or endpoint.is_port or found is None or not found.profile.bandwidth:
            return endpoint
        return replace(endpoint, bandwidth=found.profile.bandwidth)

    def counting(self) -> tuple[str, ...]:
        """Return the groups whose rules count here."""
        return self.desired.filtered() if self.enabled and self.active else ()

    def release(self, link: str) -> None:
        """An endpoint's link is gone."""
        self._change(self.desired.remove_endpoint(link) | self.desired.set_mark(link, None))

    def intent(
        self, networks: Iterable[Network], filters: Mapping[str, GroupFilter]
    ) -> frozenset[str]:
        """Follow networks and policies; return the groups that have other limits now."""
        before = self.desired.filters
        changed = frozenset(
            group
            for group in before.keys() | filters.keys()
            if _limits(before.get(group)) != _limits(filters.get(group))
        )
        self._change(self.desired.set_networks(networks) | self.desired.set_filters(filters))
        return changed

    def members(self, change: MembersChanged) -> None:
        """Follow who is in the groups that rules speak of."""
        self._change(self.desired.set_members(change.full, change.added, change.removed))

    # the table

    def _change(self, keys: Iterable[RulesetKey] | None) -> None:
        if step := self._transaction(keys):
            self.out.append(Filter(step))

    def _transaction(self, keys: Iterable[RulesetKey] | None) -> Transaction | None:
        if not (self.enabled and self.active) or self.actual is None:
            return None
        made = transaction(self.desired.objects, self.actual, keys)
        if not made:
            return None
        self.number += 1
        if keys is None or made.anew:
            self.actual = dict(self.desired.objects)
        else:
            self._believe(self.actual, keys)
        return replace(made, number=self.number)

    def _believe(self, actual: dict[RulesetKey, RulesetObject], keys: Iterable[RulesetKey]) -> None:
        for key in keys:
            if key in self.desired.objects:
                actual[key] = self.desired.objects[key]
            else:
                actual.pop(key, None)

    def failed(self, error: FabricError) -> None:
        """A transaction failed: read what is there, and go on from that."""
        self.actual = None
        self.out.append(Warn(_SUBJECT, str(error)))
        if not self.doubtful:
            self.out.append(Audit())
        self.doubtful = True

    def audit(self, observed: RulesetReading | None) -> None:
        """Repair what differs; a reading from before the last transaction says nothing."""
        if not self.active:
            return
        if observed is None:
            self._confirmed()
            return
        if observed.number != self.number:
            self.out += [Filter(Transaction((), number=self.number, distrust=True)), Audit()]
            return
        self.actual = dict(observed.objects)
        if step := self._transaction(None):
            self.out.append(Filter(step))
        else:
            self._confirmed()

    def _confirmed(self) -> None:
        """The table is as we believe: what failed before is well again."""
        if self.doubtful and self.actual is not None:
            self.doubtful = False
            self.out.append(Warn(_SUBJECT, ""))


def _limits(found: GroupFilter | None) -> Bandwidth:
    return found.profile.bandwidth if found is not None else NO_LIMITS
