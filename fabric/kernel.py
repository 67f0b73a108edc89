"""What we want in a host's kernel, and what is there: values that name the same things on both sides.

Everything of ours carries a mark: routes and nexthop objects the protocol number `PROTOCOL`,
links the name prefix `LINK_PREFIX`. What has no mark is foreign, and is never in a `KernelState`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, TypeAlias

from netfabric.fabric.prefix import Address, Family, Prefix
from netfabric.fabric.profile import NO_LIMITS, Bandwidth
from netfabric.fabric.ruleset import RulesetReading

PROTOCOL = 200
LINK_PREFIX = "nf"
LINK_GROUP = 0x4E46
"""IFLA_GROUP of every endpoint's link: with the name's prefix, our mark."""
OVERLAY_GROUP = 0x4E47
"""The same of VXLAN devices."""
VLAN_GROUP = 0x4E49
"""The same of VLAN links."""
SHAPER_GROUP = 0x4E48
"""The same of the devices that what endpoints send is led through."""
MAIN_TABLE = 254
NEXTHOP_BASE = 0x4E460000
"""Our nexthop ids lie in [NEXTHOP_BASE, NEXTHOP_BASE + 0xFFFF]."""


@dataclass(frozen=True, slots=True)
class EndpointLink:
    """The host's side of an endpoint: device, permanent neighbours and host routes go and come with it.

    One value for all of it, since one repair (`attach` again) mends whichever part is missing.
    """

    name: str
    mac: str
    addresses: tuple[Address, ...]
    mtu: int
    table: int = MAIN_TABLE
    """Of the host routes."""
    bandwidth: Bandwidth = NO_LIMITS
    """As the kernel keeps it (`Bandwidth.kept`)."""


@dataclass(frozen=True, slots=True)
class VxlanLink:
    """A VXLAN device (RFC 7348) that learns nothing and floods nothing; up."""

    name: str
    vni: int
    local: Address
    """The VTEP's address here."""
    mac: str
    mtu: int
    port: int = 4789


@dataclass(frozen=True, slots=True)
class ForwardingEntry:
    """A permanent entry of a VXLAN device's FDB: behind which VTEP a MAC address is."""

    link: str
    mac: str
    vtep: Address


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A permanent neighbour on a link of ours: nobody is asked by ARP or ND."""

    link: str
    address: Address
    mac: str


@dataclass(frozen=True, slots=True)
class VlanLink:
    """A link that carries frames of one VLAN on a trunk (IEEE 802.1Q); up, MAC and MTU as the trunk's."""

    name: str
    parent: str
    """The trunk's name."""
    tag: int


@dataclass(frozen=True, slots=True)
class ProxyNeighbour:
    """An address for which a link answers ARP or ND."""

    link: str
    address: Address


@dataclass(frozen=True, slots=True)
class TableRule:
    """Packets with this mark are routed by a table; or, with a mask of 0, what comes in by a link."""

    family: Family
    priority: int
    mark: int
    mask: int
    table: int
    link: str = ""
    """By which the packets come in; empty: by any."""


@dataclass(frozen=True, slots=True)
class Nexthop:
    """A nexthop object: a gateway on a link."""

    id: int
    gateway: Address
    link: str


@dataclass(frozen=True, slots=True)
class NexthopGroup:
    """A nexthop object that spreads flows over others (ECMP, equal weights)."""

    id: int
    members: tuple[int, ...]
    """Ids of `Nexthop`s, ascending, at least one."""


@dataclass(frozen=True, slots=True)
class KernelRoute:
    """A route of ours that is not an endpoint's: towards the fabric, or an aggregate's unreachable rest."""

    prefix: Prefix
    kind: Literal["unicast", "unreachable"] = "unicast"
    nexthop: int = 0
    """Id of a Nexthop or NexthopGroup; 0 with `unreachable` and where `link` is given."""
    table: int = MAIN_TABLE
    link: str = ""
    """The link over which it goes, if there is no nexthop object."""
    gateway: Address | None = None
    """On that link, whatever its subnets (onlink); may be IPv6 for an IPv4 prefix (RFC 5549). None: on the link itself."""


KernelObject: TypeAlias = (
    EndpointLink
    | VxlanLink
    | ForwardingEntry
    | Neighbour
    | VlanLink
    | ProxyNeighbour
    | TableRule
    | Nexthop
    | NexthopGroup
    | KernelRoute
)
KernelKey: TypeAlias = tuple[str, str]
"""(kind, identity): ("link", "nf0123456789ab"), ("nexthop", "7"), ("group", "9"), ("route", "254 10.0.0.0/8"),
("vxlan", "nfv64"), ("fdb", "nfv64 02:…"), ("neighbour", "nfv64 192.0.2.1"), ("rule", "4 20001"),
("vlan", "nfq64"), ("proxy", "nfq64 192.0.2.1")."""


def key_of(thing: KernelObject) -> KernelKey:
    """Return what makes two values the same kernel object in two states."""
    match thing:
        case EndpointLink(name=name):
            return ("link", name)
        case Nexthop(id=number):
            return ("nexthop", str(number))
        case NexthopGroup(id=number):
            return ("group", str(number))
        case KernelRoute(prefix=prefix, table=table):
            return _route_key(prefix, table)
        case VxlanLink(name=name):
            return ("vxlan", name)
        case ForwardingEntry(link=link, mac=mac):
            return ("fdb", f"{link} {mac}")
        case Neighbour(link=link, address=address):
            return ("neighbour", f"{link} {address}")
        case VlanLink(name=name):
            return ("vlan", name)
        case ProxyNeighbour(link=link, address=address):
            return ("proxy", f"{link} {address}")
        case TableRule(family=family, priority=priority, link=link):
            return ("rule", f"{family} {priority} {link}".rstrip())


@lru_cache(maxsize=1 << 15)
def _route_key(prefix: Prefix, table: int) -> KernelKey:
    """Writing a prefix down is most of what a changed route costs."""
    return ("route", f"{table} {prefix}")


@dataclass(frozen=True, slots=True)
class KernelState:
    """Everything of ours in one namespace's kernel, desired or observed."""

    objects: Mapping[KernelKey, KernelObject] = field(default_factory=dict)
    ruleset: RulesetReading | None = None
    """None where nobody but ourselves has changed it since the last reading, or where there is no nftables."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One step of a plan: put this object there (create or replace), or remove it."""

    action: Literal["put", "remove"]
    thing: KernelObject


@dataclass(frozen=True, slots=True)
class Uplink:
    """An address of the host on a link that is not ours: how a next hop's link is found."""

    link: str
    address: Address
    subnet: Prefix
    mtu: int = 1500
    """The link's."""
