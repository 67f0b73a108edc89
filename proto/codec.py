"""Between the messages of `fabric.proto` and the values of the model.

Fields have the same names on both sides, so one walk serves every message; routes alone are packed.
"""

from typing import Any, cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from netfabric.fabric.errors import InvalidError
from netfabric.fabric.prefix import Prefix
from netfabric.fabric.route import LearnedRoute
from netfabric.fabric.session import (
    AgentMessage,
    BlockAnswered,
    BlockReturned,
    BlockWanted,
    CountsChanged,
    EndpointsAnswered,
    EndpointsChanged,
    Hello,
    IntentChanged,
    LendAnswered,
    LendAsked,
    LoanEnded,
    LoanReturned,
    MasterMessage,
    MembersChanged,
    PlacementsChanged,
    RemotesChanged,
    RoutesLearned,
    SessionsChanged,
    Welcome,
)
from netfabric.fabric.stored import plain, shaped
from netfabric.proto import fabric_pb2 as pb
from netfabric.proto.routes import pack, unpack

_AGENT: dict[str, type[Any]] = {
    "hello": Hello,
    "endpoints_changed": EndpointsChanged,
    "sessions_changed": SessionsChanged,
    "block_wanted": BlockWanted,
    "block_returned": BlockReturned,
    "lend_answered": LendAnswered,
    "loan_returned": LoanReturned,
    "counts_changed": CountsChanged,
}
_MASTER: dict[str, type[Any]] = {
    "welcome": Welcome,
    "intent_changed": IntentChanged,
    "block_answered": BlockAnswered,
    "lend_asked": LendAsked,
    "loan_ended": LoanEnded,
    "endpoints_answered": EndpointsAnswered,
    "members_changed": MembersChanged,
    "remotes_changed": RemotesChanged,
    "placements_changed": PlacementsChanged,
}
_BODY = {kind: name for name, kind in (*_AGENT.items(), *_MASTER.items())}


def agent_to_wire(message: AgentMessage) -> pb.AgentMessage:
    """Return an agent's message for the wire; raise InvalidError for a number that does not fit."""
    if isinstance(message, RoutesLearned):
        return pb.AgentMessage(routes_learned=_learned_to_wire(message))
    return cast(pb.AgentMessage, _to_wire(pb.AgentMessage, message))


def agent_from_wire(wire: pb.AgentMessage) -> AgentMessage | None:
    """Return what an agent said, None for a kind that only newer ones know; raise InvalidError."""
    body = wire.WhichOneof("body")
    if body == "routes_learned":
        return _learned_from_wire(wire.routes_learned)
    return cast(AgentMessage | None, _from_wire(_AGENT, body, wire))


def master_to_wire(message: MasterMessage) -> pb.MasterMessage:
    """Return a netmaster's message for the wire; raise InvalidError for a number that does not fit."""
    return cast(pb.MasterMessage, _to_wire(pb.MasterMessage, message))


def master_from_wire(wire: pb.MasterMessage) -> MasterMessage | None:
    """Return what a netmaster said, None for a kind that only newer ones know; raise InvalidError."""
    return cast(MasterMessage | None, _from_wire(_MASTER, wire.WhichOneof("body"), wire))


def _to_wire(form: type[Message], message: object) -> Message:
    try:
        return form(**{_BODY[type(message)]: plain(message)})
    except (ValueError, TypeError) as error:
        raise InvalidError(
            f"{type(message).__name__}: {error}", "it does not fit a field"
        ) from None


def _from_wire(kinds: dict[str, type[Any]], body: str | None, wire: Message) -> object:
    if body is None:
        if wire.ByteSize():  # what is not known is kept
            return None
        raise InvalidError("a message without a body", "its sender must say something")
    return shaped(kinds[body], _fields(getattr(wire, body)))


def _fields(message: Message) -> dict[str, Any]:
    """Return a message as `shaped` takes it; what is not set and may be absent is left out."""
    found: dict[str, Any] = {}
    for name, many, nested, presence in _shape(message.DESCRIPTOR):
        if presence and not message.HasField(name):
            continue
        value = getattr(message, name)
        if many:
            found[name] = [_fields(item) for item in value] if nested else list(value)
        else:
            found[name] = _fields(value) if nested else value
    return found


_shapes: dict[str, list[tuple[str, bool, bool, bool]]] = {}


def _shape(descriptor: Any) -> list[tuple[str, bool, bool, bool]]:
    shape = _shapes.get(descriptor.full_name)
    if shape is None:
        shape = _shapes[descriptor.full_name] = [
            (
                field.name,
                field.is_repeated,
                field.type == FieldDescriptor.TYPE_MESSAGE,
                field.has_presence,
            )
            for field in descriptor.fields
        ]
    return shape


def _learned_to_wire(message: RoutesLearned) -> pb.RouteBatch:
    batch = pack(message.routes, (LearnedRoute(p, "", ()) for p in message.withdrawn))
    batch.full = message.full
    return batch


def _learned_from_wire(batch: pb.RouteBatch) -> RoutesLearned:
    routes, gone = unpack(batch)
    withdrawn: tuple[Prefix, ...] = tuple(route.prefix for route in gone)
    return RoutesLearned(batch.full, tuple(routes), withdrawn)
