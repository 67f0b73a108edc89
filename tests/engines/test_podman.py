"""Podman itself: real containers on hosts of two racks, restarted, reloaded and removed without a trace."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from netfabric.lab.lab import Lab
from tests.engines.host import Host, missing, until
from tests.engines.podman import NETWORK, Podman

lacking = missing("podman", "runc")
pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.engines,
    pytest.mark.skipif(bool(lacking), reason=lacking),
]


@pytest.fixture(scope="module")
def podmen(hosts: tuple[Host, Host]) -> Iterator[tuple[Podman, Podman]]:
    with ExitStack() as stack:
        one, two = (stack.enter_context(Podman(host).running()) for host in hosts)
        yield one, two


@pytest.fixture(autouse=True)
def traceless(lab: Lab, hosts: tuple[Host, Host]) -> Iterator[None]:
    """What a test made is gone when it has ended."""
    before = [host.state() for host in hosts]
    known = endpoints(lab)
    yield
    for host, state in zip(hosts, before, strict=True):
        until(lambda host=host, state=state: host.state() == state, "nothing is left")  # type: ignore[misc]
    until(lambda: endpoints(lab) == known, "netmaster knows of none")


def test_containers_of_two_racks(lab: Lab, podmen: tuple[Podman, Podman]) -> None:
    one, two = podmen
    known = endpoints(lab)
    one.run("web")
    two.run("web", "--mac-address", "02:00:00:00:bb:01")
    assert "02:00:00:00:bb:01" in two("exec", "web", "/bin/ip", "link", "show", "dev", "eth0")
    meet(one, two)
    one("restart", "-t", "0", "web")
    meet(one, two)
    kept = two.addresses("web")
    two("network", "reload", "web")
    assert two.addresses("web") == kept
    meet(one, two)
    assert len(endpoints(lab)) == len(known) + 2
    for podman in podmen:
        podman("rm", "-f", "-t", "0", "web")
        assert NETWORK in podman("network", "ls")


def test_a_second_network(podmen: tuple[Podman, Podman]) -> None:
    one, two = podmen
    for podman in podmen:
        podman.host.install("--name", "red", "--network", "red", "--conf-name", "20-red.conflist")
    one.run("both", "--network", "red")
    two.run("web")
    two("network", "connect", "red", "web")
    meet(one, two, "both", "web")
    meet(one, two, "both", "web", "red")
    two("network", "disconnect", "red", "web")
    assert "eth1" not in two("exec", "web", "/bin/ip", "link")
    two("network", "connect", "red", "web")
    meet(one, two, "both", "web", "red")
    for podman, name in zip(podmen, ("both", "web"), strict=True):
        podman("rm", "-f", "-t", "0", name)


def meet(
    one: Podman, two: Podman, first: str = "web", second: str = "web", network: str = NETWORK
) -> None:
    """Wait until two containers reach each other at their addresses on a network, over both families."""
    for near, name, far, other in ((one, first, two, second), (two, second, one, first)):
        for address in far.addresses(other, network):
            until(lambda a=address, n=near, c=name: n.reaches(c, a), f"{address} is reached")  # type: ignore[misc]


def endpoints(lab: Lab) -> set[str]:
    """Return those that netmaster knows."""
    items = lab.controller.ask(lambda netmaster: netmaster.items("endpoints"))
    return {str(item["key"]) for item in items}
