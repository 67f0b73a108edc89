"""A session that comes up while we ask ExaBGP how things stand: what its peer has said stays known."""

import json
from ipaddress import ip_address, ip_network

from netfabric.bgp.speaker import SpeakerMachine
from netfabric.fabric.events import EndOfRib, PathsReceived, PeerUp
from netfabric.fabric.peer import Asn, Peer
from netfabric.fabric.prefix import DEFAULT_ROUTES

PEER = Peer("h1", "tor", ip_address("172.16.0.0"), Asn(65101), ip_address("172.16.0.1"))
DEFAULT = ip_network("0.0.0.0/0")
UPDATE = {
    "attribute": {
        "origin": "igp",
        "as-path": {"0": {"element": "as-sequence", "value": [65101]}},
    },
    "announce": {"ipv4 unicast": {"172.16.0.0": [{"nlri": "0.0.0.0/0"}]}},
}


def _line(kind: str, **more: object) -> str:
    """Return a line of ExaBGP 5.0.15 about the peer."""
    neighbor = {
        "address": {"local": "172.16.0.1", "peer": "172.16.0.0"},
        "asn": {"local": 4200000001, "peer": 65101},
        "router-id": "172.16.0.1",
        **more,
    }
    return json.dumps({"exabgp": "5.0.0", "time": 1.0, "type": kind, "neighbor": neighbor})


def _received(message: object) -> str:
    return _line("update", direction="receive", message=message)


def _established() -> str:
    return json.dumps([{"state": "down", "fsm": "ESTABLISHED", "peer": {"address": "172.16.0.0"}}])


def _machine() -> SpeakerMachine:
    machine = SpeakerMachine()
    machine.configure(Asn(4200000001), (PEER,), "mark", 0.0)
    machine.attached(0.0)
    return machine


def test_its_first_end_of_rib_ends_nothing_that_was_heard() -> None:
    machine = _machine()
    for line in (
        _line("state", state="connected"),
        _line("state", state="up"),
        _received({"update": UPDATE}),
        "error",
        _established(),
        "done",
        _received({"eor": {"afi": "ipv4", "safi": "unicast"}}),
    ):
        machine.feed(line, 0.1)
    assert DEFAULT in DEFAULT_ROUTES
    kinds = [type(event) for event in machine.events]
    assert kinds == [PeerUp, PathsReceived, EndOfRib]
    assert [e.withdrawn for e in machine.events if isinstance(e, PathsReceived)] == [()]


def test_what_an_earlier_agent_heard_is_asked_for_again() -> None:
    """The session is up already: what it does not repeat until End-of-RIB is gone."""
    machine = _machine()
    for line in (
        _line("state", state="up"),
        _received({"update": UPDATE}),
        _received({"eor": {"afi": "ipv4", "safi": "unicast"}}),
    ):
        machine.feed(line, 0.1)
    machine.events.clear()
    machine.attached(1.0)
    for line in (
        "error",
        _established(),
        "done",
        _received({"eor": {"afi": "ipv4", "safi": "unicast"}}),
    ):
        machine.feed(line, 1.1)
    assert [e.withdrawn for e in machine.events if isinstance(e, PathsReceived)] == [(DEFAULT,)]
