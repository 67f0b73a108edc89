"""A conversation played by hand: one peer, what the machine says, what ExaBGP answers."""

import json
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from netfabric.bgp.speaker import SpeakerMachine
from netfabric.fabric.events import Event
from netfabric.fabric.peer import Asn, Peer
from netfabric.fabric.route import Announcement

ASN = Asn(65010)
SWITCH = "10.0.0.1"
TOR = Peer("h", "tor", ip_address(SWITCH), Asn(65001), ip_address("10.0.0.9"))


def routes(*prefixes: str) -> list[Announcement]:
    return [Announcement(ip_network(prefix)) for prefix in prefixes]


def state(what: str, reason: str = "", peer: str = SWITCH) -> str:
    return _event("state", {"state": what, "reason": reason}, peer)


def received(*prefixes: str, peer: str = SWITCH) -> str:
    nlri = [{"nlri": prefix} for prefix in prefixes]
    update = {"announce": {"ipv4 unicast": {SWITCH: nlri}}, "attribute": {"origin": "igp"}}
    return _event("update", {"direction": "receive", "message": {"update": update}}, peer)


def echo(*prefixes: str, withdrawn: bool = False, peer: str = SWITCH) -> str:
    nlri = [{"nlri": prefix} for prefix in prefixes]
    kind = {"withdraw": {"ipv4 unicast": nlri}}
    if not withdrawn:
        kind = {"announce": {"ipv4 unicast": {"10.0.0.9": nlri}}}  # type: ignore[dict-item]
    return _event("update", {"direction": "send", "message": {"update": kind}}, peer)


def end_of_rib(peer: str = SWITCH) -> str:
    eor = {"eor": {"afi": "ipv4", "safi": "unicast"}}
    return _event("update", {"direction": "receive", "message": eor}, peer)


def refresh(mark: str, peer: str = SWITCH) -> str:
    told = {"afi": "ipv4", "safi": "unicast", "subtype": mark}
    return _event("refresh", {"direction": "receive", "route-refresh": told}, peer)


def neighbors(up: bool, peer: str = SWITCH) -> str:
    fsm = "ESTABLISHED" if up else "IDLE"
    return json.dumps([{"state": "down", "fsm": fsm, "peer": {"address": peer}}])


def out(*prefixes: str, peer: str = SWITCH) -> list[str]:
    return [
        json.dumps({peer: {"routes": [{"prefix": p, "family": "ipv4 unicast"}]}}) for p in prefixes
    ]


def _event(kind: str, what: dict[str, object], peer: str) -> str:
    neighbor = {"address": {"local": "10.0.0.9", "peer": peer}} | what
    return json.dumps({"exabgp": "5.0.0", "type": kind, "neighbor": neighbor})


@dataclass
class Script:
    """The machine and a clock."""

    peers: list[Peer] = field(default_factory=lambda: [TOR])
    mark: str = "m1"
    now: float = 100.0
    machine: SpeakerMachine = field(default_factory=SpeakerMachine)

    def configure(self, mark: str = "") -> "Script":
        self.mark = mark or self.mark
        self.machine.configure(ASN, self.peers, self.mark, self.now)
        return self

    def hears(self, *lines: str) -> list[str]:
        """Feed lines; return what the machine says then."""
        for line in lines:
            self.machine.feed(line, self.now)
        return self.said()

    def said(self) -> list[str]:
        lines, self.machine.lines[:] = list(self.machine.lines), []
        return lines

    def told(self) -> list[Event]:
        """Return the events since the last time."""
        events, self.machine.events[:] = list(self.machine.events), []
        return events

    def waits(self, seconds: float) -> list[str]:
        """Let time pass, in ticks; return what the machine says meanwhile."""
        end = self.now + seconds
        while self.now < end:
            self.now += 0.1
            self.machine.tick(self.now)
        return self.said()

    def attaches(self, up: bool = False, held: tuple[str, ...] = ()) -> list[str]:
        """Go through the questions; return what the machine says once it is in step."""
        self.machine.attached(self.now)
        assert self.said() == ["", "show neighbor json"]
        assert self.hears("error", neighbors(up), "done") == ["show neighbor configuration"]
        assert self.hears(f'  description "{self.mark}";', "done") == ["show adj-rib out json"]
        return self.hears(*out(*held), "done")

    def talks(self) -> "Script":
        """Be in step with an established session."""
        self.configure()
        self.attaches()
        self.hears(state("connected"), state("up"), end_of_rib())
        self.told()
        return self
