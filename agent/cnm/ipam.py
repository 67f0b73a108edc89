"""Docker's IPAM driver: pools are the fabric's networks, addresses are reserved in the host's blocks."""

from typing import Any

from netfabric.agent.cnm.field import Json, address_of, needed, object_of, only, prefix_of, text
from netfabric.agent.cnm.memory import Memory
from netfabric.agent.cnm.network import (
    ANYWHERE,
    GATEWAYS,
    OPEN_POOLS,
    SPACES,
    Pool,
    find,
    is_gateway,
    named,
    open_gateway,
    open_pool,
    range_of,
)
from netfabric.agent.requests import AddressRequests
from netfabric.agent.settings import Scope
from netfabric.fabric.errors import ExhaustedError, InvalidError, NotFoundError
from netfabric.fabric.network import Network
from netfabric.fabric.prefix import Family, host_prefix

_CREATE = "docker network create"
_TYPE, _GATEWAY = "RequestAddressType", "com.docker.network.gateway"


class Ipam:
    """Answers `IpamDriver.…` calls. A pool's id says all, but where its network is said later."""

    def __init__(self, requests: AddressRequests, memory: Memory, scope: Scope) -> None:
        self._requests = requests
        self._memory = memory
        self._scope = scope
        self._open: set[str] = set()
        """Open pools whose CreateNetwork has not come yet."""

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
            return self._open_pool(bool(body.get("V6")))
        network = find(self._requests.networks(), key, subnet, _CREATE)
        family: Family = 6 if body.get("V6") or (subnet is not None and subnet.version == 6) else 4
        range_ = range_of(network, family)
        return {"PoolID": str(Pool(network.key, family)), "Pool": str(range_.subnet), "Data": {}}

    def _open_pool(self, ipv6: bool) -> dict[str, Any]:
        """Answer before it is said which network is meant: -o comes with CreateNetwork, and to that alone."""
        in_swarm = self._scope == "global"  # whose workers are told the subnet, and nothing else
        if ipv6 or in_swarm:
            raise InvalidError(
                f"{_CREATE}: it does not say which network's addresses are meant",
                "add --subnet with the network's subnet, or --ipam-opt tenant=T --ipam-opt network=N",
            )
        used = self._open | {network.open_pool for network in self._memory.networks.values()}
        for number in OPEN_POOLS:
            if (identity := open_pool(number)) not in used:
                self._open.add(identity)
                return {"PoolID": identity, "Pool": str(ANYWHERE), "Data": {}}
        raise ExhaustedError(f"{_CREATE}: too many networks without --subnet", "add --subnet")

    async def release_pool(self, body: Json) -> dict[str, Any]:
        """Nothing was taken but an open pool's number."""
        self._open.discard(text(body, "PoolID"))
        return {}

    async def request_address(self, body: Json) -> dict[str, Any]:
        """Reserve an address; a gateway is only named, since every host answers for it."""
        identity, wanted = needed(body, "PoolID"), address_of(body, "Address")
        is_gateways = object_of(body, "Options").get(_TYPE) == _GATEWAY
        if is_gateways and (told := open_gateway(identity)):
            return {"Address": str(host_prefix(told)), "Data": {}}
        pool = self._pool(identity)
        if is_gateways:
            address = wanted or GATEWAYS[pool.family]
            if not is_gateway(address, self._network(pool)):
                raise InvalidError(
                    f"{_CREATE} --gateway {address}: not the gateway of network {pool.network}",
                    "leave --gateway away: containers have the host itself as their gateway",
                )
            return {"Address": str(host_prefix(address)), "Data": {}}
        reserved = await self._requests.reserve(pool.network, pool.family, wanted)
        return {"Address": str(host_prefix(reserved)), "Data": {}}

    def _pool(self, identity: str) -> Pool:
        for network in self._memory.networks.values():
            if network.open_pool == identity:
                return Pool(network.key, 4)
        return Pool.parse(identity)

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
        if pool and address is not None and address != open_gateway(pool):
            self._requests.release(self._pool(pool).network, address)
        return {}
