"""How a rule's texts are read."""

from ipaddress import ip_network

import pytest

from netfabric.fabric.errors import InvalidError
from netfabric.fabric.filter import PortRange
from netfabric.fabric.rule_reading import addresses, port_ranges, ports_of, protocol_of


@pytest.mark.parametrize(
    ("text", "prefixes"),
    [
        ("10.1.2.3", ["10.1.2.3/32"]),
        ("10.1.2.3/24", ["10.1.2.0/24"]),
        ("10.1.2.3-6", ["10.1.2.3/32", "10.1.2.4/31", "10.1.2.6/32"]),
        ("10.1.2.0-255/24", ["10.1.2.0/24"]),
        ("0.0.0.0/1", ["0.0.0.0/1"]),
        ("fd00::7/64", ["fd00::/64"]),
        ("fd00::7", ["fd00::7/128"]),
    ],
)
def test_addresses(text: str, prefixes: list[str]) -> None:
    assert addresses(text) == tuple(ip_network(prefix) for prefix in prefixes)


@pytest.mark.parametrize("text", ["10.1.2.9-3", "fd00::/129", "fd00::zz"])
def test_addresses_that_cannot_be(text: str) -> None:
    with pytest.raises(InvalidError):
        addresses(text)


def test_ports() -> None:
    assert port_ranges(["8000-8080", "80"]) == (PortRange(80, 80), PortRange(8000, 8080))
    for wrong in ("0", "70000", "9-8"):
        with pytest.raises(InvalidError):
            port_ranges([wrong])


def test_a_port_without_a_protocol_that_has_ports_says_nothing() -> None:
    assert ports_of({"port": 80}) == ()
    assert ports_of({"port": 80, "protocol": "1"}) == ()
    assert ports_of({"port": 80, "protocol": "017"}) == (PortRange(80, 80),)


def test_protocols() -> None:
    assert protocol_of({"protocol": "006"}) == "6"
    with pytest.raises(InvalidError):
        protocol_of({"protocol": "256"})
