"""GoBGP as a switch: gobgpd for the control plane, and a follower that programs the kernel.

GoBGP has no FIB of its own. Its zebra client ends in a panic with FRR 8.4, so `fib.py` does that part.
"""

import json
import shutil
import socket
import sys
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

from netfabric.fabric.errors import UnavailableError
from netfabric.fabric.prefix import FAMILIES, Address, Family, Prefix
from netfabric.lab.daemon import command, end, forward, running, spawn, wait_for
from netfabric.lab.fib import next_hop
from netfabric.lab.namespace import Namespace
from netfabric.lab.peering import SwitchPeer, SwitchSettings

ESTABLISHED = 6
API = ("127.0.0.1", 50051)
_DEFAULT: dict[Family, tuple[str, str]] = {4: ("0.0.0.0/0", "0.0.0.0"), 6: ("::/0", "::")}


class Gobgp:
    """A switch that runs GoBGP."""

    def __init__(self, settings: SwitchSettings) -> None:
        self.settings = settings
        self.directory = settings.run_dir / settings.name
        self._where = Namespace(settings.namespace)

    @property
    def _pidfiles(self) -> tuple[Path, Path]:
        return self.directory / "gobgpd.pid", self.directory / "fib.pid"

    def start(self) -> None:
        """Run gobgpd and its follower in the switch's namespace."""
        forward(self._where)
        self.directory.mkdir(parents=True, exist_ok=True)
        file = self.directory / "gobgpd.toml"
        file.write_text(configuration(self.settings))
        file.chmod(0o600)
        daemon, follower = self._pidfiles
        words = [
            "gobgpd",
            "-f",
            str(file),
            "-p",
            "--pprof-disable",
            f"--api-hosts={API[0]}:{API[1]}",
        ]
        spawn(self._where.command(*words), self.directory / "gobgpd.log", daemon)
        wait_for(self._answers, f"switch {self.settings.name}: GoBGP does not answer")
        self._originate()
        fib = Path(__file__).with_name("fib.py")
        words = [sys.executable, "-I", "-S", str(fib), str(self.directory)]
        spawn(self._where.command(*words), self.directory / "fib.log", follower)

    def _answers(self) -> bool:
        if not self.pids():
            log = (self.directory / "gobgpd.log").read_text()
            raise UnavailableError(f"switch {self.settings.name}: gobgpd ended: {log[-500:]}")
        # asked by its own command while nothing listens, gobgp waits a whole second before it tries again
        with self._where.entered(), socket.socket() as probe:
            return probe.connect_ex(API) == 0

    def _originate(self) -> None:
        if self.settings.default_to_hosts:
            for family in FAMILIES:
                prefix, hop = _DEFAULT[family]
                # preferred less than one that comes over BGP
                attributes = f"nexthop {hop} origin igp local-pref 1"
                self.show(f"global rib add -a ipv{family} {prefix} {attributes}")

    def stop(self) -> None:
        """End both (the follower takes its routes out of the kernel) and remove their files."""
        for pidfile in reversed(self._pidfiles):
            end(pidfile)
        shutil.rmtree(self.directory, ignore_errors=True)

    def pids(self) -> tuple[int, ...]:
        """Return gobgpd and the follower."""
        return tuple(pid for file in self._pidfiles if (pid := running(file)))

    def show(self, what: str) -> str:
        """Return what the gobgp command answers."""
        words = self._where.command("gobgp", *what.split())
        return command(words, f"switch {self.settings.name}")

    def rib(self) -> dict[Prefix, frozenset[Address]]:
        """Return the next hops of all valid paths of other speakers."""
        found: dict[Prefix, frozenset[Address]] = {}
        for family in FAMILIES:
            for text, paths in json.loads(self.show(f"global rib -j -a ipv{family}")).items():
                hops = frozenset(
                    ip_address(next_hop(path)) for path in paths if "neighbor-ip" in path
                )
                if hops:
                    found[ip_network(text)] = hops
        return found

    def sessions(self) -> dict[Address, bool]:
        """Return whether each peer is established."""
        return {
            ip_address(said["conf"]["neighbor_address"]): said["state"].get("session_state")
            == ESTABLISHED
            for said in json.loads(self.show("neighbor -j"))
        }


def configuration(settings: SwitchSettings) -> str:
    """Return gobgpd's configuration."""
    return "\n".join(_lines(settings)) + "\n"


def _lines(settings: SwitchSettings) -> Iterator[str]:
    yield "[global.config]"
    yield f"  as = {settings.asn}"
    yield f'  router-id = "{settings.router_id}"'
    yield "[global.use-multiple-paths.config]"
    yield "  enabled = true"
    yield "[global.apply-policy.config]"
    yield '  import-policy-list = ["in"]'
    yield '  export-policy-list = ["out"]'
    for peer in settings.peers:
        yield from _neighbor(settings, peer)
    for family in FAMILIES:
        yield "[[defined-sets.prefix-sets]]"
        yield f'  prefix-set-name = "default{family}"'
        yield "  [[defined-sets.prefix-sets.prefix-list]]"
        yield f'    ip-prefix = "{_DEFAULT[family][0]}"'
        yield '    masklength-range = "0..0"'
    hosts = [str(peer.address) for peer in settings.peers if peer.role == "host"]
    if hosts:
        yield "[[defined-sets.neighbor-sets]]"
        yield '  neighbor-set-name = "hosts"'
        yield f"  neighbor-info-list = {json.dumps(hosts)}"
    yield from _policies(bool(hosts))


def _policies(hosts: bool) -> Iterator[str]:
    """A host gets a default route and gives none; another switch gets what came over BGP."""
    yield "[[policy-definitions]]"
    yield '  name = "in"'
    for family in FAMILIES if hosts else ():
        yield from _statement(f"no-default{family}", "reject", family, "hosts")
    yield "[[policy-definitions]]"
    yield '  name = "out"'
    for family in FAMILIES if hosts else ():
        yield from _statement(f"default{family}", "accept", family, "hosts")
    if hosts:
        yield from _statement("hosts-nothing-else", "reject", None, "hosts")
    yield from _statement("own-stays", "reject", None, None, "local")


def _statement(
    name: str, disposition: str, family: Family | None, neighbors: str | None, origin: str = ""
) -> Iterator[str]:
    yield "  [[policy-definitions.statements]]"
    yield f'    name = "{name}"'
    if family:
        yield "    [policy-definitions.statements.conditions.match-prefix-set]"
        yield f'      prefix-set = "default{family}"'
    if neighbors:
        yield "    [policy-definitions.statements.conditions.match-neighbor-set]"
        yield f'      neighbor-set = "{neighbors}"'
    if origin:
        yield "    [policy-definitions.statements.conditions.bgp-conditions]"
        yield f'      route-type = "{origin}"'
    yield "    [policy-definitions.statements.actions]"
    yield f'      route-disposition = "{disposition}-route"'


def _neighbor(settings: SwitchSettings, peer: SwitchPeer) -> Iterator[str]:
    yield "[[neighbors]]"
    yield "  [neighbors.config]"
    yield f'    neighbor-address = "{peer.address}"'
    yield f"    peer-as = {peer.asn}"
    yield f'    description = "{peer.name}"'
    if peer.password:
        yield f'    auth-password = "{peer.password}"'
    if peer.ttl_security:
        yield "  [neighbors.ttl-security.config]"
        yield "    enabled = true"
        yield "    ttl-min = 255"
    yield "  [neighbors.timers.config]"
    yield f"    hold-time = {settings.hold_time}"
    yield f"    keepalive-interval = {settings.keepalive}"
    yield "    connect-retry = 1"  # GoBGP takes 5 for anything less
    yield "    idle-hold-time-after-reset = 1"
    yield "  [neighbors.transport.config]"
    yield f'    local-address = "{peer.local_address}"'
    yield f"    passive-mode = {json.dumps(peer.role == 'host')}"
    # A helper keeps a restarting host's routes (RFC 4724, section 4.2). It asks nobody to keep its
    # own: a switch that is gone must not attract traffic for another two minutes.
    yield "  [neighbors.graceful-restart.config]"
    yield "    enabled = true"
    yield "    helper-only = true"
    for family in peer.carried:
        yield "  [[neighbors.afi-safis]]"
        yield "    [neighbors.afi-safis.config]"
        yield f'      afi-safi-name = "ipv{family}-unicast"'
        yield "    [neighbors.afi-safis.mp-graceful-restart.config]"
        yield "      enabled = true"
