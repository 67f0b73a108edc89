"""Filters and members at agents: every group's filter, members of named groups, in an order without gaps."""

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from netfabric.api.store.base import Store
from netfabric.api.store.memory import MemoryStore
from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.filter import GroupFilter, Members
from netfabric.fabric.membership import Membership
from netfabric.fabric.session import IntentChanged, MembersChanged
from tests.api.rpc.agents import Agent, endpoint, netmaster, network, put, remove, until


async def _group(store: Store, name: str, *policies: str, **more: Any) -> None:
    obj = {"tenantName": "default", "groupName": name, "networkName": "blue"}
    await put(store, "endpointGroup", f"default:{name}", policies=list(policies), **obj, **more)


async def _rule(store: Store, name: str, **more: Any) -> None:
    obj = {"tenantName": "default", "policyName": "p", "ruleId": name, "direction": "in"}
    await put(store, "rule", f"default:p:{name}", **obj, action="allow", **more)


def _in_group(reported: Endpoint, group: str) -> Endpoint:
    return replace(reported, group=group)


def _members(told: list[Any]) -> Membership:
    members = Membership()
    for message in told:
        if isinstance(message, MembersChanged):
            members.take(message)
    return members


async def test_a_filter_comes_with_the_members_that_it_names() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24")
    await _group(store, "web", "p", defaultAction="deny")
    await _group(store, "db")
    async with netmaster(store) as master, Agent(master.address, "h1") as one:
        await one.welcomed()
        block = (await one.wants("default:blue")).block
        assert block is not None
        address = block[5]
        async with Agent(master.address, "h2") as two:
            await two.welcomed()
            await one.reports(_in_group(endpoint("h1", str(address)), "db"))
            await _rule(store, "r", fromEndpointGroup="db")
            await two.knows(lambda intent: any(f.rules for f in intent.filters))
            kinds = [type(message) for message in two.told]
            assert kinds[-2:] == [MembersChanged, IntentChanged]
            known = Members("default:db", frozenset({ip_address(address)}))
            assert _members(two.told).all() == (known,)
            await remove(store, "rule", "default:p:r")
            await until(lambda: _members(two.told).all() == ())
            assert isinstance(two.told[-2], IntentChanged)
            assert not any(f.rules for f in two.told[-2].filters)


async def test_a_reconnect_has_all_members_and_only_filters_that_changed() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24")
    await _group(store, "web", "p")
    await _group(store, "db")
    async with netmaster(store) as master:
        async with Agent(master.address, "h1") as agent:
            await agent.welcomed()
            seen = agent.seen
            assert agent.intent is not None
            assert {f.group for f in agent.intent.filters} == {"default:web", "default:db"}
        await _group(store, "db", defaultAction="deny")
        await remove(store, "endpointGroup", "default:web")
        async with Agent(master.address, "h1", seen=seen) as again:
            delta = await again.hears(IntentChanged)
            assert not delta.full
            assert delta.filters == (GroupFilter("default:db", "deny", (), "default:blue"),)
            assert delta.filters_gone == ("default:web",)
            assert (await again.hears(MembersChanged)).full
