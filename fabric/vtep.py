"""How hosts reach each other's VTEPs: every name and number that both sides derive alike (RFC 7348)."""

from hashlib import sha256
from ipaddress import IPv6Address

from netfabric.fabric.kernel import LINK_PREFIX
from netfabric.fabric.prefix import Address, Family

OVERHEAD: dict[Family, int] = {4: 50, 6: 70}
"""Octets that VXLAN adds: outer IP (20 or 40), UDP (8), VXLAN (8) and inner Ethernet (14) headers."""
_LINK_LOCAL = int(IPv6Address("fe80::"))


def link_of(vni: int) -> str:
    """Return the name of a VNI's device: no endpoint has one with a v."""
    return f"{LINK_PREFIX}v{vni:x}"


def mac_of(vtep: Address) -> str:
    """Return the MAC address of a host inside overlays: 02:4e and its VTEP's octets, or of a hash of them."""
    if vtep.version == 4:
        octets = bytes((0x02, 0x4E)) + vtep.packed
    else:
        octets = bytes((0x06,)) + sha256(vtep.packed).digest()[:5]
    return ":".join(f"{octet:02x}" for octet in octets)


def gateway_of(vtep: Address, family: Family) -> Address:
    """Return the next hop for a family's routes: over IPv4 the VTEP's own address, and fe80:: with it for IPv6.

    Over IPv6 it is fe80:: and a hash for both families: Linux refuses a global one that is on another link, too.
    It is looked for on the VXLAN device alone (onlink).
    """
    if vtep.version == 6:
        return IPv6Address(_LINK_LOCAL | int.from_bytes(sha256(vtep.packed).digest()[:8], "big"))
    return vtep if family == 4 else IPv6Address(_LINK_LOCAL | int(vtep))
