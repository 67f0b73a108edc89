"""What a host's brain wants done: the outputs of `host.Host.handle`.

The loop gives a call's answers to callers first, then starts the other effects in order, and waits for
none; those that have an outcome post it back as an event. What must follow something is therefore decided
when its outcome arrives.
"""

from dataclasses import dataclass
from typing import TypeAlias

from netfabric.fabric.cooling import Where
from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.errors import FabricError
from netfabric.fabric.kernel import Operation
from netfabric.fabric.peer import Peer, Speaker
from netfabric.fabric.prefix import Address
from netfabric.fabric.route import Announcement
from netfabric.fabric.ruleset_plan import Transaction
from netfabric.fabric.session import (
    AgentMessage,
    HeldBlock,
    HeldLoan,
    IntentChanged,
    MembersChanged,
    RemotesChanged,
)


@dataclass(frozen=True, slots=True)
class JournalChange:
    """One durable change; fields that are not empty apply together."""

    endpoint: Endpoint | None = None
    """Put this endpoint."""
    detaching: EndpointKey | None = None
    gone: EndpointKey | None = None
    cooling: tuple[tuple[Where, float], ...] = ()
    cooled: tuple[Where, ...] = ()
    block: HeldBlock | None = None
    block_gone: HeldBlock | None = None
    loan: HeldLoan | None = None
    loan_gone: str = ""
    intent: IntentChanged | None = None
    """The whole intent but for filters, of which it has those that changed; all of them if it is `full`."""
    members: MembersChanged | None = None
    remotes: RemotesChanged | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """Make a change durable. Outcome: `events.Recorded` with the same id; 0 asks for none."""

    change: JournalChange
    id: int = 0


@dataclass(frozen=True, slots=True)
class Attach:
    """Build an endpoint's datapath, or mend it; idempotent. Outcome: `events.Attached`."""

    endpoint: Endpoint
    rules: Transaction | None = None
    """To be in force before anything of it stands; if they fail it does, and so does `Filter`."""


@dataclass(frozen=True, slots=True)
class Detach:
    """Remove an endpoint's datapath; what is gone already is success. Outcome: `events.Detached`."""

    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class Program:
    """Apply these in order. Outcome: `events.Programmed`. Endpoint links never stand here but to be removed."""

    operations: tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class Filter:
    """Change the packet filter. Outcome: `events.Filtered` if it fails: nothing has changed then."""

    rules: Transaction


@dataclass(frozen=True, slots=True)
class Audit:
    """Read the kernel. Outcome: `events.KernelObserved`."""


@dataclass(frozen=True, slots=True)
class Count:
    """Read what these groups' rules have counted. Outcome: `events.Counted`, unless that fails."""

    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConfigureSpeaker:
    """Run sessions with exactly these peers; a speaker of None runs none.

    The loop adds local addresses where a peer names none.
    """

    speaker: Speaker | None
    peers: tuple[Peer, ...] = ()


@dataclass(frozen=True, slots=True)
class Announce:
    """Offer these routes to every peer that carries their family."""

    routes: tuple[Announcement, ...]


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Take these back, as they were announced."""

    routes: tuple[Announcement, ...]


@dataclass(frozen=True, slots=True)
class EndReplay:
    """All that this host offers has been announced since start: End-of-RIB may go out (RFC 4724)."""


@dataclass(frozen=True, slots=True)
class TearDown:
    """End a session with a NOTIFICATION Cease of this subcode (RFC 4486)."""

    peer: str
    subcode: int


@dataclass(frozen=True, slots=True)
class Tell:
    """Send to netmaster; dropped where no stream is up, since Hello carries everything anew."""

    message: AgentMessage


@dataclass(frozen=True, slots=True)
class AttachAnswer:
    """The caller of ADD gets the endpoint."""

    token: int
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class DetachAnswer:
    """The caller of DEL or GC is told that it is done."""

    token: int


@dataclass(frozen=True, slots=True)
class ReserveAnswer:
    """The caller gets an address, durably reserved."""

    token: int
    address: Address


@dataclass(frozen=True, slots=True)
class Refuse:
    """The caller of any request gets an error."""

    token: int
    error: FabricError


@dataclass(frozen=True, slots=True)
class Warn:
    """Say to the operator (log and state) what is wrong with `subject`, or with `text` empty that it is well again."""

    subject: str
    text: str


Effect: TypeAlias = (
    Record
    | Attach
    | Detach
    | Program
    | Filter
    | Audit
    | Count
    | ConfigureSpeaker
    | Announce
    | Withdraw
    | EndReplay
    | TearDown
    | Tell
    | AttachAnswer
    | DetachAnswer
    | ReserveAnswer
    | Refuse
    | Warn
)
