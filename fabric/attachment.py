"""One container interface on its way up and down: its phases, and who waits for it."""

from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256

from netfabric.fabric.endpoint import PORT, AttachRequest, Endpoint, EndpointKey
from netfabric.fabric.errors import FabricError
from netfabric.fabric.kernel import LINK_PREFIX
from netfabric.fabric.prefix import Address


class Phase(Enum):
    """Where an attachment stands. Once it leaves, it never comes back up."""

    WAITING = "waiting for an address"
    BUILDING = "being built"
    CONFIRMING = "waiting for the fabric"
    UP = "up"
    MENDING = "up, with a datapath that could not be mended yet"
    WITHDRAWING = "being withdrawn"
    DRAINING = "draining"
    DETACHING = "being detached"
    CLOSING = "being written off"


STANDING = {Phase.UP, Phase.CONFIRMING}
"""Announced."""
LEAVING = {Phase.WITHDRAWING, Phase.DRAINING, Phase.DETACHING, Phase.CLOSING}


@dataclass(slots=True)
class Attachment:
    """An endpoint with its phase. `endpoint` is None only while it waits for an address."""

    key: EndpointKey
    phase: Phase
    request: AttachRequest | None = None
    endpoint: Endpoint | None = None
    taken: list[Address] = field(default_factory=list)
    """Addresses that it has while it waits for the rest."""
    deadline: float = 0.0
    attaching: set[int] = field(default_factory=set)
    """Tokens of ADDs to answer."""
    detaching: set[int] = field(default_factory=set)
    """Tokens of DELs to answer."""
    recorded: bool = False
    """The outcome of the journal write is known."""
    attached: bool = False
    """The outcome of the first Attach is known."""
    durable: bool = True
    """False once the journal could not take it."""
    cancelled: bool = False
    """A DEL came while it was being built."""
    failure: FabricError | None = None
    """Why the ADD failed: told once nothing of it is left."""
    stuck: bool = False
    """The datapath could not be removed: an audit or another DEL tries again."""
    refused: bool = False
    """netmaster does not let this host announce it."""

    @property
    def network(self) -> str:
        """Return the network's key."""
        where = self.endpoint or self.request
        assert where is not None
        return f"{where.tenant}:{where.network}"

    @property
    def namespace(self) -> str:
        """Return the path to the container's network namespace."""
        where = self.endpoint or self.request
        assert where is not None
        return where.namespace


def link_name(key: EndpointKey) -> str:
    """Return the host end's device name: at most 15 characters, the same for the same key."""
    return LINK_PREFIX + sha256(str(key).encode()).hexdigest()[:12]


def mac_of(key: EndpointKey, addresses: tuple[Address, ...]) -> str:
    """Return the container's MAC: 02:02 and the IPv4 octets as in Contiv, else of the key's hash."""
    first = next((a for a in addresses if a.version == 4), None)
    octets = first.packed if first else sha256(str(key).encode()).digest()[:4]
    return ":".join(f"{octet:02x}" for octet in (2, 2, *octets))


def endpoint_of(request: AttachRequest, host: str, addresses: tuple[Address, ...]) -> Endpoint:
    """Return the endpoint that a request becomes with these addresses."""
    is_port = request.key.container.startswith(PORT)
    return Endpoint(
        key=request.key,
        host=host,
        tenant=request.tenant,
        network=request.network,
        group=request.group,
        namespace=request.namespace,
        link=request.key.interface if is_port else link_name(request.key),
        mac=request.mac or ("" if is_port else mac_of(request.key, addresses)),
        addresses=addresses,
        name=request.name,
        labels=request.labels,
        mtu=request.mtu,
        bandwidth=request.bandwidth,
    )
