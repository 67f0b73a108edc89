"""A switch of the lab as values: its own AS and its peers."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from netfabric.fabric.prefix import Address, Family, family_of

PeerRole: TypeAlias = Literal["host", "fabric"]


@dataclass(frozen=True, slots=True)
class SwitchPeer:
    """One session of a switch, as the switch sees it."""

    name: str
    address: Address
    asn: int
    local_address: Address
    role: PeerRole
    """A host gets a default route and nothing else; another switch gets all that came over BGP."""
    password: str = field(default="", repr=False)
    ttl_security: bool = False
    """GTSM (RFC 5082)."""
    families: tuple[Family, ...] = ()
    """Empty: the family of `address`. IPv4 over an IPv6 session has next hops of RFC 8950."""

    @property
    def carried(self) -> tuple[Family, ...]:
        """Return the families that the session carries."""
        return self.families or (family_of(self.address),)

    @property
    def extended(self) -> bool:
        """Return whether IPv4 routes come with IPv6 next hops."""
        return self.address.version == 6 and 4 in self.carried


@dataclass(frozen=True, slots=True)
class SwitchSettings:
    """A switch: where it runs and with whom it speaks."""

    name: str
    namespace: str
    asn: int
    router_id: str
    peers: tuple[SwitchPeer, ...]
    run_dir: Path
    """For its configuration, its log and its pidfile."""
    hold_time: int = 9
    """Seconds; keepalive is a third of it."""
    default_to_hosts: bool = True

    @property
    def keepalive(self) -> int:
        """Return seconds between KEEPALIVEs (RFC 4271, section 10)."""
        return max(1, self.hold_time // 3)

    def carrying(self, family: Family) -> tuple[SwitchPeer, ...]:
        """Return the peers whose sessions carry a family."""
        return tuple(peer for peer in self.peers if family in peer.carried)
