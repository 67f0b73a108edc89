"""The BGP sessions as ExaBGP is to run them: with local addresses, chosen here where a peer names none."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from netfabric.fabric.events import Event, PeerDown
from netfabric.fabric.kernel import Uplink
from netfabric.fabric.peer import Peer, Speaker
from netfabric.fabric.prefix import Address
from netfabric.fabric.route import Announcement


class BgpSpeaker(Protocol):
    """What runs the sessions: none of these waits."""

    def configure(self, speaker: Speaker | None, peers: Iterable[Peer]) -> None:
        """Run exactly these sessions."""
        ...

    def announce(self, routes: Iterable[Announcement]) -> None:
        """Offer routes to every peer that carries their family."""
        ...

    def withdraw(self, routes: Iterable[Announcement]) -> None:
        """Take routes back."""
        ...

    def end_replay(self) -> None:
        """Say that everything wanted has been announced."""
        ...

    def teardown(self, peer: str, subcode: int) -> None:
        """End a session with a Cease NOTIFICATION."""
        ...


LookUp = Callable[[Sequence[Address]], Awaitable[Mapping[Address, Address | None]]]
"""Returns the source address with which the host's routing reaches each of some addresses."""


class Sessions:
    """Wanted peers made complete, again whenever the host's addresses change."""

    def __init__(self, speaker: BgpSpeaker, look_up: LookUp, post: Callable[[Event], None]) -> None:
        self._bgp = speaker
        self._look_up = look_up
        self._post = post
        self._wanted: tuple[Speaker | None, tuple[Peer, ...]] | None = None
        self._running: tuple[Speaker | None, tuple[Peer, ...]] | None = None
        self._uplinks: tuple[Uplink, ...] = ()
        self._chosen: dict[str, Address] = {}
        self.homeless: frozenset[str] = frozenset()
        """Peers that wait for this host to have an address towards them."""

    def want(self, speaker: Speaker | None, peers: tuple[Peer, ...]) -> None:
        """Note what netmaster wants; `settle` carries it out."""
        self._wanted = (speaker, peers)

    def uplinks_changed(self, uplinks: tuple[Uplink, ...]) -> None:
        """Note the host's addresses; `settle` follows them."""
        self._uplinks = uplinks

    def again(self) -> None:
        """Have the next `settle` tell ExaBGP everything, whatever it was told before."""
        self._running = None

    async def settle(self) -> None:
        """Have ExaBGP run what is wanted. One call at a time."""
        if self._wanted is None:
            return
        speaker, peers = self._wanted
        router_ip = speaker.router_ip.ip if speaker and speaker.router_ip else None
        near = {
            peer.key: found
            for peer in peers
            if (found := on_link(peer, router_ip, self._uplinks, self._chosen.get(peer.key)))
        }
        far = [peer for peer in peers if peer.key not in near]
        routed = await self._look_up([peer.address for peer in far]) if far else {}
        chosen = near | {p.key: a for p in far if (a := routed.get(p.address)) is not None}
        self._chosen = chosen
        self._run(speaker, peers, chosen)

    def _run(
        self, speaker: Speaker | None, peers: tuple[Peer, ...], chosen: Mapping[str, Address]
    ) -> None:
        complete = tuple(
            replace(peer, local_address=chosen[peer.key]) for peer in peers if peer.key in chosen
        )
        homeless = {peer.key: peer for peer in peers if peer.key not in chosen}
        for key in homeless.keys() - self.homeless:
            self._post(
                PeerDown(
                    key,
                    f"this host has no address towards {homeless[key].address}: give it one on the"
                    " switch's link, or name the peer's local address",
                )
            )
        self.homeless = frozenset(homeless)
        if self._running != (speaker, complete):
            self._running = (speaker, complete)
            self._bgp.configure(speaker, complete)


def on_link(
    peer: Peer, router_ip: Address | None, uplinks: Iterable[Uplink], before: Address | None
) -> Address | None:
    """Return the address for a session, as far as the host's own links tell; None: ask its routing.

    The one that served `before` stays while its link is down: by its address the session comes back, and
    another one would end it for good.
    """
    if peer.local_address is not None:
        return peer.local_address
    uplinks = [u for u in uplinks if u.address.version == peer.address.version]
    shared = [u.address for u in uplinks if peer.address in u.subnet]
    for preferred in (before, router_ip):
        if preferred in shared:
            return preferred
    if shared:
        return shared[0]
    distant = peer.multihop > 1
    if before is not None and (not distant or any(u.address == before for u in uplinks)):
        return before
    return None
