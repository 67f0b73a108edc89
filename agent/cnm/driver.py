"""Docker's network driver: networks are remembered, a Join makes a pair for libnetwork to move, a Leave ends it."""

from collections.abc import Iterable
from typing import Any

from netfabric.agent.cnm.field import Json, address_of, needed, object_of, objects, text
from netfabric.agent.cnm.memory import DockerEndpoint, Memory
from netfabric.agent.cnm.network import DockerNetwork, network_of
from netfabric.agent.datapath.handover import LAST, gateway, number_of
from netfabric.agent.requests import AddressRequests
from netfabric.agent.settings import Scope
from netfabric.fabric.attachment import mac_of
from netfabric.fabric.endpoint import (
    DOCKER_LABEL,
    GATEWAY_LABEL,
    AttachRequest,
    Endpoint,
    EndpointKey,
)
from netfabric.fabric.errors import ConflictError, ExhaustedError, InvalidError, NotFoundError
from netfabric.fabric.prefix import Address, Family, family_of, host_prefix

GENERIC, _INTERNAL = "com.docker.network.generic", "com.docker.network.internal"
PREFIX = "eth"
_NEXT_HOP, _CONNECTED = 0, 1
"""libnetwork's kinds of static routes."""


class Driver:
    """Answers `NetworkDriver.…` calls, in any order and as often as they come."""

    def __init__(self, requests: AddressRequests, memory: Memory, scope: Scope) -> None:
        self._requests = requests
        self._memory = memory
        self._scope = scope
        self._joining: dict[str, tuple[str, int]] = {}
        """Sandbox and gateway's number of endpoints whose Join is under way."""

    async def capabilities(self, _: Json) -> dict[str, Any]:
        """Say where networks live, and that containers reach each other across hosts."""
        return {"Scope": self._scope, "ConnectivityScope": "global"}

    async def nothing(self, _: Json) -> dict[str, Any]:
        """Answer a call for which there is nothing to do."""
        return {}

    async def no_information(self, _: Json) -> dict[str, Any]:
        """Answer EndpointOperInfo."""
        return {"Value": {}}

    # networks

    async def allocate_network(self, body: Json) -> dict[str, Any]:
        """Pass on the options of a swarm's network: workers get them with CreateNetwork."""
        options = object_of(body, "Options")
        pools = [*objects(body, "IPv4Data"), *objects(body, "IPv6Data")]
        found = network_of("", options, pools, self._requests.networks())
        return {"Options": {**options, "tenant": found.tenant, "network": found.network}}

    async def create_network(self, body: Json) -> dict[str, Any]:
        """Remember a network."""
        options = object_of(body, "Options")
        if options.get(_INTERNAL):
            raise InvalidError(
                "docker network create --internal: a network of the fabric leads everywhere",
                "leave it away, and isolate groups by policies (netctl policy)",
            )
        pools = [*objects(body, "IPv4Data"), *objects(body, "IPv6Data")]
        generic, identity = object_of(options, GENERIC), needed(body, "NetworkID")
        made = network_of(identity, generic, pools, self._requests.networks())
        for other in self._memory.networks.values():
            if made.open_pool and other.open_pool == made.open_pool and other.id != identity:
                raise ConflictError(f"network {made.key}: the agent restarted", "create it again")
        await self._memory.change(lambda: self._memory.networks.update({identity: made}))
        return {}

    async def delete_network(self, body: Json) -> dict[str, Any]:
        """Forget a network."""
        identity = needed(body, "NetworkID")
        if identity in self._memory.networks:
            await self._memory.change(lambda: self._memory.networks.pop(identity, None))
        return {}

    def _network(self, identity: str) -> DockerNetwork:
        found = self._memory.networks.get(identity)
        if found is None:
            raise NotFoundError(
                f"Docker network {identity[:12]}: this agent was never told of it, or lost its state",
                "docker network rm it, and create it again",
            )
        return found

    # endpoints

    async def create_endpoint(self, body: Json) -> dict[str, Any]:
        """Remember an endpoint; families that Docker gave no address of get one here."""
        identity, network = needed(body, "EndpointID"), self._network(needed(body, "NetworkID"))
        asked = object_of(body, "Interface")
        found = self._memory.endpoints.get(identity)
        if found is None:
            found = await self._remembered(identity, network, body)
        return {"Interface": _unsaid(asked, found)}

    async def _remembered(
        self, identity: str, network: DockerNetwork, body: Json
    ) -> DockerEndpoint:
        """Make and remember an endpoint; what was reserved for one that fails is given back."""
        reserved: list[Address] = []
        made: DockerEndpoint | None = None
        try:
            made = await self._endpoint(identity, network, body, reserved)
            one = made
            await self._memory.change(lambda: self._memory.endpoints.update({identity: one}))
        except BaseException:
            # A caller that goes away while the file is written leaves the endpoint remembered.
            if made is None or self._memory.endpoints.get(identity) is not made:
                for address in reserved:
                    self._requests.release(network.key, address)
            raise
        return made

    async def _endpoint(
        self, identity: str, network: DockerNetwork, body: Json, reserved: list[Address]
    ) -> DockerEndpoint:
        """Return an endpoint to make; `reserved` gets what this reserves, also if it fails."""
        asked = object_of(body, "Interface")
        given = [address_of(asked, name) for name in ("Address", "AddressIPv6")]
        addresses = [address for address in given if address is not None]
        said = {family_of(address) for address in addresses}
        for family in (one for one in self._families(network) if one not in said):
            address = await self._requests.reserve(network.key, family)
            reserved.append(address)
        ordered = tuple(sorted([*addresses, *reserved], key=family_of))
        options = object_of(body, "Options")
        return DockerEndpoint(
            id=identity,
            network=network.id,
            addresses=ordered,
            mac=text(asked, "MacAddress").lower() or mac_of(_key(identity), ordered),
            group=text(options, "group") or network.group,
        )

    def _families(self, network: DockerNetwork) -> list[Family]:
        found = self._requests.network(network.key)
        return [r.family for r in found.ranges] if found else []

    async def delete_endpoint(self, body: Json) -> dict[str, Any]:
        """End an endpoint, whatever has become of it."""
        identity = needed(body, "EndpointID")
        await self._requests.detach(_key(identity))
        found = self._memory.endpoints.get(identity)
        if found is not None:
            network = self._memory.networks.get(found.network)
            for address in found.addresses if network else ():
                self._requests.release(network.key if network else "", address)
            await self._memory.change(lambda: self._memory.endpoints.pop(identity, None))
        return {}

    async def join(self, body: Json) -> dict[str, Any]:
        """Make the pair, forwarding and guarded, and say how libnetwork is to set the inner end up."""
        identity, sandbox = needed(body, "EndpointID"), needed(body, "SandboxKey")
        found = self._memory.endpoints.get(identity)
        if found is None:
            raise NotFoundError(
                f"Docker endpoint {identity[:12]}: never created, or deleted",
                "start the container again",
            )
        self._joining[identity] = (sandbox, self._number(identity, sandbox))
        try:
            endpoint = await self._attach(found, self._network(found.network), sandbox)
        finally:
            del self._joining[identity]
        return self._way_out(endpoint)

    async def _attach(
        self, found: DockerEndpoint, network: DockerNetwork, sandbox: str
    ) -> Endpoint:
        request = AttachRequest(
            key=_key(found.id),
            namespace=sandbox,
            tenant=network.tenant,
            network=network.network,
            group=found.group,
            addresses=found.addresses,
            mac=found.mac,
            mtu=network.mtu,
            labels=_labels(network, self._joining[found.id][1]),
        )
        try:
            return await self._requests.attach(request)
        except ConflictError:
            if any(one.key == request.key for one in self._requests.endpoints()):
                raise
        # What a crash left of this very endpoint may be on its way down: see it gone, and begin anew.
        await self._requests.detach(request.key)
        return await self._requests.attach(request)

    def _number(self, identity: str, sandbox: str) -> int:
        """Return a number for an endpoint's gateway that no other endpoint of its container has."""
        taken = {number for place, number in self._joining.values() if place == sandbox}
        for endpoint in self._requests.endpoints():
            if endpoint.handed_over and endpoint.namespace == sandbox:
                if endpoint.key == _key(identity):
                    return number_of(endpoint)
                taken.add(number_of(endpoint))
        for number in range(1, LAST + 1):
            if number not in taken:
                return number
        raise ExhaustedError(f"{sandbox}: {LAST} networks are the most", "disconnect some")

    def _way_out(self, endpoint: Endpoint) -> dict[str, Any]:
        number = number_of(endpoint)
        families = [family_of(address) for address in endpoint.addresses]
        names: dict[Family, str] = {4: "Gateway", 6: "GatewayIPv6"}
        return {
            "InterfaceName": {"SrcName": endpoint.inner, "DstPrefix": PREFIX},
            **{names[family]: str(gateway(number, family)) for family in families},
            "StaticRoutes": [*_to_gateways(number, families), *self._to_subnets(endpoint, number)],
            "DisableGatewayService": False,
        }

    def _to_subnets(self, endpoint: Endpoint, number: int) -> Iterable[Json]:
        """Yield routes to the endpoint's own network: with two networks each is reached from its own address."""
        network = self._requests.network(f"{endpoint.tenant}:{endpoint.network}")
        for range_ in network.ranges if network else ():
            yield {
                "Destination": str(range_.subnet),
                "RouteType": _NEXT_HOP,
                "NextHop": str(gateway(number, range_.family)),
            }

    async def leave(self, body: Json) -> dict[str, Any]:
        """Withdraw an endpoint and take it down: the fabric has heard of it when Docker goes on."""
        await self._requests.detach(_key(needed(body, "EndpointID")))
        return {}


def _key(identity: str) -> EndpointKey:
    return EndpointKey(identity, PREFIX)


def _labels(network: DockerNetwork, number: int) -> tuple[tuple[str, str], ...]:
    gateway_label = ((GATEWAY_LABEL, str(number)),) if number > 1 else ()
    return (*gateway_label, (DOCKER_LABEL, network.id))


def _unsaid(asked: Json, found: DockerEndpoint) -> dict[str, str]:
    """Return what of an endpoint's interface Docker has not said itself: it refuses to be told the rest."""
    said: dict[Family, str] = {4: "Address", 6: "AddressIPv6"}
    own = {said[family_of(address)]: _interface(address) for address in found.addresses}
    own["MacAddress"] = found.mac
    return {name: value for name, value in own.items() if not asked.get(name)}


def _interface(address: Address) -> str:
    return str(host_prefix(address))


def _to_gateways(number: int, families: Iterable[Family]) -> Iterable[Json]:
    for family in families:
        destination = str(host_prefix(gateway(number, family)))
        yield {"Destination": destination, "RouteType": _CONNECTED, "NextHop": ""}
