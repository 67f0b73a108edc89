"""netfabric at the head of a list of the standard plugins: each does its work on our interface, and undoes it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from netfabric.lab.namespace import Namespace
from tests.netns.cni.chain import STANDARD, Chain
from tests.netns.cni.conftest import HOST_ADDRESSES, Host

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not (STANDARD / "portmap").exists(), reason="no standard CNI plugins"),
]
NETFABRIC = {"type": "netfabric", "capabilities": {"ips": True, "mac": True}}
TUNING = {"type": "tuning", "sysctl": {"net.core.somaxconn": "517"}}
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}
BANDWIDTH = {"type": "bandwidth", "capabilities": {"bandwidth": True}}
RUNTIME = {
    "ips": ["10.1.0.9/32", "fd00:1::9/128"],
    "mac": "02:00:00:00:00:09",
    "portMappings": [{"hostPort": 8099, "containerPort": 99, "protocol": "tcp"}],
    "bandwidth": {
        "ingressRate": 8_000_000,
        "ingressBurst": 800_000,
        "egressRate": 8_000_000,
        "egressBurst": 800_000,
    },
}


def traces(host: Host) -> list[str]:
    """Return what plugins leave on a host: links, qdiscs, rules that speak of a container."""
    links = host.namespace.run("ip", "-br", "link").splitlines()
    rules = host.namespace.run("iptables-save").splitlines()
    return [
        *(line.split()[0] for line in links if not line.startswith("lo ")),
        *(line for line in rules if "dport 8099" in line or "10.1.0.9" in line),
    ]


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0"])
async def test_the_standard_plugins_behind_netfabric(
    host: Host, container: Namespace, version: str
) -> None:
    """portmap publishes a port, tuning sets a sysctl, bandwidth shapes both ways; all gone after DEL."""
    chain = Chain(host, version, [NETFABRIC, TUNING, PORTMAP, BANDWIDTH], RUNTIME)
    result = await chain.add("c1", container.path)
    assert result["cniVersion"] == version
    assert [ip["address"] for ip in result["ips"]] == ["10.1.0.9/32", "fd00:1::9/128"]
    outer, inner = result["interfaces"][:2]
    assert (inner["name"], inner["mac"]) == ("eth0", "02:00:00:00:00:09")
    assert container.run("sysctl", "-n", "net.core.somaxconn").strip() == "517"
    assert "tbf" in host.namespace.run("tc", "qdisc", "show", "dev", outer["name"])
    await _published(host, container)
    if version != "0.3.1":
        assert _but_portmap(await chain.check("c1", container.path)) == []
        container.run("sysctl", "-qw", "net.core.somaxconn=128")
        container.run("ip", "-4", "route", "delete", "default")
        damaged = await chain.check("c1", container.path)
        assert [name for name, _ in _but_portmap(damaged)] == ["netfabric", "tuning"]
    await chain.remove("c1", container.path)
    await chain.remove("c1", "")
    await host.becomes_empty()
    assert traces(host) == []


def _but_portmap(found: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Leave out what portmap 1.1.1 says of every container with two families: it looks for IPv4 rules in ip6tables."""
    return [(name, words) for name, words in found if name != "portmap"]


async def _published(host: Host, container: Namespace) -> None:
    """A connection to the host's port reaches the container."""
    served = await asyncio.create_subprocess_exec(
        *container.command(
            "python3", "-c", "import socket; s = socket.create_server(('', 99)); print(flush=True);"
            "c, _ = s.accept(); c.sendall(b'here')",
        ),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert served.stdout
        async with asyncio.timeout(10):
            await served.stdout.readline()
            with host.namespace.entered():
                coming = asyncio.open_connection(HOST_ADDRESSES[0], 8099)
                reader, writer = await coming
            assert await reader.read() == b"here"
            writer.close()
    finally:
        if served.returncode is None:
            served.kill()
        await served.wait()


async def test_netfabric_behind_another_plugin(host: Host, container: Namespace) -> None:
    """A second interface, made by `ptp`: its default route stays, both interfaces work, the result has both."""
    first: dict[str, Any] = {
        "type": "ptp",
        "ipam": {
            "type": "host-local",
            "dataDir": str(host.directory / "host-local"),
            "ranges": [[{"subnet": "192.0.2.0/28"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    before = Chain(host, "1.0.0", [first], {})
    made = await before.add("c1", container.path)
    status, result = await host.call(
        "ADD", "c1", container.path, cniVersion="1.0.0", prevResult=made
    )
    assert (status, result["code"]) == (1, 101), "an earlier plugin has that interface"
    result = await _second(host, container.path, made)
    assert [one["name"] for one in result["interfaces"]][-1] == "net1"
    assert [route["dst"] for route in result["routes"]] == ["0.0.0.0/0", "::/0"]
    assert "dev eth0" in container.run("ip", "-4", "route", "show", "default")
    assert "dev net1" in container.run("ip", "-6", "route", "show", "default")
    host.namespace.run("ping", "-c", "1", "-w", "10", result["ips"][-1]["address"].split("/")[0])
    await before.remove("c1", container.path)


async def _second(host: Host, namespace: Path, previous: dict[str, Any]) -> dict[str, Any]:
    status, result = await host.call(
        "ADD", "c1", namespace, interface="net1", cniVersion="1.0.0", prevResult=previous
    )
    assert status == 0, result
    assert isinstance(result, dict)
    return result
