"""What the kernel tells of changes: ours are no news, others' are."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

import pytest

from netfabric.agent.datapath.monitor import Monitor
from netfabric.fabric.kernel import NEXTHOP_BASE, KernelRoute, Nexthop, Operation
from tests.netns.datapath.bench import RealBench

pytestmark = pytest.mark.netns
HOP = Nexthop(NEXTHOP_BASE + 1, ip_address("10.90.0.0"), "up0")
ROUTE = KernelRoute(ip_network("10.64.0.0/10"), nexthop=HOP.id)


@dataclass(slots=True)
class Heard:
    uplinks: int = 0
    touched: int = 0
    more: asyncio.Event = field(default_factory=asyncio.Event)

    def on_uplinks(self) -> None:
        self.uplinks += 1
        self.more.set()

    def on_touched(self) -> None:
        self.touched += 1
        self.more.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await self.more.wait()
                self.more.clear()


@asynccontextmanager
async def listening(real: RealBench) -> AsyncIterator[Heard]:
    heard = Heard()
    monitor = Monitor(heard.on_uplinks, heard.on_touched, [real.routed.port], real.host.path)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(monitor.run())
        yield heard
        task.cancel()


async def settled(real: RealBench, heard: Heard) -> Heard:
    """Let what was done before be heard: a marker of somebody else's follows it."""
    before = heard.uplinks
    await asyncio.to_thread(real.host.run, "ip", "addr", "add", "10.91.0.1/32", "dev", "lo")
    await heard.until(lambda: heard.uplinks > before)
    await asyncio.to_thread(real.host.run, "ip", "addr", "del", "10.91.0.1/32", "dev", "lo")
    return heard


async def test_our_own_changes_are_no_news(real: RealBench) -> None:
    one = real.container(1)
    async with listening(real) as heard:
        await asyncio.to_thread(real.routed.attach, one)
        await asyncio.to_thread(real.routed.apply, [Operation("put", t) for t in (HOP, ROUTE)])
        await asyncio.to_thread(real.routed.apply, [Operation("remove", ROUTE)])
        await asyncio.to_thread(real.routed.detach, one)
        assert (await settled(real, heard)).touched == 0


@pytest.mark.parametrize(
    "words",
    [
        "ip route del 10.64.0.0/10",
        "ip nexthop del id {hop}",
        "ip route del 10.1.0.1 dev {link}",
        "ip -6 route del fd10:1::1 dev {link}",
        "ip neigh del 10.1.0.1 dev {link}",
        "ip link set {link} down",
        "ip link del {link}",
    ],
)
async def test_what_others_do_to_ours_is_told_once(real: RealBench, words: str) -> None:
    one = real.container(1)
    real.routed.attach(one)
    real.routed.apply([Operation("put", thing) for thing in (HOP, ROUTE)])
    async with listening(real) as heard:
        line = words.format(link=one.link, hop=HOP.id)
        await asyncio.to_thread(real.host.run, *line.split())
        await heard.until(lambda: heard.touched > 0)
        assert (await settled(real, heard)).touched == 1


async def test_a_container_that_ends_is_told(real: RealBench) -> None:
    one = real.container(1)
    real.routed.attach(one)
    async with listening(real) as heard:
        await asyncio.to_thread(real.end, one)
        await heard.until(lambda: heard.touched > 0)


async def test_an_uplink_that_goes_and_comes_back_is_told(real: RealBench) -> None:
    real.routed.apply([Operation("put", thing) for thing in (HOP, ROUTE)])
    async with listening(real) as heard:
        await asyncio.to_thread(real.set_uplink, "up0", up=False)
        await heard.until(lambda: heard.uplinks > 0 and heard.touched > 0)
        before = heard.uplinks
        await asyncio.to_thread(real.set_uplink, "up0", up=True)
        await heard.until(lambda: heard.uplinks > before)


async def test_foreign_things_are_no_news(real: RealBench) -> None:
    async with listening(real) as heard:
        await asyncio.to_thread(
            real.foreign_route, ip_network("198.51.100.0/24"), same_metric=False
        )
        await asyncio.to_thread(real.foreign_nexthop, 5)
        assert (await settled(real, heard)).touched == 0


async def test_another_mtu_of_an_uplink_is_news_of_the_uplinks(real: RealBench) -> None:
    async with listening(real) as heard:
        words = "ip link set up0 mtu 1400"
        await asyncio.to_thread(real.host.run, *words.split())
        await heard.until(lambda: heard.uplinks > 0)
        assert {u.mtu for u in real.routed.uplinks() if u.link == "up0"} == {1400}
