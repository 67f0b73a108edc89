"""ExaBGP's configuration file, rendered from intent."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from netfabric.fabric.errors import InvalidError
from netfabric.fabric.peer import Peer, Speaker

_SAFE = re.compile(r"[A-Za-z0-9!#%&()*+,./:<=>?@^_|~-]+")
_LONGEST_PASSWORD = 80
_API = (
    "api { processes [ agent ]; neighbor-changes; "
    "receive { parsed; update; refresh; notification; } send { parsed; update; } }"
)
_FAMILY = {4: "ipv4 unicast;", 6: "ipv6 unicast;"}


@dataclass(frozen=True, slots=True)
class Configuration:
    """A file's text; `mark` is in every neighbor's description, and another for every other text."""

    text: str
    mark: str


def render(speaker: Speaker, peers: Sequence[Peer], helper: Sequence[str]) -> Configuration:
    """Return the configuration of a speaker with these peers.

    `helper` is the command that ExaBGP starts as its API process: absolute paths, no blanks in words.
    Raises InvalidError for what cannot be written safely.
    """
    blocks = [neighbor(speaker, peer) for peer in sorted(peers, key=lambda peer: peer.key)]
    process = f"process agent {{\n    run {' '.join(helper)};\n    encoder json;\n}}\n"
    plain = process + "".join(blocks)
    mark = f"netfabric {hashlib.blake2s(plain.encode(), digest_size=8).hexdigest()}"
    marked = plain.replace(" {\n    router-id", f' {{\n    description "{mark}";\n    router-id')
    return Configuration(marked, mark)


def neighbor(speaker: Speaker, peer: Peer) -> str:
    """Return one peer's block; raise InvalidError for what ExaBGP cannot do, or its file not carry."""
    if 6 in peer.carried and peer.address.version == 4:
        raise InvalidError(
            f"peer {peer.key}: IPv6 routes over an IPv4 session have no next hop",
            "add a peer with the switch's IPv6 address",
        )
    lines = [
        f"router-id {speaker.router_id};",
        f"local-address {_local(peer)};",
        f"local-as {speaker.asn};",
        f"peer-as {peer.asn};",
        f"hold-time {peer.hold_time};",
        "manual-eor true;",  # ExaBGP's own End-of-RIB comes before the replay
        "adj-rib-in false;",
        "group-updates true;",
        *_transport(peer),
        f"family {{ {' '.join(_FAMILY[family] for family in peer.carried)} }}",
        f"capability {{ {_capabilities(peer)} }}",
        *_next_hop(peer),
        _API,
    ]
    body = "".join(f"    {line}\n" for line in lines)
    return f"neighbor {peer.address} {{\n{body}}}\n"


def _local(peer: Peer) -> str:
    if peer.local_address is None:
        raise InvalidError(
            f"peer {peer.key}: this host has no address towards {peer.address}",
            "give the host an address on the switch's link, or the peer a localAddress",
        )
    return str(peer.local_address)


def _transport(peer: Peer) -> list[str]:
    lines = []
    if peer.password:
        if not _SAFE.fullmatch(peer.password):
            raise InvalidError(
                f"peer {peer.key}: the password has a character that ExaBGP's file cannot carry",
                "use letters, digits and !#%&()*+,./:<=>?@^_|~-",
            )
        if len(peer.password) > _LONGEST_PASSWORD:
            raise InvalidError(
                f"peer {peer.key}: the password is longer than {_LONGEST_PASSWORD} characters",
                "shorten it here and at the switch: the kernel's TCP MD5 takes no more",
            )
        lines.append(f'md5-password "{peer.password}";')
    if peer.ttl_security:
        lines += ["outgoing-ttl 255;", "incoming-ttl 255;"]
    elif peer.multihop > 1:
        lines.append(f"outgoing-ttl {peer.multihop};")
    return lines


def _capabilities(peer: Peer) -> str:
    words = ["asn4 enable;", "route-refresh enable;"]
    if peer.graceful_restart:
        words.append(f"graceful-restart {peer.graceful_restart};")
    if _over_v6(peer):
        words.append("nexthop enable;")
    return " ".join(words)


def _over_v6(peer: Peer) -> bool:
    """IPv4 routes with IPv6 next hops (RFC 8950)."""
    return peer.address.version == 6 and 4 in peer.carried


def _next_hop(peer: Peer) -> list[str]:
    return ["nexthop { ipv4 unicast ipv6; }"] if _over_v6(peer) else []
