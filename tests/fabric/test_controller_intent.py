"""Deltas of intent lead to the same as the whole, however changes are gathered."""

from hypothesis import given, settings
from hypothesis import strategies as st

from netfabric.fabric.controller_intent import GUARD, Intents
from netfabric.fabric.host import merge
from netfabric.fabric.session import IntentChanged, Version
from netfabric.fabric.view import ROOT, View
from tests.fabric.controllers import Fabric

HOSTS = ("h1", "h2")


def bgp(host: str) -> dict[str, str]:
    return {"hostname": host, "as": "65001", "routerip": "10.9.0.2/31", "key": host}


def peer(host: str, name: str, hold: int) -> dict[str, object]:
    return {
        "hostname": host,
        "peerName": name,
        "address": f"10.9.0.{hold}",
        "as": 65002,
        "key": f"{host}:{name}",
        "holdTime": hold,
    }


changes = st.lists(
    st.tuples(
        st.sampled_from(["network", "Bgp", "peer"]),
        st.sampled_from(HOSTS),
        st.sampled_from("ab"),
        st.sampled_from([None, 3, 9]),
    ),
    max_size=12,
)


def apply(fabric: Fabric, change: tuple[str, str, str, int | None], intents: Intents) -> None:
    kind, host, name, hold = change
    key, value = {
        "network": (f"default:{name}", b'{"tenantName":"default","networkName":"%s","subnet":'
                    b'"10.%d.0.0/16"}' % (name.encode(), hold or 0)),
        "Bgp": (host, _json(bgp(host))),
        "peer": (f"{host}:{name}", _json(peer(host, name, hold or 3))),
    }[kind]  # fmt: skip
    at = f"{ROOT}intent/{kind}/{key}"
    fabric.revision += 1
    puts, deletes = ([(at, value, fabric.revision)], []) if hold else ([], [at])
    intents.follow(fabric.view.apply(puts, deletes, fabric.revision))


def _json(value: object) -> bytes:
    import json

    return json.dumps(value).encode()


@settings(deadline=None)
@given(before=changes, after=changes, stops=st.sets(st.integers(0, 12)))
def test_deltas_lead_where_the_whole_does(
    before: list[tuple[str, str, str, int | None]],
    after: list[tuple[str, str, str, int | None]],
    stops: set[int],
) -> None:
    fabric = Fabric()
    intents = Intents(fabric.view)
    for change in before:
        apply(fabric, change, intents)
    intents.begin("e")
    known = {host: intents.full(host) for host in HOSTS}
    for number, change in enumerate(after):
        apply(fabric, change, intents)
        if number in stops or number == len(after) - 1:
            for host in HOSTS:
                seen = known[host].version
                assert intents.reaches(seen)
                known[host] = merge(known[host], intents.delta(host, seen.revision))
    for host in HOSTS:
        assert _sorted(known[host]) == _sorted(intents.full(host))


def _sorted(intent: IntentChanged) -> object:
    return (
        intent.version,
        sorted(intent.networks, key=lambda n: n.key),
        intent.speaker,
        sorted(intent.peers, key=lambda p: p.key),
    )


def test_how_far_back_a_delta_reaches() -> None:
    fabric = Fabric()
    intents = Intents(fabric.view, limit=2)
    fabric.revision += 1
    fabric.view.apply([(GUARD, b"{}", 2)], (), 2)
    intents.begin("e")
    assert (intents.floor, intents.revision) == (2, 2)
    assert intents.reaches(Version("e", 2))
    assert not intents.reaches(Version("other", 2))
    assert not intents.reaches(Version("e", 1))
    assert not intents.reaches(Version("e", 3)), "of the future"
    for number in range(3):
        apply(fabric, ("network", "h1", "a", 3 + number), intents)
    assert not intents.reaches(Version("e", 2))
    assert intents.reaches(Version("e", 3))


def test_changes_that_no_host_needs_are_not_told() -> None:
    view = View()
    intents = Intents(view)
    intents.begin("e")
    change = view.apply([(f"{ROOT}intent/tenant/x", b'{"key":"x"}', 5)], (), 5)
    assert not intents.follow(change)
    assert not intents.follow(view.apply([(f"{ROOT}host/h1", b'{"name":"h1"}', 6)], (), 6))
    assert intents.revision == 0
