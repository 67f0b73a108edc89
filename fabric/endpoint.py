"""An endpoint: one container interface with its addresses, and the requests that make and end it."""

from dataclasses import dataclass, replace
from typing import Self

from netfabric.fabric.prefix import Address, Family, Prefix, family_of, host_prefix
from netfabric.fabric.profile import NO_LIMITS, Bandwidth

DOCKER_LABEL = "netfabric.cnm/network"
"""Names the Docker network that an endpoint came by: Docker alone ends it, and moves its inner end by itself."""
GATEWAY_LABEL = "netfabric.cnm/gateway"
"""The number of its gateway among those of its container; none means 1."""


PORT = "port:"
"""How the container id of a port's endpoint begins: no engine's can have a colon."""
PORT_GATEWAYS_LABEL = "netfabric.port/gateways"
"""The network's own gateways, which the host answers for on a port; with blanks between."""


@dataclass(frozen=True, slots=True, order=True)
class EndpointKey:
    """What makes a request the same request again: container id and interface name."""

    container: str
    interface: str

    def __str__(self) -> str:
        return f"{self.container}/{self.interface}"


@dataclass(frozen=True, slots=True)
class AttachRequest:
    """What an engine asks for, already read and checked for form."""

    key: EndpointKey
    namespace: str
    """A path to the network namespace."""
    tenant: str = "default"
    network: str = ""
    group: str = ""
    addresses: tuple[Address, ...] = ()
    """Requested addresses, one a family at most."""
    mac: str = ""
    name: str = ""
    """The container's or pod's name, for people and DNS."""
    labels: tuple[tuple[str, str], ...] = ()
    mtu: int = 1500
    placed: bool = False
    """Tenant, network and group are what netmaster says of the pod: the ADD waits for that."""
    bandwidth: Bandwidth = NO_LIMITS
    """Asked for by the engine: counts in place of the group's."""

    def wanted(self, family: Family) -> Address | None:
        """Return the requested address of a family, if any."""
        return next((a for a in self.addresses if family_of(a) == family), None)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An attached container interface. Everything needed to build its datapath again is here."""

    key: EndpointKey
    host: str
    tenant: str
    network: str
    group: str
    namespace: str
    link: str
    """The host end's device name: `nf` and 12 hexadecimal digits of the key's hash."""
    mac: str
    """The container end's."""
    addresses: tuple[Address, ...]
    """One a family at most, IPv4 first."""
    name: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    mtu: int = 1500
    sequence: int = 0
    """Kept in the store; of two places for one address the higher wins."""
    table: int = 254
    """The routing table in which its host routes stand: its tenant's on an overlay, else main."""
    filter: str = ""
    """The filter that is in force in place of its group's (`tenant:name`); empty: its group's."""
    bandwidth: Bandwidth = NO_LIMITS
    """Its own limits, in place of its group's where there are any."""

    @property
    def is_port(self) -> bool:
        """Return whether it is a link that was there before, and is its owner's."""
        return self.key.container.startswith(PORT)

    @property
    def handed_over(self) -> bool:
        """Return whether the engine moves the container's end into its namespace, and sets it up."""
        return any(name == DOCKER_LABEL for name, _ in self.labels)

    @property
    def inner(self) -> str:
        """Return the name that the container's end is born with."""
        return f"nd{self.link[2:]}" if self.handed_over else self.key.interface

    @property
    def prefixes(self) -> tuple[Prefix, ...]:
        """Return the /32 and /128."""
        return tuple(host_prefix(a) for a in self.addresses)

    @property
    def announced(self) -> tuple[Prefix, ...]:
        """Return what peers are told over BGP: of an overlay's endpoint nothing."""
        return self.prefixes if self.table == 254 else ()

    def moved(self, sequence: int) -> Self:
        """Return the same endpoint with another sequence number."""
        return replace(self, sequence=sequence)
