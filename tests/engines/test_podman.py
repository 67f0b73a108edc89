"""Podman itself: real containers on hosts of two racks, restarted, reloaded and removed without a trace."""

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


def test_containers_of_two_racks(lab: Lab, hosts: tuple[Host, Host]) -> None:
    with ExitStack() as stack:
        one, two = (stack.enter_context(Podman(host).running()) for host in hosts)
        _live(lab, one, two)


def _live(lab: Lab, one: Podman, two: Podman) -> None:
    hosts = one.host, two.host
    before = [host.state() for host in hosts]
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
    for podman in (one, two):
        podman("rm", "-f", "-t", "0", "web")
        assert NETWORK in podman("network", "ls")
    for host, state in zip(hosts, before, strict=True):
        until(lambda host=host, state=state: host.state() == state, "nothing is left")  # type: ignore[misc]
    until(lambda: endpoints(lab) == known, "netmaster knows of none")


def meet(one: Podman, two: Podman) -> None:
    """Wait until they reach each other, over both families."""
    for near, far in ((one, two), (two, one)):
        for address in far.addresses("web"):
            until(lambda n=near, a=address: n.reaches("web", a), f"{address} is reached")  # type: ignore[misc]


def endpoints(lab: Lab) -> set[str]:
    """Return those that netmaster knows."""
    items = lab.controller.ask(lambda netmaster: netmaster.items("endpoints"))
    return {str(item["key"]) for item in items}
