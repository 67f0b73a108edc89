"""Docker's part without Docker: its calls on the plugin's socket in its order, and what libnetwork does to links."""

import asyncio
import http.client
import json
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from netfabric.lab.namespace import Namespace
from tests.netns.agent.conftest import Machine

Body = dict[str, Any]
V4, V6 = "10.77.0.0/16", "fd77::/64"
GATEWAY = "com.docker.network.gateway"
GENERIC = "com.docker.network.generic"
_serial = count(1)


class RefusedError(Exception):
    """What the plugin answers as `Err`."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("plugin", timeout=20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(self._path))


def call(path: Path, name: str, body: Body | None = None) -> Body:
    """Make one call as dockerd does; raise RefusedError."""
    connection = _Connection(path)
    try:
        accept = {"Accept": "application/vnd.docker.plugins.v1.2+json"}
        connection.request("POST", f"/{name}", json.dumps(body) if body else None, accept)
        answer = connection.getresponse()
        found = json.loads(answer.read())
    finally:
        connection.close()
    assert isinstance(found, dict)
    if answer.status != 200:
        raise RefusedError(found["Err"])
    return found


@dataclass
class Container:
    """A container on Docker networks."""

    endpoint: str
    addresses: list[str]
    mac: str
    namespace: Namespace
    interface: str
    joined: Body = field(default_factory=dict)
    pool: str = ""


@dataclass
class Docker:
    """A dockerd of one network (or more), as far as its plugin sees it."""

    machine: Machine
    pool: str = ""
    network: str = "n" * 64

    @property
    def socket(self) -> Path:
        return self.machine.directory / "run" / "cnm.sock"

    async def start(self, netmaster: str, *more: str) -> None:
        """Start the agent with its plugin's socket."""
        self.machine.start(netmaster, "--cnm-socket", str(self.socket), *more)
        await self.machine.serving()
        await self.machine.until(self.answers, "the plugin answers")

    def answers(self) -> bool:
        with suppress(OSError):
            return bool(call(self.socket, "Plugin.Activate"))
        return False

    async def __call__(self, name: str, **body: Any) -> Body:
        return await asyncio.to_thread(call, self.socket, name, body)

    async def create(self, subnet: str = V4, ipam: Body | None = None, **options: str) -> None:
        """Do what `docker network create` does."""
        assert await self("Plugin.Activate") == {"Implements": ["NetworkDriver", "IpamDriver"]}
        scope = await self("NetworkDriver.GetCapabilities")
        assert scope == {"Scope": "local", "ConnectivityScope": "global"}
        await self("IpamDriver.GetCapabilities")
        spaces = await self("IpamDriver.GetDefaultAddressSpaces")
        space = spaces["LocalDefaultAddressSpace"]
        pool = await self(
            "IpamDriver.RequestPool",
            AddressSpace=space,
            Pool=subnet,
            SubPool="",
            Options=ipam or {},
            V6=False,
        )
        self.pool = pool["PoolID"]
        gateway = await self(
            "IpamDriver.RequestAddress",
            PoolID=self.pool,
            Address="",
            Options={"RequestAddressType": GATEWAY},
        )
        data = {"AddressSpace": space, "Pool": pool["Pool"], "Gateway": gateway["Address"]}
        made = await self(
            "NetworkDriver.CreateNetwork",
            NetworkID=self.network,
            Options={"com.docker.network.enable_ipv6": False, GENERIC: options},
            IPv4Data=[{**data, "AuxAddresses": {}}],
            IPv6Data=[],
        )
        assert made == {}

    async def remove(self) -> None:
        """Do what `docker network rm` does: addresses and pool go before the network."""
        await self("IpamDriver.ReleaseAddress", PoolID=self.pool, Address="169.254.1.1")
        await self("IpamDriver.ReleasePool", PoolID=self.pool)
        await self("NetworkDriver.DeleteNetwork", NetworkID=self.network)

    async def begin(
        self, name: str, address: str = "", mac: str = "", interface: str = "eth0"
    ) -> Container:
        """Do the first half of `docker run`: an address and an endpoint."""
        given = await self(
            "IpamDriver.RequestAddress", PoolID=self.pool, Address=address, Options={}
        )
        identity = f"{next(_serial):064x}"
        asked = {"Address": given["Address"], "AddressIPv6": "", "MacAddress": mac}
        answer = await self(
            "NetworkDriver.CreateEndpoint",
            NetworkID=self.network,
            EndpointID=identity,
            Interface=asked,
            Options={"com.docker.network.endpoint.exposedports": []},
        )
        said = answer["Interface"]
        assert not (said.keys() & {key for key, value in asked.items() if value}), said
        addresses = [given["Address"], said["AddressIPv6"]]
        namespace = self.machine.container(name)
        return Container(
            identity, addresses, mac or said["MacAddress"], namespace, interface, pool=self.pool
        )

    async def join(self, container: Container) -> Body:
        """Join; the answer is what libnetwork needs."""
        container.joined = await self(
            "NetworkDriver.Join",
            NetworkID=self.network,
            EndpointID=container.endpoint,
            SandboxKey=f"/var/run/docker/netns/{container.namespace.name}",
            Options={},
        )
        return container.joined

    async def run(self, name: str, address: str = "", mac: str = "") -> Container:
        """Do what `docker run` does."""
        container = await self.begin(name, address, mac)
        await self.join(container)
        ids = {"NetworkID": self.network, "EndpointID": container.endpoint}
        assert await self("NetworkDriver.ProgramExternalConnectivity", **ids, Options={}) == {}
        assert await self("NetworkDriver.EndpointOperInfo", **ids) == {"Value": {}}
        await asyncio.to_thread(self.settle, container)
        return container

    def settle(self, container: Container) -> None:
        """Do what libnetwork does with a Join's answer."""
        source, inside = container.joined["InterfaceName"]["SrcName"], container.namespace
        name, link = container.interface, ("dev", container.interface)
        self.machine.namespace.run("ip", "link", "set", source, "netns", inside.name)
        inside.run("ip", "link", "set", source, "name", name)
        inside.run("ip", "link", "set", name, "address", container.mac)
        for address in container.addresses:
            inside.run("ip", "addr", "add", address, *link, *(["nodad"] * (":" in address)))
        inside.run("ip", "link", "set", name, "up")
        routes = sorted(container.joined["StaticRoutes"], key=lambda r: -int(r["RouteType"]))
        for route in routes:
            way = link if route["RouteType"] == 1 else ("via", route["NextHop"])
            inside.run("ip", "route", "add", route["Destination"], *way)
        if name == "eth0":
            for key in ("Gateway", "GatewayIPv6"):
                inside.run("ip", "route", "add", "default", "via", container.joined[key])

    async def stop(self, container: Container, *, revoke: bool = True) -> None:
        """Do what `docker stop` does, and dockerd with what it finds stale at its start."""
        ids = {"NetworkID": self.network, "EndpointID": container.endpoint}
        if revoke:
            assert await self("NetworkDriver.RevokeExternalConnectivity", **ids) == {}
        assert await self("NetworkDriver.Leave", **ids) == {}
        assert await self("NetworkDriver.DeleteEndpoint", **ids) == {}
        address, other = (one.partition("/")[0] for one in container.addresses)
        await self("IpamDriver.ReleaseAddress", PoolID=container.pool, Address=address)
        await self("IpamDriver.ReleaseAddress", PoolID="", Address=other)
