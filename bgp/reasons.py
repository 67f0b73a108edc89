"""Why a session is down, in words that name the remedy."""

import re

from netfabric.fabric.peer import Peer

_CODES = {
    (1, 0): "malformed message header: is the other end a BGP speaker?",
    (2, 1): "unsupported BGP version",
    (2, 2): "bad peer AS",
    (2, 3): "bad BGP identifier: two speakers have the same router id",
    (2, 6): "unacceptable hold time: raise the peer's holdTime",
    (2, 7): "unsupported capability",
    (4, 0): "hold timer expired: the link is down or one-way, or a speaker is too busy",
    (6, 1): "maximum number of prefixes reached: filter at the other end, or raise its limit",
    (6, 2): "administrative shutdown: somebody shut the session down",
    (6, 3): "peer de-configured: the session was removed from the configuration",
    (6, 4): "administrative reset: somebody cleared the session",
    (6, 5): "connection rejected: the switch does not accept this host as a neighbour",
    (6, 6): "other configuration change",
    (6, 7): "connection collision resolution",
    (6, 8): "out of resources",
}
_NOTIFICATION = re.compile(r"notification (received|sent) \((\d+),(\d+)\)")
_CLOSED = "closing connection"

UNSEEN = "the session ended while nobody was listening to ExaBGP"
NOT_BACK = "ExaBGP was restarted, and the session did not come back within its hold time"


def is_vague(reason: str) -> bool:
    """Return whether a reason of ExaBGP's says no more than that a connection closed."""
    return not reason or _CLOSED in reason or "closing without sending" in reason


def in_words(peer: Peer, own_asn: int, reason: str, was_up: bool) -> str:
    """Return what ExaBGP's reason for a session's end means for this peer, and what to do."""
    found = _NOTIFICATION.search(reason)
    if found:
        who = "the switch" if found[1] == "received" else "this host"
        code = (int(found[2]), int(found[3]))
        text = _CODES.get(code, _CODES.get((code[0], 0), "see RFC 4271, section 4.5"))
        if code == (2, 2):
            return _bad_as(peer, own_asn, who)
        if code == (4, 0) and not was_up:
            return _half_open(peer)
        return f"{who} ended the session: {text} ({code[0]},{code[1]})"
    if "removed" in reason or "shutting down" in reason or "closing without sending" in reason:
        return "this host ended the session: its configuration changed, or ExaBGP is ending"
    if not is_vague(reason):
        return reason
    if was_up:
        return (
            f"{peer.address} closed the session without a word: its BGP speaker ended or restarts"
        )
    return (
        f"{peer.address} closes TCP port 179 at once: no BGP speaker runs there, or none that is "
        f"configured for {peer.local_address} (add the neighbour on the switch)"
    )


def silent(peer: Peer) -> str:
    """Return what it means that nothing at all comes from a peer."""
    password = (
        "the MD5 password differs" if peer.password else "the switch asks for an MD5 password"
    )
    ttl = "" if peer.ttl_security else ", the switch asks for TTL security (ttlSecurity)"
    return (
        f"no answer from {peer.address}: unreachable from {peer.local_address}, TCP port 179 "
        f"filtered, {password}{ttl}; check the link, then both ends' options"
    )


def over_limit(peer: Peer, rest: float) -> str:
    """Return why a session was ended that brought too many routes."""
    return (
        f"more than {peer.imports.max_prefixes} prefixes came: filter at the switch, or raise the "
        f"peer's maxPrefixes; the session rests for {rest:g} s"
    )


def _half_open(peer: Peer) -> str:
    one_sided = "not here" if not peer.ttl_security else "here"
    return (
        f"{peer.address} accepts TCP, but its BGP messages or ours do not arrive: TTL security is "
        f"set on one side only ({one_sided}), or the peer is further away than its multihop says"
    )


def _bad_as(peer: Peer, own_asn: int, who: str) -> str:
    if who == "the switch":
        return (
            f"the switch expects another AS than {own_asn} from this host (2,2): "
            "correct remote-as there, or the host's as (netctl bgp create)"
        )
    return (
        f"the switch is not AS {peer.asn} (2,2): correct the peer's as (netctl peer create), "
        "or the switch"
    )
