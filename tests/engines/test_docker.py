"""Docker itself: real containers on hosts of two racks, alone and as a swarm, and deaths of all that may die."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from netfabric.agent.cnm.plugin import build
from netfabric.lab.lab import Lab
from netfabric.lab.settings import Settings
from tests.engines.dockerd import BOX, Dockerd, missing

pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.engines,
    pytest.mark.skipif(bool(missing()), reason=missing()),
]
HOSTS = ("host1", "host2")
Pair = tuple[Dockerd, Dockerd]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    settings = Settings(
        name=f"dk{os.getpid() % 100000:05d}", hosts=1, tors=1, containers=0, store="sqlite"
    )
    with Lab(settings) as lab:
        made = lab.controller.netctl("net", "create", "red", "--subnet", "10.2.0.0/16")
        assert made.returncode == 0, made.stderr
        yield lab


@pytest.fixture(scope="module")
def daemons(lab: Lab) -> Iterator[Pair]:
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="nfdk"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        one, two = (
            stack.enter_context(Dockerd(lab.machine(host), directory / host).running())
            for host in HOSTS
        )
        yield one, two


def scope(lab: Lab, daemons: Pair, wanted: str) -> None:
    """Have the agents serve Docker with a scope."""
    for daemon in daemons:
        machine = daemon.machine
        if machine.more.get("cnm_scope", "local") != wanted:
            machine.more["cnm_scope"] = wanted
            lab.kill(machine.node.name, "netplugin")
            lab.restart(machine.node.name, "netplugin")


@pytest.fixture
def local(lab: Lab, daemons: Pair) -> Iterator[Pair]:
    """Both, with a Docker network `blue` each, one made with all options, one with as few as can be."""
    scope(lab, daemons, "local")
    subnets = ("--subnet", "10.1.0.0/16", "--ipv6", "--subnet", "fd10:1::/64")
    for daemon, more in zip(daemons, (subnets, ()), strict=True):
        daemon(*CREATE, *more, "-o", "network=lab", "blue")
    yield daemons
    for daemon in daemons:
        if ids := daemon.ids():
            daemon("rm", "-f", *ids)
        daemon("network", "rm", "blue")
        daemon.empties()


CREATE = ("network", "create", "-d", "netfabric", "--ipam-driver", "netfabric")


def test_containers_of_two_racks(local: Pair) -> None:
    one, two = local
    asked = ("--ip", "10.1.0.50", "--ip6", "fd10:1::50", "--mac-address", "02:00:00:00:aa:01")
    one.run("web", "--network", "blue", *asked)
    two.run("web", "--network", "blue")
    assert one.address("web", "blue") == "10.1.0.50"
    assert one.address("web", "blue", 6) == "fd10:1::50"
    assert "02:00:00:00:aa:01" in one("exec", "web", "/bin/ip", "link", "show", "dev", "eth0")
    for family in (4, 6):
        one.reaches("web", two.address("web", "blue", family))
        two.reaches("web", one.address("web", "blue", family))
    for daemon in local:  # a second network, live
        daemon(*CREATE, "--ipam-opt", "network=red", "red")
        daemon("network", "connect", "red", "web")
    one.reaches("web", two.address("web", "red"))
    for daemon in local:
        daemon("network", "disconnect", "red", "web")
        daemon("network", "rm", "red")
    one("restart", "web")
    two.reaches("web", "10.1.0.50")
    one("network", "disconnect", "blue", "web")
    assert "eth0" not in one("exec", "web", "/bin/ip", "link")
    assert "in use" not in one.tries("network", "connect", "--ip", "10.1.0.51", "blue", "web")
    two.reaches("web", "10.1.0.51")
    assert "in use" in one.tries("run", "--network", "blue", "--ip", "10.1.0.51", BOX, "/bin/sh")


def test_deaths(lab: Lab, local: Pair) -> None:
    one, two = local
    one.run("kept", "--network", "blue", "--ip", "10.1.0.60", "--restart", "always")
    one.run("ends", "--network", "blue")
    two.run("peer", "--network", "blue")
    two.reaches("peer", "10.1.0.60")
    one.kill()
    two.reaches("peer", "10.1.0.60")
    one.start()  # it ends what it finds, and starts anew what it shall
    one.until(lambda: one("ps", "-q", "-f", "name=kept", "-f", "status=running"), "kept runs")
    two.reaches("peer", "10.1.0.60")
    one("start", "ends")
    lab.kill("host1", "netplugin")
    two.reaches("peer", "10.1.0.60")
    two.reaches("peer", one.address("ends", "blue"))
    lab.restart("host1", "netplugin")
    one.run("late", "--network", "blue")
    two.reaches("peer", one.address("late", "blue"))


def test_swarm(lab: Lab, daemons: Pair, tmp_path: Path) -> None:
    scope(lab, daemons, "global")
    one, two = daemons
    build(tmp_path / "plugin")
    for daemon in daemons:
        daemon("plugin", "create", "netfabric", str(tmp_path / "plugin"))
        daemon("plugin", "set", "netfabric", f"agent.source={daemon.agent}")
        daemon("plugin", "enable", "netfabric")
    first, second = (_management(daemon) for daemon in daemons)
    one("swarm", "init", "--advertise-addr", first, "--listen-addr", first)
    token = one("swarm", "join-token", "-q", "worker")
    two("swarm", "join", "--token", token, "--advertise-addr", second, f"{first}:2377")
    driver = "netfabric:latest"
    one("network", "create", "-d", driver, "--ipam-driver", driver, "--subnet", "10.1.0.0/16", "sw")
    one("save", "-o", str(tmp_path / "box.tar"), BOX)
    two("load", "-i", str(tmp_path / "box.tar"))
    image = one("image", "inspect", "-f", "{{.Id}}", BOX)  # by its id: nothing is pulled
    service = ("service", "create", "--detach", "--no-resolve-image", "--name", "web")
    more = (
        "--replicas",
        "4",
        "--endpoint-mode",
        "dnsrr",
        "--stop-signal",
        "KILL",
        "--network",
        "sw",
    )
    one(*service, *more, image, "/bin/sleep", "9999")
    one.until(lambda: all(len(d("ps", "-q").split()) == 2 for d in daemons), "two tasks a host")
    tasks = {daemon: daemon("ps", "-q").split() for daemon in daemons}
    for near, far in ((one, two), (two, one)):
        for family in (4, 6):
            near.reaches(tasks[near][0], far.address(tasks[far][0], "sw", family))
        near.reaches(tasks[near][0], "web")  # by name
    one("service", "rm", "web")
    one.until(lambda: not any(d("ps", "-q") for d in daemons), "no task is left")
    one("network", "rm", "sw")
    for daemon in (two, one):
        daemon("swarm", "leave", "-f")
        daemon("plugin", "disable", "-f", "netfabric")
        daemon("plugin", "rm", "netfabric")
        daemon.empties()


def _management(daemon: Dockerd) -> str:
    """Return the host's address on the lab's management network."""
    shown = daemon.machine.namespace.run("ip", "-4", "-br", "addr", "show", "dev", "oob")
    return shown.split()[2].partition("/")[0]
