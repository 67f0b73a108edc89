"""Somebody's link as an endpoint on the real kernel: as often as one likes, mended, and released to what it was."""

import json
from dataclasses import replace
from ipaddress import ip_address

import pytest

from netfabric.fabric.attachment import endpoint_of
from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.errors import ConflictError, KernelError
from netfabric.fabric.kernel import EndpointLink, Operation
from netfabric.fabric.port import Port
from netfabric.fabric.upkeep import link_of
from tests.netns.datapath.bench import RealBench

pytestmark = pytest.mark.netns
ADDRESSES = (ip_address("10.1.0.9"), ip_address("fd00:1::9"))
GATEWAYS = (ip_address("10.1.0.1"), ip_address("fd00:1::1"))


def port(mac: str = "", link: str = "tap0") -> Endpoint:
    asked = Port("h1", link, "default", "blue", mac=mac)
    return endpoint_of(asked.request(GATEWAYS), "h1", ADDRESSES)


@pytest.fixture
def real(real: RealBench) -> RealBench:
    """A host with a link that is nobody's yet."""
    real.host.run("ip", "link", "add", "tap0", "type", "veth", "peer", "name", "vm0")
    real.host.run("ip", "link", "set", "tap0", "up")
    real.host.run("ip", "link", "set", "vm0", "up")
    return real


def seen(real: RealBench) -> list[str]:
    """Return what hangs on the link."""
    (shown,) = json.loads(real.host.run("ip", "-j", "-d", "link", "show", "tap0"))
    found = [f"{name}: {shown.get(name)}" for name in ("group", "address", "mtu", "ifalias")]
    for words in (("addr",), ("-4", "route"), ("-6", "route")):
        found += real.host.run("ip", "-o", *words, "show", "dev", "tap0").splitlines()
    found += real.host.run("ip", "neigh", "show", "dev", "tap0", "nud", "permanent").splitlines()
    return sorted(found)


@pytest.mark.parametrize("mac", ["", "52:54:00:00:00:01"])
def test_it_comes_and_goes_any_number_of_times(real: RealBench, mac: str) -> None:
    wanted, before = port(mac), seen(real)
    for _ in range(2):
        for _ in range(2):
            real.datapath.attach(wanted)
            assert real.datapath.check(wanted) == ()
            assert real.datapath.observe().objects["link", "tap0"] == link_of(wanted)
        for _ in range(2):
            real.datapath.detach(wanted)
            assert seen(real) == before
            assert ("link", "tap0") not in real.datapath.observe().objects


@pytest.mark.parametrize(
    "damage",
    [
        "ip route delete 10.1.0.9",
        "ip -6 route delete fd00:1::9",
        "ip neigh delete 10.1.0.9 dev tap0",
        "ip address delete 169.254.1.1/32 dev tap0",
        "ip address delete 10.1.0.1/32 dev tap0",
        "ip link set tap0 group default",
    ],
)
def test_what_was_damaged_is_mended(real: RealBench, damage: str) -> None:
    wanted = port("52:54:00:00:00:01")
    real.datapath.attach(wanted)
    before = seen(real)
    real.host.run(*damage.split())
    assert real.datapath.check(wanted)
    real.datapath.attach(wanted)
    assert (real.datapath.check(wanted), seen(real)) == ((), before)


def test_another_mac_and_fewer_addresses(real: RealBench) -> None:
    real.datapath.attach(port("52:54:00:00:00:01"))
    for wanted in (port("52:54:00:00:00:02"), port(), replace(port(), addresses=ADDRESSES[:1])):
        real.datapath.attach(wanted)
        assert real.datapath.observe().objects["link", "tap0"] == link_of(wanted)


def test_nobodys_port_is_released(real: RealBench) -> None:
    """The journal was lost: what is left has our mark, and nobody knows it."""
    before = seen(real)
    real.datapath.attach(port())
    stray = EndpointLink("tap0", "", ADDRESSES, 0)
    assert real.datapath.apply([Operation("remove", stray)]) == ()
    assert seen(real) == before


def test_it_is_no_uplink(real: RealBench) -> None:
    before = real.datapath.uplinks()
    real.datapath.attach(port())
    assert real.datapath.uplinks() == before


def test_a_link_that_is_not_there(real: RealBench) -> None:
    with pytest.raises(KernelError, match="link tap9 is not there"):
        real.datapath.attach(port(link="tap9"))
    real.datapath.detach(port(link="tap9"))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("ip address add 192.0.2.1/24 dev tap0", "the host's address 192.0.2.1"),
        ("ip address add 10.1.0.1/24 dev tap0", "the host's address 10.1.0.1"),
        ("ip address add fd00:1::1/64 dev tap0 nodad", "the host's address fd00:1::1"),
        ("ip address add 10.1.0.1/24 dev tap0 scope host", "the host's address 10.1.0.1"),
        ("ip address add 10.1.0.1/32 dev tap0", "the host's address 10.1.0.1"),
        ("ip link set tap0 group 7", "belongs to a bridge or to a group"),
        ("ip link set tap0 master br0", "belongs to a bridge or to a group"),
    ],
)
def test_a_link_that_is_somebodys_is_refused(real: RealBench, words: str, why: str) -> None:
    real.host.run("ip", "link", "add", "br0", "type", "bridge")
    real.host.run(*words.split())
    before = seen(real)
    with pytest.raises(ConflictError, match=why):
        real.datapath.attach(port())
    real.datapath.detach(port())
    assert seen(real) == before


def test_an_address_of_the_operators_outlives_the_port(real: RealBench) -> None:
    wanted, before = port(), seen(real)
    real.datapath.attach(wanted)
    real.host.run("ip", "address", "delete", "10.1.0.1/32", "dev", "tap0")
    real.host.run("ip", "address", "add", "10.1.0.1/24", "dev", "tap0", "scope", "host")
    real.datapath.attach(wanted)  # behind it: the kernel finds the operator's first
    real.datapath.detach(wanted)
    real.host.run("ip", "address", "delete", "10.1.0.1/24", "dev", "tap0")
    assert seen(real) == before
