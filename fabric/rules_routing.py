"""What BGP speakers and peers of hosts may be made, changed and removed."""

from collections.abc import Iterator

from netfabric.fabric.errors import ConflictError, InvalidError, OperatorError
from netfabric.fabric.intent import peer_of, peers_of_bgp, speaker_of
from netfabric.fabric.peer import Peer, Speaker
from netfabric.fabric.schema import Object
from netfabric.fabric.world import Draft, Fields, World


def create_bgp(draft: Draft, new: Object) -> None:
    """Check a host's speaker: AS, router address, and the neighbour that it may carry."""
    settings = draft.world.get("global", "global") or {}
    if settings.get("networkInfraType") == "aci":
        raise ConflictError("not supported in ACI fabric mode", "netctl global set -f default")
    speaker = speaker_of(new)
    _check_router_ip(draft.world, speaker)
    for peer in peers_of_bgp(new):
        _check_ends(speaker, peer, f"Bgp {speaker.host}: neighbor")
    for peer in peers_on(draft.world, speaker.host):
        _check_ends(speaker, peer, f"peer {peer.key}")
        if any(peer.address == other.address for other in peers_of_bgp(new)):
            raise _twice(peer)
    if new.get("neighbor-as") and not new.get("neighbor"):
        raise InvalidError(f"Bgp {speaker.host}: neighbor-as without neighbor", "give both or none")


def update_bgp(draft: Draft, old: Fields, new: Object) -> None:
    """Everything of a speaker may change."""
    create_bgp(draft, new)


def delete_bgp(draft: Draft, old: Fields) -> None:
    """A speaker may go when it has no peers of its own."""
    if count := len(list(peers_on(draft.world, old["hostname"]))):
        raise ConflictError(
            f"cannot delete Bgp {old['hostname']} has {count} peers",
            "delete them first: netctl peer ls",
        )


def peers_on(world: World, host: str) -> Iterator[Peer]:
    """Yield the peers that `peer` objects give to a host."""
    return (peer_of(obj) for obj in world.all("peer") if obj["hostname"] == host)


def _check_router_ip(world: World, speaker: Speaker) -> None:
    if speaker.router_ip is None:
        return
    for other in world.all("Bgp"):
        if other["hostname"] == speaker.host:
            continue
        ip = speaker_of(other).router_ip
        if ip is not None and ip.ip == speaker.router_ip.ip:
            raise ConflictError(
                f"Bgp {speaker.host}: routerip {ip.ip} is that of {other['hostname']}",
                "give every host a router address of its own",
            )


def _check_ends(speaker: Speaker, peer: Peer, what: str) -> None:
    if peer.asn == speaker.asn:
        raise ConflictError(
            f"{what}: AS {peer.asn} is the host's own AS",
            f"sessions are eBGP: give host {speaker.host} an AS of its own, such as 4200000001",
        )
    if speaker.router_ip is not None and peer.address == speaker.router_ip.ip:
        raise InvalidError(
            f"{what}: {peer.address} is the host's own address", "give the switch's address"
        )


def _twice(peer: Peer) -> OperatorError:
    return ConflictError(
        f"host {peer.host} has a peer {peer.address} already", "one session for each address"
    )


def create_peer(draft: Draft, new: Object) -> None:
    """Check a peer's options, and that its host has a speaker with another AS."""
    peer = peer_of(new)
    what = f"peer {peer.key}"
    _check_form(peer, what)
    bgp = draft.world.get("Bgp", peer.host)
    if bgp is None:
        raise InvalidError(
            f"{what}: host {peer.host} has no Bgp object, so no AS",
            f"create it first: netctl bgp create {peer.host} --router-ip ADDRESS/LEN --as AS",
        )
    _check_ends(speaker_of(bgp), peer, what)
    others = [p for p in peers_on(draft.world, peer.host) if p.key != peer.key]
    for other in (*others, *peers_of_bgp(bgp)):
        if other.address == peer.address:
            raise _twice(other)


def _check_form(peer: Peer, what: str) -> None:
    if peer.address.is_multicast or peer.address.is_unspecified:
        raise InvalidError(
            f"{what}: address {peer.address} is no host's", "give the switch's address"
        )
    if "%" in str(peer.address) or peer.address.is_link_local:
        raise InvalidError(
            f"{what}: address {peer.address} is link-local", "give a global or private address"
        )
    if peer.local_address is not None and peer.local_address.version != peer.address.version:
        raise InvalidError(
            f"{what}: localAddress {peer.local_address} is of another family than the address",
            f"give an IPv{peer.address.version} address",
        )
    if not set(peer.families) <= {4, 6}:
        raise InvalidError(f"{what}: families are 4 and 6", "leave the others out")
    if 6 in peer.families and peer.address.version == 4:
        raise InvalidError(
            f"{what}: IPv6 routes need an IPv6 session", "add a second peer with an IPv6 address"
        )
    if peer.ttl_security and peer.multihop > 1:
        raise InvalidError(
            f"{what}: ttlSecurity (RFC 5082) and multihop exclude each other", "give one of them"
        )
    for community in peer.communities + peer.large_communities:
        _check_community(community, what)


def _check_community(community: str, what: str) -> None:
    parts = [int(part) for part in community.split(":") if part.isdecimal()]
    limit = 0xFFFF if len(parts) == 2 else 0xFFFFFFFF
    if any(part > limit for part in parts):
        raise InvalidError(
            f"{what}: community {community}: a part exceeds {limit}",
            "RFC 1997 has 2 bytes a part, RFC 8092 (largeCommunities) 4",
        )


def update_peer(draft: Draft, old: Fields, new: Object) -> None:
    """Everything of a peer may change."""
    create_peer(draft, new)


def delete_peer(draft: Draft, old: Fields) -> None:
    """A peer may always go."""
