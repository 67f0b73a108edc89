"""Every message survives the wire, and what cannot be right is refused."""

import time
import types
from dataclasses import fields, is_dataclass, replace
from ipaddress import IPv4Network, ip_address, ip_network
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netfabric.fabric.errors import InvalidError
from netfabric.fabric.route import LearnedRoute
from netfabric.fabric.session import AgentMessage, BlockWanted, MasterMessage, RoutesLearned
from netfabric.proto import fabric_pb2 as pb
from netfabric.proto.codec import agent_from_wire, agent_to_wire, master_from_wire, master_to_wire

PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    int: st.integers(0, 2**32 - 1),
    float: st.floats(0, 1e10),
    bool: st.booleans(),
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type of the model."""
    kind = getattr(kind, "__supertype__", kind)
    if kind in PLAIN:
        return PLAIN[kind]
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if get_origin(kind) in (Union, types.UnionType):
        return st.one_of([values(member) for member in get_args(kind)])
    if get_origin(kind) is tuple:
        first, *rest = get_args(kind)
        if rest == [Ellipsis]:
            return st.lists(values(first), max_size=3).map(tuple)
        return st.tuples(*(values(member) for member in (first, *rest)))
    if is_dataclass(kind) and isinstance(kind, type):
        return of_fields(kind)
    return st.from_type(kind)


def of_fields(kind: type[Any]) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind)

    def later(name: str) -> st.SearchStrategy[Any]:
        return st.deferred(lambda: values(hints[name]))

    parts = {field.name: later(field.name) for field in fields(kind)}
    return st.fixed_dictionaries(parts).map(lambda found: kind(**found))


def as_packed(message: Any) -> Any:
    """Columns keep no order between the families."""
    if not isinstance(message, RoutesLearned):
        return message
    return replace(
        message,
        routes=tuple(sorted(message.routes, key=lambda r: r.prefix.version)),
        withdrawn=tuple(sorted(message.withdrawn, key=lambda p: p.version)),
    )


@pytest.mark.parametrize("kind", get_args(AgentMessage), ids=lambda kind: kind.__name__)
def test_agents_messages_survive(kind: type[Any]) -> None:
    @settings(deadline=None)
    @given(of_fields(kind))
    def survives(message: Any) -> None:
        octets = agent_to_wire(message).SerializeToString()
        assert agent_from_wire(pb.AgentMessage.FromString(octets)) == as_packed(message)

    survives()


@pytest.mark.parametrize("kind", get_args(MasterMessage), ids=lambda kind: kind.__name__)
def test_masters_messages_survive(kind: type[Any]) -> None:
    @settings(deadline=None)
    @given(of_fields(kind))
    def survives(message: Any) -> None:
        octets = master_to_wire(message).SerializeToString()
        assert master_from_wire(pb.MasterMessage.FromString(octets)) == message

    survives()


def test_what_is_not_set_has_its_default() -> None:
    wire = pb.AgentMessage(block_wanted=pb.BlockWanted(network="a:b", family=4))
    assert agent_from_wire(wire) == BlockWanted("a:b", 4)


@pytest.mark.parametrize(
    "wire",
    [
        pb.AgentMessage(),
        pb.AgentMessage(block_wanted=pb.BlockWanted(network="a:b", family=5)),
        pb.AgentMessage(block_wanted=pb.BlockWanted(network="a:b", family=4, address="x")),
        pb.AgentMessage(block_returned=pb.BlockReturned(network="a:b", prefix="10.0.0.1/8")),
        pb.AgentMessage(hello=pb.Hello(blocks=[pb.HeldBlock(network="a:b")])),
        pb.AgentMessage(endpoints_changed=pb.EndpointsChanged(up=[pb.Endpoint(host="h")])),
        pb.AgentMessage(routes_learned=pb.RouteBatch(v4=[1])),
        pb.AgentMessage(routes_learned=pb.RouteBatch(v4=[1], v4_length=b" ", v4_source=[0])),
        pb.AgentMessage(routes_learned=pb.RouteBatch(v6=b"123", v6_length=b" ", v6_source=[0])),
        pb.AgentMessage(
            routes_learned=pb.RouteBatch(
                sources=[pb.RouteSource(origin="bgp")], v4=[1], v4_length=b"\x08", v4_source=[0]
            )
        ),
        pb.AgentMessage(routes_learned=pb.RouteBatch(sources=[pb.RouteSource(origin="rip")])),
        pb.AgentMessage(
            routes_learned=pb.RouteBatch(sources=[pb.RouteSource(origin="bgp", next_hops=["x"])])
        ),
    ],
)
def test_what_cannot_be_right_is_refused(wire: pb.AgentMessage) -> None:
    with pytest.raises(InvalidError):
        agent_from_wire(pb.AgentMessage.FromString(wire.SerializeToString()))


def test_a_masters_message_without_a_body_is_refused() -> None:
    with pytest.raises(InvalidError):
        master_from_wire(pb.MasterMessage())


def test_a_body_that_is_not_known_is_none() -> None:
    newer = b"\x82\x7d\x00"  # field 2000, empty
    assert agent_from_wire(pb.AgentMessage.FromString(newer)) is None
    assert master_from_wire(pb.MasterMessage.FromString(newer)) is None


def test_ten_thousand_routes_are_quick_and_small() -> None:
    hops = (ip_address("10.0.0.1"), ip_address("10.0.0.3"))
    routes = tuple(
        LearnedRoute(IPv4Network((10 << 24 | i, 32)), "h1", hops, (65001, 65000))
        for i in range(10_000)
    )
    started = time.process_time()
    octets = agent_to_wire(RoutesLearned(True, routes)).SerializeToString()
    assert agent_from_wire(pb.AgentMessage.FromString(octets)) == RoutesLearned(True, routes)
    assert time.process_time() - started < 0.5
    assert len(octets) < 8 * len(routes)


def test_withdrawn_routes_are_packed_too() -> None:
    gone = (ip_network("10.1.0.0/24"), ip_network("fd00::/64"))
    message = RoutesLearned(False, (), gone)
    assert agent_from_wire(agent_to_wire(message)) == message
