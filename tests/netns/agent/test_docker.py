"""Docker's call sequences against the real netplugin: create, run, stop, remove, in pieces, again, and after deaths."""

import asyncio
import json
import socket
import struct
from dataclasses import replace
from ipaddress import ip_interface, ip_network
from typing import Any

import pytest

from netfabric.fabric.filter import GroupFilter
from netfabric.fabric.network import Network, whole_range
from tests.agent.small_netmaster import SmallNetmaster
from tests.netns.agent.conftest import BLUE, Machine
from tests.netns.agent.docker import V4, Container, Docker, RefusedError

pytestmark = pytest.mark.netns
QUICK = ("--audit-interval", "0.5", "--drain", "0.05")
RED = Network("default", "red", "routed", (whole_range(ip_network("10.78.0.0/16")),))
HOST = "10.90.0.1"
"""The host's own address: containers may ask it for an echo."""


@pytest.fixture
def docker(machine: Machine) -> Docker:
    return Docker(machine)


def bare(container: Container) -> list[str]:
    return [one.partition("/")[0] for one in container.addresses]


async def pings(docker: Docker, name: str, address: str) -> None:
    """Wait until a container reaches an address: a new link drops packets for a moment."""
    await docker.machine.until(lambda: docker.machine.pings(name, address), f"{address} answers")


def ours(docker: Docker) -> list[str]:
    """Return what of endpoints is in the host's namespace."""
    run = docker.machine.namespace.run
    links = run("ip", "-br", "link").splitlines()
    words = [line for line in links if line.startswith(("nf", "nd"))]
    for family in ("-4", "-6"):
        words += run("ip", family, "route", "show", "proto", "200").splitlines()
        words += run("ip", family, "neigh", "show", "nud", "permanent").splitlines()
    return words


async def empty(docker: Docker) -> None:
    await docker.machine.until(lambda: not ours(docker), "nothing is left")


def remembered(docker: Docker) -> dict[str, Any]:
    found = json.loads((docker.machine.directory / "state" / "cnm.json").read_text())
    assert isinstance(found, dict)
    return found


async def test_create_run_stop_remove(docker: Docker, netmaster: SmallNetmaster) -> None:
    await docker.start(netmaster.address, *QUICK)
    await docker.create(network="blue")
    one, two = await docker.run("1"), await docker.run("2", "10.77.0.9", "02:aa:bb:cc:dd:01")
    assert bare(two)[0] == "10.77.0.9"
    assert two.joined["Gateway"] == "169.254.1.1"
    for address in bare(two):
        await pings(docker, "1", address)
    await pings(docker, "1", HOST)
    await netmaster.until(lambda: len(netmaster.endpoints) == 2, "both are stored")
    assert {e.mac for e in netmaster.endpoints.values()} == {one.mac, "02:aa:bb:cc:dd:01"}
    for container in (one, two):
        await docker.stop(container)
    await docker.remove()
    await netmaster.until(lambda: not netmaster.endpoints, "none is stored")
    await empty(docker)
    assert remembered(docker) == {"networks": [], "endpoints": []}


async def test_every_call_again_answers_the_same(docker: Docker, netmaster: SmallNetmaster) -> None:
    await docker.start(netmaster.address, *QUICK)
    await docker.create(network="blue")
    await docker.create(network="blue")
    made = await docker.begin("1")
    ids = {"NetworkID": docker.network, "EndpointID": made.endpoint}
    asked = {"Address": made.addresses[0], "AddressIPv6": "", "MacAddress": ""}
    again = await docker("NetworkDriver.CreateEndpoint", **ids, Interface=asked)
    assert again["Interface"] == {"AddressIPv6": made.addresses[1], "MacAddress": made.mac}
    first = await docker.join(made)
    assert await docker.join(made) == first
    for _ in range(2):
        await docker.stop(made)
    await docker.stop(
        Container("f" * 64, ["10.77.0.77/32", "fd77::77/128"], "", made.namespace, "eth0")
    )
    for _ in range(2):
        await docker.remove()
    await empty(docker)


@pytest.mark.parametrize("dies", ["endpoint", "join", "settled"])
async def test_the_agent_dies_in_between(
    docker: Docker, netmaster: SmallNetmaster, dies: str
) -> None:
    async def death(moment: str) -> None:
        if moment == dies:
            docker.machine.kill()
            await docker.start(netmaster.address, *QUICK)

    await docker.start(netmaster.address, *QUICK)
    await docker.create(network="blue")
    made = await docker.begin("1")
    await death("endpoint")
    first = await docker.join(made)
    await death("join")
    assert await docker.join(made) == first
    await asyncio.to_thread(docker.settle, made)
    await death("settled")
    await pings(docker, "1", HOST)
    await docker.stop(made)
    await empty(docker)


async def test_dockerd_restarts(docker: Docker, netmaster: SmallNetmaster) -> None:
    """Stale endpoints are ended, and CreateNetwork does not come again."""
    await docker.start(netmaster.address, *QUICK)
    await docker.create(network="blue")
    stale = await docker.run("1")
    docker.machine.kill()
    await docker.start(netmaster.address, *QUICK)
    await docker.stop(stale)
    docker.machine.container("1").delete()
    docker.machine.containers.clear()
    fresh = await docker.run("1", bare(stale)[0])  # the address it had
    await pings(docker, "1", HOST)
    await docker.stop(fresh)
    await empty(docker)


async def test_the_journal_is_lost(docker: Docker, netmaster: SmallNetmaster) -> None:
    await docker.start(netmaster.address, *QUICK)
    await docker.create(network="blue")
    made = await docker.run("1")
    await netmaster.until(lambda: netmaster.endpoints, "it is stored")
    docker.machine.kill()
    for file in (docker.machine.directory / "state").glob("journal.db*"):
        file.unlink()
    await docker.start(netmaster.address, *QUICK)
    await pings(docker, "1", HOST)
    other = await docker.run("2")
    assert not {*bare(made)} & {*bare(other)}
    await pings(docker, "2", bare(made)[0])
    for container in (made, other):
        await docker.stop(container)
    await empty(docker)


async def test_many_at_once(docker: Docker, netmaster: SmallNetmaster) -> None:
    await docker.start(netmaster.address, *QUICK)
    await docker.create(network="blue")
    begun = await asyncio.gather(*(docker.begin("1") for _ in range(30)))
    joined = await asyncio.gather(*map(docker.join, begun))
    assert len({address for made in begun for address in bare(made)}) == 60
    assert len({answer["Gateway"] for answer in joined}) == 30  # one sandbox
    await asyncio.gather(*map(docker.stop, begun))
    await empty(docker)
    assert remembered(docker)["endpoints"] == []


async def test_a_container_dies_with_its_dockerd(docker: Docker, netmaster: SmallNetmaster) -> None:
    """Nobody says Leave: the pair went with the namespace, and the endpoint follows."""
    await docker.start(netmaster.address, *QUICK)
    await docker.create(network="blue")
    await docker.run("1")
    await netmaster.until(lambda: netmaster.endpoints, "it is stored")
    docker.machine.containers.pop("1").delete()
    await netmaster.until(lambda: not netmaster.endpoints, "it is gone")
    await empty(docker)


async def test_a_network_may_be_named_by_o_alone(docker: Docker, netmaster: SmallNetmaster) -> None:
    """Docker's IPAM calls don't have what -o says: the pool is open until CreateNetwork."""
    netmaster.networks = (BLUE, RED)
    await docker.start(netmaster.address, *QUICK)
    other = Docker(docker.machine, network="m" * 64)
    await other.create("", network="red")
    await docker.create("", network="blue")
    docker.machine.kill()
    await docker.start(netmaster.address, *QUICK)
    made = await docker.run("1")
    assert ip_interface(made.addresses[0]) in ip_network(V4)
    given = await other("IpamDriver.RequestAddress", PoolID=other.pool, Address="", Options={})
    assert given["Address"].startswith("10.78.")
    await docker.stop(made)
    await docker.remove()
    await other.remove()
    assert remembered(docker) == {"networks": [], "endpoints": []}


async def test_two_networks(docker: Docker, netmaster: SmallNetmaster) -> None:
    """Each has a gateway of its own, and is reached from its own address."""
    netmaster.networks = (BLUE, RED)
    await docker.start(netmaster.address, *QUICK)
    await docker.create(network="blue")
    await docker.run("1")
    blue = docker.pool
    other = Docker(docker.machine, network="m" * 64)
    await other.create("10.78.0.0/16", network="red")
    assert other.pool != blue
    given = await other("IpamDriver.RequestAddress", PoolID=other.pool, Address="", Options={})
    ids = {"NetworkID": other.network, "EndpointID": "e" * 64}
    asked = {"Address": given["Address"]}
    said = await other("NetworkDriver.CreateEndpoint", **ids, Interface=asked)
    second = Container(
        "e" * 64,
        [given["Address"]],
        said["Interface"]["MacAddress"],
        docker.machine.container("1"),
        "eth1",
    )
    await other.join(second)
    assert second.joined["Gateway"] == "169.254.1.2"
    await asyncio.to_thread(other.settle, second)
    via = ("ping", "-c", "1", "-W", "1", "-I", given["Address"].partition("/")[0], "10.78.255.250")
    docker.machine.namespace.run("ip", "addr", "add", "10.78.255.250/32", "dev", "lo")
    run = second.namespace.run
    await docker.machine.until(lambda: " 0% packet loss" in run(*via, check=False), "red answers")
    await other("NetworkDriver.Leave", **ids)
    await docker.machine.until(lambda: "eth1" not in run("ip", "-br", "link"), "it is gone")
    await pings(docker, "1", HOST)


async def test_an_address_has_one_owner(docker: Docker, netmaster: SmallNetmaster) -> None:
    await docker.start(netmaster.address, *QUICK)
    await docker.create(network="blue")
    made = await docker.run("1", "10.77.0.5")
    with pytest.raises(RefusedError, match=r"10\.77\.0\.5 .* in use"):
        await docker.begin("2", "10.77.0.5")
    reserved = await docker.begin("2")
    by_cni = [await docker.machine.add(name) for name in ("3", "4")]
    taken = {*bare(made), *bare(reserved), *(a for found in by_cni for a in found)}
    assert len(taken) == 8


async def test_a_gc_of_cni_leaves_docker_alone(docker: Docker, netmaster: SmallNetmaster) -> None:
    await docker.start(netmaster.address, *QUICK)
    await docker.create(network="blue")
    await docker.run("1")
    await docker.machine.add("2")
    await netmaster.until(lambda: len(netmaster.endpoints) == 2, "both are stored")
    await asyncio.to_thread(_collect_all, docker.machine)
    await netmaster.until(lambda: len(netmaster.endpoints) == 1, "CNI's is gone")
    await pings(docker, "1", HOST)


def _collect_all(machine: Machine) -> None:
    """Let CNI's GC say that nothing of its network is valid."""
    configuration = {"cniVersion": "1.1.0", "name": "n", "cni.dev/valid-attachments": []}
    environment, stdin = b"CNI_COMMAND=GC\0CNI_PATH=/\0", json.dumps(configuration).encode()
    with socket.socket(socket.AF_UNIX) as asker:
        asker.settimeout(10)
        asker.connect(str(machine.directory / "run" / "cni.sock"))
        asker.sendall(struct.pack("!4sII", b"NFC1", len(environment), len(stdin)))
        asker.sendall(environment + stdin)
        while asker.recv(1 << 16):
            pass


async def test_a_group_is_guarded_before_libnetwork_has_the_link(
    docker: Docker, netmaster: SmallNetmaster
) -> None:
    netmaster.filters = (GroupFilter("default:web", "deny", network="default:blue"),)
    await docker.start(netmaster.address, *QUICK)
    await docker.create(network="blue", group="web")
    made = await docker.begin("1")
    source = (await docker.join(made))["InterfaceName"]["SrcName"]
    ruleset = docker.machine.namespace.run("nft", "list", "ruleset")
    assert f'"nf{source[2:]}"' in ruleset and bare(made)[0] in ruleset
    await netmaster.until(lambda: netmaster.endpoints, "it is stored")
    (endpoint,) = netmaster.endpoints.values()
    assert (endpoint.group, endpoint.addresses[0]) == ("web", ip_interface(made.addresses[0]).ip)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"subnet": "10.9.0.0/16"}, "no network has subnet"),
    ({"subnet": ""}, "no network is named"),
    ({"subnet": "", "tenant": "t", "network": "blue"}, "t:blue is not known"),
    ({"network": "none"}, "default:none is not known"),
    ({"tenant": "t"}, "no network"),
    ({"network": "blue", "grup": "x"}, "no option 'grup'"),
    ({"ipam": {"network": "blue", "x": "y"}}, "no option 'x'"),
    ({"subnet": "10.77.0.0/24", "ipam": {"network": "blue"}}, "not that of network"),
    ({"network": "blue", "com.docker.network.driver.mtu": "99"}, "out of range"),
]


async def test_what_cannot_be_is_refused_by_name(docker: Docker, netmaster: SmallNetmaster) -> None:
    await docker.start(netmaster.address, *QUICK)
    for given, words in REFUSED:
        with pytest.raises(RefusedError, match=words):
            await docker.create(**given)
    await docker.create(network="blue")
    unknown = replace(docker, network="u" * 64)
    with pytest.raises(RefusedError, match="never told of it"):
        await unknown.begin("1")
    alien = {"AddressSpace": "LocalDefault", "Pool": V4}
    calls: list[tuple[str, dict[str, Any], str]] = [
        ("CreateNetwork", {"NetworkID": "x", "IPv4Data": [alien]}, "--ipam-driver netfabric"),
        (
            "CreateNetwork",
            {"NetworkID": "x", "Options": {"com.docker.network.internal": True}},
            "--internal",
        ),
        ("Join", {"EndpointID": "x", "SandboxKey": "/x"}, "never created"),
        ("CreateEndpoint", {"EndpointID": 7}, "no text"),
    ]
    for name, body, words in calls:
        with pytest.raises(RefusedError, match=words):
            await docker(f"NetworkDriver.{name}", **body)
    with pytest.raises(RefusedError, match="no such call"):
        await docker("NetworkDriver.Nonsense")
