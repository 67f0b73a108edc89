"""A host's namespace and a switch's, a wire between them, ExaBGP in the one and a real switch in the other."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest

from netfabric.bgp.process import ExaBgp
from netfabric.fabric.events import EndOfRib, Event, PathsReceived, PeerDown, PeerUp
from netfabric.fabric.peer import Asn, Peer, Speaker
from netfabric.fabric.prefix import Address, Family, Prefix
from netfabric.fabric.route import Announcement
from netfabric.lab.namespace import Namespace, wire
from netfabric.lab.switch import Switch, SwitchKind, SwitchPeer, SwitchSettings, make_switch

EventT = TypeVar("EventT", bound=Event)
EXABGP = str(Path(os.sys.prefix) / "bin" / "exabgp")  # type: ignore[attr-defined]
HOST_ASN, SWITCH_ASN = 4200000001, 65101
KINDS: tuple[SwitchKind, ...] = ("frr", "bird", "gobgp")
_number = count()


def addresses(family: Family, link: int = 0) -> tuple[Address, Address]:
    """Return the switch's address on a link, and the host's."""
    text = ("172.16.{0}.0", "172.16.{0}.1") if family == 4 else ("fd16:{0}::", "fd16:{0}::1")
    switch, host = (ip_address(part.format(link)) for part in text)
    return switch, host


def routes(*texts: str) -> tuple[Announcement, ...]:
    return tuple(Announcement(ip_network(text)) for text in texts)


async def until(condition: Callable[[], object], what: str, patience: float = 15.0) -> None:
    """Wait for a condition; fail with `what` after some time."""
    try:
        async with asyncio.timeout(patience):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"not within {patience:g} s: {what}")


@dataclass
class Agent:
    """What stands in an agent's place: an ExaBgp, and the events that came from it."""

    exabgp: ExaBgp
    events: list[Event] = field(default_factory=list)

    def of(self, kind: type[EventT]) -> list[EventT]:
        return [event for event in self.events if isinstance(event, kind)]

    def learned(self) -> set[Prefix]:
        """Replay what was received, as the agent's RIB would."""
        known: dict[str, set[Prefix]] = {}
        for event in self.events:
            match event:
                case PathsReceived(peer, _, announced, withdrawn):
                    mine = known.setdefault(peer, set())
                    mine -= set(withdrawn)
                    mine |= set(announced)
                case PeerDown(peer):
                    known.pop(peer, None)
        return set().union(*known.values())

    def up(self) -> set[str]:
        """Replay the sessions' states."""
        now: set[str] = set()
        for event in self.events:
            match event:
                case PeerUp(peer):
                    now.add(peer)
                case PeerDown(peer):
                    now.discard(peer)
        return now

    def reason(self) -> str:
        """Return why the last session that went down did."""
        downs = self.of(PeerDown)
        return downs[-1].reason if downs else ""

    def ended_ribs(self) -> set[Family]:
        return {event.family for event in self.of(EndOfRib)}


@dataclass
class Fabric:
    """Two namespaces, a wire, a directory; and what was started in them."""

    switch_ns: Namespace
    host_ns: Namespace
    directory: Path
    switches: list[Switch] = field(default_factory=list)
    agents: list[Agent] = field(default_factory=list)

    def switch(
        self,
        kind: SwitchKind,
        sessions: tuple[Family, ...] = (4, 6),
        asn: int = SWITCH_ASN,
        peer_asn: int = HOST_ASN,
        **options: object,
    ) -> Switch:
        """Start a switch with one session a family."""
        peers = tuple(
            SwitchPeer(f"host-v{f}", host, peer_asn, switch, "host", **options)  # type: ignore[arg-type]
            for f in sessions
            for switch, host in [addresses(f)]
        )
        name = self.switch_ns.name
        made = make_switch(
            kind, SwitchSettings(name, name, asn, "172.20.0.1", peers, self.directory / "switch")
        )
        self.switches.append(made)
        made.start()
        return made

    def peer(self, family: Family, **options: object) -> Peer:
        switch, host = addresses(family)
        given = {"local_address": host, "asn": Asn(SWITCH_ASN)} | options
        return Peer("h1", f"tor-v{family}", switch, **given)  # type: ignore[arg-type]

    @property
    def speaker(self) -> Speaker:
        return Speaker("h1", Asn(HOST_ASN), "172.16.0.1")

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[Agent]:
        """Run an agent's ExaBgp, its process in the host's namespace; leave the process at the end."""
        agent = Agent(None)  # type: ignore[arg-type]
        command = [shutil.which("nsenter") or "", *self.host_ns.command(EXABGP)[1:]]
        agent.exabgp = ExaBgp(self.directory / "exabgp", agent.events.append, exabgp=command)
        self.agents.append(agent)
        task = asyncio.ensure_future(agent.exabgp.run())
        try:
            yield agent
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def fib(self, prefix: str) -> str:
        """Return what the switch's kernel has for a prefix."""
        family = "-6" if ":" in prefix else "-4"
        return self.switch_ns.run("ip", family, "route", "show", prefix.removesuffix("/32"))


@pytest.fixture
def fabric() -> Iterator[Fabric]:
    number = next(_number)
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    stem = f"nfbg-{os.getpid()}{worker}-{number}"
    made = Fabric(
        Namespace(f"{stem}s"), Namespace(f"{stem}h"), Path(tempfile.mkdtemp(prefix="nfbg-"))
    )
    made.directory.chmod(0o755)
    try:
        _wire_up(made)
        yield made
    finally:
        _take_down(made)


def _wire_up(made: Fabric) -> None:
    for namespace in (made.switch_ns, made.host_ns):
        namespace.create()
    wire((made.switch_ns, "tohost"), (made.host_ns, "toswitch"))
    for family, length in ((4, 31), (6, 127)):
        switch, host = addresses(family)  # type: ignore[arg-type]
        for namespace, link, address in (
            (made.switch_ns, "tohost", switch),
            (made.host_ns, "toswitch", host),
        ):
            nodad = ["nodad"] if family == 6 else []
            namespace.run("ip", "addr", "add", f"{address}/{length}", "dev", link, *nodad)


def _take_down(made: Fabric) -> None:
    for agent in made.agents:
        asyncio.run(agent.exabgp.stop())
    for switch_ in made.switches:
        switch_.stop()
    for namespace in (made.switch_ns, made.host_ns):
        namespace.delete()
    shutil.rmtree(made.directory)
