"""Seeing from outside when something happened: a route in a kernel's FIB, the first answer to a ping."""

import os
import select
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from netfabric.lab.namespace import Namespace

_RTMGRP_IPV4_ROUTE = 0x40
_RTM_NEWROUTE = 24
_RTA_DST = 1
_ECHO_REQUEST, _ECHO_REPLY = 8, 0
PACE = 0.001
"""Seconds between pings."""


@dataclass(slots=True)
class FibWatch:
    """Notes when a /32 enters the FIB of a namespace's kernel, from the kernel's own notifications."""

    namespace: Namespace
    seen: dict[IPv4Address, float] = field(default_factory=dict)
    _socket: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        with self.namespace.entered():
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind((0, _RTMGRP_IPV4_ROUTE))

    def wait(self, address: IPv4Address, timeout: float) -> float:
        """Return the monotonic time at which the route came; raise TimeoutError."""
        end = time.monotonic() + timeout
        while address not in self.seen:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                raise TimeoutError(f"{address}/32 is not in the FIB of {self.namespace.name}")
            self._take(self._socket.recv(1 << 16), time.monotonic())
        return self.seen.pop(address)

    def close(self) -> None:
        """Stop watching."""
        self._socket.close()

    def _take(self, data: bytes, now: float) -> None:
        while len(data) >= 16:
            length, kind = struct.unpack_from("IH", data)
            is_host_route = kind == _RTM_NEWROUTE and data[17] == 32
            if is_host_route and (address := _destination(data[28:length])):
                self.seen.setdefault(address, now)
            data = data[(length + 3) & ~3 :]


def _destination(attributes: bytes) -> IPv4Address | None:
    while len(attributes) >= 4:
        length, kind = struct.unpack_from("HH", attributes)
        if kind == _RTA_DST:
            return IPv4Address(attributes[4:8])
        attributes = attributes[(length + 3) & ~3 :]
    return None


def first_answer(namespace: Namespace, target: IPv4Address, timeout: float) -> float:
    """Ping every millisecond from a namespace; return the monotonic time of the first answer."""
    with namespace.entered():
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    with sock:
        return _ping_until_answer(sock, target, timeout)


def _ping_until_answer(sock: socket.socket, target: IPv4Address, timeout: float) -> float:
    identity, sequence = os.getpid() & 0xFFFF, 0
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        sequence = (sequence + 1) & 0xFFFF
        with suppress(OSError):  # no route yet: exactly what is being waited for
            sock.sendto(_echo(identity, sequence), (str(target), 0))
        if select.select([sock], [], [], PACE)[0]:
            packet, (source, _) = sock.recvfrom(2048)
            if source == str(target) and packet[20] == _ECHO_REPLY:
                return time.monotonic()
    raise TimeoutError(f"{target} does not answer")


def _echo(identity: int, sequence: int) -> bytes:
    head = struct.pack("!BBHHH", _ECHO_REQUEST, 0, 0, identity, sequence)
    total = sum(struct.unpack("!4H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return head[:2] + struct.pack("!H", ~total & 0xFFFF) + head[4:]
