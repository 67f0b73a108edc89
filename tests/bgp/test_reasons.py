"""Why a session is down: every reason of ExaBGP's in words with a remedy."""

from dataclasses import replace
from ipaddress import ip_address

import pytest

from netfabric.bgp import reasons
from netfabric.fabric.peer import Asn, Peer

PEER = Peer("h", "tor", ip_address("10.0.0.1"), Asn(65001), ip_address("10.0.0.2"))


@pytest.mark.parametrize(
    ("reason", "was_up", "words"),
    [
        ("notification received (2,2)", False, "expects another AS than 65010"),
        ("notification sent (2,2)", False, "the switch is not AS 65001"),
        ("notification received (6,4)", True, "the switch ended the session: administrative reset"),
        ("notification received (6,2)", True, "administrative shutdown"),
        ("notification received (6,1)", True, "maximum number of prefixes"),
        ("notification received (6,5)", False, "does not accept this host"),
        ("notification sent (4,0)", True, "this host ended the session: hold timer expired"),
        ("notification sent (4,0)", False, "TTL security is set on one side only"),
        ("notification received (3,11)", True, "see RFC 4271, section 4.5 (3,11)"),
        ("notification received (1,9)", True, "is the other end a BGP speaker?"),
        ("closing connection", True, "10.0.0.1 closed the session without a word"),
        ("closing connection", False, "closes TCP port 179 at once"),
        ("", False, "none that is configured for 10.0.0.2"),
        ("stop, message [removed]", True, "its configuration changed"),
        ("stop, message [shutting down]", True, "ExaBGP is ending"),
        (
            "graceful restarted negotiated, closing without sending any notification",
            True,
            "this host ended the session",
        ),
        ("ExaBGP ended; it is being restarted", True, "ExaBGP ended; it is being restarted"),
    ],
)
def test_in_words(reason: str, was_up: bool, words: str) -> None:
    assert words in reasons.in_words(PEER, 65010, reason, was_up)


def test_silence() -> None:
    assert "switch asks for an MD5 password" in reasons.silent(PEER)
    assert "ttlSecurity" in reasons.silent(PEER)
    assert "the MD5 password differs" in reasons.silent(replace(PEER, password="x"))
    assert "ttlSecurity" not in reasons.silent(replace(PEER, ttl_security=True))


def test_only_bare_closings_are_vague() -> None:
    assert reasons.is_vague("closing connection")
    assert not reasons.is_vague("notification received (2,2)")
