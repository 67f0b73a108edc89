"""A tenant's routing table on a host (VRF): its number, and the mark by which packets find it."""

from dataclasses import dataclass, field
from zlib import crc32

from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.kernel import TableRule
from netfabric.fabric.prefix import FAMILIES

TABLES = range(20_001, 28_192)
"""Tenants' routing tables, and the priorities of the rules that lead to them: behind the local table, before main."""
VLAN_TABLES = range(28_192, 32_288)
"""The same of VLANs, by tag."""
MARK_MASK = 0x3FFF_0000
"""The bits of a packet's mark that are ours: kube-proxy's and portmap's lie below."""
_FIRST_BIT = 16


@dataclass(frozen=True, slots=True)
class Vrf:
    """One tenant's place among the tables, or one VLAN's."""

    tenant: str
    """Or a VLAN network's key."""
    table: int

    @property
    def slot(self) -> int:
        """Return a number from 1 to 12,287; also the conntrack zone, since addresses of tenants may overlap."""
        return self.table - TABLES.start + 1

    @property
    def mark(self) -> int:
        """Return the mark of packets that its table alone routes."""
        return self.slot << _FIRST_BIT

    def rules(self) -> list[TableRule]:
        """Return what leads marked packets to the table."""
        return [TableRule(f, self.table, self.mark, MARK_MASK, self.table) for f in FAMILIES]


@dataclass(frozen=True, slots=True)
class Mark:
    """What comes in by a link belongs to a VRF; or, if not `whole`, what goes to the subnets of its overlay."""

    link: str
    vrf: Vrf
    whole: bool = True
    beside: Vrf | None = None
    """To the subnets of whose overlay packets go all the same, whatever `vrf` is."""

    def places(self) -> dict[Vrf, bool]:
        """Return the VRFs that it is about, and whether all packets are theirs."""
        return {self.vrf: self.whole} | ({self.beside: False} if self.beside else {})


@dataclass(slots=True)
class Vrfs:
    """Which tenant has which table: found by the tenant's name, and kept as long as an endpoint stands in it."""

    known: dict[str, Vrf] = field(default_factory=dict)

    def of(self, tenant: str) -> Vrf:
        """Return a tenant's place; the same on every start, unless two names fall on one."""
        if tenant not in self.known:
            taken = {vrf.table for vrf in self.known.values()}
            at = crc32(tenant.encode()) % len(TABLES)
            while TABLES[at] in taken:
                at = (at + 1) % len(TABLES)
            self.known[tenant] = Vrf(tenant, TABLES[at])
        return self.known[tenant]

    def adopt(self, endpoint: Endpoint) -> None:
        """Go on with the table in which an endpoint stands already."""
        if endpoint.table in TABLES:
            self.known.setdefault(endpoint.tenant, Vrf(endpoint.tenant, endpoint.table))
