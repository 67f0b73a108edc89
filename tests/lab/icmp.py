"""Echo requests and replies as bytes (ICMP: RFC 792, ICMPv6: RFC 4443)."""

import struct

_KINDS: dict[int, tuple[int, int]] = {4: (8, 0), 6: (128, 129)}
"""Echo request and echo reply of a family."""
_HEAD = struct.Struct("!BBHH")


def request(family: int, identity: int, data: bytes) -> bytes:
    """Return an echo request; `data` is what follows the identifier, of an even length."""
    packet = _HEAD.pack(_KINDS[family][0], 0, 0, identity) + data
    if family == 6:
        return packet  # the kernel fills in the checksum
    total = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return packet[:2] + struct.pack("!H", ~total & 0xFFFF) + packet[4:]


def replied(family: int, identity: int, packet: bytes) -> bytes:
    """Return the data of our own request that a raw socket's packet answers, or nothing."""
    if family == 4:  # only IPv4 comes with its header
        packet = packet[(packet[0] & 0x0F) * 4 :]
    if len(packet) < _HEAD.size:
        return b""
    kind, _, _, sender = _HEAD.unpack_from(packet)
    ours = kind == _KINDS[family][1] and sender == identity
    return packet[_HEAD.size :] if ours else b""
