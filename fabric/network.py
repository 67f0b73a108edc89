"""A network as hosts see it: a prefix each family, how it leaves the host, and how addresses are given."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal, NewType, TypeAlias

from netfabric.fabric.prefix import Address, Family, Prefix

Vni = NewType("Vni", int)
Vlan = NewType("Vlan", int)

Encap: TypeAlias = Literal["routed", "vxlan", "vlan"]
AnnounceMode: TypeAlias = Literal["host-routes", "blocks"]
ReadyMode: TypeAlias = Literal["host", "fabric"]


@dataclass(frozen=True, slots=True)
class Range:
    """A subnet and the part of it that may be given out, both ends included."""

    subnet: Prefix
    first: Address
    last: Address
    gateway: Address | None = None
    block_length: int = 26

    @property
    def family(self) -> Family:
        """Return 4 or 6."""
        return 4 if self.subnet.version == 4 else 6


@dataclass(frozen=True, slots=True)
class Network:
    """The intent of one network, ready to use; `key` is `tenant:name` as in the REST API."""

    tenant: str
    name: str
    encap: Encap
    ranges: tuple[Range, ...]
    """One a family at most, IPv4 first."""
    reserved: tuple[Prefix, ...] = ()
    announce: AnnounceMode = "host-routes"
    ready: ReadyMode = "host"
    tag: int = 0
    """VLAN id or VNI; 0 where the encap has none."""
    infra: bool = False

    @property
    def key(self) -> str:
        """Return `tenant:name`."""
        return f"{self.tenant}:{self.name}"

    def range_of(self, family: Family) -> Range | None:
        """Return the range of that family, if the network has one."""
        return next((r for r in self.ranges if r.family == family), None)


def whole_range(
    subnet: Prefix, gateway: Address | None = None, block_length: int | None = None
) -> Range:
    """Return the range of a whole subnet: IPv4 without network and broadcast address, IPv6 without ::0."""
    first, last = int(subnet.network_address), int(subnet.broadcast_address)
    if isinstance(subnet, IPv4Network):
        edge = 1 if subnet.prefixlen < 31 else 0
        return Range(
            subnet,
            IPv4Address(first + edge),
            IPv4Address(last - edge),
            gateway,
            block_length or max(26, subnet.prefixlen),
        )
    assert isinstance(subnet, IPv6Network)
    return Range(
        subnet,
        IPv6Address(first + (1 if subnet.prefixlen < 127 else 0)),
        IPv6Address(last),
        gateway,
        block_length or max(122, subnet.prefixlen),
    )
