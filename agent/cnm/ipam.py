"""Docker's IPAM driver: pools are the fabric's networks, addresses are reserved in the host's blocks."""

from typing import Any

from netfabric.agent.cnm.field import Json, address_of, needed, object_of, only, prefix_of, text
from netfabric.agent.cnm.network import (
    GATEWAYS,
    SPACES,
    Pool,
    find,
    is_gateway,
    named,
    range_of,
)
from netfabric.agent.requests import AddressRequests
from netfabric.fabric.errors import InvalidError, NotFoundError
from netfabric.fabric.network import Network
from netfabric.fabric.prefix import Family, host_prefix

_CREATE = "docker network create"
_TYPE, _GATEWAY = "RequestAddressType", "com.docker.network.gateway"


class Ipam:
    """Answers `IpamDriver.…` calls. It keeps nothing: a pool's id says all."""

    def __init__(self, requests: AddressRequests) -> None:
        self._requests = requests

    async def capabilities(self, _: Json) -> dict[str, Any]:
        """Say that neither a MAC nor a replay of reservations is wanted: the journal has them."""
        return {"RequiresMACAddress": False, "RequiresRequestReplay": False}

    async def spaces(self, _: Json) -> dict[str, Any]:
        """Name the address spaces."""
        return dict(SPACES)

    async def request_pool(self, body: Json) -> dict[str, Any]:
        """Find the network that is meant."""
        options, subnet = object_of(body, "Options"), prefix_of(body, "Pool")
        only(options, ("tenant", "network"), f"{_CREATE} --ipam-opt")
        if text(body, "SubPool"):
            raise InvalidError(
                f"{_CREATE} --ip-range: netfabric gives addresses out of the whole network",
                "leave it away; the network's own range is set with netctl",
            )
        key = named(options, f"{_CREATE} --ipam-opt")
        if not key and subnet is None:
            raise InvalidError(
                f"{_CREATE}: Docker does not tell an IPAM driver the options of -o",
                "add --subnet with the network's subnet, or --ipam-opt tenant=T --ipam-opt network=N",
            )
        network = find(self._requests.networks(), key, subnet, _CREATE)
        family: Family = 6 if body.get("V6") or (subnet is not None and subnet.version == 6) else 4
        range_ = range_of(network, family)
        return {"PoolID": str(Pool(network.key, family)), "Pool": str(range_.subnet), "Data": {}}

    async def release_pool(self, _: Json) -> dict[str, Any]:
        """Nothing was taken."""
        return {}

    async def request_address(self, body: Json) -> dict[str, Any]:
        """Reserve an address; a gateway is only named, since every host answers for it."""
        pool, wanted = Pool.parse(needed(body, "PoolID")), address_of(body, "Address")
        if object_of(body, "Options").get(_TYPE) == _GATEWAY:
            address = wanted or GATEWAYS[pool.family]
            if not is_gateway(address, self._network(pool)):
                raise InvalidError(
                    f"{_CREATE} --gateway {address}: not the gateway of network {pool.network}",
                    "leave --gateway away: containers have the host itself as their gateway",
                )
            return {"Address": str(host_prefix(address)), "Data": {}}
        reserved = await self._requests.reserve(pool.network, pool.family, wanted)
        return {"Address": str(host_prefix(reserved)), "Data": {}}

    def _network(self, pool: Pool) -> Network:
        found = self._requests.network(pool.network)
        if found is None:
            raise NotFoundError(
                f"network {pool.network}: not known on this host",
                "netctl net ls -a lists the networks",
            )
        return found

    async def release_address(self, body: Json) -> dict[str, Any]:
        """Give back what no endpoint came for; an endpoint's own addresses went with it, and cool down.

        An address that came with CreateEndpoint's answer has no pool here.
        """
        pool, address = text(body, "PoolID"), address_of(body, "Address")
        if pool and address is not None:
            self._requests.release(Pool.parse(pool).network, address)
        return {}
