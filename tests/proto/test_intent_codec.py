"""intent.proto against the declarations of the kinds, and objects there and back."""

from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict, ParseDict

from netfabric.fabric import kinds
from netfabric.fabric.errors import InvalidError
from netfabric.fabric.schema import Field, Kind, shown_v2
from netfabric.proto import intent_pb2 as pb
from netfabric.proto.intent_codec import FORMS, kind_of, object_from_wire, object_to_wire

TYPES = {
    "string": (FieldDescriptor.TYPE_STRING, False),
    "int": (FieldDescriptor.TYPE_UINT32, False),
    "bool": (FieldDescriptor.TYPE_BOOL, False),
    "strings": (FieldDescriptor.TYPE_STRING, True),
    "ints": (FieldDescriptor.TYPE_UINT32, True),
}
AS_NUMBERS = ("as", "neighbor-as")
VALUES: dict[str, Any] = {
    "string": "x",
    "int": 7,
    "bool": True,
    "strings": ["a", "b"],
    "ints": [4, 6],
}
ALL = pytest.mark.parametrize("kind", kinds.V2.values(), ids=lambda kind: kind.type)


def value_of(field: Field) -> Any:
    if field.name in AS_NUMBERS:
        return 65001 if field.sort == "int" else "65001"
    return VALUES[field.sort]


def full(kind: Kind) -> dict[str, Any]:
    """An object with every field set, as the store has it."""
    obj = {field.name: value_of(field) for field in kind.fields}
    return obj | {"key": kind.key_of(obj)}


def test_every_kind_has_its_message_and_its_number() -> None:
    assert set(FORMS) == {kind.type for kind in kinds.V2.values()}
    numbers = {number for _, number in pb.Kind.items() if number}
    assert numbers == {form.number for form in FORMS.values()}
    for form in FORMS.values():
        member = form.member.removesuffix("_settings")  # "global" alone is a keyword
        assert pb.Kind.Name(form.number) == f"KIND_{member.upper()}"
        assert kind_of(form.number) is form.kind


@ALL
def test_no_field_is_forgotten(kind: Kind) -> None:
    fields = FORMS[kind.type].fields
    told = {f"{field.name}Set" for field in kind.fields if field.secret}
    assert set(fields) == {field.name for field in kind.fields} | told
    for field in kind.fields:
        sort = "int" if field.name in AS_NUMBERS else field.sort
        wire = fields[field.name]
        assert (wire.type, wire.is_repeated) == TYPES[sort], field.name
        assert wire.has_presence == field.keeps_zero, field.name


@ALL
def test_every_field_goes_there_and_back(kind: Kind) -> None:
    obj = full(kind)
    wire = object_to_wire(kind, obj, 12)
    assert (wire.key, wire.revision) == (obj["key"], 12)
    found, body = object_from_wire(wire)
    assert found is kind
    shown = shown_v2(kind, obj)
    as_numbers = {name: 65001 for name in AS_NUMBERS if name in shown}
    assert body == shown | as_numbers


@ALL
def test_the_json_of_a_spec_is_the_object_of_the_rest_api(kind: Kind) -> None:
    shown = shown_v2(kind, full(kind)) | {
        name: 65001 for name in AS_NUMBERS if kind.field(name) is not None
    }
    wire = object_to_wire(kind, full(kind), 1)
    assert MessageToDict(wire)[kind.type] | {"key": shown["key"]} == shown
    del shown["key"]
    parsed = ParseDict({kind.type: shown}, pb.Object())
    assert parsed.WhichOneof("spec") == FORMS[kind.type].member


def test_a_secret_does_not_come_back() -> None:
    wire = object_to_wire(kinds.V2["peers"], full(kinds.V2["peers"]), 1)
    assert wire.peer.password == ""
    assert wire.peer.password_set
    assert not object_to_wire(kinds.V2["peers"], {"key": "h:p"}, 1).peer.password_set


def test_zero_is_told_from_nothing() -> None:
    peer = kinds.V2["peers"]
    wire = object_to_wire(peer, {"key": "h:p", "med": 0}, 1)
    assert wire.peer.HasField("med")
    assert not wire.peer.HasField("hold_time")
    assert object_from_wire(wire)[1] == {"key": "h:p", "med": 0}


@pytest.mark.parametrize(
    ("plural", "name", "value"),
    [
        ("networks", "subnet", 5),
        ("networks", "pktTag", "five"),
        ("networks", "pktTag", 1 << 40),
        ("networks", "reserved", [1]),
        ("networks", "cfgdTag", "\ud800"),
        ("bgps", "as", "many"),
        ("bgps", "as", "99999999999"),
    ],
)
def test_what_fits_no_field_is_left_out(plural: str, name: str, value: Any) -> None:
    kind = kinds.V2[plural]
    obj = {"key": "a:b", name: value, "routerip": "10.0.0.1/31", "gateway": "10.0.0.1"}
    wire = object_to_wire(kind, obj, 1)
    field = FORMS[kind.type].fields[name].name
    spec = getattr(wire, FORMS[kind.type].member)
    assert not getattr(spec, field)
    assert (spec.gateway if plural == "networks" else spec.routerip).startswith("10.0.0.1")
    wire.SerializeToString()


def test_an_object_without_a_spec_and_kinds_that_do_not_exist() -> None:
    with pytest.raises(InvalidError, match="set one of tenant, network"):
        object_from_wire(pb.Object(key="x"))
    for number in (0, 14, 99):
        with pytest.raises(InvalidError, match="choose one of KIND_TENANT"):
            kind_of(pb.Kind.ValueType(number))
