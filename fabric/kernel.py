"""What we want in a host's kernel, and what is there: values that name the same things on both sides.

Everything of ours carries a mark: routes and nexthop objects the protocol number `PROTOCOL`,
links the name prefix `LINK_PREFIX`. What has no mark is foreign, and is never in a `KernelState`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, TypeAlias

from netfabric.fabric.prefix import Address, Prefix
from netfabric.fabric.profile import NO_LIMITS, Bandwidth
from netfabric.fabric.ruleset import RulesetReading

PROTOCOL = 200
LINK_PREFIX = "nf"
LINK_GROUP = 0x4E46
"""IFLA_GROUP of every link of ours: with the name's prefix, our mark."""
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
    bandwidth: Bandwidth = NO_LIMITS
    """As the kernel keeps it (`Bandwidth.kept`)."""


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
    """Id of a Nexthop or NexthopGroup; 0 with `unreachable`."""
    table: int = MAIN_TABLE


KernelObject: TypeAlias = EndpointLink | Nexthop | NexthopGroup | KernelRoute
KernelKey: TypeAlias = tuple[str, str]
"""(kind, identity): ("link", "nf0123456789ab"), ("nexthop", "7"), ("group", "9"), ("route", "254 10.0.0.0/8")."""


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
