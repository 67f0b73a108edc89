"""A container with several interfaces of the fabric: each address is reached, and answers from its own interface."""

from typing import Any

import pytest

from netfabric.lab.namespace import Namespace
from tests.netns.cni.conftest import Host

pytestmark = pytest.mark.netns
FIRST = ("10.1.0.11/32", "fd00:1::11/128")
SECOND = ("10.1.0.12/32", "fd00:1::12/128")
THIRD = ("10.1.0.13/32", "fd00:1::13/128")


async def _add(host: Host, container: Namespace, interface: str, addresses: tuple[str, ...]) -> Any:
    status, result = await host.call(
        "ADD", "c1", container.path, interface, runtimeConfig={"ips": addresses}
    )
    assert status == 0, result
    return result


def _answers(host: Host, container: Namespace, interface: str, addresses: tuple[str, ...]) -> None:
    """The host reaches the addresses, and the answers come by their interface."""
    for address in addresses:
        bare = address.partition("/")[0]
        before = _sent(container, interface)
        host.namespace.run("ping", "-c", "1", "-w", "10", bare)
        assert _sent(container, interface) > before


def _sent(container: Namespace, interface: str) -> int:
    shown = container.run("ip", "-s", "-o", "link", "show", "dev", interface)
    return int(shown.split("TX:")[1].split()[8])


async def test_every_interface_answers(host: Host, container: Namespace) -> None:
    results = {
        interface: await _add(host, container, interface, addresses)
        for interface, addresses in (("eth0", FIRST), ("eth1", SECOND))
    }
    _answers(host, container, "eth0", FIRST)
    _answers(host, container, "eth1", SECOND)
    assert "dev eth0" in container.run("ip", "route", "get", "192.0.2.1")
    for interface, result in results.items():
        assert await host.call("CHECK", "c1", container.path, interface, prevResult=result) == (
            0,
            None,
        )
    container.run("ip", "rule", "delete", "from", SECOND[0])
    status, said = await host.call(
        "CHECK", "c1", container.path, "eth1", prevResult=results["eth1"]
    )
    assert (status, said["code"]) == (1, 104)
    await _add(host, container, "eth1", SECOND)  # again: it mends
    _answers(host, container, "eth1", SECOND)


async def test_what_an_interface_leaves_goes_with_the_next(
    host: Host, container: Namespace
) -> None:
    await _add(host, container, "eth0", FIRST)
    for addresses in (SECOND, THIRD, SECOND):
        await _add(host, container, "eth1", addresses)
        _answers(host, container, "eth1", addresses)
        for family, address in zip(("-4", "-6"), addresses, strict=True):
            rules = container.run("ip", family, "rule", "show", "pref", "20000").splitlines()
            assert [rule.split()[2] for rule in rules] == [address.partition("/")[0]]
        assert (await host.call("DEL", "c1", container.path, "eth1"))[0] == 0
