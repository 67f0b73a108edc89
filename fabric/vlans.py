"""VLAN networks on one host: a tagged link, a routing table and proxied neighbours for each that has an endpoint here.

Endpoints are attached at layer 3 as everywhere; on the VLAN the host answers ARP and ND for them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.events import HostSettings
from netfabric.fabric.guard import Guard
from netfabric.fabric.kernel import (
    LINK_PREFIX,
    KernelKey,
    KernelObject,
    KernelRoute,
    ProxyNeighbour,
    TableRule,
    Uplink,
    VlanLink,
)
from netfabric.fabric.network import Network
from netfabric.fabric.overlay import Shares
from netfabric.fabric.prefix import DEFAULT_ROUTES, FAMILIES
from netfabric.fabric.vrf import VLAN_TABLES, Mark, Vrf

FEATURES = ("8021q", "vlan-bpf")
"""Either will do."""


def link_of(tag: int) -> str:
    """Return the name of a tag's link: no endpoint has one with a q."""
    return f"{LINK_PREFIX}q{tag:x}"


def vrf_of(network: Network) -> Vrf:
    """Return a VLAN's routing table, which its tag alone decides."""
    return Vrf(network.key, VLAN_TABLES[network.tag])


@dataclass(slots=True)
class Vlans:
    """What a host does for each VLAN network, while an endpoint of it is here."""

    settings: HostSettings
    program: Callable[[Iterable[KernelKey]], None]
    """Has the kernel made as the shared objects say, for these keys."""
    guard: Guard
    shares: Shares
    mtu: int = 0
    """Of the trunk; 0: not known."""
    _networks: dict[str, Network] = field(default_factory=dict)
    """Those with encap vlan, by key."""
    _here: dict[str, dict[str, Endpoint]] = field(default_factory=dict)
    """The endpoints of each network on this host, by link."""
    _standing: dict[str, Network] = field(default_factory=dict)

    # what is asked

    @property
    def missing(self) -> str:
        """Return what this host lacks for VLANs, in words; "" if nothing."""
        if not any(name in self.settings.features for name in FEATURES):
            return "its kernel lacks 8021q"
        return "" if self.settings.vlan_uplink else "its netplugin runs without --vlan-uplink"

    def mtu_of(self, wanted: int) -> int:
        """Return the MTU of an endpoint, where `wanted` was asked for: frames grow by the tag alone."""
        return min(wanted, self.mtu) if self.mtu else wanted

    # what happens

    def uplinks_changed(self, uplinks: Iterable[Uplink]) -> None:
        """Follow the trunk's MTU, where it has an address to be known by."""
        found = [u.mtu for u in uplinks if u.link == self.settings.vlan_uplink]
        self.mtu = min(found, default=self.mtu)

    def intent(self, networks: Mapping[str, Network]) -> None:
        """Follow the networks."""
        found = {n.key: n for n in networks.values() if n.encap == "vlan" and n.tag}
        before, self._networks = self._networks, found
        for key in before.keys() | found.keys():
            if before.get(key) != found.get(key):
                self._follow(key)

    def enter(self, endpoint: Endpoint) -> None:
        """Make ready for an endpoint that is about to stand, or stood before."""
        if endpoint.table not in VLAN_TABLES:
            return
        key = f"{endpoint.tenant}:{endpoint.network}"
        self._here.setdefault(key, {})[endpoint.link] = endpoint
        self._follow(key)
        self._answer(key, endpoint)

    def leave(self, endpoint: Endpoint) -> None:
        """An endpoint is gone; with the last one of its network the VLAN's link goes."""
        key = f"{endpoint.tenant}:{endpoint.network}"
        here = self._here.get(key, {})
        if here.pop(endpoint.link, None) is None:
            return
        self.program(self.shares.put(("proxy", endpoint.link), ()))
        if not here:
            del self._here[key]
            self._follow(key)

    # parts

    def _follow(self, key: str) -> None:
        """Make, change or remove a network's link and table."""
        network = self._networks.get(key) if key in self._here and not self.missing else None
        before = self._standing.get(key)
        if network == before:
            return
        if before is not None and (network is None or network.tag != before.tag):
            self._dismantle(before)
        if network is None:
            return
        self._standing[key] = network
        # Marked first: unmarked, what comes in would be routed by the main table.
        self.guard.mark(link_of(network.tag), Mark(link_of(network.tag), vrf_of(network)))
        self.program(self.shares.put(("vlan", key), self._parts(network)))
        for endpoint in self._here[key].values():
            self._answer(key, endpoint)

    def _dismantle(self, network: Network) -> None:
        del self._standing[network.key]
        for endpoint in self._here.get(network.key, {}).values():
            self.program(self.shares.put(("proxy", endpoint.link), ()))
        self.program(self.shares.put(("vlan", network.key), ()))
        self.guard.mark(link_of(network.tag), None)

    def _parts(self, network: Network) -> list[KernelObject]:
        """Return link, rules and routes: the subnet is on the link, the rest behind the gateway, if any."""
        link, vrf = link_of(network.tag), vrf_of(network)
        things: list[KernelObject] = [VlanLink(link, self.settings.vlan_uplink, network.tag)]
        things += vrf.rules() if self.guard.enabled else []
        things += _rules_by_link(link, vrf)
        for family, default in zip(FAMILIES, DEFAULT_ROUTES, strict=True):
            found = network.range_of(family)
            if found is not None:
                things.append(KernelRoute(found.subnet, table=vrf.table, link=link))
            if found is not None and found.gateway is not None:
                way = KernelRoute(default, table=vrf.table, link=link, gateway=found.gateway)
                things.append(way)
            else:
                things.append(KernelRoute(default, "unreachable", table=vrf.table))
        return things

    def _answer(self, key: str, endpoint: Endpoint) -> None:
        """Answer for an endpoint on its VLAN."""
        network = self._standing.get(key)
        if network is None:
            return
        link, vrf = link_of(network.tag), vrf_of(network)
        things: list[KernelObject] = [ProxyNeighbour(link, a) for a in endpoint.addresses]
        if not self.guard.enabled:  # nobody marks what it sends
            things += _rules_by_link(endpoint.link, vrf)
        self.program(self.shares.put(("proxy", endpoint.link), things))


def _rules_by_link(link: str, vrf: Vrf) -> list[KernelObject]:
    """Return the rules for what comes in by a link without a mark: ARP never has one."""
    return [TableRule(f, vrf.table, 0, 0, vrf.table, link) for f in FAMILIES]
