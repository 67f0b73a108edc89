"""A session from Hello on: what an agent is told, and what becomes of what it says."""

from ipaddress import ip_network

import grpc
import pytest
import structlog

from netfabric.api.store.memory import MemoryStore
from netfabric.fabric.session import HeldBlock, IntentChanged, SessionsChanged, SessionStatus
from netfabric.proto import fabric_pb2 as pb
from netfabric.proto.fabric_pb2_grpc import FabricStub
from tests.api.rpc.agents import (
    Agent,
    endpoint,
    netmaster,
    network,
    peer,
    put,
    remove,
    speaker,
    until,
)

NEWER = b"\x82\x7d\x00"
"""A message with an empty body of the number 2000."""


async def test_welcome_then_the_whole_intent_then_changes() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24")
    await speaker(store, "h1")
    await peer(store, "h1", "tor1", "10.9.0.3")
    await peer(store, "h2", "tor1", "10.9.0.5")
    async with netmaster(store) as master, Agent(master.address, "h1") as agent:
        assert (await agent.welcomed()).blocks == ()
        first = agent.intent
        assert first is not None and first.speaker is not None
        assert [n.key for n in first.networks] == ["default:blue"]
        assert [p.key for p in first.peers] == ["h1:tor1"]
        await network(store, "red", subnet="10.2.0.0/24")
        await agent.knows(lambda intent: len(intent.networks) == 2)
        await remove(store, "network", "default:blue")
        await remove(store, "peer", "h1:tor1")
        await remove(store, "Bgp", "h1")
        last = await agent.knows(lambda intent: intent.speaker is None)
        assert [n.key for n in last.networks] == ["default:red"]
        assert last.peers == ()


async def test_what_concerns_another_host_alone_is_not_told() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24")
    async with netmaster(store) as master, Agent(master.address, "h1") as agent:
        await agent.welcomed()
        await speaker(store, "h2")
        await network(store, "red", subnet="10.2.0.0/24")
        change = await agent.hears(IntentChanged)
        assert [n.key for n in change.networks] == ["default:red"]
        assert (change.full, change.speaker, change.speaker_gone) == (False, None, False)


async def test_endpoints_are_stored_and_forgotten() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24")
    async with netmaster(store) as master, Agent(master.address, "h1") as agent:
        await agent.welcomed()
        answer = await agent.wants("default:blue")
        assert answer.block == ip_network("10.1.0.0/26")
        up = endpoint("h1", "10.1.0.5")
        told = await agent.reports(up)
        assert [(s.key, s.sequence) for s in told.stored] == [(up.key, 1)]
        assert master.view.endpoints["h1", up.key].addresses == up.addresses
        revision = master.view.revision
        assert (await agent.reports(up)).stored == told.stored
        assert master.view.revision == revision, "what is stored already is not written again"
        other = endpoint("h1", "10.1.0.6")
        await agent.reports(other, down=(up.key,))
        assert list(master.view.endpoints) == [("h1", other.key)]


async def test_foreign_addresses_are_refused_and_counted() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24")
    async with (
        netmaster(store) as master,
        Agent(master.address, "h1") as one,
        Agent(master.address, "h2", address="192.0.2.2") as two,
    ):
        await one.welcomed()
        await two.welcomed()
        await one.wants("default:blue")
        assert (await two.wants("default:blue")).block == ip_network("10.1.0.64/26")
        told = await two.reports(
            endpoint("h2", "10.1.0.5"),
            endpoint("h2", "10.1.0.70"),
            endpoint("h1", "10.1.0.6"),
            endpoint("h2", "10.9.0.1"),
            endpoint("h2", "10.1.0.70", "x", network="none"),
        )
        assert [s.key.container for s in told.stored] == ["c10.1.0.70"]
        assert len(told.refused) == 4
        assert "held by host h1, not by h2" in told.refused[0].reason
        assert list(master.view.endpoints_by_host["h2"]) == [told.stored[0].key]
        await until(lambda: master.view.hosts["h2"].refused == 4)


async def test_a_hello_restores_what_the_store_lost() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24")
    up = endpoint("h1", "10.1.0.5")
    held = (
        HeldBlock("default:blue", ip_network("10.1.0.0/26")),
        HeldBlock("default:blue", ip_network("10.1.0.0/24")),  # no block: the network is cut finer
        HeldBlock("default:none", ip_network("10.3.0.0/26")),
    )
    async with netmaster(store) as master:
        async with Agent(master.address, "h1", blocks=held, endpoints=(up,)) as agent:
            assert (await agent.welcomed()).blocks == held[:1]
            await until(lambda: ("h1", up.key) in master.view.endpoints)
        await until(lambda: "h1" not in master.view.hosts)
        async with Agent(master.address, "h1", fresh=True) as again:
            welcome = await again.welcomed()
            assert welcome.blocks == held[:1]
            assert [e.key for e in welcome.endpoints] == [up.key]


async def test_status_and_sessions_are_seen_while_the_agent_lives() -> None:
    store = MemoryStore()
    async with netmaster(store) as master:
        async with Agent(master.address, "h1", features=("vxlan",)) as agent:
            await agent.welcomed()
            seen = master.view.hosts["h1"]
            assert (seen.address, seen.features) == ("127.0.0.1", ("vxlan",))
            status = SessionStatus(
                "h1:tor1", ip_network("10.9.0.3").network_address, 1, "idle", 1.0
            )
            await agent.say(SessionsChanged((status,)))
            await until(lambda: master.view.hosts["h1"].sessions == (status,))
        await until(lambda: "h1" not in master.view.hosts)


@pytest.mark.parametrize("host", ["", "a/b", "a:b", "a\nb"])
async def test_impossible_host_names(host: str) -> None:
    async with netmaster(MemoryStore()) as master, Agent(master.address, host) as agent:
        error = await agent.refused()
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "host name" in str(error.details())


async def test_the_first_message_must_be_hello() -> None:
    async with netmaster(MemoryStore()) as master:
        agent = Agent(master.address, "h1")
        await agent.say(SessionsChanged(()))
        with pytest.raises(grpc.aio.AioRpcError, match="say Hello first"):
            await agent._call.read()
        await agent.close()


async def test_a_message_that_cannot_be_right_ends_the_session() -> None:
    async with netmaster(MemoryStore()) as master, Agent(master.address, "h1") as agent:
        await agent.welcomed()
        wire = pb.AgentMessage(block_wanted=pb.BlockWanted(network="default:blue", family=5))
        await agent._call.write(wire)
        error = await agent.refused()
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        await until(lambda: not master.view.hosts)


async def test_a_network_made_anew_is_told_as_gone_and_there() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24")
    async with netmaster(store) as master:
        async with Agent(master.address, "h1") as agent:
            await agent.welcomed()
            seen = agent.seen
        await remove(store, "network", "default:blue")
        await network(store, subnet="10.5.0.0/24")
        await put(store, "tenant", "other", tenantName="other")
        async with Agent(master.address, "h1", seen=seen) as agent:
            change = await agent.hears(IntentChanged)
            assert not change.full
            assert change.networks_gone == ("default:blue",)
            assert [str(n.ranges[0].subnet) for n in change.networks] == ["10.5.0.0/24"]


async def test_what_only_a_newer_agent_knows_is_passed_over() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24")
    async with netmaster(store) as master, Agent(master.address, "h1") as agent:
        await agent.welcomed()
        with structlog.testing.capture_logs() as logs:
            for _ in range(3):
                await agent._call.write(pb.AgentMessage.FromString(NEWER))
            assert (await agent.wants("default:blue")).block is not None
        newer = [entry for entry in logs if "newer" in entry["event"]]
        assert [(entry["log_level"], entry["host"]) for entry in newer] == [("warning", "h1")]


async def test_what_only_a_newer_agent_knows_is_no_hello() -> None:
    async with netmaster(MemoryStore()) as master, grpc.aio.insecure_channel(master.address) as to:
        call = FabricStub(to).Session()
        await call.write(pb.AgentMessage.FromString(NEWER))
        with pytest.raises(grpc.aio.AioRpcError, match="an unknown message before Hello"):
            await call.read()
