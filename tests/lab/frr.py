"""FRR as a switch: zebra and bgpd of their own, beside any FRR that the machine runs."""

import json
import shutil
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from netfabric.fabric.prefix import FAMILIES, Address, Family, Prefix
from netfabric.lab.daemon import command, end, forward, running, wait_for
from netfabric.lab.namespace import Namespace
from netfabric.lab.peering import SwitchPeer, SwitchSettings

DAEMONS = ("zebra", "bgpd")
PROGRAMS = Path("/usr/lib/frr")
RUN = Path("/var/run/frr")


class Zebra:
    """FRR daemons under a path space of their own (`-N`): sockets and files in /var/run/frr/NAME.

    They run as the user frr, who may not be able to enter other directories of ours.
    """

    def __init__(self, settings: SwitchSettings, daemons: tuple[str, ...] = DAEMONS) -> None:
        self.settings = settings
        self._daemons = daemons
        self.directory = RUN / settings.namespace

    def start(self, configuration: str) -> None:
        """Run the daemons on one configuration each, and wait until they answer."""
        self.directory.mkdir(parents=True, exist_ok=True)
        shutil.chown(self.directory, "frr", "frr")
        for daemon in self._daemons:
            file = self.directory / f"{daemon}.conf"
            file.write_text(configuration if daemon == "bgpd" else "ip nht resolve-via-default\n")
            file.chmod(0o640)
            shutil.chown(file, "frr", "frr")
            self._launch(daemon, file)
        wait_for(self._answers, f"switch {self.settings.name}: FRR does not answer")

    def _launch(self, daemon: str, file: Path) -> None:
        words = [
            *(str(PROGRAMS / daemon), "-d", "-N", self.settings.namespace),
            *("-f", str(file), "-i", str(self._pidfile(daemon)), "-A", "127.0.0.1"),
            *("--log", f"file:{self.directory / daemon}.log"),
        ]
        where = Namespace(self.settings.namespace)
        command(where.command(*words), f"switch {self.settings.name}")

    def _answers(self) -> bool:
        sockets = all((self.directory / f"{daemon}.vty").exists() for daemon in self._daemons)
        return sockets and len(self.pids()) == len(self._daemons)

    def _pidfile(self, daemon: str) -> Path:
        return self.directory / f"{daemon}.pid"

    def stop(self) -> None:
        """End the daemons (bgpd first, zebra then takes its routes out of the kernel)."""
        for daemon in reversed(self._daemons):
            end(self._pidfile(daemon))
        shutil.rmtree(self.directory, ignore_errors=True)

    def pids(self) -> tuple[int, ...]:
        """Return the daemons that run."""
        return tuple(pid for daemon in self._daemons if (pid := running(self._pidfile(daemon))))

    def show(self, what: str) -> str:
        """Return what vtysh answers."""
        words = ["vtysh", "-N", self.settings.namespace, "-c", what]
        return command(words, f"switch {self.settings.name}")


class Frr:
    """A switch that runs FRR."""

    def __init__(self, settings: SwitchSettings) -> None:
        self.settings = settings
        self._frr = Zebra(settings)

    def start(self) -> None:
        """Run FRR in the switch's namespace."""
        forward(Namespace(self.settings.namespace))
        self._frr.start(configuration(self.settings))

    def stop(self) -> None:
        """End it and remove its files."""
        self._frr.stop()

    def pids(self) -> tuple[int, ...]:
        """Return zebra and bgpd."""
        return self._frr.pids()

    def show(self, what: str) -> str:
        """Return what vtysh answers."""
        return self._frr.show(what)

    def rib(self) -> dict[Prefix, frozenset[Address]]:
        """Return the next hops of all valid paths of other speakers."""
        found: dict[Prefix, frozenset[Address]] = {}
        for family in FAMILIES:
            said = json.loads(self.show(f"show bgp ipv{family} unicast json"))
            for text, paths in said.get("routes", {}).items():
                if hops := frozenset(hop for path in paths for hop in _hops(path)):
                    found[ip_network(text)] = hops
        return found

    def sessions(self) -> dict[Address, bool]:
        """Return whether each peer is established."""
        said = json.loads(self.show("show bgp neighbors json"))
        return {
            ip_address(address): peer["bgpState"] == "Established"
            for address, peer in said.items()
            if isinstance(peer, dict) and "bgpState" in peer
        }


def _hops(path: dict[str, Any]) -> Iterator[Address]:
    if not path.get("valid") or path.get("pathFrom") != "external":
        return
    for hop in path.get("nexthops", ()):
        address = ip_address(hop["ip"])
        if not address.is_link_local:
            yield address


def configuration(settings: SwitchSettings) -> str:
    """Return bgpd's configuration."""
    return "\n".join(_lines(settings)) + "\n"


def _lines(settings: SwitchSettings) -> Iterator[str]:
    yield "frr defaults datacenter"
    yield f"hostname {settings.name}"
    yield "ip prefix-list default seq 5 permit 0.0.0.0/0"
    yield "ipv6 prefix-list default seq 5 permit ::/0"
    # a host offers addresses and aggregates, never a way out
    yield "ip prefix-list addresses seq 5 permit 0.0.0.0/0 ge 1"
    yield "ipv6 prefix-list addresses seq 5 permit ::/0 ge 1"
    yield f"router bgp {settings.asn}"
    yield f" bgp router-id {settings.router_id}"
    yield " no bgp default ipv4-unicast"
    yield " no bgp ebgp-requires-policy"
    yield " bgp bestpath as-path multipath-relax"
    yield " coalesce-time 10"  # milliseconds before a new session gets its first UPDATE; else 1,000
    for peer in settings.peers:
        yield from _neighbor(settings, peer)
    for family in FAMILIES:
        yield from _family(settings, family)


def _neighbor(settings: SwitchSettings, peer: SwitchPeer) -> Iterator[str]:
    words = f" neighbor {peer.address}"
    yield f"{words} remote-as {peer.asn}"
    yield f"{words} description {peer.name}"
    yield f"{words} update-source {peer.local_address}"
    yield f"{words} timers {settings.keepalive} {settings.hold_time}"
    yield f"{words} timers connect 1"
    yield f"{words} advertisement-interval 0"
    # A helper keeps a restarting host's routes (RFC 4724, section 4.2). It asks nobody to keep its
    # own: a switch that is gone must not attract traffic for another two minutes.
    yield f"{words} graceful-restart-helper"
    if peer.role == "host":
        yield f"{words} passive"
    if peer.password:
        yield f"{words} password {peer.password}"
    if peer.ttl_security:
        yield f"{words} ttl-security hops 1"
    if peer.extended:
        yield f"{words} capability extended-nexthop"


def _family(settings: SwitchSettings, family: Family) -> Iterator[str]:
    yield f" address-family ipv{family} unicast"
    yield "  maximum-paths 64"
    for peer in settings.carrying(family):
        words = f"  neighbor {peer.address}"
        yield f"{words} activate"
        if peer.role == "host":
            yield f"{words} prefix-list addresses in"
            yield f"{words} prefix-list default out"
            if settings.default_to_hosts:
                yield f"{words} default-originate"
    yield " exit-address-family"
