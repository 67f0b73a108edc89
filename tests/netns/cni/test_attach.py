"""From the plugin that an engine runs to packets: attached, checked, detached, and nothing left."""

from pathlib import Path
from typing import Any

import pytest

from netfabric.lab.namespace import Namespace
from tests.netns.cni.conftest import HOST_ADDRESSES, Host

pytestmark = pytest.mark.netns


def ping(source: Namespace, *addresses: str) -> None:
    """Raise CalledProcessError where one does not answer."""
    for address in addresses:
        source.run("ping", "-c", "2", "-i", "0.05", "-W", "2", address)


def own_addresses(result: dict[str, Any]) -> list[str]:
    return [ip["address"].partition("/")[0] for ip in result["ips"]]


async def test_a_container_is_reachable_when_add_returns(host: Host, container: Namespace) -> None:
    status, result = await host.call("ADD", "c1", container.path)
    assert status == 0, result
    assert [ip["address"] for ip in result["ips"]] == ["10.1.0.2/32", "fd00:1::2/128"]
    ping(container, *HOST_ADDRESSES)
    ping(host.namespace, *own_addresses(result))


async def test_the_result_is_what_is_there(host: Host, container: Namespace) -> None:
    _, result = await host.call("ADD", "c1", container.path)
    outer, inner = result["interfaces"]
    host_link = host.namespace.run("ip", "-d", "link", "show", outer["name"])
    container_link = container.run("ip", "-d", "link", "show", inner["name"])
    assert outer["mac"] in host_link
    assert inner["mac"] in container_link
    assert f"mtu {inner['mtu']} " in container_link
    for route in result["routes"]:
        family = "-6" if ":" in route["dst"] else "-4"
        assert f"via {route['gw']} " in container.run("ip", family, "route", "show", "default")
    addresses = container.run("ip", "addr", "show", inner["name"])
    assert all(ip["address"] in addresses for ip in result["ips"])


async def test_del_leaves_nothing(host: Host, container: Namespace) -> None:
    before = host.ours()
    await host.call("ADD", "c1", container.path)
    assert host.ours()
    for namespace in (container.path, ""):
        assert await host.call("DEL", "c1", namespace) == (0, None)
    await host.becomes_empty()
    assert before == []
    assert "eth0" not in container.run("ip", "-br", "link")


async def test_del_after_the_container_has_gone(host: Host, container: Namespace) -> None:
    await host.call("ADD", "c1", container.path)
    container.delete()
    assert await host.call("DEL", "c1", "") == (0, None)
    await host.becomes_empty()


async def test_add_again_disturbs_nothing(host: Host, container: Namespace) -> None:
    first = await host.call("ADD", "c1", container.path)
    link = container.run("ip", "-o", "link", "show", "eth0")
    assert await host.call("ADD", "c1", container.path) == first
    assert container.run("ip", "-o", "link", "show", "eth0") == link


async def test_check_sees_what_was_broken(host: Host, container: Namespace) -> None:
    _, result = await host.call("ADD", "c1", container.path)
    assert await host.call("CHECK", "c1", container.path, prevResult=result) == (0, None)
    container.run("ip", "-4", "route", "delete", "default")
    status, error = await host.call("CHECK", "c1", container.path, prevResult=result)
    assert (status, error["code"]) == (1, 104)


async def test_gc_removes_what_no_engine_knows(host: Host, container: Namespace) -> None:
    await host.call("ADD", "c1", container.path)
    valid: dict[str, Any] = {"cni.dev/valid-attachments": [{"containerID": "c2", "ifname": "eth0"}]}
    assert await host.call("GC", "", "", **valid) == (0, None)
    await host.becomes_empty()


@pytest.mark.parametrize("kind", ["missing", "file", "directory"])
async def test_a_namespace_that_is_none_is_code_3(host: Host, kind: str) -> None:
    path = host.directory / kind
    if kind == "file":
        _touch(path)
    if kind == "directory":
        _make(path)
    status, error = await host.call("ADD", "c1", path)
    assert (status, error["code"]) == (1, 3), error
    assert str(path) in error["msg"]
    assert host.ours() == []


async def test_the_hosts_own_namespace_is_refused(host: Host) -> None:
    status, error = await host.call("ADD", "c1", host.namespace.path)
    assert (status, error["code"]) == (1, 7)
    assert host.ours() == []


async def test_an_interface_that_is_there_already(host: Host, container: Namespace) -> None:
    container.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other")
    status, error = await host.call("ADD", "c1", container.path)
    assert (status, error["code"]) == (1, 101)
    assert "eth0" in error["msg"]
    await host.becomes_empty()
    assert "other" in container.run("ip", "-br", "link")


def _touch(path: Path) -> None:
    path.touch()


def _make(path: Path) -> None:
    path.mkdir()


async def test_a_bandwidth_holds_from_the_first_packet(host: Host, container: Namespace) -> None:
    limits = {"ingressRate": 8_000_000, "egressRate": 4_000_000}
    runtime = {"bandwidth": limits}
    _, result = await host.call("ADD", "c1", container.path, runtimeConfig=runtime)
    qdiscs = host.namespace.run("tc", "qdisc", "show")
    assert "rate 8Mbit" in qdiscs
    assert "rate 4Mbit" in qdiscs
    assert await host.call("CHECK", "c1", container.path, prevResult=result) == (0, None)
    await host.call("DEL", "c1", container.path)
    await host.becomes_empty()
    assert "rate " not in host.namespace.run("tc", "qdisc", "show")
