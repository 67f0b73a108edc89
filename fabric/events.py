"""What happens to a host: the inputs of `host.Host.handle`. Time comes as the second argument, never here."""

from dataclasses import dataclass, field
from typing import TypeAlias

from netfabric.fabric.cooling import Where
from netfabric.fabric.endpoint import AttachRequest, Endpoint, EndpointKey
from netfabric.fabric.errors import FabricError
from netfabric.fabric.filter import Members
from netfabric.fabric.kernel import KernelKey, KernelState, Uplink
from netfabric.fabric.prefix import Address, Family, Prefix
from netfabric.fabric.route import PathAttributes
from netfabric.fabric.session import (
    HeldBlock,
    HeldLoan,
    IntentChanged,
    MasterMessage,
    Remote,
    RuleCount,
)


@dataclass(frozen=True, slots=True)
class JournalState:
    """Everything the journal holds, as read at start."""

    endpoints: tuple[Endpoint, ...] = ()
    detaching: frozenset[EndpointKey] = frozenset()
    """Endpoints whose DEL was begun."""
    blocks: tuple[HeldBlock, ...] = ()
    loans: tuple[HeldLoan, ...] = ()
    cooling: tuple[tuple[Where, float], ...] = ()
    """(network and address, time when it may be used again), wall-clock seconds; a network of "": not known."""
    intent: IntentChanged | None = None
    """The last intent seen, as one full message."""
    members: tuple[Members, ...] = ()
    """Of groups that filters name as peers."""
    remotes: tuple[Remote, ...] = ()
    """Overlay endpoints on other hosts."""


@dataclass(frozen=True, slots=True)
class Started:
    """First event. `journal` is None where it was lost: then nothing is given out before Welcome."""

    journal: JournalState | None
    observed: KernelState
    uplinks: tuple[Uplink, ...]


@dataclass(frozen=True, slots=True)
class UplinksChanged:
    """The host's own addresses or links changed: all of them, always complete."""

    uplinks: tuple[Uplink, ...]


@dataclass(frozen=True, slots=True)
class KernelObserved:
    """An audit's reading of everything of ours."""

    state: KernelState


@dataclass(frozen=True, slots=True)
class AttachRequested:
    """ADD; `token` names the waiting caller."""

    token: int
    request: AttachRequest


@dataclass(frozen=True, slots=True)
class DetachRequested:
    """DEL; an interface of "" means every endpoint of the container."""

    token: int
    key: EndpointKey


@dataclass(frozen=True, slots=True)
class CollectRequested:
    """GC: detach every endpoint that came by CNI and is not among these."""

    token: int
    valid: frozenset[EndpointKey]


@dataclass(frozen=True, slots=True)
class ReserveRequested:
    """An address ahead of its endpoint, as Docker wants it; `token` names the waiting caller."""

    token: int
    network: str
    family: Family
    wanted: Address | None = None


@dataclass(frozen=True, slots=True)
class ReleaseRequested:
    """An address that was reserved is not wanted after all."""

    network: str
    address: Address


@dataclass(frozen=True, slots=True)
class Attached:
    """Outcome of `effects.Attach`."""

    key: EndpointKey
    error: FabricError | None = None


@dataclass(frozen=True, slots=True)
class Detached:
    """Outcome of `effects.Detach`."""

    key: EndpointKey
    error: FabricError | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """Outcome of `effects.Record`: durable, or not."""

    id: int
    error: FabricError | None = None


@dataclass(frozen=True, slots=True)
class Programmed:
    """Outcome of `effects.Program`: the operations that failed, by object."""

    failures: tuple[tuple[KernelKey, FabricError], ...] = ()


@dataclass(frozen=True, slots=True)
class Filtered:
    """`effects.Filter`, or the rules of `effects.Attach`, failed: the table is as it was."""

    error: FabricError


@dataclass(frozen=True, slots=True)
class Counted:
    """Outcome of `effects.Count`."""

    counts: tuple[RuleCount, ...]


@dataclass(frozen=True, slots=True)
class PeerUp:
    """A session is established."""

    peer: str


@dataclass(frozen=True, slots=True)
class PeerDown:
    """A session ended, or an attempt failed; every path of that peer is void (RFC 4271, section 3.2)."""

    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class PathsReceived:
    """One UPDATE: paths of one set of attributes, and withdrawn prefixes."""

    peer: str
    attributes: PathAttributes | None
    announced: tuple[Prefix, ...] = ()
    withdrawn: tuple[Prefix, ...] = ()


@dataclass(frozen=True, slots=True)
class EndOfRib:
    """The peer has sent all it had for a family (RFC 4724, section 2)."""

    peer: str
    family: Family


@dataclass(frozen=True, slots=True)
class Advertised:
    """An UPDATE with these prefixes left for a peer."""

    peer: str
    prefixes: tuple[Prefix, ...] = ()
    withdrawn: tuple[Prefix, ...] = ()


@dataclass(frozen=True, slots=True)
class MasterConnected:
    """A stream to a netmaster is up: say Hello."""

    address: str


@dataclass(frozen=True, slots=True)
class MasterLost:
    """The stream ended."""

    reason: str


@dataclass(frozen=True, slots=True)
class MasterSaid:
    """A message from netmaster."""

    message: MasterMessage


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed: at least once a second."""


Event: TypeAlias = (
    Started
    | UplinksChanged
    | KernelObserved
    | AttachRequested
    | DetachRequested
    | CollectRequested
    | ReserveRequested
    | ReleaseRequested
    | Attached
    | Detached
    | Recorded
    | Programmed
    | Filtered
    | Counted
    | PeerUp
    | PeerDown
    | PathsReceived
    | EndOfRib
    | Advertised
    | MasterConnected
    | MasterLost
    | MasterSaid
    | Tick
)


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What the operator set for this agent."""

    host: str
    software: str = "0"
    address: str = ""
    cool_down: float = 30.0
    """Seconds before a released address is given out again."""
    drain: float = 0.3
    """Seconds between a withdrawal leaving and the datapath going, for the fabric to converge."""
    advertise_timeout: float = 2.0
    """Seconds ADD (`ready: fabric`) and DEL wait for an UPDATE to leave, at most."""
    block_timeout: float = 8.0
    """Seconds an ADD waits for a block from netmaster."""
    audit_interval: float = 8.0
    """Seconds between full readings of the kernel."""
    low_water: int = 8
    """Free addresses of a network and family under which another block is asked for ahead of need."""
    vtep: Address | None = None
    """Where this host takes VXLAN packets; None: it carries no overlay."""
    vtep_announced: bool = False
    """Whether peers are told of it: a loopback's address, that nobody else announces."""
    vlan_uplink: str = ""
    """The link that is a trunk of VLANs; empty: this host carries none."""
    features: tuple[str, ...] = field(default=())
