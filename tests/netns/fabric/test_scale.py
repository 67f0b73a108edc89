"""500 containers on a host, 2,000 in the lab: each with a route at every switch, in bounded memory."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import pytest

from netfabric.fabric.prefix import host_prefix
from netfabric.lab.container import Container
from netfabric.lab.lab import Lab

pytestmark = [pytest.mark.netns, pytest.mark.slow]

EACH = 500
AGENT_LIMIT, NETMASTER_LIMIT = 150, 200
"""MB of resident memory."""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(racks=2, hosts=2, tors=2, spines=1, tor="bird", store="etcd", containers=0)


@pytest.fixture(scope="module")
def containers(lab: Lab) -> Iterator[list[Container]]:
    def fill(host: str) -> list[Container]:
        return [lab.attach(host, f"n{number}") for number in range(EACH)]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield [container for found in pool.map(fill, lab.machines) for container in found]


def _resident(pid: int) -> float:
    """Return a process's resident memory in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def test_every_address_is_given_once(containers: list[Container]) -> None:
    addresses = [address for container in containers for address in container.addresses]
    assert len(addresses) == len(set(addresses)) == 2 * 4 * EACH


def test_every_switch_has_a_route_to_each(lab: Lab, containers: list[Container]) -> None:
    lab.wait_for_routes(containers, timeout=60)
    wanted = {host_prefix(address) for container in containers for address in container.addresses}
    for name, switch in lab.switches.items():
        assert not wanted - switch.rib().keys(), name


def test_memory_stays_bounded(lab: Lab, containers: list[Container]) -> None:
    agents = {name: _resident(m.netplugin.pid()) for name, m in lab.machines.items()}
    netmaster = _resident(lab.controller.netmaster.pid())
    assert max(agents.values()) < AGENT_LIMIT, agents
    assert netmaster < NETMASTER_LIMIT, netmaster


def test_far_ones_reach_each_other(lab: Lab, containers: list[Container]) -> None:
    """A sample: the last container of every host, to and from each other."""
    some = [list(group)[-1] for _, group in groupby(containers, key=lambda c: c.host)]
    matrix = lab.ping(sources=some, targets=some)
    assert [pair for pair, trip in matrix.items() if trip is None] == []
