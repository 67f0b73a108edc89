"""A lab's topology as values: who stands in which rack, who is wired to whom, with which addresses and AS numbers."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from itertools import count
from string import ascii_lowercase
from typing import Literal, TypeAlias

from netfabric.fabric.errors import NotFoundError
from netfabric.lab.settings import KINDS, Settings, TorKind

Role: TypeAlias = Literal["spine", "tor", "host", "netmaster", "mgmt"]

SPINE_ASN, FIRST_TOR_ASN, FIRST_HOST_ASN = 65000, 65101, 4200000001
"""One AS for all spines, one for each ToR (RFC 7938, section 5.2.1), a 4-byte one for each host (RFC 6996)."""

# Everything of the underlay is in 172.16.0.0/12 and fd16::/15, so that 10.0.0.0/8 is the user's.
HOST_LINKS = (IPv4Network("172.16.0.0/16"), IPv6Network("fd16::/64"))
SPINE_LINKS = (IPv4Network("172.17.0.0/16"), IPv6Network("fd17::/64"))
MANAGEMENT = IPv4Network("172.18.0.0/16")
ROUTER_IDS = IPv4Network("172.20.0.0/16")
VTEPS: dict[str, IPv4Network | IPv6Network] = {
    "ipv4": IPv4Network("172.21.0.0/16"),
    "ipv6": IPv6Network("fd16:0:0:1::/64"),
}
NETMASTER_ADDRESS = MANAGEMENT[1]

TENANT, NETWORK = "default", "lab"
SUBNETS = (IPv4Network("10.1.0.0/16"), IPv6Network("fd10:1::/64"))
"""The network that `up` creates, as in docs/bgp-peering.md."""

PREFIX = "nfl-"


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the lab: one network namespace."""

    name: str
    role: Role
    namespace: str
    rack: int = 0
    """Counted from 1; 0: in no rack."""
    asn: int = 0
    router_id: IPv4Address | None = None
    kind: TorKind | None = None
    """What a switch runs."""
    management: IPv4Interface | None = None
    vtep: IPv4Address | IPv6Address | None = None
    """A host's loopback address, for VXLAN."""


@dataclass(frozen=True, slots=True)
class End:
    """One end of a wire: the node, the link's name there, and its addresses."""

    node: str
    link: str
    v4: IPv4Interface | None = None
    v6: IPv6Interface | None = None

    @property
    def addresses(self) -> tuple[IPv4Interface | IPv6Interface, ...]:
        """Return the addresses that there are, IPv4 first."""
        return tuple(a for a in (self.v4, self.v6) if a is not None)


@dataclass(frozen=True, slots=True)
class Wire:
    """A point-to-point link, or a port of the management bridge. `upper` is nearer to the spine."""

    upper: End
    lower: End

    def seen_from(self, node: str) -> tuple[End, End] | None:
        """Return (the node's end, the other end), or None where the wire does not touch the node."""
        if node == self.upper.node:
            return self.upper, self.lower
        if node == self.lower.node:
            return self.lower, self.upper
        return None


@dataclass(frozen=True)  # not slotted: what follows from the fields is computed once
class Plan:
    """All nodes and wires of a lab."""

    settings: Settings
    nodes: tuple[Node, ...]
    wires: tuple[Wire, ...]

    @cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def hosts(self) -> tuple[Node, ...]:
        """Return the hosts, in order."""
        return self._of("host")

    @cached_property
    def tors(self) -> tuple[Node, ...]:
        """Return the ToRs, in order."""
        return self._of("tor")

    @cached_property
    def switches(self) -> tuple[Node, ...]:
        """Return spines and ToRs."""
        return self._of("spine") + self.tors

    @property
    def prefix(self) -> str:
        """Return what the names of all namespaces of this lab begin with, and of no other lab."""
        return namespace_prefix(self.settings.name)

    def _of(self, role: Role) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if node.role == role)

    def node(self, name: str) -> Node:
        """Return a node; raise NotFoundError."""
        try:
            return self._by_name[name]
        except KeyError:
            names = ", ".join(self._by_name)
            raise NotFoundError(
                f"lab {self.settings.name}: no node {name!r}", f"there are {names}"
            ) from None

    def peerings(self, name: str) -> Iterator[tuple[End, End]]:
        """Yield (own end, other end) of every wire on which a node speaks BGP."""
        for wire in self.wires:
            ends = wire.seen_from(name)
            if ends and wire.upper.v6:
                yield ends


def namespace_prefix(lab: str) -> str:
    """Return what a lab's namespaces begin with; lab names have no dash, so no lab's is another's."""
    return f"{PREFIX}{lab}-"


def plan(settings: Settings) -> Plan:
    """Return the topology that the settings describe; the same settings give the same plan."""
    racks = range(1, settings.racks + 1)
    spines = [_spine(settings, n) for n in range(1, settings.spines + 1)]
    number = count(1)
    tors = [_tor(settings, rack, n, next(number)) for rack in racks for n in range(settings.tors)]
    number = count(1)
    hosts = [_host(settings, rack, next(number)) for rack in racks for _ in range(settings.hosts)]
    core = [
        Node("mgmt", "mgmt", _namespace(settings, "mgmt")),
        Node(
            "netmaster",
            "netmaster",
            _namespace(settings, "netmaster"),
            management=_on_management(NETMASTER_ADDRESS),
        ),
    ]
    wires = [
        *_spine_wires(spines, tors),
        *_host_wires(tors, hosts),
        *_management_wires(core, hosts),
    ]
    return Plan(settings, (*spines, *tors, *_with_router_ids(hosts, wires), *core), tuple(wires))


def _namespace(settings: Settings, node: str) -> str:
    return namespace_prefix(settings.name) + node


def _spine(settings: Settings, number: int) -> Node:
    name = f"spine{number}"
    kind = KINDS[0] if settings.tor == "mixed" else settings.tor
    where = _namespace(settings, name)
    return Node(name, "spine", where, 0, SPINE_ASN, ROUTER_IDS[number], kind)


def _tor(settings: Settings, rack: int, index: int, number: int) -> Node:
    name = f"tor{rack}{ascii_lowercase[index]}"
    kind = KINDS[(number - 1) % len(KINDS)] if settings.tor == "mixed" else settings.tor
    where = _namespace(settings, name)
    return Node(
        name, "tor", where, rack, FIRST_TOR_ASN + number - 1, ROUTER_IDS[256 + number], kind
    )


def _host(settings: Settings, rack: int, number: int) -> Node:
    name = f"host{number}"
    management = _on_management(MANAGEMENT[256 + number])
    asn = FIRST_HOST_ASN + number - 1
    vtep = VTEPS[settings.vteps][number] if settings.vteps != "none" else None
    return Node(name, "host", _namespace(settings, name), rack, asn, None, None, management, vtep)


def _on_management(address: IPv4Address) -> IPv4Interface:
    return IPv4Interface(f"{address}/{MANAGEMENT.prefixlen}")


def _with_router_ids(hosts: list[Node], wires: list[Wire]) -> Iterator[Node]:
    """A host's router id is its address on its first wire: Contiv's `routerip`."""
    first: dict[str, IPv4Address] = {}
    for wire in wires:
        if wire.lower.v4:
            first.setdefault(wire.lower.node, wire.lower.v4.ip)
    for host in hosts:
        yield replace(host, router_id=first[host.name])


def _spine_wires(spines: list[Node], tors: list[Node]) -> Iterator[Wire]:
    pairs = ((spine, tor) for spine in spines for tor in tors)
    for number, (spine, tor) in enumerate(pairs):
        yield _point_to_point(SPINE_LINKS, number, spine, tor)


def _host_wires(tors: list[Node], hosts: list[Node]) -> Iterator[Wire]:
    pairs = ((tor, host) for host in hosts for tor in tors if tor.rack == host.rack)
    for number, (tor, host) in enumerate(pairs):
        yield _point_to_point(HOST_LINKS, number, tor, host)


def _management_wires(core: list[Node], hosts: list[Node]) -> Iterator[Wire]:
    bridge, *others = core
    for node in (*others, *hosts):
        yield Wire(End(bridge.name, node.name), End(node.name, "oob", node.management))


def _point_to_point(
    ranges: tuple[IPv4Network, IPv6Network], number: int, upper: Node, lower: Node
) -> Wire:
    """The upper end has the even address of a /31 (RFC 3021) and a /127 (RFC 6164), the lower the odd one."""
    v4, v6 = ranges[0][2 * number], ranges[1][2 * number]
    return Wire(
        End(upper.name, lower.name, *_interfaces(v4, v6)),
        End(lower.name, upper.name, *_interfaces(v4 + 1, v6 + 1)),
    )


def _interfaces(v4: IPv4Address, v6: IPv6Address) -> tuple[IPv4Interface, IPv6Interface]:
    return IPv4Interface(f"{v4}/31"), IPv6Interface(f"{v6}/127")
