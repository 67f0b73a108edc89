"""Two hosts with an IPv6 underlay: what is too large, what others break, and an address that moves."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EMSGSIZE

import pytest

from netfabric.fabric.prefix import Address
from netfabric.lab import probe
from netfabric.lab.container import Container
from tests.netns.overlay.conftest import Field
from tests.netns.overlay.wire import Capture

pytestmark = [pytest.mark.netns, pytest.mark.slow]

PATIENCE = 20.0
LINK_MTU, SMALLER_MTU, OVERHEAD = 1500, 1400, 70


@pytest.fixture(scope="module")
def field(make_field: Callable[..., Field]) -> Field:
    return make_field(racks=1, hosts=2, tors=1, vteps="ipv6")


def _pair(field: Field) -> tuple[Container, Container]:
    return field.containers["red", "host1"], field.containers["red", "host2"]


def _answer(source: Container, target: Container) -> None:
    probe.first_answers(source.namespace, target.addresses, PATIENCE)


def _run(field: Field, host: str, *words: str) -> str:
    command = field.lab.namespace(host).command(*words)
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_vxlan_over_ipv6(field: Field) -> None:
    one, other = _pair(field)
    own, _ = next(field.lab.plan.peerings("host1"))
    with Capture(field.lab.namespace("host1"), own.link) as capture:
        _answer(one, other)
    vteps = {field.lab.plan.node(host).vtep for host in ("host1", "host2")}
    outer = [p for p in capture.packets() if p.inner]
    assert {p.source for p in outer} == {p.target for p in outer} == vteps
    assert {p.vni for p in outer} == {field.vni("red")}


def test_a_container_knows_what_fits_into_the_underlay(field: Field) -> None:
    one, other = _pair(field)
    largest = LINK_MTU - OVERHEAD - 28
    """IPv4 and UDP headers are not part of the data."""
    with other.namespace.entered():
        ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with one.namespace.entered():
        mouth = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with ear, mouth:
        ear.settimeout(PATIENCE)
        ear.bind((str(other.addresses[0]), 5354))
        mouth.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO
        mouth.connect((str(other.addresses[0]), 5354))
        mouth.send(bytes(largest))
        assert len(ear.recv(1 << 16)) == largest
        with pytest.raises(OSError) as refused:
            mouth.send(bytes(largest + 1))
        assert refused.value.errno == EMSGSIZE


def test_a_smaller_underlay_is_told_to_containers_that_know_another(field: Field) -> None:
    """The host refuses what is too large for it by ICMP, from the tenant's table (RFC 1191, RFC 8201)."""
    one, other = _pair(field)
    own, _ = next(field.lab.plan.peerings("host1"))
    _run(field, "host1", "ip", "link", "set", own.link, "mtu", str(SMALLER_MTU))
    try:
        for address, headers in zip(other.addresses, (28, 48), strict=True):
            fits = SMALLER_MTU - OVERHEAD - headers
            with _probing(one, address) as mouth:
                _until_refused(mouth, LINK_MTU - OVERHEAD - headers)
                mouth.send(bytes(fits))
                with pytest.raises(OSError) as refused:
                    mouth.send(bytes(fits + 1))
                assert refused.value.errno == EMSGSIZE
    finally:
        _run(field, "host1", "ip", "link", "set", own.link, "mtu", str(LINK_MTU))


def _probing(container: Container, address: Address) -> socket.socket:
    """Return a socket of the container's that sends nothing in fragments."""
    four = address.version == 4
    with container.namespace.entered():
        made = socket.socket(socket.AF_INET if four else socket.AF_INET6, socket.SOCK_DGRAM)
    option = (socket.IPPROTO_IP, 10) if four else (socket.IPPROTO_IPV6, 23)  # IP(V6)_MTU_DISCOVER
    made.setsockopt(*option, 2)
    made.connect((str(address), 5355))
    return made


def _until_refused(mouth: socket.socket, size: int) -> None:
    end = time.monotonic() + 2 * PATIENCE
    while time.monotonic() < end:
        try:
            mouth.send(bytes(size))
        except ConnectionRefusedError:
            continue  # nobody listens there: it arrived
        except OSError as refused:
            assert refused.errno == EMSGSIZE
            mouth.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # what the host said is dealt with
            return
        time.sleep(0.1)
    raise AssertionError("nothing was refused")


def _device(field: Field) -> str:
    return f"nfv{field.vni('red'):x}"


def _entry(field: Field) -> tuple[str, ...]:
    found = json.loads(_run(field, "host1", "bridge", "-j", "fdb", "show", "dev", _device(field)))
    return ("bridge", "fdb", "delete", found[0]["mac"], "dev", _device(field))


def _neighbour(field: Field) -> tuple[str, ...]:
    found = json.loads(
        _run(
            field,
            "host1",
            "ip",
            "-j",
            "-6",
            "neigh",
            "show",
            "nud",
            "permanent",
            "dev",
            _device(field),
        )
    )
    return ("ip", "neigh", "delete", found[0]["dst"], "dev", _device(field))


def _rule(field: Field) -> tuple[str, ...]:
    found = json.loads(_run(field, "host1", "ip", "-j", "rule", "show"))
    priority = next(str(r["priority"]) for r in found if r["table"].isdigit())
    return ("ip", "rule", "delete", "priority", priority)


def _table(field: Field) -> str:
    """Return the tenant's table on the first host."""
    words = ("ip", "-j", "route", "show", "table", "all", "dev", _device(field))
    return str(json.loads(_run(field, "host1", *words))[0]["table"])


def _route(field: Field) -> tuple[str, ...]:
    _, other = _pair(field)
    return ("ip", "route", "delete", str(other.addresses[0]), "table", _table(field))


def _state(field: Field) -> set[str]:
    """Return what stands on the first host, however it is listed."""
    words = [
        ("ip", "-br", "link", "show", "type", "vxlan"),
        ("bridge", "fdb", "show"),
        ("ip", "neigh", "show", "nud", "permanent"),
        ("ip", "-6", "neigh", "show", "nud", "permanent"),
        ("ip", "rule"),
        ("ip", "route", "show", "table", "all", "proto", "200"),
        ("ip", "-6", "route", "show", "table", "all", "proto", "200"),
    ]
    said = [_run(field, "host1", *one).splitlines() for one in words]
    return {line.strip() for lines in said for line in lines if "nfv" in line or "fwmark" in line}


def test_what_others_delete_comes_back(field: Field) -> None:
    one, other = _pair(field)
    before = _state(field)
    device = ("ip", "link", "delete", _device(field))
    foreign = ("ip", "rule", "add", "fwmark", "0x1", "lookup", "main", "priority", "20500")
    _run(field, "host1", *foreign)
    with _halted(field):
        for removal in (_entry(field), _neighbour(field), _route(field), _rule(field)):
            _run(field, "host1", *removal)
        assert len(before - _state(field)) == 4
    _comes_back(field, before)
    _run(field, "host1", *device)
    _comes_back(field, before)
    _answer(one, other)
    _run(field, "host1", "ip", "rule", "delete", "priority", "20500")  # it is still there


@contextmanager
def _halted(field: Field) -> Iterator[None]:
    """Keep the first host's agent from repairing anything meanwhile."""
    agent = field.lab.machine("host1").netplugin.pid()
    os.kill(agent, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(agent, signal.SIGCONT)


def _comes_back(field: Field, before: set[str]) -> None:
    end = time.monotonic() + 2 * PATIENCE
    while not before <= _state(field):
        assert time.monotonic() < end, before - _state(field)
        time.sleep(0.1)


def test_an_address_that_a_removed_host_had_moves_and_stays_in_one_place(field: Field) -> None:
    """Its host is declared dead, and another gets the address; then the first comes back."""
    lab = field.lab
    here = lab.attach("host2", "here", "red:net")
    old, _ = _pair(field)
    table = _table(field)
    lab.kill("host1", "netplugin")
    lab.controller.ask(lambda netmaster: netmaster.remove_host("host1", force=True))
    new = lab.attach("host2", "moved", "red:net", addresses=[str(a) for a in old.addresses])
    assert new.addresses == old.addresses
    _answer(here, new)
    lab.restart("host1", "netplugin")
    end = time.monotonic() + PATIENCE
    while _stands(field, table, old):
        assert time.monotonic() < end
        time.sleep(0.1)
    more = lab.attach("host1", "more", "red:net")
    _answer(more, new)
    _answer(here, new)


def _stands(field: Field, table: str, container: Container) -> bool:
    """Return whether the first host has the container's own address behind a link of a container."""
    words = ("ip", "route", "show", "table", table, "scope", "link")
    return str(container.addresses[0]) in _run(field, "host1", *words)
