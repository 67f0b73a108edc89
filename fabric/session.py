"""What an agent and a netmaster say to each other: `proto/fabric.proto` as values of the model."""

from dataclasses import dataclass
from typing import TypeAlias

from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.filter import Direction, GroupFilter, Members
from netfabric.fabric.network import Network
from netfabric.fabric.peer import Peer, SessionState, Speaker
from netfabric.fabric.placement import Placement
from netfabric.fabric.port import Ports
from netfabric.fabric.prefix import Address, Family, Prefix
from netfabric.fabric.route import LearnedRoute

PLACEMENTS = "placements"
"""The feature of an agent that takes all that is here; those of before end the session at what they don't know."""


@dataclass(frozen=True, slots=True)
class Version:
    """A point in the fabric's history: the store's identity and its revision. Resumable at any netmaster."""

    epoch: str = ""
    revision: int = 0


@dataclass(frozen=True, slots=True)
class HeldBlock:
    """A block of a network that a host holds."""

    network: str
    prefix: Prefix


@dataclass(frozen=True, slots=True)
class HeldLoan:
    """A single address that a host (`borrower`) has of another host's block."""

    id: str
    network: str
    block: Prefix
    owner: str
    borrower: str
    address: Address | None = None
    """None until the owner has chosen it."""
    wanted: Address | None = None
    """The address that the borrower asked for; None: any."""


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """A BGP session as its host sees it."""

    peer: str
    """The peer's key."""
    address: Address
    asn: int
    state: SessionState
    since: float
    """Seconds since the epoch."""
    received: int = 0
    """Prefixes in Adj-RIB-In, after the import filter."""
    advertised: int = 0
    reason: str = ""
    """Why it is down; empty when established."""
    prefixes: tuple[Prefix, ...] = ()
    """The received prefixes, the first thousand of them."""


# agent → netmaster


@dataclass(frozen=True, slots=True)
class Hello:
    """First message of an agent. `endpoints` and `blocks` are all that it has; `seen` is where to resume."""

    host: str
    software: str
    address: str
    seen: Version = Version()
    blocks: tuple[HeldBlock, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    features: tuple[str, ...] = ()
    """Kernel features present: "vxlan", "8021q", "nexthop", …; and PLACEMENTS."""
    fresh: bool = False
    """The journal was lost: `blocks` and `endpoints` are no proof of absence."""
    vtep: Address | None = None
    """Where this host takes VXLAN packets (RFC 7348, section 3); None: it carries no overlay."""


@dataclass(frozen=True, slots=True)
class EndpointsChanged:
    """Endpoints that came up or are gone on the agent's host."""

    up: tuple[Endpoint, ...] = ()
    down: tuple[EndpointKey, ...] = ()


@dataclass(frozen=True, slots=True)
class RoutesLearned:
    """Best routes learned over BGP; `full` replaces all that was said before."""

    full: bool
    routes: tuple[LearnedRoute, ...] = ()
    withdrawn: tuple[Prefix, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionsChanged:
    """All BGP sessions of the host, always complete."""

    sessions: tuple[SessionStatus, ...]


@dataclass(frozen=True, slots=True)
class BlockWanted:
    """A network needs addresses here; `address` where a particular one was asked for."""

    network: str
    family: Family
    address: Address | None = None


@dataclass(frozen=True, slots=True)
class BlockReturned:
    """The host gives back a block in which nothing is used, cooling or lent."""

    network: str
    prefix: Prefix


@dataclass(frozen=True, slots=True)
class LendAnswered:
    """The owner's answer to LendAsked: the address it gave up, or None where it has none to give."""

    loan: str
    address: Address | None = None


@dataclass(frozen=True, slots=True)
class LoanReturned:
    """The borrower no longer uses the address (and it has cooled down)."""

    loan: str


@dataclass(frozen=True, slots=True)
class RuleCount:
    """What a rule of a group has counted on a host, since it came into the packet filter there."""

    group: str
    """`tenant:group`, or the name of a filter of pods."""
    direction: Direction
    rule: str
    """`tenant:policy/id`, "default" or "other tenant"."""
    packets: int
    """That open a connection: what belongs to one passes before."""
    octets: int


@dataclass(frozen=True, slots=True)
class CountsChanged:
    """What rules have counted on the host, always complete but for those that counted nothing."""

    counts: tuple[RuleCount, ...]


AgentMessage: TypeAlias = (
    Hello
    | EndpointsChanged
    | RoutesLearned
    | SessionsChanged
    | BlockWanted
    | BlockReturned
    | LendAnswered
    | LoanReturned
    | CountsChanged
)


# netmaster → agent


@dataclass(frozen=True, slots=True)
class Welcome:
    """First answer: what the store holds of this host. An agent that lost its journal rebuilds from it."""

    blocks: tuple[HeldBlock, ...]
    loans: tuple[HeldLoan, ...]
    """Both those it borrowed and those it lent."""
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class IntentChanged:
    """Intent that this host needs. `full` replaces everything; else a delta, applied on `seen`."""

    version: Version
    full: bool
    networks: tuple[Network, ...] = ()
    networks_gone: tuple[str, ...] = ()
    speaker: Speaker | None = None
    """None: unchanged in a delta; no BGP on this host in a full one."""
    speaker_gone: bool = False
    peers: tuple[Peer, ...] = ()
    peers_gone: tuple[str, ...] = ()
    ports: Ports | None = None
    """All of the host's own; None: unchanged."""
    filters: tuple[GroupFilter, ...] = ()
    """Of every group, whether or not it has an endpoint here: an ADD waits for nothing."""
    filters_gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MembersChanged:
    """Addresses of the groups that filters name as peers. `full` replaces all that was said before.

    Additions come before the filters that need them, removals after those that needed them.
    """

    full: bool
    added: tuple[Members, ...] = ()
    removed: tuple[Members, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoteAddress:
    """What makes two remotes the same: an address may be in the networks of several tenants."""

    network: str
    """`tenant:name`."""
    address: Address


@dataclass(frozen=True, slots=True)
class Remote:
    """An endpoint's address on another host, and the VTEP behind which it is."""

    network: str
    """`tenant:name`."""
    address: Address
    host: str
    vtep: Address
    sequence: int
    """The endpoint's: of two places for one address the higher wins."""

    @property
    def where(self) -> RemoteAddress:
        """Return what is the same when the endpoint moves."""
        return RemoteAddress(self.network, self.address)


@dataclass(frozen=True, slots=True)
class RemotesChanged:
    """Endpoints on other hosts, of the tenants that have an overlay and an endpoint on this one.

    `full` replaces all that was said before. What is added replaces what was at the same address.
    """

    full: bool
    added: tuple[Remote, ...] = ()
    removed: tuple[RemoteAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class PlacementsChanged:
    """Where pods of this host belong. `full` replaces all that was said before; filters come before it."""

    full: bool
    placed: tuple[Placement, ...] = ()
    gone: tuple[str, ...] = ()
    """Pods (`namespace/name`) that are not there, or not here, any more. What is attached stays as it is."""


@dataclass(frozen=True, slots=True)
class BlockAnswered:
    """Answer to BlockWanted: a block, or a loan, or the reason why neither."""

    network: str
    family: Family
    block: Prefix | None = None
    loan: HeldLoan | None = None
    error: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class LendAsked:
    """Another host needs an address of a block of yours: `wanted`, or any where that is None."""

    loan: str
    network: str
    block: Prefix
    wanted: Address | None = None


@dataclass(frozen=True, slots=True)
class LoanEnded:
    """The borrower gave the address back: the owner may use it again."""

    loan: str


@dataclass(frozen=True, slots=True)
class StoredEndpoint:
    """An endpoint that the store has now, with its sequence number there."""

    key: EndpointKey
    sequence: int


@dataclass(frozen=True, slots=True)
class RefusedEndpoint:
    """An endpoint that this host may not have, and why."""

    key: EndpointKey
    reason: str


@dataclass(frozen=True, slots=True)
class EndpointsAnswered:
    """What became of reported endpoints."""

    stored: tuple[StoredEndpoint, ...] = ()
    refused: tuple[RefusedEndpoint, ...] = ()


MasterMessage: TypeAlias = (
    Welcome
    | IntentChanged
    | MembersChanged
    | RemotesChanged
    | BlockAnswered
    | LendAsked
    | LoanEnded
    | EndpointsAnswered
    | PlacementsChanged
)
