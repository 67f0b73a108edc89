"""Two containers of Nomad's, and two of Mesos', on one host: attached by the calls of their scheduler, and pinging."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from netfabric.lab.namespace import Namespace
from tests.netns.cni.chain import STANDARD, Chain
from tests.netns.cni.conftest import Host, own_name

pytestmark = pytest.mark.netns


@pytest.fixture
def pair(stack: ExitStack) -> Iterator[tuple[Namespace, Namespace]]:
    two = Namespace(own_name("c")), Namespace(own_name("c"))
    for one in two:
        stack.callback(one.delete)
        one.create()
    yield two


def ping(source: Namespace, *addresses: str) -> None:
    for address in addresses:
        source.run("ping", "-c", "1", "-w", "10", address.partition("/")[0])


@pytest.mark.skipif(not (STANDARD / "portmap").exists(), reason="no standard CNI plugins")
async def test_nomad(host: Host, pair: tuple[Namespace, Namespace]) -> None:
    """The list of docs/engines/nomad.md; a port as go-cni writes it (`cni.PortMapping`, `getPortMapping`)."""
    port = {"HostPort": 21044, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "10.250.0.1"}
    ports = [port, {**port, "Protocol": "udp"}]
    plugins: list[dict[str, Any]] = [
        {"type": "netfabric"},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    one, two = (Chain(host, "1.0.0", plugins, {"portMappings": p}) for p in (ports, []))
    first = await one.add("alloc-1", pair[0].path)
    second = await two.add("alloc-2", pair[1].path)
    ping(pair[0], *(ip["address"] for ip in second["ips"]))
    ping(pair[1], *(ip["address"] for ip in first["ips"]))
    assert "21044" in host.namespace.run("iptables-save")
    for chain, name, namespace in ((one, "alloc-1", pair[0]), (two, "alloc-2", pair[1])):
        await chain.remove(name, namespace.path)
    await host.becomes_empty()
    assert "21044" not in host.namespace.run("iptables-save")


async def test_mesos(host: Host, pair: tuple[Namespace, Namespace]) -> None:
    """The file of docs/engines/mesos.md, with what the isolator adds to it."""
    info = {"name": "blue", "labels": {"labels": [{"key": "app", "value": "x"}]}}
    args = {"org.apache.mesos": {"network_info": info}}
    results = []
    for number, namespace in enumerate(pair):
        stdin: dict[str, Any] = {"cniVersion": None, "name": "blue", "args": args}
        status, result = await host.call("ADD", f"mesos-{number}", namespace.path, **stdin)
        assert status == 0, json.dumps(result)
        results.append(result)
    ping(pair[0], results[1]["ip4"]["ip"], results[1]["ip6"]["ip"])
    ping(pair[1], results[0]["ip4"]["ip"], results[0]["ip6"]["ip"])
    for number, namespace in enumerate(pair):
        assert await host.call("DEL", f"mesos-{number}", namespace.path, cniVersion=None) == (
            0,
            None,
        )
    await host.becomes_empty()
