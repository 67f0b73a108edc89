"""Pairs whose inner end the engine moves: made ahead, mended on the host's side, and gone without a trace."""

import os
from collections.abc import Iterator
from dataclasses import replace
from subprocess import CalledProcessError

import pytest

from netfabric.fabric.endpoint import DOCKER_LABEL, GATEWAY_LABEL, Endpoint
from netfabric.fabric.errors import ConflictError
from netfabric.fabric.upkeep import link_of
from tests.netns.datapath.bench import RealBench, wait_until

pytestmark = pytest.mark.netns


@pytest.fixture
def bench(worker_id: str) -> Iterator[RealBench]:
    bench = RealBench(worker_id)
    try:
        yield bench
    finally:
        bench.close()


def docker(bench: RealBench, number: int, gateway: int = 1) -> Endpoint:
    labels = ((DOCKER_LABEL, "n1"), (GATEWAY_LABEL, str(gateway)))
    return replace(bench.container(number), labels=labels)


def moved(bench: RealBench, endpoint: Endpoint) -> None:
    """Do what libnetwork does to a pair."""
    inside, name = bench.inside(endpoint), endpoint.key.interface
    bench.host.run("ip", "link", "set", endpoint.inner, "netns", inside.name)
    inside.run("ip", "link", "set", endpoint.inner, "name", name)
    for own in endpoint.prefixes:
        inside.run("ip", "addr", "add", str(own), "dev", name, "nodad")
    inside.run("ip", "link", "set", name, "up")
    for gateway in ("169.254.1.1", "fd4e:4600::1"):
        inside.run("ip", "route", "add", gateway, "dev", name)
        inside.run("ip", "route", "add", "default", "via", gateway)


def pings(bench: RealBench, endpoint: Endpoint, target: str) -> bool:
    try:
        bench.inside(endpoint).run("ping", "-c1", "-W1", target)
    except CalledProcessError:
        return False
    return True


def test_a_pair_forwards_once_it_is_moved(bench: RealBench) -> None:
    one = docker(bench, 7)
    bench.routed.attach(one)
    bench.routed.attach(one)
    assert bench.routed.check(one) == ()
    moved(bench, one)
    for target in ("10.90.0.0", "fd90:0::"):
        wait_until(lambda target=target: pings(bench, one, target))  # type: ignore[misc]
    bench.routed.attach(one)  # as an audit may
    wait_until(lambda: pings(bench, one, "10.90.0.0"))
    observed = bench.routed.observe().objects
    assert observed["link", one.link] == link_of(one)


@pytest.mark.parametrize("gateway", ["169.254.1.1/32", "fd4e:4600::1/128"])
def test_a_gateway_that_is_gone_is_seen_and_mended(bench: RealBench, gateway: str) -> None:
    one = docker(bench, 7)
    bench.routed.attach(one)
    bench.host.run("ip", "addr", "del", gateway, "dev", one.link)
    assert any(gateway.partition("/")[0] in problem for problem in bench.routed.check(one))
    bench.routed.attach(one)
    assert bench.routed.check(one) == ()


def test_nothing_is_sent_from_a_gateways_address(bench: RealBench) -> None:
    one = docker(bench, 7)
    bench.routed.attach(one)
    bench.host.run("ip", "addr", "add", "2001:db8:5::5/128", "dev", "lo")
    for own in one.addresses:
        way = bench.host.run("ip", "route", "get", str(own)).split()
        assert way[way.index("src") + 1] in (
            "10.90.0.1",
            "10.90.1.1",
            "2001:db8:5::5",
            "fd90:1::1",
            "fd90::1",
        )


@pytest.mark.parametrize("there", [True, False])
def test_detach_leaves_nothing(bench: RealBench, there: bool) -> None:
    before = bench.host.run("ip", "addr")
    one = docker(bench, 7, gateway=3)
    bench.routed.attach(one)
    if there:
        moved(bench, replace(one, labels=one.labels[:1]))
    bench.routed.detach(one)
    bench.routed.detach(one)
    wait_until(lambda: bench.host.run("ip", "addr") == before)


def test_a_foreign_link_of_that_name_is_left_alone(bench: RealBench) -> None:
    one = docker(bench, 7)
    bench.host.run(*f"ip link add {one.link} type veth peer name other{os.getpid() % 1000}".split())
    with pytest.raises(ConflictError):
        bench.routed.attach(one)
    with pytest.raises(ConflictError):
        bench.host.run("ip", "link", "set", one.link, "name", "foreign")
        bench.host.run(*f"ip link add {one.inner} type veth peer name another".split())
        bench.routed.attach(one)
