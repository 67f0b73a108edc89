"""Between the messages of `intent.proto` and objects as `/api/v2` has them.

A field's JSON name in the messages is its name in the objects, and the number of a kind that of its field
in Object: the descriptors are the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from netfabric.fabric.errors import InvalidError
from netfabric.fabric.kinds import KINDS
from netfabric.fabric.schema import Kind, Object, as_number, shown_v2
from netfabric.proto import intent_pb2 as pb


@dataclass(frozen=True, slots=True)
class Form:
    """How a kind looks on the wire."""

    kind: Kind
    number: pb.Kind.ValueType
    member: str
    """Its field in Object."""
    fields: Mapping[str, FieldDescriptor]
    """Of its spec, by the name in the objects."""


def _form(member: FieldDescriptor) -> Form:
    spec = member.message_type
    assert spec is not None
    fields = {field.json_name: field for field in spec.fields}
    return Form(KINDS[member.json_name], pb.Kind.ValueType(member.number), member.name, fields)


_FORMS = [_form(member) for member in pb.Object.DESCRIPTOR.oneofs_by_name["spec"].fields]
FORMS: Mapping[str, Form] = {form.kind.type: form for form in _FORMS}
"""By type."""
_BY_NUMBER = {form.number: form for form in _FORMS}
_BY_MEMBER = {form.member: form for form in _FORMS}
_NUMBERS = (FieldDescriptor.CPPTYPE_UINT32,)


def kind_of(number: pb.Kind.ValueType) -> Kind:
    """Return the kind that a request names; raise InvalidError."""
    form = _BY_NUMBER.get(number)
    if form is None:
        known = ", ".join(pb.Kind.Name(form.number) for form in _FORMS)
        raise InvalidError(f"kind {number}: there is none", f"choose one of {known}")
    return form.kind


def object_to_wire(kind: Kind, obj: Mapping[str, Any], revision: int) -> pb.Object:
    """Return an object as clients see it. Secrets stay here; so does what fits no field.

    The latter only a hand that wrote to the store itself can have put there; it must not stop a watch.
    """
    form = FORMS[kind.type]
    shown = shown_v2(kind, {"key": kind.key_of(obj), **obj})
    wire = pb.Object(key=str(shown["key"]), revision=revision)
    spec = getattr(wire, form.member)
    spec.SetInParent()
    for name, value in shown.items():
        field = form.fields.get(name)
        if field is not None:
            try:
                _set(spec, field, value)
            except (TypeError, ValueError):
                spec.ClearField(field.name)
    return wire


def _set(spec: Any, field: FieldDescriptor, value: Any) -> None:
    if field.is_repeated:
        getattr(spec, field.name).extend(value)
    elif field.cpp_type in _NUMBERS:
        setattr(spec, field.name, as_number(value))  # Contiv's AS numbers are text
    else:
        setattr(spec, field.name, value)


def object_from_wire(wire: pb.Object) -> tuple[Kind, Object]:
    """Return a kind and the body of a request of `/api/v2` for it; raise InvalidError."""
    member = wire.WhichOneof("spec")
    if member is None:
        known = ", ".join(form.member for form in _FORMS)
        raise InvalidError("object without a spec", f"set one of {known}")
    found = getattr(wire, member).ListFields()
    body = {f.json_name: list(value) if f.is_repeated else value for f, value in found}
    if wire.key:
        body["key"] = wire.key
    return _BY_MEMBER[member].kind, body


def change_to_wire(kind: Kind, key: str, obj: Mapping[str, Any] | None, revision: int) -> pb.Change:
    """Return a change: what an object is now, or that it is gone (None)."""
    wire = pb.Change(kind=FORMS[kind.type].number, key=key, revision=revision)
    if obj is not None:
        wire.object.CopyFrom(object_to_wire(kind, obj, revision))
    return wire
