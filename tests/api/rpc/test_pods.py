"""Placements at agents: those of the own host's pods, behind the filters that they need, whole on each new session."""

from typing import Any

from netfabric.api.store.base import Put, Store
from netfabric.api.store.memory import MemoryStore
from netfabric.fabric.controller_intent import PODS_GUARD
from netfabric.fabric.filter import FilterRule, GroupFilter
from netfabric.fabric.placement import Placement
from netfabric.fabric.session import PLACEMENTS, IntentChanged, PlacementsChanged, RemotesChanged
from netfabric.fabric.stored import dump
from netfabric.fabric.view import filter_key, pod_key
from tests.api.rpc.agents import Agent, netmaster, network, until

CLOSED = GroupFilter(
    "default:pods/a-1", rules=(FilterRule("isolated", "kubernetes:", "in", "deny"),)
)
X = Placement("a/x", "h1", "u1", network="blue", filter=CLOSED.group)
Y = Placement("a/y", "h2", "u2", network="blue", peers=("default:pods/peer-1",))


async def _store(
    store: Store, *placements: Placement, filters: tuple[GroupFilter, ...] = ()
) -> None:
    puts = [Put(pod_key(p.pod), dump(p).encode()) for p in placements]
    puts += [Put(filter_key(f.group), dump(f).encode()) for f in filters]
    await store.txn([], [*puts, Put(PODS_GUARD, b"{}")])


def _agent(master: str, host: str) -> Agent:
    return Agent(master, host, features=(PLACEMENTS,))


def _kinds(told: list[Any]) -> list[type]:
    return [type(message) for message in told]


async def test_a_filter_comes_before_the_pod_that_needs_it() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24")
    async with netmaster(store) as master, _agent(master.address, "h1") as agent:
        await agent.welcomed()
        assert await agent.hears(PlacementsChanged) == PlacementsChanged(True)
        await _store(store, X, Y, filters=(CLOSED,))
        await until(lambda: agent.told[-1:] == [PlacementsChanged(False, (X,))])
        assert _kinds(agent.told)[-2:] == [IntentChanged, PlacementsChanged]
        assert agent.intent is not None
        assert CLOSED in agent.intent.filters


async def test_a_new_session_is_told_all_and_only_its_own() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24")
    await _store(store, X, Y, filters=(CLOSED,))
    async with netmaster(store) as master:
        async with Agent(master.address, "h2") as agent:
            await agent.welcomed()
            bare = Placement("a/y", "h2", "u2", network="blue")
            assert await agent.hears(PlacementsChanged) == PlacementsChanged(True, (bare,))
            seen = agent.seen
        async with Agent(master.address, "h2", seen=seen) as agent:
            await agent.welcomed()
            assert (await agent.hears(PlacementsChanged)).full


async def test_a_pod_that_moves_is_gone_from_one_host_and_there_on_the_other() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24")
    await _store(store, Y)
    async with (
        netmaster(store) as master,
        _agent(master.address, "h1") as one,
        _agent(master.address, "h2") as two,
    ):
        await one.hears(PlacementsChanged)
        await two.hears(PlacementsChanged)
        moved = Placement("a/y", "h1", "u3", network="blue")
        await _store(store, moved)
        assert await one.hears(PlacementsChanged) == PlacementsChanged(False, (moved,))
        assert await two.hears(PlacementsChanged) == PlacementsChanged(False, gone=("a/y",))


async def test_filters_that_changed_while_an_agent_was_away_reach_it() -> None:
    """Also where a netmaster that has just started cannot tell when they changed."""
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24")
    async with netmaster(store) as master, Agent(master.address, "h1") as agent:
        await agent.welcomed()
        seen = agent.seen
    await _store(store, filters=(CLOSED,))
    async with netmaster(store, "m2") as master, Agent(master.address, "h1", seen=seen) as agent:
        await agent.knows(lambda intent: CLOSED in intent.filters)


async def test_an_agent_of_before_is_told_nothing_that_it_does_not_know() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24")
    async with (
        netmaster(store) as master,
        Agent(master.address, "h1") as old,
        _agent(master.address, "h2") as new,
    ):
        assert await new.hears(PlacementsChanged) == PlacementsChanged(True)
        await new.hears(RemotesChanged)
        await old.welcomed()
        await network(store, "red", subnet="10.2.0.0/24")
        await old.hears(IntentChanged)
        await old.wants("default:red")  # answered after all that was told before
        assert not {PlacementsChanged, RemotesChanged} & {*_kinds(old.told)}
