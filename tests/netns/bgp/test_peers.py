"""Peers come, go and change while others stay; those that cannot come up say why."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from netfabric.fabric.events import PeerDown
from netfabric.fabric.peer import Asn, ImportFilter
from netfabric.fabric.prefix import Family
from netfabric.lab.switch import SwitchKind
from tests.netns.bgp.conftest import HOST_ASN, KINDS, Fabric, addresses, routes, until

pytestmark = pytest.mark.netns
OURS = ("10.1.0.5/32", "fd10:1::5/128")
BOTH: tuple[Family, Family] = (4, 6)


async def test_a_peer_is_added_while_another_stays(fabric: Fabric) -> None:
    switch = fabric.switch("bird")
    async with fabric.agent() as agent:
        agent.exabgp.announce(routes(*OURS))
        agent.exabgp.end_replay()
        agent.exabgp.configure(fabric.speaker, [fabric.peer(4)])
        await until(lambda: len(switch.rib()) == 1, "the first session's route")
        agent.exabgp.configure(fabric.speaker, [fabric.peer(4), fabric.peer(6)])
        await until(lambda: len(switch.rib()) == 2, "the second session's route")
        assert not agent.of(PeerDown)
        agent.exabgp.configure(fabric.speaker, [fabric.peer(6)])
        await until(lambda: not switch.sessions()[addresses(4)[1]], "the first session ended")
        assert not [e for e in agent.of(PeerDown) if e.peer.endswith("v6")]


async def test_a_dead_peer_holds_up_nothing(fabric: Fabric) -> None:
    """ExaBGP 5.0.15 forgets about a reload while a route waits for a session that is down."""
    switch = fabric.switch("bird")
    dead = replace(fabric.peer(4), name="dead", address=ip_address("172.16.9.9"))
    async with fabric.agent() as agent:
        agent.exabgp.announce(routes(*OURS))
        agent.exabgp.end_replay()
        agent.exabgp.configure(fabric.speaker, [dead, fabric.peer(4)])
        await until(lambda: len(switch.rib()) == 1, "the route at the living one")
        agent.exabgp.configure(fabric.speaker, [dead, fabric.peer(4), fabric.peer(6)])
        await until(lambda: len(switch.rib()) == 2, "the route of the new session")
        await until(lambda: "no answer from 172.16.9.9" in agent.reason(), "the dead one's reason")


async def test_a_changed_option_is_heard(fabric: Fabric) -> None:
    switch = fabric.switch("bird", (4,))
    async with fabric.agent() as agent:
        agent.exabgp.announce(routes(OURS[0]))
        agent.exabgp.end_replay()
        agent.exabgp.configure(fabric.speaker, [fabric.peer(4)])
        await until(switch.rib, "the route")
        options = {"med": 77, "communities": ("65010:7",), "large_communities": ("65010:1:2",)}
        agent.exabgp.configure(fabric.speaker, [fabric.peer(4, prepend=2, **options)])
        await until(lambda: "med: 77" in switch.show("route all").lower(), "the MED")
        shown = switch.show("route all")
        assert "(65010,7)" in shown
        assert "(65010, 1, 2)" in shown
        assert f"{HOST_ASN} {HOST_ASN} {HOST_ASN}" in shown
        assert not agent.of(PeerDown)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_switch_expects_another_as(fabric: Fabric, kind: SwitchKind) -> None:
    fabric.switch(kind, (4,), peer_asn=65333)
    async with fabric.agent() as agent:
        agent.exabgp.configure(fabric.speaker, [fabric.peer(4)])
        await until(agent.reason, "a reason")
        assert f"expects another AS than {HOST_ASN}" in agent.reason()
        assert "netctl bgp create" in agent.reason()


@pytest.mark.parametrize("kind", KINDS)
async def test_the_switch_has_another_as(fabric: Fabric, kind: SwitchKind) -> None:
    fabric.switch(kind, (4,), asn=65999)
    async with fabric.agent() as agent:
        agent.exabgp.configure(fabric.speaker, [fabric.peer(4)])
        await until(agent.reason, "a reason")
        assert "the switch is not AS 65101" in agent.reason()
        assert "netctl peer create" in agent.reason()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ("one", "other", "the MD5 password differs"),
        ("one", "", "the MD5 password differs"),
        ("", "other", "the switch asks for an MD5 password"),
    ],
)
async def test_passwords_that_do_not_agree(
    fabric: Fabric, kind: SwitchKind, ours: str, theirs: str, words: str
) -> None:
    fabric.switch(kind, (4,), password=theirs)
    async with fabric.agent() as agent:
        agent.exabgp.configure(fabric.speaker, [fabric.peer(4, password=ours)])
        await until(agent.reason, "a reason")
        assert words in agent.reason()


@pytest.mark.parametrize("kind", KINDS)
async def test_passwords_that_agree(fabric: Fabric, kind: SwitchKind) -> None:
    switch = fabric.switch(kind, password="s3cret#!:")
    async with fabric.agent() as agent:
        peers = [fabric.peer(family, password="s3cret#!:") for family in BOTH]
        agent.exabgp.configure(fabric.speaker, peers)
        await until(lambda: len(agent.up()) == 2, "both sessions")
        await until(lambda: all(switch.sessions().values()), "both sessions at the switch")


async def test_nobody_listens_at_the_other_end(fabric: Fabric) -> None:
    async with fabric.agent() as agent:
        agent.exabgp.configure(fabric.speaker, [fabric.peer(4)])
        await until(agent.reason, "a reason")
        assert "no BGP speaker runs there" in agent.reason()


async def test_the_switch_does_not_know_this_host(fabric: Fabric) -> None:
    fabric.switch("frr", (6,))
    async with fabric.agent() as agent:
        agent.exabgp.configure(fabric.speaker, [fabric.peer(4)])
        await until(agent.reason, "a reason")
        assert "configured for 172.16.0.1" in agent.reason()


@pytest.mark.parametrize("kind", ["frr", "bird"])
async def test_ttl_security_on_one_side_only(fabric: Fabric, kind: SwitchKind) -> None:
    switch = fabric.switch(kind, (4,), ttl_security=True)
    async with fabric.agent() as agent:
        agent.exabgp.configure(fabric.speaker, [fabric.peer(4)])
        await until(lambda: "ttlSecurity" in agent.reason(), "a reason that says what to do", 30.0)
        agent.exabgp.configure(fabric.speaker, [fabric.peer(4, ttl_security=True)])
        await until(lambda: all(switch.sessions().values()), "the session with both", 30.0)


async def test_the_link_fails(fabric: Fabric) -> None:
    fabric.switch("bird", (4,))
    async with fabric.agent() as agent:
        agent.exabgp.configure(fabric.speaker, [fabric.peer(4)])
        await until(agent.up, "the session")
        fabric.switch_ns.run("ip", "link", "set", "tohost", "down")
        await until(agent.reason, "a reason")
        assert "hold timer expired" in agent.reason()
        fabric.switch_ns.run("ip", "link", "set", "tohost", "up")
        await until(agent.up, "the session again", 30.0)


async def test_the_switch_restarts(fabric: Fabric) -> None:
    switch = fabric.switch("bird", (4,))
    async with fabric.agent() as agent:
        agent.exabgp.announce(routes(OURS[0]))
        agent.exabgp.end_replay()
        agent.exabgp.configure(fabric.speaker, [fabric.peer(4)])
        await until(agent.up, "the session")
        switch.stop()
        await until(agent.reason, "a reason")
        switch.start()
        await until(switch.rib, "the route again")


async def test_too_many_prefixes(fabric: Fabric) -> None:
    switch = fabric.switch("bird")
    async with fabric.agent() as agent:
        few = ImportFilter(max_prefixes=0)
        peers = [fabric.peer(4, imports=few), fabric.peer(6)]
        agent.exabgp.configure(fabric.speaker, peers)
        await until(agent.reason, "a reason")
        assert "more than 0 prefixes" in agent.reason()
        assert "maxPrefixes" in agent.reason()
        await until(lambda: not switch.sessions()[addresses(4)[1]], "that session ended")
        assert agent.up() == {"h1:tor-v6"}


async def test_a_peer_that_cannot_be_written_is_refused_alone(fabric: Fabric) -> None:
    switch = fabric.switch("bird")
    async with fabric.agent() as agent:
        peers = [fabric.peer(4, local_address=None), fabric.peer(6)]
        agent.exabgp.configure(fabric.speaker, peers)
        await until(lambda: switch.sessions()[addresses(6)[1]], "the other session")
        assert "no address towards 172.16.0.0" in agent.reason()


async def test_what_exabgp_refuses_changes_nothing(fabric: Fabric) -> None:
    switch = fabric.switch("bird", (4,))
    async with fabric.agent() as agent:
        agent.exabgp.configure(fabric.speaker, [fabric.peer(4)])
        await until(agent.up, "the session")
        agent.exabgp.configure(
            fabric.speaker, [fabric.peer(4), fabric.peer(6, hold_time=1, asn=Asn(-1))]
        )
        await until(agent.reason, "a reason")
        assert "ExaBGP refuses the configuration" in agent.reason()
        assert agent.up() == {"h1:tor-v4"}
        assert all(switch.sessions().values())


@pytest.mark.parametrize("kind", ["frr", "bird"])
async def test_ipv4_routes_over_an_ipv6_session(fabric: Fabric, kind: SwitchKind) -> None:
    """RFC 8950."""
    switch = fabric.switch(kind, (6,), families=BOTH)
    async with fabric.agent() as agent:
        agent.exabgp.announce(routes(*OURS))
        agent.exabgp.end_replay()
        agent.exabgp.configure(fabric.speaker, [fabric.peer(6, families=BOTH)])
        host = frozenset({addresses(6)[1]})
        expected = {ip_network(prefix): host for prefix in OURS}
        await until(lambda: switch.rib() == expected, "both routes, by IPv6")
        await until(lambda: "tohost" in fabric.fib(OURS[0]), "the /32 in the switch's kernel")
        await until(lambda: len(agent.learned()) == 2, "both default routes")
        agent.exabgp.withdraw(routes(*OURS))
        await until(lambda: not switch.rib(), "both withdrawn")
