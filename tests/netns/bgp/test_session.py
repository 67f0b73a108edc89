"""A host's ExaBGP against each kind of switch: sessions, routes both ways, FIB."""

from ipaddress import ip_address, ip_network

import pytest

from netfabric.lab.switch import SwitchKind
from tests.netns.bgp.conftest import KINDS, Fabric, addresses, routes, until

pytestmark = pytest.mark.netns
OURS = ("10.1.0.5/32", "fd10:1::5/128")


@pytest.mark.parametrize("kind", KINDS)
async def test_routes_go_both_ways(fabric: Fabric, kind: SwitchKind) -> None:
    switch = fabric.switch(kind)
    async with fabric.agent() as agent:
        agent.exabgp.announce(routes(*OURS))
        agent.exabgp.configure(fabric.speaker, [fabric.peer(4), fabric.peer(6)])
        agent.exabgp.end_replay()
        await until(lambda: len(agent.up()) == 2, "both sessions up")
        expected = {
            ip_network(OURS[0]): frozenset({addresses(4)[1]}),
            ip_network(OURS[1]): frozenset({addresses(6)[1]}),
        }
        await until(lambda: switch.rib() == expected, "the host's routes in the switch's RIB")
        assert all(switch.sessions().values())
        await until(lambda: "172.16.0.1" in fabric.fib(OURS[0]), "the /32 in the switch's kernel")
        await until(lambda: "dev tohost" in fabric.fib(OURS[1]), "the /128 in the switch's kernel")
        defaults = {ip_network("0.0.0.0/0"), ip_network("::/0")}
        await until(lambda: agent.learned() == defaults, "default routes from the switch")
        await until(lambda: agent.ended_ribs() == {4, 6}, "End-of-RIB of both families")
        hops = {e.attributes.next_hop for e in agent.events if getattr(e, "attributes", None)}  # type: ignore[union-attr]
        assert hops == {addresses(4)[0], addresses(6)[0]}

        agent.exabgp.withdraw(routes(OURS[0]))
        await until(lambda: set(switch.rib()) == {ip_network(OURS[1])}, "the /32 withdrawn")
        await until(lambda: not fabric.fib(OURS[0]), "the /32 gone from the switch's kernel")
        assert ip_address("172.16.0.0") in switch.sessions() or switch.sessions()
