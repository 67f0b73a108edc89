"""BIRD 2 as a switch."""

import re
import shutil
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

from netfabric.fabric.errors import UnavailableError
from netfabric.fabric.prefix import FAMILIES, Address, Family, Prefix
from netfabric.lab.daemon import command, end, forward, running, wait_for
from netfabric.lab.namespace import Namespace
from netfabric.lab.peering import SwitchPeer, SwitchSettings

_PREFIX = re.compile(r"^(\S+/\d+)\s+(?:unicast|unreachable|blackhole)|^(\S+/\d+)\s*$")
_NEXT_HOP = re.compile(r"^\s+BGP\.next_hop: (\S+)")
_DEFAULT: dict[Family, str] = {4: "0.0.0.0/0", 6: "::/0"}


class Bird:
    """A switch that runs BIRD."""

    def __init__(self, settings: SwitchSettings) -> None:
        self.settings = settings
        self.directory = settings.run_dir / settings.name

    @property
    def _pidfile(self) -> Path:
        return self.directory / "bird.pid"

    @property
    def _socket(self) -> Path:
        return self.directory / "bird.ctl"

    def start(self) -> None:
        """Run BIRD in the switch's namespace."""
        where = Namespace(self.settings.namespace)
        forward(where)
        self.directory.mkdir(parents=True, exist_ok=True)
        file = self.directory / "bird.conf"
        file.write_text(configuration(self.settings, self.directory / "bird.log"))
        file.chmod(0o600)
        words = ["bird", "-c", str(file), "-s", str(self._socket), "-P", str(self._pidfile)]
        command(where.command(*words), f"switch {self.settings.name}")
        wait_for(self._answers, f"switch {self.settings.name}: BIRD does not answer")

    def _answers(self) -> bool:
        try:
            return "Daemon is up and running" in self.show("status")
        except UnavailableError:
            return False

    def stop(self) -> None:
        """End it (its routes leave the kernel) and remove its files."""
        end(self._pidfile)
        shutil.rmtree(self.directory, ignore_errors=True)

    def pids(self) -> tuple[int, ...]:
        """Return BIRD's process."""
        pid = running(self._pidfile)
        return (pid,) if pid else ()

    def show(self, what: str) -> str:
        """Return what birdc answers to `show …`."""
        words = ["birdc", "-r", "-s", str(self._socket), *f"show {_bare(what)}".split()]
        return command(words, f"switch {self.settings.name}")

    def rib(self) -> dict[Prefix, frozenset[Address]]:
        """Return the next hops of all valid paths of other speakers."""
        found: dict[Prefix, set[Address]] = {}
        prefix: Prefix | None = None
        for line in self.show("route all where source = RTS_BGP").splitlines():
            if head := _PREFIX.match(line):
                prefix = ip_network(head[1] or head[2])
            elif prefix and (hop := _NEXT_HOP.match(line)):
                found.setdefault(prefix, set()).add(ip_address(hop[1]))
        return {prefix: frozenset(hops) for prefix, hops in found.items()}

    def sessions(self) -> dict[Address, bool]:
        """Return whether each peer is established."""
        up = {
            words[0]: words[-1] == "Established"
            for line in self.show("protocols").splitlines()
            if (words := line.split())[1:2] == ["BGP"]
        }
        return {peer.address: up.get(_name(n), False) for n, peer in enumerate(self.settings.peers)}


def _bare(what: str) -> str:
    return what.removeprefix("show ")


def _name(number: int) -> str:
    return f"peer{number}"


def configuration(settings: SwitchSettings, log: Path) -> str:
    """Return BIRD's configuration."""
    return "\n".join(_lines(settings, log)) + "\n"


def _lines(settings: SwitchSettings, log: Path) -> Iterator[str]:
    yield f"router id {settings.router_id};"
    yield f'log "{log}" {{ info, remote, warning, error, auth, fatal, bug }};'
    yield "protocol device { scan time 60; }"
    for family in FAMILIES:
        yield f"protocol kernel kernel{family} {{"
        yield "  merge paths on limit 64;"
        yield f"  ipv{family} {{ import none; export where source = RTS_BGP; }};"
        yield "}"
        if settings.default_to_hosts:  # preferred less than one that comes over BGP
            yield (
                f"protocol static default{family} "
                f"{{ ipv{family} {{ preference 10; }}; route {_DEFAULT[family]} unreachable; }}"
            )
    for number, peer in enumerate(settings.peers):
        yield from _peer(settings, number, peer)


def _peer(settings: SwitchSettings, number: int, peer: SwitchPeer) -> Iterator[str]:
    yield f"protocol bgp {_name(number)} {{"
    yield f'  description "{peer.name}";'
    yield f"  local {peer.local_address} as {settings.asn};"
    yield f"  neighbor {peer.address} as {peer.asn};"
    yield f"  hold time {settings.hold_time}; keepalive time {settings.keepalive};"
    # 240 by default: for so long a connection that hangs before OPEN holds up the next one
    yield f"  startup hold time {settings.hold_time};"
    yield "  connect delay time 1; connect retry time 1; error wait time 1, 2;"
    # A helper keeps a restarting host's routes (RFC 4724, section 4.2). It asks nobody to keep its
    # own: a switch that is gone must not attract traffic for another two minutes.
    yield "  graceful restart aware;"
    if peer.role == "host":
        yield "  passive on;"
    if peer.password:
        yield f'  password "{peer.password}";'
    if peer.ttl_security:
        yield "  ttl security on;"
    for family in peer.carried:
        yield f"  ipv{family} {{"
        if family == 4 and peer.extended:
            yield "    extended next hop on;"
        yield f"    import {_imported(peer, family)};"
        yield f"    export where {_exported(peer, family)};"
        yield "  };"
    yield "}"


def _imported(peer: SwitchPeer, family: Family) -> str:
    """A host offers addresses and aggregates, never a way out."""
    return f"where net != {_DEFAULT[family]}" if peer.role == "host" else "all"


def _exported(peer: SwitchPeer, family: Family) -> str:
    return f"net = {_DEFAULT[family]}" if peer.role == "host" else "source = RTS_BGP"
