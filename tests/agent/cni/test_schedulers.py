"""Nomad and Mesos: the calls that they make, replayed as their sources have them."""

import asyncio
import json
from ipaddress import ip_address
from typing import Any

import pytest

from netfabric.fabric.endpoint import EndpointKey
from netfabric.fabric.errors import UnavailableError
from tests.agent.cni.conftest import Agent, Ledger, Ran, Shim, configuration

ALLOCATION = "8fa24cf0-2f1e-6b3a-09c4-7a5f0c7be2d1"
MESOS_CONTAINER = "5baff64c-d028-47ba-864e-a5ee679fc069"


class Nomad:
    """A Nomad client with a group in network mode "cni/blue".

    hashicorp/nomad, client/allocrunner/networking_cni.go: `Setup` gives `IgnoreUnknown=true`, the job's `cni { args }`
    and NOMAD_* as CNI_ARGS, in the order of a Go map; an ADD that fails is made again as it was, three times in all,
    without a DEL; on an agent restart, a namespace that is there already is only CHECKed; `Teardown` gives no CNI_ARGS.
    The plugins are called through containerd/go-cni: interface eth0, the allocation's id as container id.
    """

    def __init__(self, shim: Shim, socket: str, args: dict[str, str]) -> None:
        self._shim, self._socket, self._args = shim, socket, args
        self.result: Any = None

    async def _call(self, command: str, args: str, **more: Any) -> Ran:
        variables = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": ALLOCATION,
            "CNI_NETNS": "/var/run/docker/netns/6f1b7f0a9c11",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": "/opt/cni/bin",
        }
        if args:
            variables["CNI_ARGS"] = args
        common = {"name": "blue", "network": "default-net", "socket": self._socket}
        return await self._shim.call(variables, configuration("1.0.0", **common, **more))

    @property
    def arguments(self) -> str:
        found = {
            "NOMAD_ALLOC_ID": ALLOCATION,
            "IgnoreUnknown": "true",
            "NOMAD_GROUP_NAME": "front",
            "CONSUL_IPTABLES_CONFIG": '{"ConsulDNSIP":"","ProxyUserID":"101"}',
            **self._args,
            "NOMAD_REGION": "global",
            "NOMAD_JOB_ID": "shop",
            "NOMAD_NAMESPACE": "prod",
        }
        return ";".join(f"{key}={value}" for key, value in found.items())

    async def setup(self) -> Ran:
        """Start an allocation."""
        for _ in range(3):
            done = await self._call("ADD", self.arguments)
            if done.status == 0:
                self.result = done.json
                break
        return done

    async def restore(self) -> Ran:
        """Find an allocation after the client has restarted."""
        return await self._call("CHECK", self.arguments, prevResult=self.result)

    async def teardown(self) -> Ran:
        """Stop it."""
        return await self._call("DEL", "", prevResult=self.result)


async def test_nomad(shim: Shim, agent: Agent, ledger: Ledger) -> None:
    async with agent(ledger) as path:
        nomad = Nomad(shim, str(path), {"GROUP": "web", "IP": "10.1.0.44"})
        assert (await nomad.setup()).status == 0
        endpoint = ledger.up[EndpointKey(ALLOCATION, "eth0")]
        assert (endpoint.name, endpoint.group) == ("shop-front", "web")
        assert endpoint.addresses[0] == ip_address("10.1.0.44")
        assert dict(endpoint.labels) == {
            "io.nomadproject.alloc": ALLOCATION,
            "io.nomadproject.group": "front",
            "io.nomadproject.job": "shop",
            "io.nomadproject.namespace": "prod",
            "io.nomadproject.region": "global",
            "netfabric.cni/network": "blue",
        }
        assert (await nomad.restore()).status == 0
        for _ in range(2):
            done = await nomad.teardown()
            assert (done.status, done.out, ledger.up) == (0, "", {})


async def test_nomad_takes_the_address_of_the_first_interface_in_a_sandbox(
    shim: Shim, agent: Agent, ledger: Ledger
) -> None:
    """`cniToAllocNet`: interfaces by name; the first with a sandbox and an address gives the allocation's."""
    async with agent(ledger) as path:
        nomad = Nomad(shim, str(path), {})
        await nomad.setup()
    named = sorted((one["name"], n) for n, one in enumerate(nomad.result["interfaces"]))
    inside = next(n for _, n in named if nomad.result["interfaces"][n].get("sandbox"))
    first = next(ip["address"] for ip in nomad.result["ips"] if ip["interface"] == inside)
    assert first == "10.1.0.2/32"


async def test_nomads_second_attempt_is_the_same_call(
    shim: Shim, agent: Agent, ledger: Ledger
) -> None:
    """What failed left nothing, and what had worked already answers as it did."""
    async with agent(ledger) as path:
        nomad = Nomad(shim, str(path), {})
        ledger.broken = UnavailableError("no netmaster", "wait")
        assert (await nomad.setup()).json["code"] == 11
        ledger.broken = None
        first, second = await nomad.setup(), await nomad.setup()
    assert first.out == second.out
    assert len(ledger.seen) == 5


class Mesos:
    """A Mesos agent with a container on some networks.

    apache/mesos, src/slave/containerizer/mesos/isolators/network/cni/cni.cpp: `attach` runs one plugin a network, all
    networks at once, interfaces eth0, eth1 and so on, with the NetworkInfo as `args."org.apache.mesos".network_info` and
    no CNI_ARGS, and keeps the configuration that it gave; `detach` gives that same configuration. Neither asks for a
    version: spec.proto knows the result of 0.1.0 and 0.2.0 alone (ip4, ip6, dns), and the configuration has no cniVersion.
    """

    def __init__(self, shim: Shim, socket: str) -> None:
        self._shim, self._socket = shim, socket
        self._given: dict[str, tuple[str, bytes]] = {}

    async def isolate(self, *infos: dict[str, Any]) -> list[Ran]:
        """Attach the container to every network."""
        for number, info in enumerate(infos):
            args = {"org.apache.mesos": {"network_info": info}}
            stdin = {
                "name": info["name"],
                "type": "netfabric",
                "socket": self._socket,
                "args": args,
            }
            self._given[info["name"]] = (f"eth{number}", json.dumps(stdin).encode())
        return await self._all("ADD")

    async def cleanup(self) -> list[Ran]:
        """Detach it from every network."""
        return await self._all("DEL")

    async def _all(self, command: str) -> list[Ran]:
        return await asyncio.gather(*(self._call(command, *one) for one in self._given.values()))

    async def _call(self, command: str, interface: str, stdin: bytes) -> Ran:
        variables = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": MESOS_CONTAINER,
            "CNI_PATH": "/opt/cni/bin",
            "CNI_IFNAME": interface,
            "CNI_NETNS": f"/run/mesos/isolators/network/cni/{MESOS_CONTAINER}/ns",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }
        return await self._shim.call(variables, stdin)


async def test_mesos(shim: Shim, agent: Agent, ledger: Ledger) -> None:
    """The example of docs/cni.md, and labels that say where the container belongs."""
    pairs = {"app": "myapp", "io.contiv.tenant": "acme", "io.contiv.network": "blue"}
    labels = {"labels": [{"key": key, "value": value} for key, value in pairs.items()]}
    mappings = [{"host_port": 8080, "container_port": 80}]
    async with agent(ledger) as path:
        mesos = Mesos(shim, str(path))
        first, second = await mesos.isolate(
            {"name": "mynet", "ip_addresses": [{"protocol": "IPv4", "ip_address": "10.1.0.9"}]},
            {"name": "other", "labels": labels, "port_mappings": mappings},
        )
        assert (first.status, second.status) == (0, 0)
        assert (first.json["ip4"]["ip"], second.json["ip4"]["ip"][:7]) == ("10.1.0.9/32", "10.2.0.")
        assert "ip6" in first.json
        endpoint = ledger.up[EndpointKey(MESOS_CONTAINER, "eth1")]
        assert (endpoint.tenant, endpoint.network) == ("acme", "blue")
        assert dict(endpoint.labels) == {**pairs, "netfabric.cni/network": "other"}
        for _ in range(2):
            assert {(done.status, done.out) for done in await mesos.cleanup()} == {(0, "")}
            assert not ledger.up


@pytest.mark.parametrize("info", [{}, {"name": "mynet"}, {"name": "mynet", "groups": ["x"]}])
async def test_mesos_port_mapper_hands_its_delegate_the_same(
    shim: Shim, agent: Agent, ledger: Ledger, info: dict[str, Any]
) -> None:
    """port_mapper.cpp adds `name` and `args` to what it finds as `delegate`, and wants ip4 in the result."""
    delegate = {
        "type": "netfabric",
        "name": "mynet",
        "args": {"org.apache.mesos": {"network_info": info}},
    }
    async with agent(ledger) as path:
        stdin = json.dumps({**delegate, "socket": str(path)}).encode()
        variables = {
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": MESOS_CONTAINER,
            "CNI_IFNAME": "eth0",
            "CNI_NETNS": "/run/mesos/ns",
            "CNI_PATH": "/opt/cni/bin",
        }
        done = await shim.call(variables, stdin)
    assert (done.status, done.json["ip4"]["ip"]) == (0, "10.1.0.2/32")
