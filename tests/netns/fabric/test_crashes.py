"""kill -9 of netplugin, netmaster and etcd under traffic: not a packet lost, nothing reprogrammed that was right."""

from collections.abc import Callable, Iterator

import pytest

from netfabric.fabric.kernel import PROTOCOL
from netfabric.lab.container import Container
from netfabric.lab.kernel_watch import Change, KernelWatch
from netfabric.lab.lab import Lab
from netfabric.lab.traffic import Stream

pytestmark = [pytest.mark.netns, pytest.mark.slow]


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(racks=2, hosts=1, tors=2, spines=1, tor="bird", store="etcd", containers=2)


@pytest.fixture
def streams(lab: Lab) -> Iterator[list[Stream]]:
    """Pings across the racks, over both families; whoever asks for them wants none lost."""
    one, other = _far_apart(lab)
    made = [Stream(one.namespace, address) for address in other.addresses]
    with made[0], made[1]:
        for stream in made:
            stream.wait(20)
        yield made
    for stream in made:
        assert stream.lost() == [], f"lost {len(stream.lost())} of {stream.sent}"


def _far_apart(lab: Lab) -> tuple[Container, Container]:
    found = {c.title: c for c in lab.containers()}
    return found["host1/c1"], found["host2/c1"]


def _ours(changes: list[Change]) -> list[Change]:
    """Changes of what the agent programs; the switches' and the kernel's own are none of its doing."""
    return [
        change
        for change in changes
        if change.protocol == PROTOCOL
        or change.what == "neighbour"
        or (change.link is not None and (change.link.ours or change.link.buried))
    ]


def test_netplugin_killed_and_back(lab: Lab, streams: list[Stream]) -> None:
    with KernelWatch(lab.namespace("host1")) as watch:
        for _ in range(3):
            lab.kill("host1", "netplugin")
            streams[0].wait(30)
            lab.restart("host1", "netplugin")
            lab.wait_for_sessions()
        streams[0].wait(1000)  # longer than an audit takes to come round
    assert _ours(watch.changes) == []


def test_netmaster_killed_and_back(lab: Lab, streams: list[Stream]) -> None:
    with KernelWatch(lab.namespace("host1")) as watch:
        lab.kill("netmaster", "netmaster")
        streams[0].wait(100)
        lab.restart("netmaster", "netmaster")
        streams[0].wait(300)
    assert _ours(watch.changes) == []


def test_etcd_killed_and_back(lab: Lab, streams: list[Stream]) -> None:
    with KernelWatch(lab.namespace("host1")) as watch:
        lab.kill("netmaster", "etcd")
        streams[0].wait(100)
        lab.restart("netmaster", "etcd")
        streams[0].wait(300)
    assert _ours(watch.changes) == []


def test_exabgp_killed_and_back(lab: Lab, streams: list[Stream]) -> None:
    """Graceful restart: the switches keep the routes, and the agent brings ExaBGP back."""
    lab.kill("host1", "exabgp")
    streams[0].wait(300)
    lab.wait_for_sessions()
    lab.wait_for_routes(lab.containers())


def test_a_held_block_serves_while_netmaster_and_etcd_are_down(lab: Lab) -> None:
    lab.kill("netmaster", "netmaster")
    lab.kill("netmaster", "etcd")
    try:
        added = lab.attach("host1", "alone")
        lab.wait_for_routes([added])
        matrix = lab.ping(sources=[added])
        assert [pair for pair, trip in matrix.items() if trip is None] == []
        lab.detach("host1", "alone")
        lab.wait_for_routes([added], present=False)
    finally:
        lab.restart("netmaster", "etcd")
        lab.restart("netmaster", "netmaster")
    back = lab.attach("host2", "after")
    lab.wait_for_routes([back])
    lab.detach("host2", "after")
