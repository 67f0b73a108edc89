"""A virtual machine's link as an endpoint: reached across racks, guarded, over restarts, and gone without a trace."""

import fcntl
import json
import os
import select
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from netfabric.lab.kernel_watch import KernelWatch
from netfabric.lab.lab import Lab
from netfabric.lab.machines import URL
from netfabric.lab.namespace import Namespace, wire

pytestmark = [pytest.mark.netns, pytest.mark.slow]
NETCTL = str(Path(sys.executable).with_name("netctl"))
GATEWAY, VM, VM6 = "10.99.0.1", "10.99.0.50", "fd99::50"


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """Two racks of one host; a network with a gateway, and a group that lets nobody in."""
    made = make_lab(racks=2, hosts=1, tors=1, spines=1, tor="frr", containers=0)
    words = ("network", "create", "vms", "--subnet", "10.99.0.0/16", "--gateway", GATEWAY)
    netctl(made, *words, "--subnetv6", "fd99::/64", "--gatewayv6", "fd99::1")
    netctl(made, "group", "create", "vms", "shut", "--default-action", "deny")
    return made


def netctl(lab: Lab, *words: str) -> str:
    return lab.controller.namespace.run(NETCTL, "--netmaster", URL, *words)


@dataclass(frozen=True)
class Machine:
    """A virtual machine: a namespace, whose link's other end is a tap of host1."""

    lab: Lab
    namespace: Namespace
    link: str

    @property
    def host(self) -> Namespace:
        return self.lab.machine("host1").namespace

    def plug(self) -> None:
        """Make the tap, as a hypervisor does."""
        wire((self.host, self.link), (self.namespace, "eth0"))
        self.namespace.run("ip", "addr", "add", f"{VM6}/128", "dev", "eth0", "nodad")
        self.namespace.run("ip", "-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0")

    def as_in_containers(self) -> None:
        """Set IPv4 up with our link-local gateway."""
        self.namespace.run("ip", "addr", "add", f"{VM}/32", "dev", "eth0")
        way = ("ip", "route", "add", "default", "via", "169.254.1.1", "dev", "eth0", "onlink")
        self.namespace.run(*way)

    def as_everywhere(self) -> None:
        """Set IPv4 up with the network's gateway, as machines are used to."""
        self.namespace.run("ip", "addr", "add", f"{VM}/16", "dev", "eth0")
        self.namespace.run("ip", "route", "add", "default", "via", GATEWAY)

    def add(self, *more: str) -> None:
        """Make it an endpoint."""
        words = ("--host", "host1", "--link", self.link, "--network", "vms")
        netctl(self.lab, "endpoint", "add", *words, "--ip", VM, "--ip6", VM6, *more)

    def rm(self) -> None:
        netctl(self.lab, "endpoint", "rm", "--host", "host1", "--link", self.link)

    def endpoints(self) -> list[dict[str, Any]]:
        """Return what netmaster knows of it."""
        found = self.lab.controller.ask(lambda netmaster: netmaster.items("endpoints"))
        return [one for one in found if one["container"] == f"port:{self.link}"]

    def seen(self) -> list[str]:
        """Return everything that hangs on the tap; counters, and what the other end does to it, aside."""
        shown = json.loads(self.host.run("ip", "-d", "-j", "link", "show", self.link))[0]
        kept = ("group", "ifalias", "address", "mtu", "qdisc", "master", "inet6_addr_gen_mode")
        found = [f"{name} {shown.get(name)}" for name in kept]
        for words in (("addr",), ("-4", "route"), ("-6", "route")):
            found += self.host.run("ip", "-o", *words, "show", "dev", self.link).splitlines()
        found.append(self.host.run("sysctl", f"net.ipv4.conf.{self.link}.proxy_arp"))
        found += self.host.run(
            "ip", "neigh", "show", "dev", self.link, "nud", "permanent"
        ).splitlines()
        return [line for line in found if " fe80::" not in line.replace(" fe80::1/", " -")]

    def mac_of_link(self) -> str:
        """Return the tap's own MAC, on the host."""
        (shown,) = json.loads(self.host.run("ip", "-j", "link", "show", self.link))
        return str(shown["address"])

    def pings(self, address: str, *more: str) -> bool:
        words = self.namespace.command("ping", "-c", "1", "-W", "1", *more, address)
        return subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.fixture
def machine(lab: Lab) -> Iterator[Machine]:
    """One that is not plugged in yet; unplugged at the end, whatever happened."""
    with ExitStack() as stack:
        where = Namespace(f"{lab.machine('host1').namespace.name}-vm")
        made = Machine(lab, where, "tap0")
        where.create()
        stack.callback(where.delete)
        stack.callback(_until, lambda: not made.endpoints(), "it is forgotten")
        stack.callback(_quietly, made.rm)
        yield made


def _quietly(work: Callable[[], None]) -> None:
    with suppress(subprocess.CalledProcessError):
        work()


@pytest.fixture
def far(lab: Lab) -> Iterator[Machine]:
    """A container in the other rack."""
    container = lab.attach("host2", "far", network="default:vms")
    yield Machine(lab, container.namespace, "")
    lab.detach("host2", "far")


def _until(holds: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def _far_addresses(lab: Lab) -> list[str]:
    return [str(address) for address in lab.container("host2/far").addresses]


def test_a_link_that_is_there(lab: Lab, machine: Machine, far: Machine) -> None:
    """Both ways round, over both families; then it is as it was before."""
    machine.plug()
    machine.as_in_containers()
    before = machine.seen()
    machine.add("--name", "db1")
    _until(lambda: far.pings(VM) and far.pings(VM6), "reached from the other rack")
    for address in _far_addresses(lab):
        _until(lambda a=address: machine.pings(a), "the other rack is reached")  # type: ignore[misc]
    (known,) = machine.endpoints()
    assert (known["name"], known["addresses"], known["interface"]) == ("db1", [VM, VM6], "tap0")
    assert machine.seen() != before
    machine.rm()
    _until(lambda: machine.seen() == before, "as it was")
    assert not far.pings(VM)


def test_a_link_that_comes_later_and_goes(lab: Lab, machine: Machine, far: Machine) -> None:
    """The networks' own gateway answers, too; a machine that is started again is attached again."""
    machine.add()
    assert "tap0" in netctl(lab, "endpoint", "ports")
    assert not machine.endpoints()
    for _ in range(2):
        machine.plug()
        machine.as_everywhere()
        _until(lambda: far.pings(VM) and far.pings(VM6), "reached from the other rack")
        _until(lambda: machine.pings(_far_addresses(lab)[0]), "the other rack is reached")
        machine.host.run("ip", "link", "delete", machine.link)
        _until(lambda: not far.pings(VM), "gone")


def test_nothing_is_sent_in_anothers_name(lab: Lab, machine: Machine, far: Machine) -> None:
    machine.plug()
    machine.as_in_containers()
    machine.add()
    target = _far_addresses(lab)[0]
    _until(lambda: machine.pings(target), "attached")
    machine.namespace.run("ip", "addr", "add", "10.99.0.77/32", "dev", "eth0")
    before = _dropped(machine.host)
    assert not machine.pings(target, "-I", "10.99.0.77")
    assert _dropped(machine.host) > before
    _until(lambda: machine.pings(target, "-I", VM), "its own name is good")


def _dropped(host: Namespace) -> int:
    """Return how many packets the filter took for forged."""
    said = host.run("nft", "-j", "list", "chain", "inet", "netfabric", "antispoofing")
    rules = [one["rule"] for one in json.loads(said)["nftables"] if "rule" in one]
    (forged,) = (one for one in rules if str(one.get("comment", "")).startswith("forged"))
    return int(next(part["counter"]["packets"] for part in forged["expr"] if "counter" in part))


def test_policy_and_a_restart(lab: Lab, machine: Machine, far: Machine) -> None:
    """A group that lets nobody in; an agent that dies and starts again touches nothing."""
    machine.plug()
    machine.as_in_containers()
    machine.add("--mac", _mac(machine))
    _until(lambda: far.pings(VM), "open")
    with KernelWatch(machine.host) as watch:
        lab.kill("host1", "netplugin")
        _until(lambda: far.pings(VM), "without an agent")
        lab.restart("host1", "netplugin")
        _until(lambda: len(machine.endpoints()) == 1 and far.pings(VM), "adopted")
    assert [change for change in watch.changes if change.what != "link"] == []
    machine.add("--group", "shut", "--mac", _mac(machine))
    _until(lambda: machine.endpoints() and machine.endpoints()[0]["group"] == "shut", "moved")
    _until(lambda: machine.pings("169.254.1.1"), "its host answers")
    assert not far.pings(VM)


def _mac(machine: Machine) -> str:
    (shown,) = json.loads(machine.namespace.run("ip", "-j", "link", "show", "eth0"))
    return str(shown["address"])


def test_an_uplink_is_no_port(lab: Lab, machine: Machine) -> None:
    uplink = next(lab.plan.peerings("host1"))[0].link
    words = ("--host", "host1", "--link", uplink, "--network", "vms")
    netctl(lab, "endpoint", "add", *words)
    try:
        log = lab.machine("host1").netplugin.log
        _until(lambda: "uplinks are no ports" in log.read_text(), "refused")
    finally:
        netctl(lab, "endpoint", "rm", "--host", "host1", "--link", uplink)
    assert lab.sessions("host1")


class Tap:
    """A real tap: what a hypervisor reads and writes for its machine, frame by frame."""

    MAC = bytes.fromhex("525400000a01")
    TUNSETIFF, TAP, NO_HEADER = 0x400454CA, 0x2, 0x1000

    def __init__(self, host: Namespace, name: str) -> None:
        with host.entered():
            self._file = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
            wanted = struct.pack("16sH22x", name.encode(), self.TAP | self.NO_HEADER)
            fcntl.ioctl(self._file, self.TUNSETIFF, wanted)
        host.run("ip", "link", "set", name, "up")

    def close(self) -> None:
        """Stop the machine: its tap goes."""
        os.close(self._file)

    def send_arp(self, operation: int, target: str, to: bytes = b"\xff" * 6) -> None:
        """Say an ARP packet in the machine's name."""
        own, asked = ip_address(VM).packed, ip_address(target).packed
        there = to if operation == 2 else bytes(6)
        packet = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + self.MAC + own + there + asked
        os.write(self._file, to + self.MAC + b"\x08\x06" + packet)

    def frames(self, patience: float = 10.0) -> Iterator[bytes]:
        """Yield what the host sends to the machine, until it is quiet."""
        while select.select([self._file], [], [], patience)[0]:
            yield os.read(self._file, 2048)

    def hears_arp(self, operation: int, sender: str) -> bytes:
        """Return the MAC of the one who says it."""
        wanted = struct.pack("!H", operation), ip_address(sender).packed
        for frame in self.frames():
            if frame[12:14] == b"\x08\x06" and (frame[20:22], frame[28:32]) == wanted:
                return frame[22:28]
        raise AssertionError(f"no ARP {operation} of {sender}")


def test_a_real_tap(lab: Lab, machine: Machine, far: Machine) -> None:
    """The host answers ARP for both gateways and for others of the network, asks for the machine, and hands on its packets."""
    tap = Tap(machine.host, machine.link)
    try:
        machine.add()
        _until(machine.endpoints, "attached")
        own = bytes.fromhex(machine.mac_of_link().replace(":", ""))
        for asked in ("169.254.1.1", GATEWAY, _far_addresses(lab)[0]):
            tap.send_arp(1, asked)
            assert tap.hears_arp(2, asked) == own
        pinging = subprocess.Popen(
            far.namespace.command("ping", "-c", "20", "-i", "0.2", VM), stdout=subprocess.DEVNULL
        )
        try:
            # what it said before is known already, or it is asked for
            arrived = next(f for f in tap.frames() if _is_echo(f) or _answered(tap, f))
        finally:
            pinging.kill()
            pinging.wait()
        assert arrived[:6] == Tap.MAC
    finally:
        tap.close()


def _is_echo(frame: bytes) -> bool:
    return frame[12:14] == b"\x08\x00" and frame[23] == 1 and frame[30:34] == ip_address(VM).packed


def _answered(tap: Tap, frame: bytes) -> bool:
    """Answer an ARP request for the machine; return False, since it is not what is waited for."""
    if frame[12:14] == b"\x08\x06" and frame[38:42] == ip_address(VM).packed:
        tap.send_arp(2, str(ip_address(frame[28:32])), frame[6:12])
    return False
