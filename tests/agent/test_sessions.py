"""Local addresses of BGP sessions: which one, and that a link that goes down changes none."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from netfabric.agent.sessions import Sessions, on_link
from netfabric.fabric.events import Event, PeerDown
from netfabric.fabric.kernel import Uplink
from netfabric.fabric.peer import Asn, Peer, Speaker
from netfabric.fabric.prefix import Address
from tests.fabric.script import PEERS, SPEAKER, UPLINKS

UP0, UP1 = UPLINKS
TOR0, TOR1 = PEERS
FAR = Peer("h1", "far", ip_address("192.0.2.1"), Asn(65_009), multihop=4)


class Recorder:
    """What ExaBGP was told to run."""

    def __init__(self) -> None:
        self.told: list[tuple[Speaker | None, tuple[Peer, ...]]] = []

    def configure(self, speaker: Speaker | None, peers: Iterable[Peer]) -> None:
        self.told.append((speaker, tuple(peers)))

    def announce(self, routes: Iterable[Any]) -> None: ...
    def withdraw(self, routes: Iterable[Any]) -> None: ...
    def end_replay(self) -> None: ...
    def teardown(self, peer: str, subcode: int) -> None: ...

    @property
    def sources(self) -> dict[str, str]:
        """Return the last told local addresses."""
        return {peer.name: str(peer.local_address) for peer in self.told[-1][1]}


class Rig:
    """Sessions on a host whose routing knows `routing`."""

    def __init__(self) -> None:
        self.bgp = Recorder()
        self.routing: dict[Address, Address] = {}
        self.events: list[Event] = []
        self.sessions = Sessions(self.bgp, self._look_up, self.events.append)
        self.sessions.uplinks_changed(UPLINKS)

    async def _look_up(self, peers: Sequence[Address]) -> Mapping[Address, Address | None]:
        return {peer: self.routing.get(peer) for peer in peers}

    async def want(self, *peers: Peer, speaker: Speaker | None = SPEAKER) -> None:
        self.sessions.want(speaker, peers)
        await self.sessions.settle()

    async def uplinks(self, *uplinks: Uplink) -> None:
        self.sessions.uplinks_changed(uplinks)
        await self.sessions.settle()


async def test_the_address_on_the_peers_link() -> None:
    rig = Rig()
    await rig.want(*PEERS)
    assert rig.bgp.sources == {"tor0": "10.90.0.1", "tor1": "10.90.1.1"}
    assert rig.events == []


async def test_the_peers_own_word_counts_most() -> None:
    rig = Rig()
    await rig.want(replace(TOR0, local_address=ip_address("10.99.0.1")))
    assert rig.bgp.sources == {"tor0": "10.99.0.1"}


async def test_a_link_that_is_down_changes_nothing() -> None:
    rig = Rig()
    await rig.want(*PEERS)
    rig.routing[TOR0.address] = UP1.address  # by the other switch, as long as the link is down
    await rig.uplinks(UP1)
    await rig.uplinks(*UPLINKS)
    assert len(rig.bgp.told) == 1


async def test_a_new_address_is_followed() -> None:
    rig = Rig()
    await rig.want(TOR0)
    other = Uplink("up0", ip_address("10.90.0.3"), ip_network("10.90.0.0/29"))
    await rig.uplinks(other)
    assert rig.bgp.sources == {"tor0": "10.90.0.3"}


async def test_a_peer_far_away_is_reached_by_the_hosts_routing() -> None:
    rig = Rig()
    rig.routing[FAR.address] = UP0.address
    await rig.want(FAR)
    assert rig.bgp.sources == {"far": "10.90.0.1"}
    rig.routing[FAR.address] = UP1.address
    await rig.uplinks(*UPLINKS)
    assert rig.bgp.sources == {"far": "10.90.0.1"}, "as long as that address is there"
    await rig.uplinks(UP1)
    assert rig.bgp.sources == {"far": "10.90.1.1"}


async def test_a_peer_that_cannot_be_reached_waits_alone() -> None:
    rig = Rig()
    lost = replace(TOR0, name="lost", address=ip_address("10.91.0.0"))
    await rig.want(lost, TOR1)
    assert rig.bgp.sources == {"tor1": "10.90.1.1"}
    assert rig.sessions.homeless == {"h1:lost"}
    [event] = rig.events
    assert isinstance(event, PeerDown)
    assert "no address towards 10.91.0.0" in event.reason
    await rig.uplinks(*UPLINKS)
    assert len(rig.events) == 1, "it is said once"
    await rig.uplinks(*UPLINKS, Uplink("up2", ip_address("10.91.0.1"), ip_network("10.91.0.0/31")))
    assert rig.bgp.sources == {"lost": "10.91.0.1", "tor1": "10.90.1.1"}
    assert not rig.sessions.homeless


async def test_nothing_is_told_twice_but_on_demand() -> None:
    rig = Rig()
    await rig.want(*PEERS)
    await rig.want(*PEERS)
    assert len(rig.bgp.told) == 1
    rig.sessions.again()
    await rig.sessions.settle()
    assert len(rig.bgp.told) == 2


async def test_nothing_is_told_before_anything_is_wanted() -> None:
    rig = Rig()
    await rig.sessions.settle()
    assert rig.bgp.told == []
    await rig.want(speaker=None)
    assert rig.bgp.told == [(None, ())]


@pytest.mark.parametrize(
    ("router_ip", "found"), [("10.90.0.3/29", "10.90.0.3"), ("10.77.0.3/29", "10.90.0.1")]
)
async def test_contivs_routerip_is_preferred_on_its_link(router_ip: str, found: str) -> None:
    rig = Rig()
    net = ip_network("10.90.0.0/29")
    await rig.uplinks(*(Uplink("up0", ip_address(f"10.90.0.{n}"), net) for n in (1, 3)))
    await rig.want(TOR0, speaker=replace(SPEAKER, router_ip=ip_interface(router_ip)))
    assert rig.bgp.sources == {"tor0": found}


def test_families_are_not_mixed() -> None:
    six = Uplink("up0", ip_address("fd90::1"), ip_network("fd90::/127"))
    assert on_link(TOR0, None, (six,), None) is None
    peer = replace(TOR0, address=ip_address("fd90::"))
    assert on_link(peer, None, (UP0, six), None) == ip_address("fd90::1")
