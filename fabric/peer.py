"""A BGP peer of a host and the host's own speaker, as intent."""

from dataclasses import dataclass, field
from typing import Literal, NewType, TypeAlias

from netfabric.fabric.prefix import DEFAULT_ROUTES, Address, Family, Interface, Prefix

Asn = NewType("Asn", int)
SessionState: TypeAlias = Literal[
    "idle", "connect", "active", "opensent", "openconfirm", "established"
]


@dataclass(frozen=True, slots=True)
class ImportFilter:
    """Which received routes are taken: exact prefixes, and longer ones up to a length; and how many."""

    exact: tuple[Prefix, ...] = DEFAULT_ROUTES
    within: tuple[tuple[Prefix, int], ...] = ()
    """(prefix, longest length accepted inside it)."""
    max_prefixes: int = 10_000
    """Received routes a session may hold before it is torn down (RFC 4486, subcode 1)."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One session's other end. `key` is `host:name`."""

    host: str
    name: str
    address: Address
    asn: Asn
    local_address: Address | None = None
    """None: the agent takes its own address on the link that reaches the peer."""
    families: tuple[Family, ...] = ()
    """Empty: the family of `address`. IPv4 over an IPv6 session uses RFC 8950 next hops."""
    password: str = field(default="", repr=False)
    hold_time: int = 9
    """Seconds; keepalive is a third of it (RFC 4271, section 10)."""
    multihop: int = 1
    """Outgoing TTL; 1 for a directly connected peer."""
    ttl_security: bool = False
    """GTSM, RFC 5082: both TTLs 255; not together with multihop > 1."""
    graceful_restart: int = 120
    """Seconds, RFC 4724; 0 turns it off."""
    communities: tuple[str, ...] = ()
    large_communities: tuple[str, ...] = ()
    med: int | None = None
    prepend: int = 0
    """How many more times our own AS stands in the path."""
    local_preference: int = 100
    """Given to routes received from this peer."""
    imports: ImportFilter = ImportFilter()

    @property
    def key(self) -> str:
        """Return `host:name`."""
        return f"{self.host}:{self.name}"

    @property
    def carried(self) -> tuple[Family, ...]:
        """Return the families that the session carries."""
        return self.families or (4 if self.address.version == 4 else 6,)


@dataclass(frozen=True, slots=True)
class Speaker:
    """A host's own end of all its sessions."""

    host: str
    asn: Asn
    router_id: str
    """Dotted quad."""
    router_ip: Interface | None = None
    """Contiv's `routerip`: the host's address towards its peers, which must exist on a link."""
