"""A host namespace and containers in it, made for one test."""

import os
from collections.abc import Callable, Iterator
from ipaddress import ip_address

import pytest

from netfabric.agent.datapath.routed import RoutedDatapath
from netfabric.fabric.attachment import link_name, mac_of
from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.lab.namespace import Namespace


@pytest.fixture
def spaces() -> Iterator[Callable[[str], Namespace]]:
    """Return a maker of namespaces that are removed afterwards."""
    made: list[Namespace] = []

    def make(name: str) -> Namespace:
        space = Namespace(f"nft-dp-{os.getpid()}-{name}")
        space.create()
        made.append(space)
        return space

    yield make
    for space in made:
        space.delete()


@pytest.fixture
def host(spaces: Callable[[str], Namespace]) -> Namespace:
    return spaces("host")


@pytest.fixture
def datapath(host: Namespace) -> Iterator[RoutedDatapath]:
    made = RoutedDatapath(host.path)
    made.prepare()
    yield made
    made.close()


@pytest.fixture
def endpoint(spaces: Callable[[str], Namespace]) -> Callable[..., Endpoint]:
    """Return a maker of endpoints, each in a container namespace of its own."""

    def make(number: int, *addresses: str, interface: str = "eth0") -> Endpoint:
        given = addresses or (f"10.1.0.{number}", f"fd10:1::{number:x}")
        key = EndpointKey(f"container-{number}", interface)
        parsed = tuple(ip_address(a) for a in given)
        return Endpoint(
            key,
            "host1",
            "default",
            "net1",
            "",
            str(spaces(f"c{number}").path),
            link_name(key),
            mac_of(key, parsed),
            parsed,
        )

    return make
