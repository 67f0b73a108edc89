"""The index of all objects: it answers as going through all of them would, whatever came and went."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netfabric.fabric.index import Index
from netfabric.fabric.prefix import FAMILIES
from netfabric.fabric.references import REFERENCES, references_of
from netfabric.fabric.subnets import Space, span_of
from netfabric.fabric.tags import TagSet
from netfabric.fabric.trial import Trial
from netfabric.fabric.view import ROOT, View
from netfabric.fabric.world import Write

SPANS = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda ends: (min(ends), max(ends)))
TAGS = st.integers(1, 40)


@given(st.lists(st.tuples(SPANS, st.booleans())), SPANS)
def test_spans_that_overlap(
    changes: list[tuple[tuple[int, int], bool]], asked: tuple[int, int]
) -> None:
    """Also spans that overlap each other, which nobody may make."""
    space, there = Space(), {}
    for number, (span, stays) in enumerate(changes):
        owner = f"n{number}"
        space.add(span, owner)
        there[owner] = span
        if not stays:
            gone = next(iter(there))
            space.remove(there.pop(gone), gone)
    wanted = {o for o, (low, high) in there.items() if low <= asked[1] and asked[0] <= high}
    found = list(space.overlapping(asked))
    assert sorted(found) == sorted(wanted)
    assert bool(space) == bool(there)


@pytest.mark.parametrize(
    ("text", "family", "span"),
    [
        ("10.0.0.7/24", 4, (0x0A000000, 0x0A0000FF)),
        ("10.0.0.7-10.0.0.9/24", 4, (0x0A000007, 0x0A000009)),
        ("fd00::7/112", 6, ((0xFD << 120), (0xFD << 120) + 0xFFFF)),
        ("", 4, None),
    ],
)
def test_a_subnets_span(text: str, family: Any, span: tuple[int, int] | None) -> None:
    assert span_of({"subnet": text, "ipv6Subnet": text}, family) == span


@pytest.mark.parametrize("text", ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/-9", "10.0.0/24", "x/24"])
def test_no_subnet(text: str) -> None:
    with pytest.raises(ValueError, match=r"prefix|Expected 4|octets|int\(\)"):
        span_of({"subnet": text}, 4)


@given(st.lists(TAGS), st.lists(TAGS), st.integers(1, 45), st.integers(0, 45))
def test_tags_in_use(added: list[int], removed: list[int], low: int, size: int) -> None:
    """A tag with two users is in use until both are gone."""
    tags, there = TagSet(), list[int]()
    for tag in added:
        tags.add(tag)
        there.append(tag)
    for tag in removed:
        if tag in there:
            tags.remove(tag)
            there.remove(tag)
    allowed = range(low, low + size)
    assert set(tags) == set(there)
    assert len(tags) == len(set(there))
    assert all((tag in tags) == (tag in there) for tag in range(50))
    assert tags.lowest_free(allowed) == next((t for t in allowed if t not in there), None)


NAMES = st.sampled_from(["a", "b", "c"])
TENANTS = st.sampled_from(["blue", "red"])


@st.composite
def objects(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    type_ = draw(
        st.sampled_from(["network", "endpointGroup", "rule", "serviceLB", "peer", "tenant"])
    )
    tenant, name = draw(TENANTS), draw(NAMES)
    fields: dict[str, Any] = {"key": f"{tenant}:{name}", "tenantName": tenant}
    match type_:
        case "network":
            encap = draw(st.sampled_from(["routed", "vlan", "vxlan"]))
            subnet = f"10.0.{draw(st.integers(0, 3))}.0/{draw(st.integers(22, 24))}"
            fields |= {"networkName": name, "encap": encap, "subnet": subnet}
            fields["tag"] = draw(TAGS)
            fields["ipv6Subnet"] = draw(
                st.sampled_from(["", "fd00::/64", "fd00:1::/64", "nonsense"])
            )
        case "endpointGroup":
            fields |= {"networkName": draw(NAMES), "policies": draw(st.lists(NAMES))}
            fields["netProfile"] = draw(st.sampled_from(["", "a"]))
        case "rule":
            fields |= {"policyName": draw(NAMES), "fromEndpointGroup": draw(NAMES)}
        case "serviceLB":
            fields |= {"networkName": draw(NAMES)}
        case "peer":
            fields = {"key": f"h1:{name}", "hostname": "h1", "peerName": name}
            fields |= {"address": "192.0.2.1", "as": 65000}
    return type_, fields


@st.composite
def writes(draw: st.DrawFn) -> Write:
    puts: dict[str, Any] = {}
    deletes = set()
    for type_, fields in draw(st.lists(objects(), max_size=5)):
        at = f"intent/{type_}/{fields['key']}"
        if draw(st.booleans()):
            puts[at] = fields
        else:
            deletes.add(at)
    for tag in draw(st.lists(TAGS, max_size=3)):
        at = f"alloc/{draw(st.sampled_from(['vlan', 'vni']))}/{tag}"
        if draw(st.booleans()):
            puts[at] = {"owner": "x"}
        else:
            deletes.add(at)
    return Write(puts, tuple(deletes - puts.keys()))


def commit(view: View, write: Write) -> None:
    revision = view.revision + 1
    puts = [(ROOT + at, json.dumps(value).encode(), revision) for at, value in write.puts.items()]
    view.apply(puts, [ROOT + at for at in write.deletes], revision)


def told(index: Index) -> dict[str, Any]:
    """Return everything that an index can say."""
    found: dict[str, Any] = {kind: sorted(tags) for kind, tags in index.tags.items()}
    for user, fields in REFERENCES.items():
        for field in fields:
            for key in ("blue", "red", "h1", *(f"{t}:{n}" for t in ("blue", "red") for n in "abc")):
                found[f"{user} {field} {key}"] = sorted(index.users(user, field, key))
    for tenant in ("blue", "red"):
        for encap in ("routed", "vlan"):
            asked = {"tenantName": tenant, "encap": encap}
            asked |= {"subnet": "10.0.0.0/8", "ipv6Subnet": "fd00::/16"}
            for family in FAMILIES:
                overlapping = index.subnets.overlapping(asked, family)
                found[f"{tenant} {encap} {family}"] = sorted(set(overlapping))
    return found


def anew(view: View) -> Index:
    """Return the index that a view's objects and tags make."""
    index = Index()
    for type_, of_type in view.objects.items():
        for key, stored in of_type.items():
            index.replace(type_, key, None, stored.value)
    for name in view.tags:
        index.allocate(name, taken=True)
    return index


def users(view: View) -> Iterator[tuple[str, str, str, str]]:
    for type_, of_type in view.objects.items():
        for field, _, reference in references_of(type_):
            for key, stored in of_type.items():
                for named in reference.keys(stored.value):
                    yield type_, field, named, key


@given(st.lists(writes(), max_size=8))
def test_the_index_is_what_the_objects_make(history: list[Write]) -> None:
    view = View()
    for write in history:
        commit(view, write)
        assert told(view.index) == told(anew(view))
    for user, field, named, key in users(view):
        assert key in view.index.users(user, field, named)


@given(writes(), st.lists(writes(), max_size=4))
def test_a_trial_shows_writes_and_leaves_nothing(before: Write, tried: list[Write]) -> None:
    view, committed = View(), View()
    commit(view, before)
    commit(committed, before)
    objects = {type_: dict(of_type) for type_, of_type in view.objects.items()}
    tags, index = dict(view.tags), told(view.index)
    with Trial(view) as trial:
        for write in tried:
            trial.apply(write)
            commit(committed, write)
        assert told(view.index) == told(committed.index)
        assert {
            (type_, key): stored.value
            for type_, o in view.objects.items()
            for key, stored in o.items()
        } == {(t, key): s.value for t, o in committed.objects.items() for key, s in o.items()}
        assert view.tags.keys() == committed.tags.keys()
    assert {type_: o for type_, o in view.objects.items() if o} == {
        t: o for t, o in objects.items() if o
    }
    assert view.tags == tags
    assert told(view.index) == index


def test_a_trial_ends_also_where_it_fails() -> None:
    view = View()
    with pytest.raises(ZeroDivisionError), Trial(view) as trial:
        trial.apply(Write({"intent/tenant/blue": {"key": "blue"}}))
        raise ZeroDivisionError
    assert not view.objects["tenant"]


def test_a_field_that_is_no_link_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        Index().users("network", "subnet", "10.0.0.0/24")
