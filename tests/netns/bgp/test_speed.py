"""Routes reach the switch one by one and a thousand at once, and no timer holds them."""

import asyncio
import socket
import statistics
import time
from ipaddress import IPv4Network, ip_network

import pytest

from netfabric.fabric.route import Announcement
from netfabric.lab.switch import SwitchKind
from tests.netns.bgp.conftest import Fabric, until

pytestmark = pytest.mark.netns
MANY = tuple(Announcement(net) for net in IPv4Network("10.8.0.0/22").subnets(new_prefix=32))[:1000]
RTMGRP_IPV4_ROUTE = 0x40
TRIES = 60


@pytest.mark.parametrize("kind", ["frr", "bird"])
async def test_a_thousand_routes(fabric: Fabric, kind: SwitchKind) -> None:
    switch = fabric.switch(kind, (4,))
    async with fabric.agent() as agent:
        agent.exabgp.end_replay()
        agent.exabgp.configure(fabric.speaker, [fabric.peer(4)])
        await until(agent.up, "the session")
        agent.exabgp.announce(MANY)
        await until(lambda: len(switch.rib()) == 1000, "1,000 routes at the switch")
        agent.exabgp.withdraw(MANY)
        await until(lambda: not switch.rib(), "all withdrawn")


async def test_one_route_waits_for_no_timer_on_its_way_into_the_kernel_of_bird(
    fabric: Fabric,
) -> None:
    """Unevenly spaced, so that no timer of either end hides in the rhythm. `make bench` measures how soon."""
    fabric.switch("bird", (4,))
    with fabric.switch_ns.entered():
        news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        news.bind((0, RTMGRP_IPV4_ROUTE))
    news.setblocking(False)
    took: list[float] = []
    with news:
        async with fabric.agent() as agent:
            agent.exabgp.end_replay()
            agent.exabgp.configure(fabric.speaker, [fabric.peer(4)])
            await until(agent.up, "the session")
            for n in range(TRIES):
                prefix = ip_network(f"10.1.0.{n + 1}/32")
                begun = time.monotonic()
                agent.exabgp.announce([Announcement(prefix)])
                wanted = prefix.network_address.packed
                async with asyncio.timeout(5):
                    while wanted not in await asyncio.get_running_loop().sock_recv(news, 65536):
                        pass
                took.append(time.monotonic() - begun)
                await asyncio.sleep(0.003 * (n % 7))
    median, worst = statistics.median(took), sorted(took)[int(0.99 * TRIES)]
    assert median < 0.25, f"median {median * 1e3:.1f} ms, p99 {worst * 1e3:.1f} ms"
