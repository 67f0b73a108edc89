"""Streams that end and come back: resuming, taking over, falling behind, stores and netmasters that go away."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import grpc
import pytest

from netfabric.api.store.base import Store
from netfabric.api.store.memory import MemoryStore
from netfabric.api.store.sqlite import SqliteStore
from netfabric.fabric.errors import UnavailableError
from netfabric.fabric.session import HeldBlock, IntentChanged, RoutesLearned, Version
from tests.api.rpc.agents import (
    QUICK,
    Agent,
    endpoint,
    netmaster,
    network,
    peer,
    remove,
    speaker,
    until,
)


async def _first_intent(agent: Agent) -> IntentChanged:
    return await agent.hears(IntentChanged)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_reconnect_resumes_by_a_delta_at_another_netmaster(
    kind: str, tmp_path: Path
) -> None:
    store: Store = MemoryStore() if kind == "memory" else SqliteStore(str(tmp_path / "store.db"))
    await store.open()
    await network(store, subnet="10.1.0.0/24")
    await peer(store, "h1", "tor1", "10.9.0.3")
    async with netmaster(store, "m1") as one, netmaster(store, "m2") as two:
        async with Agent(one.address, "h1") as agent:
            assert (await _first_intent(agent)).full
            seen, known = agent.seen, agent.intent
        await network(store, "red", subnet="10.2.0.0/24")
        await speaker(store, "h1")
        await remove(store, "peer", "h1:tor1")
        async with Agent(two.address, "h1", seen=seen) as again:
            again.intent = known
            delta = await _first_intent(again)
            assert not delta.full
            assert [n.key for n in delta.networks] == ["default:red"]
            assert delta.peers_gone == ("h1:tor1",)
            whole = again.intent
            assert whole is not None and whole.speaker is not None
            assert len(whole.networks) == 2 and not whole.peers
        async with Agent(two.address, "h1", seen=delta.version) as unchanged:
            nothing = await _first_intent(unchanged)
            assert nothing == IntentChanged(delta.version, full=False)
    await store.close()


async def test_a_netmaster_that_restarts_resumes_where_nothing_changed() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24")
    async with netmaster(store) as master, Agent(master.address, "h1") as agent:
        await agent.welcomed()
        seen = agent.seen
        await agent.wants("default:blue")  # the store goes on, intent does not
    async with netmaster(store) as master, Agent(master.address, "h1", seen=seen) as agent:
        assert not (await _first_intent(agent)).full
    await network(store, "red", subnet="10.2.0.0/24")
    async with netmaster(store) as master, Agent(master.address, "h1", seen=seen) as agent:
        assert (await _first_intent(agent)).full


async def test_history_that_is_forgotten_or_of_another_store_means_everything_anew() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24")
    async with netmaster(store) as master:
        master.control.hub.intents.limit = 3
        async with Agent(master.address, "h1") as agent:
            await agent.welcomed()
            seen = agent.seen
        for number in range(3):
            await network(store, f"n{number}", subnet=f"10.2.{number}.0/24")
        await until(lambda: len(master.view.networks) == 4)
        async with Agent(master.address, "h1", seen=seen) as agent:
            assert not (await _first_intent(agent)).full
        await network(store, "n3", subnet="10.2.3.0/24")
        await until(lambda: len(master.view.networks) == 5)
        async with Agent(master.address, "h1", seen=seen) as agent:
            first = await _first_intent(agent)
            assert first.full and len(first.networks) == 5
        other = Version("another store", first.version.revision)
        async with Agent(master.address, "h1", seen=other) as agent:
            assert (await _first_intent(agent)).full


async def test_a_netmaster_that_lags_never_takes_an_agent_back() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24")
    async with netmaster(store) as master:
        epoch = store.epoch
        async with Agent(master.address, "h1", seen=Version(epoch, 1000)) as agent:
            error = await agent.refused()
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert "lags behind" in str(error.details())


async def test_the_same_machines_newer_stream_wins_at_any_netmaster() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24")
    async with netmaster(store, "m1") as one, netmaster(store, "m2") as two:
        for master in (one, two):
            async with (
                Agent(one.address, "h1") as older,
                Agent(two.address, "h2") as bystander,
            ):
                await older.welcomed()
                await bystander.welcomed()
                async with Agent(master.address, "h1") as newer:
                    await newer.welcomed()
                    error = await older.refused()
                    assert error.code() is grpc.StatusCode.ABORTED
                    await newer.wants("default:blue")
                    assert "h1" in master.view.hosts
                    assert not bystander.over.is_set()


async def test_another_machine_with_the_same_name_is_refused_while_the_first_lives() -> None:
    store = MemoryStore()
    async with netmaster(store, "m1") as one, netmaster(store, "m2") as two:
        async with Agent(one.address, "h1", address="192.0.2.1") as first:
            await first.welcomed()
            for master in (one, two):
                async with Agent(master.address, "h1", address="192.0.2.2") as second:
                    error = await second.refused()
                    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
                    assert "an agent at 192.0.2.1 is connected under that name" in str(
                        error.details()
                    )
                    assert "--host" in str(error.details())
            assert not first.over.is_set()
        await until(lambda: "h1" not in two.view.hosts)
        async with Agent(two.address, "h1", address="192.0.2.2") as second:
            await second.welcomed()


async def test_a_netmaster_that_stops_says_so_and_its_hosts_are_free_at_once() -> None:
    store = MemoryStore()
    async with netmaster(store, "m2") as two:
        async with netmaster(store, "m1") as one:
            agent = Agent(one.address, "h1", address="192.0.2.1")
            await agent.__aenter__()
            await agent.welcomed()
            await until(lambda: "h1" in two.view.hosts)
        error = await agent.refused()
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "netmaster m1 stops" in str(error.details())
        await until(lambda: "h1" not in two.view.hosts)
        await agent.close()


async def test_a_netmaster_that_dies_frees_its_hosts_when_their_leases_end() -> None:
    store = MemoryStore()
    lease = await store.grant(0.3)
    async with netmaster(store) as master:
        from netfabric.api.store.base import Put
        from netfabric.fabric.stored import dump
        from netfabric.fabric.view import HostStatus, host_key

        await store.txn(
            [], [Put(host_key("h1"), dump(HostStatus("h1", "192.0.2.1")).encode(), lease)]
        )
        await until(lambda: "h1" in master.view.hosts)
        await until(lambda: "h1" not in master.view.hosts)
        async with Agent(master.address, "h1", address="192.0.2.2") as agent:
            await agent.welcomed()


async def test_a_slow_agent_is_cut_off_and_slows_nobody() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24")
    async with netmaster(store) as master:
        slow = Agent(master.address, "h1")
        await slow.say(_hello("h1"))  # and never reads
        async with Agent(master.address, "h2") as other:
            await other.welcomed()
            await until(lambda: "h1" in master.control.hub.sessions)
            for number in range(200):
                await network(
                    store,
                    f"n{number}",
                    subnet=f"10.{number + 2}.0.0/24",
                    reserved=[f"10.{number + 2}.0.{i}/32" for i in range(2, 200)],
                )
                await other.knows(lambda i, n=number: len(i.networks) == n + 2)  # type: ignore[misc]
            await until(lambda: "h1" not in master.control.hub.sessions)
            assert not other.over.is_set()
        await slow.close()
        async with Agent(master.address, "h1", seen=Version()) as again:
            assert len((await _first_intent(again)).networks) == 201


def _hello(host: str):  # type: ignore[no-untyped-def]
    from netfabric.fabric.session import Hello

    return Hello(host, "test", "")


class Failing(MemoryStore):
    """A store that can be made to answer nobody."""

    failing = False

    async def txn(self, compares, operations):  # type: ignore[no-untyped-def]
        self._check()
        return await super().txn(compares, operations)

    async def get(self, key):  # type: ignore[no-untyped-def]
        self._check()
        return await super().get(key)

    async def keep(self, lease):  # type: ignore[no-untyped-def]
        self._check()
        await super().keep(lease)

    async def grant(self, ttl):  # type: ignore[no-untyped-def]
        self._check()
        return await super().grant(ttl)

    def _check(self) -> None:
        if self.failing:
            raise UnavailableError("store: does not answer", "start it")


async def test_a_store_that_is_away_for_a_moment_loses_nothing() -> None:
    store = Failing()
    await network(store, subnet="10.1.0.0/24")
    async with netmaster(store) as master, Agent(master.address, "h1") as agent:
        await agent.welcomed()
        await agent.wants("default:blue")
        store.failing = True
        assert "does not answer" in (await agent.wants("default:blue")).error
        reporting = asyncio.ensure_future(agent.reports(endpoint("h1", "10.1.0.5")))
        await agent.say(RoutesLearned(True))
        await asyncio.sleep(0)
        store.failing = False
        assert (await reporting).stored
        assert not agent.over.is_set()


async def test_a_store_that_stays_away_sends_the_agent_to_another_netmaster() -> None:
    store = Failing()
    await network(store, subnet="10.1.0.0/24")
    async with netmaster(store, pace=replace(QUICK, store=0.2)) as master:
        async with Agent(master.address, "h1") as agent:
            await agent.welcomed()
            await agent.wants("default:blue")
            store.failing = True
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await agent.reports(endpoint("h1", "10.1.0.5"))
            error = await agent.refused()
            assert error.code() is grpc.StatusCode.UNAVAILABLE
        async with Agent(master.address, "h1") as again:
            assert (await again.refused()).code() is grpc.StatusCode.UNAVAILABLE
        store.failing = False


async def test_a_lease_that_ended_while_the_agent_lives_is_taken_anew() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24")
    async with netmaster(store) as master, Agent(master.address, "h1") as agent:
        await agent.welcomed()
        await store.revoke((await store.get("/netfabric/v1/host/h1")).lease)  # type: ignore[union-attr]
        await until(lambda: "h1" not in master.view.hosts)
        await until(lambda: "h1" in master.view.hosts)
        assert (await agent.wants("default:blue")).block == ip_network("10.1.0.0/26")


async def test_two_thousand_endpoints_of_forty_hosts() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/16")
    async with netmaster(store) as master, AsyncExitStack() as stack:
        for number in range(40):
            block = ip_network((10 << 24 | 1 << 16 | number << 6, 26))
            held = (HeldBlock("default:blue", block),)
            up = tuple(endpoint(f"h{number}", str(a)) for a in list(block)[2:52])
            agent = Agent(master.address, f"h{number}", blocks=held, endpoints=up)
            await stack.enter_async_context(agent)
        await until(lambda: len(master.view.endpoints) == 2000)
        assert all(e.sequence == 1 for e in master.view.endpoints.values())
