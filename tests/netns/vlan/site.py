"""Two hosts on trunks to a switch: each host's real brain on a real kernel, netmaster's part said by the test."""

import os
import socket
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Self

from netfabric.agent.datapath import feature, vlan
from netfabric.agent.datapath.datapath import RoutedDatapath
from netfabric.agent.datapath.netlink import Netlink
from netfabric.fabric import effects as fx
from netfabric.fabric.endpoint import AttachRequest, Endpoint, EndpointKey
from netfabric.fabric.events import (
    Attached,
    AttachRequested,
    Detached,
    DetachRequested,
    Event,
    HostSettings,
    KernelObserved,
    MasterConnected,
    MasterSaid,
    Programmed,
    Recorded,
    Started,
    Tick,
)
from netfabric.fabric.filter import GroupFilter
from netfabric.fabric.host import Host
from netfabric.fabric.kernel import VlanLink
from netfabric.fabric.network import Network
from netfabric.fabric.prefix import Prefix
from netfabric.fabric.session import BlockAnswered, BlockWanted, IntentChanged, Version, Welcome
from netfabric.fabric.vlans import link_of
from netfabric.lab.frr import Zebra
from netfabric.lab.namespace import Namespace, wire
from netfabric.lab.peering import SwitchSettings

TRUNK = "trunk"
FAR = ("198.51.100.1", "2001:db8:9::1")
"""Addresses of the switch's own, behind its SVI."""
_SOL_PACKET, _AUXDATA, _VLAN_VALID = 263, 8, 1 << 4


class Machine:
    """A host: namespace, datapath and brain."""

    def __init__(self, site: "Site", name: str, blocks: dict[tuple[str, int], Prefix]) -> None:
        self.name, self.blocks = name, blocks
        self.namespace = site.namespace(name)
        self.site = site
        self.underlay = f"172.31.0.{name[1:]}"

    def start(self, networks: tuple[Network, ...], filters: tuple[GroupFilter, ...]) -> None:
        self.datapath = RoutedDatapath(self.namespace.path)
        features = self.datapath.prepare().features
        settings = HostSettings(
            self.name,
            drain=0.0,
            low_water=0,
            vtep=ip_address(self.underlay),
            vlan_uplink=TRUNK,
            features=features,
        )
        self.brain = Host(settings)
        self.answers: dict[int, fx.Effect] = {}
        self.warnings: dict[str, str] = {}
        self.handle(Started(None, self.datapath.observe(), self.datapath.uplinks()))
        self.handle(MasterConnected("test"))
        self.handle(MasterSaid(Welcome((), (), ())))
        intent = IntentChanged(Version("test", 1), True, networks=networks, filters=filters)
        self.handle(MasterSaid(intent))

    def handle(self, event: Event) -> None:
        """Let the brain take an event, and carry out all that follows from it."""
        events = deque([event])
        while events:
            for effect in self.brain.handle(events.popleft(), time.time()):
                events += self._do(effect)

    def _do(self, effect: fx.Effect) -> list[Event]:
        match effect:
            case fx.Record(id=number):
                return [Recorded(number)] if number else []
            case fx.Attach(endpoint, rules):
                if rules is not None:
                    self.datapath.filter(rules)
                self.datapath.attach(endpoint)
                return [Attached(endpoint.key)]
            case fx.Detach(endpoint):
                self.datapath.detach(endpoint)
                return [Detached(endpoint.key)]
            case fx.Program(operations):
                return [Programmed(self.datapath.apply(operations))]
            case fx.Filter(rules):
                self.datapath.filter(rules)
            case fx.Audit():
                return [KernelObserved(self.datapath.observe())]
            case fx.Tell(BlockWanted(network, family)):
                block = self.blocks[network, family]
                return [MasterSaid(BlockAnswered(network, family, block=block))]
            case fx.AttachAnswer(token) | fx.DetachAnswer(token) | fx.Refuse(token):
                self.answers[token] = effect
            case fx.Warn(subject, text):
                self.warnings[subject] = text
        return []

    def add(self, name: str, network: str, group: str = "") -> "Inside":
        """Attach a container; raise what the brain refuses with."""
        inside = self.site.namespace(name)
        tenant, _, short = network.partition(":")
        request = AttachRequest(EndpointKey(name, "eth0"), str(inside.path), tenant, short, group)
        self.handle(AttachRequested(len(self.answers) + 1, request))
        answer = self.answers[len(self.answers)]
        if isinstance(answer, fx.Refuse):
            raise answer.error
        assert isinstance(answer, fx.AttachAnswer)
        return Inside(inside, answer.endpoint)

    def delete(self, inside: "Inside") -> None:
        """Detach a container."""
        self.handle(DetachRequested(len(self.answers) + 1, inside.endpoint.key))
        wait_until(self._drained, "DEL ended")

    def _drained(self) -> bool:
        self.handle(Tick())
        return isinstance(self.answers.get(len(self.answers)), fx.DetachAnswer)

    def audit(self) -> None:
        """Have the kernel read and mended now."""
        self.handle(KernelObserved(self.datapath.observe()))

    @property
    def wrong(self) -> dict[str, str]:
        """Return what the brain complains of."""
        return {subject: text for subject, text in self.warnings.items() if text}


@dataclass(frozen=True, slots=True)
class Inside:
    """A container that is attached."""

    namespace: Namespace
    endpoint: Endpoint

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(map(str, self.endpoint.addresses))

    def reaches(self, *targets: str) -> bool:
        """Return whether every target answers a ping, within 15 s each."""
        return all(wait(partial(self.pings, target)) for target in targets)

    def pings(self, target: str) -> bool:
        """Return whether one ping is answered within a second."""
        words = self.namespace.command("ping", "-n", "-c", "1", "-W", "1", target)
        return subprocess.run(words, capture_output=True, check=False).returncode == 0


def wait(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    """Return whether a condition comes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition; fail with words."""
    assert wait(condition), f"not in time: {what}"


@dataclass
class Site:
    """The switch `tor` with two hosts; namespaces go at the end."""

    networks: tuple[Network, ...]
    filters: tuple[GroupFilter, ...] = ()
    prefix: str = field(default_factory=lambda: f"nfvl{os.getpid() % 100000:05d}")
    stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        with self.stack:
            self._build()
            self.stack = self.stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def namespace(self, name: str) -> Namespace:
        made = Namespace(f"{self.prefix}{name}")
        made.create()
        self.stack.callback(made.delete)
        return made

    def _build(self) -> None:
        self.tor = self.namespace("tor")
        self.tor.run("ip", "link", "add", "lan", "type", "bridge")
        self.tor.run("ip", "link", "set", "lan", "up")
        self.tor.run("ip", "address", "add", "172.31.0.254/24", "dev", "lan")
        for address in FAR:
            self.tor.run("ip", "address", "add", address, "dev", "lo")
        self.tor.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self.hosts = [Machine(self, f"h{n}", self._blocks(n)) for n in (1, 2)]
        for number, host in enumerate(self.hosts, start=1):
            wire((host.namespace, TRUNK), (self.tor, f"t{number}"))
            self.tor.run("ip", "link", "set", f"t{number}", "master", "lan")
            # The second is strict. Where nobody marks packets, a VLAN without a gateway does not bear that.
            strict = int(number == 2 and "nftables" in feature.probe())
            host.namespace.run("sysctl", "-qw", f"net.ipv4.conf.all.rp_filter={strict}")
            host.namespace.run("ip", "address", "add", f"172.31.0.{number}/24", "dev", TRUNK)
            host.namespace.run("ip", "route", "add", "default", "via", "172.31.0.254")
            host.start(self.networks, self.filters)
            self.stack.callback(host.datapath.close)

    def _blocks(self, number: int) -> dict[tuple[str, int], Prefix]:
        """Return the host's block of every network and family."""
        found: dict[tuple[str, int], Prefix] = {}
        for network in self.networks:
            for one in network.ranges:
                length = 26 if one.family == 4 else 122
                base = int(one.subnet.network_address) + (number - 1) * 64
                found[network.key, one.family] = ip_network((base, length))
        return found

    def svi(self, network: Network) -> None:
        """Give the switch's routing daemon an interface in a VLAN, with the network's gateways."""
        name = link_of(network.tag)
        with self.tor.entered():
            netlink = Netlink()
            try:
                vlan.put(netlink, VlanLink(name, "lan", network.tag))
            finally:
                netlink.close()
        settings = SwitchSettings("tor", self.tor.name, 65000, "192.0.2.1", (), Path("/run"))
        frr = Zebra(settings, ("zebra",))
        self.stack.callback(frr.stop)
        frr.start("")
        words = [f"interface {name}"]
        words += [
            f"{'ip' if r.family == 4 else 'ipv6'} address {r.gateway}/{r.subnet.prefixlen}"
            for r in network.ranges
        ]
        said = [part for word in ("configure terminal", *words) for part in ("-c", word)]
        subprocess.run(
            ["vtysh", "-N", self.tor.name, *said], check=True, capture_output=True, timeout=20
        )


class Tags:
    """Keeps the VLAN tags of IP frames that pass a link while it is entered; 0 for a frame without."""

    def __init__(self, namespace: Namespace, link: str) -> None:
        self._namespace, self._link = namespace, link
        self.frames: list[tuple[int, bytes]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        with self._namespace.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.bind((self._link, 3))
        self._socket.setsockopt(_SOL_PACKET, _AUXDATA, 1)
        self._socket.settimeout(0.05)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def of(self, address: str) -> set[int]:
        """Return the tags of frames that have an address somewhere in them."""
        packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
        return {tag for tag, frame in list(self.frames) if packed in frame}

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                frame, extra, _, _ = self._socket.recvmsg(1 << 16, 256)
            except TimeoutError:
                continue
            self.frames.append((_tag(frame, extra), frame))


def _tag(frame: bytes, extra: list[tuple[int, int, bytes]]) -> int:
    """Return a frame's tag, whether it is in the frame or beside it, as a driver hands it over."""
    for _, kind, data in extra:
        status, *_, tci, _ = struct.unpack_from("=IIIHHHH", data)
        if kind == _AUXDATA and status & _VLAN_VALID:
            return int(tci & 0xFFF)
    if frame[12:14] == b"\x81\x00":
        return int.from_bytes(frame[14:16], "big") & 0xFFF
    return 0
