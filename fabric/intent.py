"""Typed readings of REST objects: what a stored network, Bgp or peer object means to hosts.

Fields are those of `/api/v1` and `/api/v2`, by their JSON names. A stored object says its true encap
(`routed`, `vxlan`, `vlan`): `true_encap` turns v1's `vlan` into it before it is stored.
"""

from collections.abc import Mapping, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Any, TypeVar, cast

from netfabric.fabric.errors import InvalidError
from netfabric.fabric.network import AnnounceMode, Encap, Network, Range, ReadyMode, whole_range
from netfabric.fabric.peer import Asn, ImportFilter, Peer, Speaker
from netfabric.fabric.port import Port
from netfabric.fabric.prefix import DEFAULT_ROUTES, Address, Family, Interface, Prefix

Object = Mapping[str, Any]
A = TypeVar("A", IPv4Address, IPv6Address)

MAX_ASN = (1 << 32) - 1
IPV4_BLOCK, IPV6_BLOCK = 26, 122
RESERVED_ASNS = {
    0: "reserved (RFC 7607)",
    23456: "AS_TRANS (RFC 6793)",
    MAX_ASN: "reserved (RFC 7300)",
}


def true_encap(encap: str, fwd_mode: str) -> str:
    """Return the encap that v1's word means: `vlan` under `fwdMode` routing is the routed one."""
    return "routed" if encap == "vlan" and fwd_mode == "routing" else encap


def network_of(obj: Object, fwd_mode: str = "") -> Network:
    """Return the network that an object describes.

    `fwd_mode` fills in an encap that the object leaves out: `bridge` makes it `vlan`, else `routed`.
    Raises InvalidError for a subnet, gateway, block length or reserved prefix that cannot be right.
    """
    what = f"network {obj.get('tenantName', '')}:{obj.get('networkName', '')}"
    encap = obj.get("encap") or ("vlan" if fwd_mode == "bridge" else "routed")
    ranges = tuple(r for r in (_ipv4_range(obj, what), _ipv6_range(obj, what)) if r)
    if not ranges:
        raise InvalidError(f"{what}: no subnet", "give subnet, ipv6Subnet or both")
    return Network(
        tenant=str(obj["tenantName"]),
        name=str(obj["networkName"]),
        encap=cast(Encap, encap),
        ranges=ranges,
        reserved=_reserved(obj, ranges, what),
        announce=cast(AnnounceMode, obj.get("announce") or "host-routes"),
        ready=cast(ReadyMode, obj.get("ready") or "host"),
        tag=0 if encap == "routed" else int(obj.get("tag") or obj.get("pktTag") or 0),
        infra=obj.get("nwType") == "infra",
    )


def _ipv4_range(obj: Object, what: str) -> Range | None:
    text = str(obj.get("subnet") or "")
    if not text:
        return None
    addresses, _, length = text.partition("/")
    first, _, last = addresses.partition("-")
    try:
        subnet = IPv4Network(f"{first}/{length}", strict=False)
        whole = whole_range(subnet)
        low, high = whole.first, whole.last
        if last:
            low, high = max(IPv4Address(first), low), min(IPv4Address(last), high)
    except ValueError as error:
        raise InvalidError(f"{what}: subnet {text}: {error}", "write a.b.c.d/len") from None
    if last and not (IPv4Address(first) <= IPv4Address(last) and IPv4Address(last) in subnet):
        raise InvalidError(
            "Network subnet format not valid",
            f"{what}: in {text} the first address must not be above the last, both inside {subnet}",
        )
    if subnet.prefixlen < 8:
        raise InvalidError(
            f"subnet length {subnet.prefixlen} not supported", "choose a length of 8 to 31"
        )
    gateway = _gateway(obj.get("gateway"), subnet, IPv4Address)
    block = _block_length(obj, "blockLength", subnet, IPV4_BLOCK, what)
    return Range(subnet, low, high, gateway, block)


def _ipv6_range(obj: Object, what: str) -> Range | None:
    text = str(obj.get("ipv6Subnet") or "")
    if not text:
        return None
    try:
        subnet = IPv6Network(text, strict=False)
    except ValueError as error:
        raise InvalidError(f"{what}: ipv6Subnet {text}: {error}", "write PREFIX/len") from None
    gateway = _gateway(obj.get("ipv6Gateway"), subnet, IPv6Address)
    block = _block_length(obj, "blockLength6", subnet, IPV6_BLOCK, what)
    return whole_range(subnet, gateway, block)


def _gateway(text: object, subnet: Prefix, form: type[A]) -> A | None:
    if not text:
        return None
    try:
        gateway = form(str(text))
    except ValueError as error:
        raise InvalidError(f"gateway {text}: {error}", f"choose an address of {subnet}") from None
    if gateway not in subnet:
        raise InvalidError(
            f"hostIP {gateway} is exceeding beyond subnet {subnet}",
            f"choose a gateway inside {subnet}, or none",
        )
    return gateway


def _block_length(obj: Object, field: str, subnet: Prefix, usual: int, what: str) -> int:
    given = int(obj.get(field) or 0)
    if not given:
        return max(usual, subnet.prefixlen)
    if not subnet.prefixlen <= given <= subnet.max_prefixlen:
        raise InvalidError(
            f"{what}: {field} {given} does not fit subnet {subnet}",
            f"choose {subnet.prefixlen} to {subnet.max_prefixlen}",
        )
    return given


def _reserved(obj: Object, ranges: Sequence[Range], what: str) -> tuple[Prefix, ...]:
    found = tuple(prefixes(obj.get("reserved"), f"{what}: reserved"))
    for prefix in found:
        if not any(contains(r.subnet, prefix) for r in ranges):
            raise InvalidError(
                f"{what}: reserved {prefix} is outside the subnet", "reserve inside the subnet only"
            )
    vips = [ip_network(vip) for vip in obj.get("vips") or ()]  # of services; kept in the store only
    return (*found, *vips)


def contains(outer: Prefix, inner: Prefix) -> bool:
    """Return whether `inner` lies in `outer`; prefixes of two families never do."""
    return (
        outer.version == inner.version
        and outer.prefixlen <= inner.prefixlen
        and inner.network_address in outer
    )


def prefixes(texts: object, what: str) -> list[Prefix]:
    """Return the prefixes that a list of strings writes; raise InvalidError naming `what`."""
    found: list[Prefix] = []
    for text in cast("Sequence[str]", texts or ()):
        try:
            found.append(ip_network(text))
        except ValueError as error:
            raise InvalidError(f"{what} {text!r}: {error}", "write it as ADDRESS/LENGTH") from None
    return found


def asn_of(value: object, what: str) -> Asn:
    """Return an AS number (RFC 6793) from a number or a decimal string; raise InvalidError."""
    text = str(value).strip() if value is not None else ""
    remedy = f"give a number from 1 to {MAX_ASN - 1}, such as a private one of RFC 6996"
    if not (text.isascii() and text.isdecimal()):
        raise InvalidError(f"{what}: AS {text!r} is not a number", remedy)
    number = int(text)
    if number > MAX_ASN:
        raise InvalidError(f"{what}: AS {text} is larger than 4 bytes allow", remedy)
    if number in RESERVED_ASNS:
        raise InvalidError(f"{what}: AS {number} is {RESERVED_ASNS[number]}", remedy)
    return Asn(number)


def _router_ip(text: str, what: str) -> Interface | None:
    if not text:
        return None
    addresses, _, length = text.partition("/")
    if "." in addresses:  # v1 also allows a.b.c.d-e/len, and uses the first
        addresses = addresses.partition("-")[0]
    try:
        return ip_interface(f"{addresses}/{length}")
    except ValueError as error:
        raise InvalidError(f"{what}: routerip {text}: {error}", "write ADDRESS/LENGTH") from None


def speaker_of(obj: Object) -> Speaker:
    """Return a host's own end of its sessions, from its `Bgp` object; raise InvalidError."""
    host = str(obj["hostname"])
    what = f"Bgp {host}"
    router_ip = _router_ip(str(obj.get("routerip") or ""), what)
    router_id = str(obj.get("routerId") or "")
    if not router_id and isinstance(router_ip, IPv4Interface):
        router_id = str(router_ip.ip)
    if not router_id or router_id == "0.0.0.0":
        raise InvalidError(f"{what}: no router id", "give an IPv4 routerip, or routerId")
    return Speaker(host, asn_of(obj.get("as"), what), router_id, router_ip)


def peers_of_bgp(obj: Object) -> tuple[Peer, ...]:
    """Return the neighbour that a `Bgp` object carries, if any, as a peer named by its address."""
    neighbor = str(obj.get("neighbor") or "")
    if not neighbor:
        return ()
    host = str(obj["hostname"])
    address = _address(neighbor, f"Bgp {host}: neighbor")
    asn = asn_of(obj.get("neighbor-as"), f"Bgp {host}: neighbor-as")
    router_ip = _router_ip(str(obj.get("routerip") or ""), f"Bgp {host}")
    direct = router_ip is not None and address in router_ip.network
    local = router_ip.ip if router_ip and direct else None
    return (Peer(host, str(address), address, asn, local_address=local),)


def _address(text: object, what: str) -> Address:
    try:
        return ip_address(str(text))
    except ValueError:
        raise InvalidError(
            f"{what} {text!r} is not an address", "write an IPv4 or IPv6 address"
        ) from None


def peer_of(obj: Object) -> Peer:
    """Return the peer that a `peer` object describes; raise InvalidError."""
    host, name = str(obj["hostname"]), str(obj["peerName"])
    what = f"peer {host}:{name}"
    local = obj.get("localAddress")
    med = obj.get("med")
    return Peer(
        host=host,
        name=name,
        address=_address(obj.get("address"), f"{what}: address"),
        asn=asn_of(obj.get("as"), what),
        local_address=_address(local, f"{what}: localAddress") if local else None,
        families=cast("tuple[Family, ...]", tuple(sorted(set(obj.get("families") or ())))),
        password=str(obj.get("password") or ""),
        hold_time=_number(obj, "holdTime", 9),
        multihop=_number(obj, "multihop", 1),
        ttl_security=bool(obj.get("ttlSecurity", False)),
        graceful_restart=_number(obj, "gracefulRestart", 120),
        communities=tuple(obj.get("communities") or ()),
        large_communities=tuple(obj.get("largeCommunities") or ()),
        med=None if med is None else int(med),
        prepend=_number(obj, "prepend", 0),
        local_preference=_number(obj, "localPreference", 100),
        imports=_imports(obj, what),
    )


def port_of(obj: Object) -> Port:
    """Return the port that a `port` object describes; raise InvalidError."""
    what = f"port {obj['hostname']}:{obj['linkName']}"
    asked = (("ipAddress", obj.get("ipAddress")), ("ipv6Address", obj.get("ipv6Address")))
    return Port(
        host=str(obj["hostname"]),
        link=str(obj["linkName"]),
        tenant=str(obj["tenantName"]),
        network=str(obj["networkName"]),
        group=str(obj.get("groupName") or ""),
        addresses=tuple(_address(text, f"{what}: {field}") for field, text in asked if text),
        mac=str(obj.get("macAddress") or ""),
        name=str(obj.get("portName") or ""),
    )


def _number(obj: Object, field: str, default: int) -> int:
    value = obj.get(field)
    return default if value is None else int(value)


def _imports(obj: Object, what: str) -> ImportFilter:
    """`importPrefixes`, where given, stands instead of the default routes; `importWithin` adds to it."""
    exact = tuple(prefixes(obj.get("importPrefixes"), f"{what}: importPrefixes"))
    within = tuple(_within(text, what) for text in obj.get("importWithin") or ())
    return ImportFilter(exact or DEFAULT_ROUTES, within, _number(obj, "maxPrefixes", 10_000))


def _within(text: str, what: str) -> tuple[Prefix, int]:
    """Read `PREFIX/LEN-LONGEST`; without `-LONGEST` everything inside is meant."""
    prefix_text, _, longest = text.partition("-")
    prefix = prefixes([prefix_text], f"{what}: importWithin")[0]
    if not longest:
        return prefix, prefix.max_prefixlen
    if not (longest.isdecimal() and prefix.prefixlen <= int(longest) <= prefix.max_prefixlen):
        raise InvalidError(
            f"{what}: importWithin {text!r}: the longest length is no number that fits {prefix}",
            f"write {prefix}-{prefix.max_prefixlen}, or a shorter length",
        )
    return prefix, int(longest)
