"""A link of a host that is an endpoint although no engine made it: a virtual machine's tap, a bare-metal port."""

from collections.abc import Iterable
from dataclasses import dataclass

from netfabric.fabric.endpoint import (
    PORT,
    PORT_GATEWAYS_LABEL,
    AttachRequest,
    Endpoint,
    EndpointKey,
)
from netfabric.fabric.prefix import Address


@dataclass(frozen=True, slots=True)
class Port:
    """What the operator says of one link."""

    host: str
    link: str
    tenant: str
    network: str
    group: str = ""
    addresses: tuple[Address, ...] = ()
    """Requested addresses, one a family at most."""
    mac: str = ""
    """What answers there; empty: whatever does, and it is asked for by ARP and ND."""
    name: str = ""

    @property
    def key(self) -> EndpointKey:
        """Return the key of its endpoint."""
        return EndpointKey(f"{PORT}{self.link}", self.link)

    def request(self, gateways: Iterable[Address] = ()) -> AttachRequest:
        """Return what it asks the host for; `gateways` are the network's own."""
        named = " ".join(map(str, gateways))
        return AttachRequest(
            key=self.key,
            namespace="",
            tenant=self.tenant,
            network=self.network,
            group=self.group,
            addresses=self.addresses,
            mac=self.mac,
            name=self.name or self.link,
            labels=((PORT_GATEWAYS_LABEL, named),) if named else (),
            mtu=0,
        )

    def fits(self, endpoint: Endpoint) -> bool:
        """Return whether an endpoint is as this port wants it."""
        found = (endpoint.tenant, endpoint.network, endpoint.group, endpoint.mac, endpoint.name)
        wanted = (self.tenant, self.network, self.group, self.mac, self.name or self.link)
        return found == wanted and set(self.addresses) <= set(endpoint.addresses)


@dataclass(frozen=True, slots=True)
class Ports:
    """All ports of one host."""

    ports: tuple[Port, ...] = ()
