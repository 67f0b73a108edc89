"""Overlay endpoints as hosts have to know them: a tenant's are told to the hosts that have one of it.

One changed endpoint costs its own addresses, never a look at all of them.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.session import Remote, RemoteAddress, RemotesChanged
from netfabric.fabric.view import View, ViewChange

Where = tuple[str, EndpointKey]
Tenants = frozenset[str]
STEPS = 50_000
"""Changed addresses that are remembered."""


@dataclass(slots=True)
class Remotes:
    """Addresses behind VTEPs, of the tenants that have a vxlan network.

    A tenant's routed endpoints are among them: its overlay endpoints reach those through the overlay too.
    """

    view: View
    serial: int = 0
    """Of the last change."""
    floor: int = 0
    """The oldest serial from which a delta can be told."""
    limit: int = STEPS
    _overlays: dict[str, set[str]] = field(default_factory=dict)
    """The vxlan networks of each tenant that has any."""
    _tenants: dict[str, str] = field(default_factory=dict)
    """Of those networks."""
    _here: dict[str, Counter[str]] = field(default_factory=dict)
    """How many endpoints of each tenant a host has."""
    _of_tenant: dict[str, set[Where]] = field(default_factory=dict)
    _places: dict[Where, Endpoint] = field(default_factory=dict)
    _log: deque[tuple[int, str, RemoteAddress]] = field(default_factory=deque)
    """(serial, tenant, what changed)."""

    def follow(self, change: ViewChange) -> bool:
        """Take a change of the view; return whether anybody may have to be told."""
        before = self.serial
        self.serial += 1
        moved = self._networks(change.networks)
        for where in change.endpoints:
            moved |= self._move(where)
        for host in change.vteps:
            moved |= self._vtep_moved(host)
        if not moved:
            self.serial = before
        while len(self._log) > self.limit:
            self.floor = self._log.popleft()[0]
        return moved

    def _networks(self, keys: Iterable[str]) -> bool:
        """Note which tenants have an overlay; return whether that changed."""
        before = self._overlays.keys() | set()
        for key in keys:
            if tenant := self._tenants.pop(key, ""):
                self._overlays[tenant].discard(key)
                if not self._overlays[tenant]:
                    del self._overlays[tenant]
            network = self.view.networks.get(key)
            if network is not None and network.encap == "vxlan":
                self._overlays.setdefault(network.tenant, set()).add(key)
                self._tenants[key] = network.tenant
        return before != self._overlays.keys()

    def _move(self, where: Where) -> bool:
        """Take in where an endpoint is now; return whether anything of it changed."""
        before, now = self._places.pop(where, None), self.view.endpoints.get(where)
        if now is not None:
            self._places[where] = now
            self._here.setdefault(now.host, Counter())[now.tenant] += 1
            self._of_tenant.setdefault(now.tenant, set()).add(where)
        if before is not None:
            self._here[before.host][before.tenant] -= 1
            if now is None or now.tenant != before.tenant:
                self._of_tenant[before.tenant].discard(where)
        for endpoint in (before, now) if before != now else ():
            if endpoint is not None:
                self._note(endpoint)
        return before != now

    def _vtep_moved(self, host: str) -> bool:
        for key in self.view.endpoints_by_host.get(host, ()):
            self._note(self.view.endpoints[host, key])
        return True

    def _note(self, endpoint: Endpoint) -> None:
        self._log.extend((self.serial, endpoint.tenant, where) for where in _addresses(endpoint))

    # what is told

    def tenants_of(self, host: str) -> Tenants:
        """Return the tenants with an overlay of which a host has an endpoint."""
        here = self._here.get(host, Counter())
        return frozenset(tenant for tenant in self._overlays if here[tenant])

    def since(self, serial: int | None, told: Tenants, tenants: Tenants) -> RemotesChanged:
        """Return what changed since a serial for whoever was `told` of some tenants, and follows `tenants` now.

        Where that is not remembered, or with no serial, everything. What is at one address is said once.
        """
        if serial is None or serial < self.floor:
            every = (where for tenant in sorted(tenants) for where in self._all(tenant))
            return RemotesChanged(True, self._there(every))
        changed: dict[RemoteAddress, bool] = {}
        for at, tenant, where in reversed(self._log):
            if at <= serial:
                break
            if tenant in told:
                changed[where] = tenant in tenants
        for tenant in sorted(told ^ tenants):
            changed.update(dict.fromkeys(self._all(tenant), tenant in tenants))
        added = self._there(where for where, wanted in changed.items() if wanted)
        present = {remote.where for remote in added}
        return RemotesChanged(False, added, tuple(w for w in changed if w not in present))

    def _all(self, tenant: str) -> Iterator[RemoteAddress]:
        for where in self._of_tenant.get(tenant, ()):
            yield from _addresses(self._places[where])

    def _there(self, places: Iterable[RemoteAddress]) -> tuple[Remote, ...]:
        found = (self._remote(where) for where in dict.fromkeys(places))
        return tuple(remote for remote in found if remote is not None)

    def _remote(self, where: RemoteAddress) -> Remote | None:
        holder = self.view.endpoints_by_address.get((where.network, where.address))
        endpoint = self.view.endpoints[holder] if holder else None
        vtep = self.view.vteps.get(endpoint.host) if endpoint else None
        if endpoint is None or vtep is None:
            return None
        return Remote(where.network, where.address, endpoint.host, vtep, endpoint.sequence)


def _addresses(endpoint: Endpoint) -> Iterator[RemoteAddress]:
    network = f"{endpoint.tenant}:{endpoint.network}"
    return (RemoteAddress(network, address) for address in endpoint.addresses)
