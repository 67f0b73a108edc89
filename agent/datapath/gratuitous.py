"""Telling a VLAN unasked where an address is now: gratuitous ARP (RFC 5227) and unsolicited ND (RFC 4861, 7.2.6).

Neighbours that know the address by another host's MAC would keep it: a switch for hours.
"""

import socket
import struct

from netfabric.agent.datapath.message import mac_bytes
from netfabric.fabric.prefix import Address

_ARP, _IPV6, _ICMP6 = 0x0806, 0x86DD, 58
_REQUEST, _ADVERTISEMENT, _OVERRIDE, _TARGET_MAC = 1, 136, 0x20000000, 2
_EVERYBODY = b"\xff" * 6
_ALL_NODES = bytes.fromhex("ff02" + "00" * 13 + "01")
_ALL_NODES_MAC = bytes.fromhex("333300000001")


def announce(link: str, mac: str, address: Address) -> None:
    """Send one frame by a link of this namespace; one that cannot leave is not missed."""
    octets = mac_bytes(mac)
    frame = _arp(octets, address) if address.version == 4 else _advertisement(octets, address)
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind((link, 0))
            sender.send(frame)
    except OSError:
        return


def _arp(mac: bytes, address: Address) -> bytes:
    header = _EVERYBODY + mac + struct.pack("!H", _ARP)
    fixed = struct.pack("!HHBBH", 1, 0x0800, 6, 4, _REQUEST)
    return header + fixed + mac + address.packed + bytes(6) + address.packed


def _advertisement(mac: bytes, address: Address) -> bytes:
    def body(checksum: int) -> bytes:
        fixed = struct.pack("!BBHI", _ADVERTISEMENT, 0, checksum, _OVERRIDE)
        return fixed + address.packed + bytes((_TARGET_MAC, 1)) + mac

    size = len(body(0))
    pseudo = address.packed + _ALL_NODES + struct.pack("!II", size, _ICMP6)
    header = struct.pack("!IHBB", 6 << 28, size, _ICMP6, 255) + address.packed + _ALL_NODES
    return (
        _ALL_NODES_MAC + mac + struct.pack("!H", _IPV6) + header + body(_checksum(pseudo + body(0)))
    )


def _checksum(data: bytes) -> int:
    """Return the checksum of RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
