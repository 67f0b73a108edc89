"""Endpoints whose inner end the engine moves and sets up: what the host's end answers for them.

Docker's libnetwork finds the pair in the host's namespace, moves one end, and gives it address and routes. It knows
no permanent neighbours, and wants a route to each gateway on one interface only: so host ends answer for gateways,
and each of a container's endpoints has gateways of its own.
"""

from ipaddress import IPv4Address, IPv6Address

from netfabric.agent.datapath import address
from netfabric.agent.datapath.message import Message
from netfabric.agent.datapath.netlink import Netlink
from netfabric.fabric.endpoint import GATEWAY_LABEL, Endpoint
from netfabric.fabric.prefix import Address, family_of

LAST = 254
"""Endpoints that one container can have."""
_GATEWAY, _GATEWAY6 = IPv4Address("169.254.1.0"), IPv6Address("fd4e:4600::")
"""Numbers are added. IPv6's is no link-local one: routes by it need no interface named."""


def gateway(number: int, family: int) -> Address:
    """Return the gateway of a container's endpoint of that number, from 1 to LAST."""
    return _GATEWAY + number if family == 4 else _GATEWAY6 + number


def number_of(endpoint: Endpoint) -> int:
    """Return an endpoint's number among those of its container."""
    return int(dict(endpoint.labels).get(GATEWAY_LABEL, "1"))


def gateways(endpoint: Endpoint) -> list[Address]:
    """Return the gateways of an endpoint's families."""
    number = number_of(endpoint)
    return [gateway(number, family_of(own)) for own in endpoint.addresses]


def answering(endpoint: Endpoint, index: int) -> list[Message]:
    """Return the requests that make a host's end answer for its gateways."""
    return [address.put_gateway(index, one) for one in gateways(endpoint)]


def problems(netlink: Netlink, endpoint: Endpoint, index: int) -> list[str]:
    """Return what of it is not so, in words."""
    there = {one.address for one in map(address.parse, netlink.dump(address.get_all(index)))}
    return [
        f"link {endpoint.link} does not answer for gateway {one}"
        for one in gateways(endpoint)
        if one not in there
    ]
