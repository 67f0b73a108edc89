"""The fabric's routes for any client: lists, watches, filters, and what hosts may say they learned."""

import asyncio
from ipaddress import IPv4Network, ip_address, ip_network
from typing import Any

import grpc
import pytest

from netfabric.api.store.memory import MemoryStore
from netfabric.fabric.prefix import Prefix
from netfabric.fabric.route import LearnedRoute
from netfabric.fabric.session import RoutesLearned
from netfabric.proto import fabric_pb2 as pb
from netfabric.proto.routes import BATCH, unpack
from tests.api.rpc.agents import (
    PATIENCE,
    Agent,
    Netmaster,
    endpoint,
    netmaster,
    network,
    until,
)

HOPS = (ip_address("10.9.0.1"), ip_address("10.9.0.3"))
Rib = dict[tuple[str, Prefix], LearnedRoute]


def learned(prefix: str, host: str = "h1") -> LearnedRoute:
    return LearnedRoute(ip_network(prefix), host, HOPS, (65000, 65001))


class Watch:
    """A client that keeps a RIB in step."""

    def __init__(self, master: Netmaster, **filter_: str) -> None:
        self.rib: Rib = {}
        self.batches: list[pb.RouteBatch] = []
        self._call: Any = master.routes.Watch(pb.RouteFilter(**filter_))

    async def until(self, *prefixes: str) -> Rib:
        """Read until the RIB has exactly these prefixes."""
        wanted = {ip_network(p) for p in prefixes}
        async with asyncio.timeout(PATIENCE):
            while not self.batches or {prefix for _, prefix in self.rib} != wanted:
                self.take(await self._call.read())
        return self.rib

    def take(self, batch: pb.RouteBatch) -> None:
        self.batches.append(batch)
        if batch.full:
            self.rib.clear()
        here, gone = unpack(batch)
        for route in gone:
            del self.rib[route.host, route.prefix]
        self.rib.update(((route.host, route.prefix), route) for route in here)


async def show(master: Netmaster, **filter_: str) -> list[pb.RouteBatch]:
    call: Any = master.routes.List(pb.RouteFilter(**filter_))
    return [batch async for batch in call]


async def test_a_list_a_watch_and_what_changes() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24", ipv6Subnet="fd10:1::/64")
    async with netmaster(store) as master, Agent(master.address, "h1") as agent:
        await agent.welcomed()
        (empty,) = await show(master)
        assert (empty.full, empty.end, len(empty.sources)) == (True, True, 0)
        watch = Watch(master)
        await watch.until()
        await agent.wants("default:blue")
        up = endpoint("h1", "10.1.0.5")
        await agent.reports(up)
        await agent.say(RoutesLearned(True, (learned("0.0.0.0/0"), learned("fd99::/48"))))
        rib = await watch.until("10.1.0.5/32", "0.0.0.0/0", "fd99::/48")
        assert rib["h1", ip_network("0.0.0.0/0")] == learned("0.0.0.0/0")
        assert rib["h1", ip_network("10.1.0.5/32")].origin == "endpoint"
        await agent.say(RoutesLearned(False, (), (ip_network("fd99::/48"),)))
        await watch.until("10.1.0.5/32", "0.0.0.0/0")
        moved = LearnedRoute(ip_network("0.0.0.0/0"), "h1", HOPS[:1], (65000,))
        await agent.say(RoutesLearned(False, (moved,)))
        await until(lambda: master.view.learned["h1"] == (moved,))
        await agent.reports(endpoint("h1", "10.1.0.6"), down=(up.key,))
        await watch.until("10.1.0.6/32", "0.0.0.0/0")
        assert watch.rib["h1", ip_network("0.0.0.0/0")] == moved
        (batch,) = await show(master)
        assert {r.prefix for r in unpack(batch)[0]} == {prefix for _, prefix in watch.rib}
        await agent.close()
        await watch.until(
            "10.1.0.6/32"
        )  # the container is still there, what its host learned is not


@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        ({}, 4),
        ({"origin": "endpoint"}, 1),
        ({"origin": "bgp"}, 3),
        ({"host": "h2"}, 1),
        ({"prefix": "10.0.0.0/8"}, 2),
        ({"prefix": "10.1.0.5/32"}, 1),
        ({"tenant": "default", "origin": "bgp", "host": "h1"}, 2),
        ({"tenant": "red"}, 0),
    ],
)
async def test_filters(filter_: dict[str, str], expected: int) -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24")
    async with (
        netmaster(store) as master,
        Agent(master.address, "h1") as one,
        Agent(master.address, "h2") as two,
    ):
        await one.welcomed()
        await two.welcomed()
        await one.wants("default:blue")
        await one.reports(endpoint("h1", "10.1.0.5"))
        await one.say(RoutesLearned(True, (learned("0.0.0.0/0"), learned("10.7.0.0/16"))))
        await two.say(RoutesLearned(True, (learned("0.0.0.0/0", "h2"),)))
        await until(lambda: len(master.control.hub.table.routes) == 4)
        (batch,) = await show(master, **filter_)
        assert len(unpack(batch)[0]) == expected


@pytest.mark.parametrize("filter_", [{"origin": "rip"}, {"prefix": "10.0.0.1/8"}, {"prefix": "x"}])
async def test_impossible_filters(filter_: dict[str, str]) -> None:
    async with netmaster(MemoryStore()) as master:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await show(master, **filter_)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_containers_routes_are_taken_only_from_their_host() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24")
    async with (
        netmaster(store) as master,
        Agent(master.address, "h1") as one,
        Agent(master.address, "h2") as two,
    ):
        await one.welcomed()
        await two.welcomed()
        await one.wants("default:blue")
        hijack = (
            learned("10.1.0.5/32", "h2"),
            learned("10.1.0.0/26", "h1"),
            learned("10.1.0.0/24", "h2"),
            LearnedRoute(ip_network("10.8.0.1/32"), "h2", (), origin="endpoint"),
        )
        fine = (learned("10.0.0.0/8", "h2"), learned("0.0.0.0/0", "h1"))
        await two.say(RoutesLearned(True, hijack + fine))
        await until(lambda: "h2" in master.view.learned)
        taken = master.view.learned["h2"]
        assert {str(r.prefix) for r in taken} == {"10.0.0.0/8", "0.0.0.0/0"}
        assert {r.host for r in taken} == {"h2"}, "nobody speaks for another"
        await until(lambda: master.view.hosts["h2"].refused == 4)
        await two.say(RoutesLearned(False, hijack[:1]))
        await one.say(RoutesLearned(True, (learned("10.1.0.0/26"), learned("10.1.0.64/26"))))
        await until(lambda: master.view.learned.get("h1"))
        assert [str(r.prefix) for r in master.view.learned["h1"]] == ["10.1.0.0/26"]
        assert master.view.hosts["h2"].refused == 4, "the same route again is no other one"


async def test_what_switches_announce_of_an_overlays_subnet_is_none_of_its_business() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24", encap="vxlan", tag=100)
    async with netmaster(store) as master, Agent(master.address, "h1") as agent:
        await agent.welcomed()
        await agent.say(RoutesLearned(True, (learned("10.1.0.0/26"),)))
        await until(lambda: master.view.learned.get("h1"))
        assert master.view.hosts["h1"].refused == 0


async def test_ten_thousand_routes_come_in_batches() -> None:
    store = MemoryStore()
    async with netmaster(store) as master, Agent(master.address, "h1") as agent:
        await agent.welcomed()
        many = tuple(
            LearnedRoute(IPv4Network((20 << 24 | i, 32)), "h1", HOPS) for i in range(2 * BATCH + 1)
        )
        await agent.say(RoutesLearned(True, many))
        await until(lambda: len(master.control.hub.table.routes) == len(many))
        batches = await show(master)
        assert [len(batch.v4) for batch in batches] == [BATCH, BATCH, 1]
        assert [batch.full for batch in batches] == [True, False, False]
        assert [batch.end for batch in batches] == [False, False, True]


async def test_a_watch_that_fell_behind_gets_everything_anew() -> None:
    store = MemoryStore()
    async with netmaster(store) as master, Agent(master.address, "h1") as agent:
        await agent.welcomed()
        master.control.hub.table.limit = 5
        watch = Watch(master)
        await watch.until()
        many = [learned(f"20.0.{i}.0/24") for i in range(20)]
        await agent.say(RoutesLearned(True, tuple(many)))
        await watch.until(*(str(route.prefix) for route in many))
        assert watch.batches[-1].full
