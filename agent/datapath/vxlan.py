"""VXLAN messages: devices that neither learn nor flood, and what is behind which VTEP (RFC 7348)."""

import struct
from collections.abc import Mapping
from ipaddress import ip_address

from netfabric.agent.datapath import link
from netfabric.agent.datapath.link import Link
from netfabric.agent.datapath.message import (
    AF_BRIDGE,
    CREATE,
    REPLACE,
    RTM_DELNEIGH,
    RTM_GETNEIGH,
    RTM_NEWNEIGH,
    Message,
    attribute,
    attributes,
    integer,
    mac_bytes,
    mac_text,
    number,
)
from netfabric.fabric.kernel import OVERLAY_GROUP, ForwardingEntry, VxlanLink
from netfabric.fabric.prefix import Address

_ID, _LOCAL, _LEARNING, _PORT, _LOCAL6 = 1, 4, 7, 15, 17
_DESTINATION, _MAC = 1, 2
_MTU = 4
"""IFLA_MTU."""
_PERMANENT, _NO_ARP, _SELF = 0x80, 0x40, 0x02
_FIXED = struct.Struct("=BxxxiHBB")


def create(wanted: VxlanLink) -> Message:
    """Return the request for a device; without a remote of its own it floods nothing."""
    local = _LOCAL if wanted.local.version == 4 else _LOCAL6
    data = (
        number(_ID, wanted.vni)
        + attribute(local, wanted.local.packed)
        + attribute(_LEARNING, b"\0")
        + attribute(_PORT, struct.pack(">H", wanted.port))
    )
    marks = (link.shaped(wanted.mac, wanted.mtu), link.grouped(OVERLAY_GROUP))
    return link.create("vxlan", wanted.name, data, *marks)


def shape(found: Link, wanted: VxlanLink) -> bytes:
    """Return the attributes that a device lacks: a MAC set anew, even to the same, costs it all neighbours."""
    if found.mac != wanted.mac:
        return link.shaped(wanted.mac, wanted.mtu)
    return number(_MTU, wanted.mtu)


def observed(found: Link) -> VxlanLink:
    """Return the device that is really there; one that is down has no VNI."""
    data = attributes(found.data)
    local: Address = ip_address(data.get(_LOCAL) or data.get(_LOCAL6) or bytes(4))
    learns = data.get(_LEARNING, b"\0") != b"\0"
    return VxlanLink(
        found.name,
        integer(data.get(_ID)) if found.up and not learns else 0,
        local,
        found.mac,
        found.mtu,
        int.from_bytes(data.get(_PORT, b""), "big"),
    )


def put_entry(index: int, mac: str, vtep: Address) -> Message:
    """Return the request for a permanent entry of the FDB."""
    body = _FIXED.pack(AF_BRIDGE, index, _PERMANENT | _NO_ARP, _SELF, 0)
    body += attribute(_DESTINATION, vtep.packed) + attribute(_MAC, mac_bytes(mac))
    return Message(RTM_NEWNEIGH, CREATE | REPLACE, body)


def remove_entry(index: int, mac: str) -> Message:
    """Return the request that removes an entry."""
    body = _FIXED.pack(AF_BRIDGE, index, 0, _SELF, 0) + attribute(_MAC, mac_bytes(mac))
    return Message(RTM_DELNEIGH, 0, body)


def get_entries() -> Message:
    """Return the dump request for the FDBs of all devices."""
    return Message(RTM_GETNEIGH, 0, _FIXED.pack(AF_BRIDGE, 0, 0, 0, 0))


def parse_entry(body: bytes, names: Mapping[int, str]) -> ForwardingEntry | None:
    """Return an entry of one of these devices (by index) that has a VTEP, None for any other."""
    _, index, _, _, _ = _FIXED.unpack_from(body)
    found = attributes(body, 12)
    if index not in names or _DESTINATION not in found or _MAC not in found:
        return None
    return ForwardingEntry(names[index], mac_text(found[_MAC]), ip_address(found[_DESTINATION]))
