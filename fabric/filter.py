"""What may talk to an endpoint group, and to whom it may talk: policy as a host needs it, names resolved."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from netfabric.fabric.prefix import Address, Family, Prefix, family_of
from netfabric.fabric.profile import NO_PROFILE, Profile

Direction: TypeAlias = Literal["in", "out"]
"""in: towards the group's endpoints; out: from them."""
Action: TypeAlias = Literal["allow", "deny"]


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports of the receiver, both ends included."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class PeerMatch:
    """The other end of a packet: every part that is not empty must match; an empty one matches anything."""

    group: str = ""
    """`tenant:group`."""
    prefixes: tuple[Prefix, ...] = ()
    """One of these."""
    without: tuple[Prefix, ...] = ()
    """None of these."""


ANYONE = PeerMatch()


@dataclass(frozen=True, slots=True)
class FilterRule:
    """One rule of a policy, for packets that open a connection: replies, and errors about it, always pass."""

    id: str
    """Unique in a policy."""
    policy: str
    """`tenant:policy`."""
    direction: Direction
    action: Action
    priority: int = 1
    """1 to 100, the higher wins."""
    protocol: str = ""
    """"" for any, "tcp", "udp", "icmp" (with IPv6: ICMPv6) or a number from 0 to 255."""
    ports: tuple[PortRange, ...] = ()
    """One of these; none: any. Of effect with TCP, UDP and SCTP only."""
    icmp_types: tuple[int, ...] = ()
    """One of these types, as the packet's own family numbers them; none: any. Of effect with ICMP only."""
    peer: PeerMatch = ANYONE
    own: tuple[Prefix, ...] = ()
    """Only for endpoints of the group with one of these addresses; none: for all."""
    log: bool = False

    @property
    def order(self) -> tuple[int, bool, str, str]:
        """Return what rules are sorted by: of those that match a packet, the first decides.

        The higher priority wins; at the same priority deny does, then the lower id, then the policy's name.
        """
        return (-self.priority, self.action == "allow", self.id, self.policy)


@dataclass(frozen=True, slots=True)
class GroupFilter:
    """All rules of an endpoint group's policies, and what becomes of a packet that none matches."""

    group: str
    """`tenant:group`."""
    default: Action = "allow"
    rules: tuple[FilterRule, ...] = ()
    network: str = ""
    """The network that the group's endpoints are on: `tenant:network`."""
    also: str = ""
    """A group (`tenant:group`) whose filter has to let a packet pass, too; empty: none."""
    profile: Profile = NO_PROFILE
    """Of the group's netprofile."""

    @property
    def tenant(self) -> str:
        """Return the group's tenant."""
        return self.group.partition(":")[0]

    @property
    def peers(self) -> frozenset[str]:
        """Return the groups whose members a host has to know to enforce this."""
        return frozenset(rule.peer.group for rule in self.rules if rule.peer.group)


@dataclass(frozen=True, slots=True)
class Members:
    """Addresses of endpoints of a group, on any host."""

    group: str
    """`tenant:group`."""
    addresses: frozenset[Address] = frozenset()

    def of(self, family: Family) -> frozenset[Address]:
        """Return those of one family."""
        return frozenset(a for a in self.addresses if family_of(a) == family)
