"""An endpoint's requests: what to send on the host's side and on the container's."""

from collections.abc import Iterator
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, ip_address

from netfabric.agent.datapath import message as nl
from netfabric.agent.datapath.base import GATEWAYS
from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.kernel import MAIN_TABLE, PROTOCOL
from netfabric.fabric.prefix import Address, Prefix, host_prefix

LINK_GROUP = 0x4E46
"""Group of our links, and one of the marks by which we know them."""
DEFAULTS: dict[int, Prefix] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}


def host_mac(endpoint: Endpoint) -> str:
    """Return the MAC of the host's end: of the link's name, so that a repair changes nothing."""
    digest = sha256(endpoint.link.encode()).digest()
    return ":".join(f"{octet:02x}" for octet in (0x02, 0x4E, *digest[:4]))


def gateway_for(address: Address) -> Address:
    """Return the link-local gateway of an address's family."""
    return ip_address(GATEWAYS[0] if address.version == 4 else GATEWAYS[1])


def create(endpoint: Endpoint, index: int, peer_index: int, namespace: int) -> nl.Message:
    """Return the request for the veth pair."""
    return nl.veth(
        endpoint.link,
        index,
        endpoint.key.interface,
        peer_index,
        namespace,
        endpoint.mtu,
        host_mac(endpoint),
        endpoint.mac,
        LINK_GROUP,
    )


def host_side(endpoint: Endpoint, index: int) -> Iterator[nl.Message]:
    """Yield what the host needs: the link up, permanent neighbours, host routes."""
    yield nl.no_link_local(index)
    alias = nl.text(nl.IFLA_IFALIAS, alias_of(endpoint))
    yield nl.link_up(index, alias, nl.number(nl.IFLA_MTU, endpoint.mtu))
    for address in endpoint.addresses:
        yield nl.neighbour(index, address, endpoint.mac)
        yield nl.link_route(host_prefix(address), index, MAIN_TABLE, PROTOCOL)


def container_side(endpoint: Endpoint, index: int, defaults: set[int]) -> Iterator[nl.Message]:
    """Yield what the container needs. `defaults` are the families that have no default route yet."""
    yield nl.link_up(1)
    yield nl.link_up(
        index,
        nl.attribute(nl.IFLA_ADDRESS, nl.mac_bytes(endpoint.mac)),
        nl.number(nl.IFLA_MTU, endpoint.mtu),
    )
    mac = host_mac(endpoint)
    for address in endpoint.addresses:
        gateway = gateway_for(address)
        bits = 32 if address.version == 4 else 128
        yield nl.address(index, address, bits)
        yield nl.neighbour(index, gateway, mac)
        if address.version in defaults:
            yield nl.link_route(
                DEFAULTS[address.version], index, MAIN_TABLE, 0, gateway, source=_source(address)
            )


def _source(address: Address) -> Address | None:
    """IPv4 needs to be told its source; IPv6 chooses the only address there is."""
    return address if address.version == 4 else None


def alias_of(endpoint: Endpoint) -> str:
    """Return what a link's alias says: whose it is, for people and for a lost journal."""
    return f"netfabric {endpoint.key}"[:255]
