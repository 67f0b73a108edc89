"""Tenants' overlays on one host: devices, tables and routes for the endpoints here and elsewhere.

One changed endpoint costs a constant number of kernel objects, however many there are.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.events import HostSettings
from netfabric.fabric.guard import Guard
from netfabric.fabric.kernel import (
    MAIN_TABLE,
    ForwardingEntry,
    KernelKey,
    KernelObject,
    KernelRoute,
    Neighbour,
    Uplink,
    VxlanLink,
    key_of,
)
from netfabric.fabric.network import Network
from netfabric.fabric.prefix import DEFAULT_ROUTES, FAMILIES, Address, family_of, host_prefix
from netfabric.fabric.session import Remote, RemoteAddress, RemotesChanged
from netfabric.fabric.vrf import TABLES, VLAN_TABLES, Mark, Vrf, Vrfs
from netfabric.fabric.vtep import OVERHEAD, gateway_of, link_of, mac_of

FEATURES = ("vxlan", "nftables")
"""What an overlay needs of a kernel."""
UNDERLAY_MTU = 1500
"""Of a host none of whose links is known."""
Part = tuple[str, str] | RemoteAddress


@dataclass(slots=True)
class Shares:
    """Objects in a table of many; each is there as long as some part wants it."""

    objects: dict[KernelKey, KernelObject]
    _uses: Counter[KernelKey] = field(default_factory=Counter)
    _of: dict[Part, tuple[KernelKey, ...]] = field(default_factory=dict)

    def put(self, part: Part, things: Iterable[KernelObject]) -> set[KernelKey]:
        """Let a part be exactly these things; return the keys of what may have changed."""
        new = {key_of(thing): thing for thing in things}
        old = self._of.pop(part, ())
        changed = {key for key, thing in new.items() if self.objects.get(key) != thing}
        self.objects.update(new)
        self._uses.update(new.keys())
        for key in old:
            self._uses[key] -= 1
            if not self._uses[key]:
                del self._uses[key], self.objects[key]
                changed.add(key)
        if new:
            self._of[part] = tuple(new)
        return changed


@dataclass(slots=True)
class Overlay:
    """What a host does for each tenant that has a vxlan network, while an endpoint of it is here."""

    settings: HostSettings
    program: Callable[[Iterable[KernelKey]], None]
    """Has the kernel made as `objects` say, for these keys."""
    guard: Guard
    """Marks what comes in by a link, before anything else is programmed."""
    shares: Shares
    vrfs: Vrfs = field(default_factory=Vrfs)
    remotes: dict[RemoteAddress, Remote] = field(default_factory=dict)
    informed: bool = False
    """Whether the remotes of this host have been told, now or to an agent before; or there can be none."""
    mtu: int = UNDERLAY_MTU
    """Of the underlay."""
    _networks: dict[str, dict[str, Network]] = field(default_factory=dict)
    """The vxlan networks of each tenant, by key."""
    _here: dict[str, dict[str, Endpoint]] = field(default_factory=dict)
    """The endpoints of each tenant on this host, by link."""
    _of_tenant: dict[str, dict[RemoteAddress, None]] = field(default_factory=dict)
    _standing: dict[str, tuple[Network, ...]] = field(default_factory=dict)
    """The networks with which each tenant's overlay stands."""
    _local: dict[RemoteAddress, Endpoint] = field(default_factory=dict)
    _up: set[str] = field(default_factory=set)
    """Links of endpoints that stand: routes may go there."""

    # what is asked

    @property
    def missing(self) -> str:
        """Return what this host lacks for an overlay, in words; "" if nothing."""
        lacking = [name for name in FEATURES if name not in self.settings.features]
        if lacking:
            return f"its kernel lacks {' and '.join(lacking)}"
        return "" if self.settings.vtep is not None else "it has no VTEP address"

    def table_of(self, network: Network) -> int:
        """Return the table in which endpoints of a network have their routes."""
        return self.vrfs.of(network.tenant).table if network.encap == "vxlan" else MAIN_TABLE

    def mtu_of(self, network: Network, wanted: int) -> int:
        """Return the MTU of a network's endpoints, where `wanted` was asked for."""
        return min(wanted, self._inner_mtu()) if network.encap == "vxlan" else wanted

    def _inner_mtu(self) -> int:
        return (
            self.mtu - OVERHEAD[family_of(self.settings.vtep)] if self.settings.vtep else self.mtu
        )

    # what happens

    def start(self, found: Iterable[KernelObject], uplinks: tuple[Uplink, ...]) -> None:
        """Begin; where no overlay is found in the kernel, nothing has to be known before routes are swept."""
        self.informed = not any(isinstance(thing, VxlanLink) for thing in found)
        self.uplinks_changed(uplinks)

    def adopt(self, endpoint: Endpoint) -> None:
        """Take in an endpoint that was here before, and stands or will be mended."""
        self.vrfs.adopt(endpoint)
        self._up.add(endpoint.link)
        self.enter(endpoint)

    def enter(self, endpoint: Endpoint) -> None:
        """Make ready for an endpoint that is about to stand."""
        self._here.setdefault(endpoint.tenant, {})[endpoint.link] = endpoint
        for where in _places(endpoint):
            self._local[where] = endpoint
            self.program(self._remote(where))
        self._follow(endpoint.tenant)

    def stand(self, endpoint: Endpoint) -> None:
        """Let the overlay reach a routed endpoint that stands."""
        self._up.add(endpoint.link)
        self.program(self._reach(endpoint))

    def leave(self, endpoint: Endpoint) -> None:
        """An endpoint is gone; with the last one of its tenant its overlay goes."""
        here = self._here.get(endpoint.tenant, {})
        if here.pop(endpoint.link, None) is None:
            return
        if not here:
            del self._here[endpoint.tenant]
        self._up.discard(endpoint.link)
        self.program(self.shares.put(("local", endpoint.link), ()))
        for where in _places(endpoint):
            local = self._local.get(where)
            if local is not None and local.link == endpoint.link:
                del self._local[where]
                self.program(self._remote(where))
        self._follow(endpoint.tenant)

    def renumbered(self, endpoint: Endpoint) -> None:
        """An endpoint's sequence number, or its filter, is another now."""
        for where in _places(endpoint):
            if where in self._local and self._local[where].link == endpoint.link:
                self._local[where] = endpoint
        here = self._here.get(endpoint.tenant, {})
        if endpoint.link in here:
            here[endpoint.link] = endpoint

    def intent(self, networks: Mapping[str, Network]) -> None:
        """Follow the networks."""
        before, self._networks = self._networks, {}
        for network in networks.values():
            if network.encap == "vxlan" and network.tag:
                self._networks.setdefault(network.tenant, {})[network.key] = network
        for tenant in before.keys() | self._networks.keys():
            if before.get(tenant) != self._networks.get(tenant):
                self._follow(tenant)

    def uplinks_changed(self, uplinks: tuple[Uplink, ...]) -> None:
        """Follow the underlay's MTU: that of the VTEP's link, else the smallest."""
        own = [u.mtu for u in uplinks if u.address == self.settings.vtep]
        mtu = min(own or [u.mtu for u in uplinks], default=UNDERLAY_MTU)
        if mtu != self.mtu:
            self.mtu = mtu
            for tenant in list(self._standing):
                self._devices(tenant)

    def take(self, change: RemotesChanged) -> RemotesChanged:
        """Follow the remotes; return what is other than before, for the journal."""
        self.informed |= change.full
        told = {r.where: r for r in change.added if r.host != self.settings.host}
        gone = [r.where for r in change.added if r.where not in told]
        gone += change.removed
        if change.full:
            gone += [where for where in self.remotes if where not in told]
        gone = [where for where in gone if where not in told and where in self.remotes]
        new = {w: r for w, r in told.items() if self.remotes.get(w) != r}
        changed: set[KernelKey] = set()
        for where, remote in new.items():
            self.remotes[where] = remote
            self._of_tenant.setdefault(_tenant(where), {})[where] = None
            changed |= self._remote(where)
        for where in gone:
            del self.remotes[where]
            self._of_tenant[_tenant(where)].pop(where)
            changed |= self._remote(where)
        self.program(changed)
        return RemotesChanged(False, tuple(new.values()), tuple(gone))

    def moved_away(self, change: RemotesChanged) -> list[Endpoint]:
        """Return the endpoints here whose address netmaster has at another host, since."""
        found = {}
        for remote in change.added:
            endpoint = self._local.get(remote.where)
            if endpoint is None or remote.host == self.settings.host:
                continue
            if endpoint.sequence and remote.sequence > endpoint.sequence:
                found[endpoint.link] = endpoint
        return list(found.values())

    # parts

    def _follow(self, tenant: str) -> None:
        """Make, change or remove a tenant's overlay."""
        networks = self._networks.get(tenant, {}) if not self.missing else {}
        wanted = tuple(sorted(networks.values(), key=lambda n: n.tag))
        if tenant not in self._here:
            wanted = ()
        before = self._standing.get(tenant, ())
        if wanted == before:
            return
        if not wanted:
            return self._dismantle(tenant)
        self._standing[tenant] = wanted
        self._devices(tenant)
        for network in before:
            if network.key not in {n.key for n in wanted}:
                self.program(self.shares.put(("device", network.key), ()))
                self.guard.mark(link_of(network.tag), None)
        for endpoint in self._here[tenant].values():
            self.guard.mark(endpoint.link, self.mark_of(endpoint))
        changed = self.shares.put(("vrf", tenant), self._vrf(tenant))
        for where in self._of_tenant.get(tenant, ()):
            changed |= self._remote(where)
        for endpoint in self._here[tenant].values():
            changed |= self._reach(endpoint)
        self.program(changed)

    def _dismantle(self, tenant: str) -> None:
        """The devices go last: nothing falls through to another table meanwhile."""
        before = self._standing.pop(tenant)
        changed: set[KernelKey] = set()
        for where in self._of_tenant.get(tenant, ()):
            changed |= self._remote(where)
        for endpoint in self._here.get(tenant, {}).values():
            changed |= self.shares.put(("local", endpoint.link), ())
        for network in before:
            changed |= self.shares.put(("device", network.key), ())
        changed |= self.shares.put(("vrf", tenant), ())
        self.program(changed)
        for network in before:
            self.guard.mark(link_of(network.tag), None)
        for endpoint in self._here.get(tenant, {}).values():
            self.guard.mark(endpoint.link, self.mark_of(endpoint))
        self.guard.overlay(self.vrfs.of(tenant), (), ())
        if tenant not in self._here:
            self.vrfs.known.pop(tenant)

    def _vrf(self, tenant: str) -> list[KernelObject]:
        vrf = self.vrfs.of(tenant)
        return [
            *(KernelRoute(DEFAULT_ROUTES[f], "unreachable", table=vrf.table) for f in (0, 1)),
            *vrf.rules(),
        ]

    def _devices(self, tenant: str) -> None:
        """Mark what comes in by a device first: unmarked it would be routed by the main table."""
        vtep, vrf = self.settings.vtep, self.vrfs.of(tenant)
        assert vtep is not None
        networks = self._standing[tenant]
        marks = [Mark(link_of(network.tag), vrf) for network in networks]
        self.guard.overlay(vrf, [r.subnet for n in networks for r in n.ranges], marks)
        changed: set[KernelKey] = set()
        for network in networks:
            name = link_of(network.tag)
            device = VxlanLink(name, network.tag, vtep, mac_of(vtep), self._inner_mtu())
            changed |= self.shares.put(("device", network.key), [device])
        self.program(changed)

    def _remote(self, where: RemoteAddress) -> set[KernelKey]:
        """Bring the way to an address on another host up to date."""
        remote = self.remotes.get(where)
        local = self._local.get(where)
        standing = self._standing.get(_tenant(where))
        kept = local is not None and not (
            remote and local.sequence and remote.sequence > local.sequence
        )
        if remote is None or not standing or kept or not self._same_family(remote.vtep):
            return self.shares.put(where, ())
        own = next((n for n in standing if n.key == where.network), standing[0])
        return self.shares.put(where, self._way(remote, link_of(own.tag)))

    def _same_family(self, vtep: Address) -> bool:
        return self.settings.vtep is not None and self.settings.vtep.version == vtep.version

    def _way(self, remote: Remote, link: str) -> list[KernelObject]:
        mac, vtep = mac_of(remote.vtep), remote.vtep
        gateways = dict.fromkeys(gateway_of(vtep, family) for family in FAMILIES)
        table = self.vrfs.of(_tenant(remote.where)).table
        gateway = gateway_of(vtep, family_of(remote.address))
        return [
            ForwardingEntry(link, mac, vtep),
            *(Neighbour(link, address, mac) for address in gateways),
            KernelRoute(host_prefix(remote.address), table=table, link=link, gateway=gateway),
        ]

    def _reach(self, endpoint: Endpoint) -> set[KernelKey]:
        """An overlay's own endpoints have their routes with their links; its tenant's others are added."""
        if endpoint.table in TABLES or endpoint.link not in self._up:
            return set()
        if endpoint.tenant not in self._standing:
            return self.shares.put(("local", endpoint.link), ())
        table = self.vrfs.of(endpoint.tenant).table
        routes = [KernelRoute(p, table=table, link=endpoint.link) for p in endpoint.prefixes]
        return self.shares.put(("local", endpoint.link), routes)

    def mark_of(self, endpoint: Endpoint) -> Mark | None:
        """Return how what an endpoint sends is marked.

        A routed endpoint's packets are its tenant's overlay's only where they go there.
        """
        if endpoint.table in VLAN_TABLES:
            network = f"{endpoint.tenant}:{endpoint.network}"
            standing = endpoint.tenant in self._standing
            beside = self.vrfs.of(endpoint.tenant) if standing else None
            return Mark(endpoint.link, Vrf(network, endpoint.table), beside=beside)
        if endpoint.table != MAIN_TABLE:
            return Mark(endpoint.link, self.vrfs.of(endpoint.tenant))
        if endpoint.tenant in self._standing:
            return Mark(endpoint.link, self.vrfs.of(endpoint.tenant), whole=False)
        return None


def _tenant(where: RemoteAddress) -> str:
    return where.network.partition(":")[0]


def _places(endpoint: Endpoint) -> list[RemoteAddress]:
    network = f"{endpoint.tenant}:{endpoint.network}"
    return [RemoteAddress(network, address) for address in endpoint.addresses]
