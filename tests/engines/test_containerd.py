"""containerd itself: pods by its CRI and containers by `ctr run --cni`, on hosts of two racks, removed without a trace."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address

import pytest

from netfabric.lab import probe
from netfabric.lab.lab import Lab
from tests.engines.burst import burst
from tests.engines.containerd import Containerd
from tests.engines.cri import Runtime
from tests.engines.host import Host, missing, until
from tests.engines.image import BOX, SLEEP

lacking = missing("containerd", "ctr", "runc")
pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.engines,
    pytest.mark.skipif(bool(lacking), reason=lacking),
]
Pair = tuple[Containerd, Containerd]


@pytest.fixture(scope="module")
def daemons(hosts: tuple[Host, Host]) -> Iterator[Pair]:
    with ExitStack() as stack:
        one, two = (stack.enter_context(Containerd(host).running()) for host in hosts)
        yield one, two


@pytest.fixture(autouse=True)
def traceless(lab: Lab, daemons: Pair) -> Iterator[None]:
    """What a test made is gone when it has ended."""
    before = [daemon.host.state() for daemon in daemons]
    known = endpoints(lab)
    yield
    for daemon, state in zip(daemons, before, strict=True):
        until(lambda d=daemon, s=state: d.host.state() == s, "nothing is left")  # type: ignore[misc]
    until(lambda: endpoints(lab) == known, "netmaster knows of none")


def endpoints(lab: Lab) -> set[str]:
    """Return those that netmaster knows."""
    items = lab.controller.ask(lambda netmaster: netmaster.items("endpoints"))
    return {str(item["key"]) for item in items}


def reached(ping: Callable[[str], bool], addresses: tuple[str, ...]) -> None:
    """Wait until every address answers."""
    assert len(addresses) == 2
    for address in addresses:
        until(lambda a=address: ping(a), f"{address} is reached")  # type: ignore[misc]


def pinging(cri: Runtime, container: str) -> Callable[[str], bool]:
    """Return how a container pings."""
    return lambda address: cri.executes(container, "/bin/ping", "-c1", "-W1", address)


def test_pods_of_two_racks(daemons: Pair) -> None:
    with daemons[0].cri() as one, daemons[1].cri() as two:
        pods = one.run_pod("web"), two.run_pod("web")
        containers = [
            cri.run_container(pod, "web", *SLEEP) for cri, pod in zip((one, two), pods, strict=True)
        ]
        reached(pinging(one, containers[0]), two.addresses(pods[1]))
        reached(pinging(two, containers[1]), one.addresses(pods[0]))
        addresses = one.addresses(pods[0])
        daemons[0].kill()
        reached(pinging(two, containers[1]), addresses)
        daemons[0].start()
    with daemons[0].cri() as one, daemons[1].cri() as two:
        reached(pinging(one, containers[0]), two.addresses(pods[1]))
        one.remove_pod(pods[0])
        again = one.run_pod("again")
        reached(pinging(two, containers[1]), one.addresses(again))
        one.remove_pod(again)
        two.remove_pod(pods[1])


def test_ctr(daemons: Pair, lab: Lab) -> None:
    target = lab.container("host2/c1")
    one = daemons[0]
    one.ctr("run", "-d", "--cni", "--cgroup", f"/{one.host.cgroup}/alone", BOX, "alone", *SLEEP)

    def ping(address: str) -> bool:
        words = ("tasks", "exec", "--exec-id", "ping", "alone", "/bin/ping", "-c1", "-W1", address)
        return not one.host.tries("ctr", "-a", str(one.socket), *words).returncode

    try:
        reached(ping, tuple(str(address) for address in target.addresses))
    finally:
        one.ctr("tasks", "kill", "-s", "KILL", "alone")
        until(lambda: "STOPPED" in one.ctr("tasks", "ls"), "its task has ended")
        one.ctr("tasks", "rm", "alone")
        one.ctr("containers", "rm", "alone")


def test_a_hundred_at_once(daemons: Pair, lab: Lab) -> None:
    source = lab.container("host2/c1")
    with burst(daemons[0], "netfabric", 100) as went:
        assert len(went.adds) == 100
        assert max(went.adds) <= 2.0
        targets = {
            f"burst-{number}": tuple(map(ip_address, addresses))
            for number, addresses in enumerate(went.addresses)
        }
        assert sum(map(len, targets.values())) == 200
        answers = probe.ping({"source": source.namespace}, targets, timeout=10)
        assert len(answers) == 200
        assert None not in answers.values()
