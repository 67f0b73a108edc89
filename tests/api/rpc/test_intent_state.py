"""State over gRPC: endpoints, hosts, sessions and blocks, filtered and in pages."""

from ipaddress import ip_address, ip_network
from typing import Any

import grpc
import pytest

from netfabric.api.store.base import Put
from netfabric.fabric.session import EndpointsChanged, SessionStatus
from netfabric.fabric.stored import dump
from netfabric.fabric.view import HostStatus, block_key, endpoint_key, host_key
from netfabric.proto import fabric_pb2 as fabric
from netfabric.proto import intent_pb2 as pb
from netfabric.proto.codec import agent_to_wire
from tests.api.rpc.agents import Netmaster, endpoint, until
from tests.api.rpc.intents import GLOBAL, TENANT, refusal, serving, speaker

Status = grpc.StatusCode
UP = SessionStatus(
    "h1:tor",
    ip_address("10.9.0.3"),
    65002,
    "established",
    1.5,
    3,
    2,
    "",
    (ip_network("0.0.0.0/0"),),
)
DOWN = SessionStatus("h1:tor2", ip_address("10.9.0.5"), 65003, "active", 2.5, reason="refused")
ENDPOINTS = (
    endpoint("h1", "10.1.0.5", "a"),
    endpoint("h1", "10.1.0.6", "b"),
    endpoint("h2", "10.1.0.70", "c", "red"),
)


async def fill(master: Netmaster) -> None:
    """Store what agents would have reported."""
    puts = [Put(endpoint_key(one.host, one.key), dump(one).encode()) for one in ENDPOINTS]
    puts += [
        Put(block_key("default:blue", ip_network(prefix)), b'{"host":"%s"}' % host)
        for prefix, host in (("10.1.0.0/26", b"h1"), ("10.1.0.64/26", b"h2"))
    ]
    status = HostStatus("h1", "192.0.2.1", "1.0", ("vxlan",), (UP, DOWN), refused=3)
    puts.append(Put(host_key("h1"), dump(status).encode()))
    revision = await master.store.txn([], puts)
    await until(lambda: master.view.revision >= revision)


async def test_endpoints() -> None:
    async with serving() as (master, client):
        await fill(master)

        async def found(**filters: Any) -> list[str]:
            answer = await client.state.ListEndpoints(pb.ListEndpointsRequest(**filters))
            return [f"{one.host}/{one.key.container}" for one in answer.endpoints]

        assert await found() == ["h1/a", "h1/b", "h2/c"]
        assert await found(host="h1") == ["h1/a", "h1/b"]
        assert await found(network="red") == ["h2/c"]
        assert await found(container="b", tenant="default") == ["h1/b"]
        assert await found(tenant="nobody") == []
        assert await found(group="g") == []
        answer = await client.state.ListEndpoints(pb.ListEndpointsRequest(page_size=1))
        assert answer.endpoints[0] == as_agents_send(ENDPOINTS[0])
        assert answer.version.revision == master.view.revision


def as_agents_send(one: Any) -> fabric.Endpoint:
    """Return an endpoint as the agents' own stream has it."""
    return agent_to_wire(EndpointsChanged((one,))).endpoints_changed.up[0]


async def test_hosts_and_their_sessions() -> None:
    async with serving([GLOBAL, TENANT, speaker("h3")]) as (master, client):
        await fill(master)
        hosts = (await client.state.ListHosts(pb.ListHostsRequest())).hosts
        assert [(h.name, h.state) for h in hosts] == [
            ("h1", "connected"),
            ("h2", "away"),
            ("h3", "away"),
        ]
        one = hosts[0]
        assert (one.address, one.software, list(one.features)) == ("192.0.2.1", "1.0", ["vxlan"])
        assert (one.endpoints, one.refused, len(one.sessions)) == (2, 3, 2)
        assert [(b.network, b.prefix) for b in one.blocks] == [("default:blue", "10.1.0.0/26")]
        away = await client.state.ListHosts(pb.ListHostsRequest(state="away", name="h2"))
        assert [h.name for h in away.hosts] == ["h2"]
        sessions = (await client.state.ListSessions(pb.ListSessionsRequest())).sessions
        assert [(s.host, s.session.peer, s.session.state) for s in sessions] == [
            ("h1", "h1:tor", "established"),
            ("h1", "h1:tor2", "active"),
        ]
        up, down = (s.session for s in sessions)
        assert (up.address, up.asn, up.since, up.received) == ("10.9.0.3", 65002, 1.5, 3)
        assert (list(up.prefixes), down.reason) == (["0.0.0.0/0"], "refused")
        request = pb.ListSessionsRequest(host="h1", state="active")
        assert len((await client.state.ListSessions(request)).sessions) == 1
        assert not (await client.state.ListSessions(pb.ListSessionsRequest(host="h3"))).sessions


async def test_blocks() -> None:
    async with serving() as (master, client):
        await fill(master)
        blocks = (await client.state.ListBlocks(pb.ListBlocksRequest())).blocks
        assert [(b.network, b.prefix, b.host, b.in_use) for b in blocks] == [
            ("default:blue", "10.1.0.0/26", "h1", 2),
            ("default:blue", "10.1.0.64/26", "h2", 0),
        ]
        request = pb.ListBlocksRequest(host="h2", network="default:blue")
        assert len((await client.state.ListBlocks(request)).blocks) == 1


async def test_an_unknown_host_is_a_mistake() -> None:
    async with serving() as (master, client):
        await fill(master)
        for call, form in (
            (client.state.ListEndpoints, pb.ListEndpointsRequest),
            (client.state.ListSessions, pb.ListSessionsRequest),
            (client.state.ListBlocks, pb.ListBlocksRequest),
        ):
            error = await refusal(call(form(host="h9")))
            assert error.code() is Status.NOT_FOUND
            assert "host h9 is unknown" in str(error.details())


@pytest.mark.parametrize(
    ("call", "form", "items"),
    [
        ("ListEndpoints", pb.ListEndpointsRequest, "endpoints"),
        ("ListHosts", pb.ListHostsRequest, "hosts"),
        ("ListSessions", pb.ListSessionsRequest, "sessions"),
        ("ListBlocks", pb.ListBlocksRequest, "blocks"),
    ],
)
async def test_pages(call: str, form: Any, items: str) -> None:
    async with serving() as (master, client):
        await fill(master)
        list_ = getattr(client.state, call)
        whole = list(getattr(await list_(form()), items))
        found, token = [], ""
        for _ in whole:
            answer = await list_(form(page_size=1, page_token=token))
            found += getattr(answer, items)
            token = answer.next_page_token
        assert (found, token) == (whole, "")
        error = await refusal(list_(form(page_token="x")))
        assert error.code() is Status.INVALID_ARGUMENT
