"""The commands that ExaBGP takes on its API: announce and withdraw in batches, and a few questions."""

from collections.abc import Iterable

from netfabric.fabric.peer import Asn, Peer
from netfabric.fabric.prefix import Family, Prefix
from netfabric.fabric.route import Announcement

BATCH = 50
"""Prefixes in one command: more are slower, since ExaBGP sleeps between parts of a long one."""

WHO_IS_UP = "show neighbor json"
WHAT_IS_CONFIGURED = "show neighbor configuration"
WHAT_IS_OUT = "show adj-rib out json"
RELOAD = "reload"


def attributes(announcement: Announcement, peer: Peer, asn: Asn) -> str:
    """Return the attribute text of a route for one peer; the same route has always the same text."""
    next_hop = "self"
    if announcement.prefix.version == 4 and peer.address.version == 6:
        next_hop = str(peer.local_address)
    words = [f"next-hop {next_hop} origin igp"]
    if peer.prepend:
        path = " ".join([str(asn)] * (peer.prepend + 1))
        words.append(f"as-path [ {path} ]")
    if peer.med is not None:
        words.append(f"med {peer.med}")
    communities = (*announcement.communities, *peer.communities)
    if communities:
        words.append(f"community [ {' '.join(communities)} ]")
    if peer.large_communities:
        words.append(f"large-community [ {' '.join(peer.large_communities)} ]")
    return " ".join(words)


def announce(peer: Peer, text: str, prefixes: Iterable[Prefix]) -> str:
    """Return the command that announces prefixes with one attribute text."""
    return f"neighbor {peer.address} announce attributes {text} nlri {_list(prefixes)}"


def withdraw(peer: Peer, text: str, prefixes: Iterable[Prefix]) -> str:
    """Return the command that withdraws prefixes, with the text they were announced with."""
    return f"neighbor {peer.address} withdraw attributes {text} nlri {_list(prefixes)}"


def _list(prefixes: Iterable[Prefix]) -> str:
    return " ".join(map(str, prefixes))


def end_of_rib(peer: Peer, family: Family) -> str:
    """Return the command that sends End-of-RIB (RFC 4724, section 2)."""
    return f"neighbor {peer.address} announce eor ipv{family} unicast"


def refresh(peer: Peer, family: Family) -> str:
    """Return the command that asks a peer for all its routes (RFC 2918)."""
    return f"neighbor {peer.address} announce route-refresh ipv{family} unicast"


def tear_down(peer: Peer, subcode: int) -> str:
    """Return the command that ends a session with Cease (RFC 4486)."""
    return f"neighbor {peer.address} teardown {subcode}"
