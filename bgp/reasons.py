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


def in_words(peer: Peer, own_asn: int, reason: str) -> str:
    """Return what ExaBGP's reason for a session's end means for this peer, and what to do."""
    found = _NOTIFICATION.search(reason)
    if found:
        who = "the switch" if found[1] == "received" else "this host"
        code = (int(found[2]), int(found[3]))
        text = _CODES.get(code, _CODES.get((code[0], 0), "see RFC 4271, section 4.5"))
        if code == (2, 2):
            return _bad_as(peer, own_asn, who)
        return f"{who} ended the session, {text} ({code[0]},{code[1]})"
    if "closing connection" in reason or "connect" in reason or not reason:
        return (
            f"no answer from {peer.address}: unreachable, TCP port 179 filtered, not configured for "
            f"{peer.local_address} there"
            + (
                ", or the MD5 password differs"
                if peer.password
                else ", or it wants an MD5 password"
            )
        )
    if "shutting down" in reason or "removed" in reason:
        return f"this host ended the session ({reason})"
    return reason


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
