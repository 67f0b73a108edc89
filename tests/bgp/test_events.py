"""What ExaBGP 5.0.15 says: recorded lines, and garbage."""

import json
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netfabric.bgp.events import (
    Ack,
    Eor,
    ExaEvent,
    Mark,
    Neighbors,
    Notification,
    Out,
    Refresh,
    State,
    Unknown,
    Update,
    parse,
)
from netfabric.fabric.route import PathAttributes

TOR = ip_address("172.16.0.0")
HEAD = (
    '{ "exabgp": "5.0.0", "time": 1795574986.495147, "host" : "vm", "pid" : 25480, "ppid" : 25455, '
    '"counter": 1, "type": "%s", "neighbor": { "address": { "local": "172.16.0.1", "peer": '
    '"172.16.0.0" }, "asn": { "local": 4200000001, "peer": 65101 }, "router-id": "172.16.0.1" , %s } }'
)
DEFAULT = (
    '"direction": "receive", "message": { "update": { "attribute": { "origin": "igp", "as-path": '
    '{"0": {"element": "as-sequence", "value": [65101]}, "1": {"element": "as-set", "value": [7, 8]}}, '
    '"med": 5, "community": [[65101,1]], "large-community": [[65101,1,2]] }, "announce": '
    '{ "ipv4 unicast": { "172.16.0.0": [ { "nlri": "0.0.0.0/0" } ] } } } }'
)
TWO_HOPS = (
    '"direction": "receive", "message": { "update": { "attribute": { "origin": "igp" }, "announce": '
    '{ "ipv6 unicast": { "fe80::1": [ { "nlri": "::/0" } ], "fd16::": [ { "nlri": "::/0" } ] } } } }'
)
ECHO = (
    '"direction": "send", "message": { "update": { "attribute": { "origin": "igp", "as-path": '
    '{"0": {"element": "as-sequence", "value": [4200000001]}} }, "announce": { "ipv4 unicast": '
    '{ "172.16.0.1": [ { "nlri": "10.0.0.1/32" }, { "nlri": "10.0.0.2/32" } ] } } } }'
)
WITHDRAWN = (
    '"direction": "receive", "message": { "update": { "withdraw": { "ipv4 unicast": '
    '[ { "nlri": "10.200.0.1/32" } ] } } }'
)
EOR = '"direction": "receive", "message": { "eor": { "afi" : "ipv6", "safi" : "unicast" } }'
REFRESH = (
    '"direction": "receive", "route-refresh": { "afi": "ipv4", "safi": "unicast", '
    '"subtype": "begin" }'
)
NOTIFICATION = (
    '"direction": "receive", "notification": { "code": 2, "subcode": 2, "data": "0x5BA0", '
    '"message": "[\ufffd" }'
)
# Within the first second of a session its "state" is still "down".
LISTED = (
    '[{"state": "down", "duration": 0, "fsm": "ESTABLISHED", "local": {"address": "172.16.0.1"}, '
    '"peer": {"address": "172.16.0.0", "as": 65101}}, {"state": "down", "fsm": "ACTIVE", '
    '"peer": {"address": "fd16::"}}]'
)
RECORDED: list[tuple[str, ExaEvent]] = [
    ("done\n", Ack(True)),
    ("error", Ack(False)),
    (LISTED, Neighbors({TOR: True, ip_address("fd16::"): False})),
    ('  description "netfabric 0123";', Mark("netfabric 0123")),
    (
        '{"172.16.0.0": {"routes": [{"prefix": "10.0.0.1/32", "family": "ipv4 unicast"}]}}',
        Out(TOR, (ip_network("10.0.0.1/32"),)),
    ),
    (HEAD % ("state", '"state": "connected"'), State(TOR, "connected")),
    (
        HEAD % ("state", '"state": "down", "reason": "notification received (6,4)"'),
        State(TOR, "down", "notification received (6,4)"),
    ),
    (
        HEAD % ("update", DEFAULT),
        Update(
            TOR,
            False,
            PathAttributes(
                TOR,
                (65101,),
                (7, 8),
                "igp",
                5,
                communities=("65101:1",),
                large_communities=("65101:1:2",),
            ),
            (ip_network("0.0.0.0/0"),),
        ),
    ),
    (
        HEAD % ("update", TWO_HOPS),
        Update(TOR, False, PathAttributes(ip_address("fd16::")), (ip_network("::/0"),)),
    ),
    (
        HEAD % ("update", ECHO),
        Update(
            TOR,
            True,
            PathAttributes(ip_address("172.16.0.1"), (4200000001,)),
            (ip_network("10.0.0.1/32"), ip_network("10.0.0.2/32")),
        ),
    ),
    (
        HEAD % ("update", WITHDRAWN),
        Update(TOR, False, None, (), (ip_network("10.200.0.1/32"),)),
    ),
    (HEAD % ("update", EOR), Eor(TOR, False, 6)),
    (HEAD % ("refresh", REFRESH), Refresh(TOR, 4, "begin")),
    (HEAD % ("notification", NOTIFICATION), Notification(TOR, False, 2, 2, "[\ufffd")),
]


@pytest.mark.parametrize(("line", "event"), RECORDED)
def test_recorded_lines(line: str, event: ExaEvent) -> None:
    assert parse(line) == event


@pytest.mark.parametrize(
    "line",
    [
        "",
        "reload in progress",
        '{ "exabgp": "5.0.0", "type": "notification", "notification": "shutdown" }',
        HEAD % ("update", '"direction": "receive", "message": { "update": null }'),
        HEAD % ("update", DEFAULT.replace("0.0.0.0/0", "0.0.0.1/0")),
        HEAD % ("state", '"fsm": 1'),
        "[[]]",
        "[1]",
        "{}",
        "null",
        '{"a": 1, "b": 2}',
        "[" * 5000,
    ],
)
def test_what_says_nothing_is_unknown(line: str) -> None:
    assert parse(line) == Unknown(line)


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
words = st.sampled_from(
    ["exabgp", "type", "neighbor", "address", "peer", "update", "message", "announce", "routes"]
)
anything = st.recursive(
    leaves, lambda s: st.lists(s, max_size=3) | st.dictionaries(words | st.text(max_size=4), s)
)


@given(st.text())
def test_no_text_raises(line: str) -> None:
    parse(line)


@given(anything)
def test_no_json_raises(value: object) -> None:
    parse(json.dumps(value))


@given(st.sampled_from([line for line, _ in RECORDED]), st.data())
def test_no_damaged_line_raises(line: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(line)))
    end = data.draw(st.integers(start, len(line)))
    parse(line[:start] + data.draw(st.text(max_size=5)) + line[end:])
