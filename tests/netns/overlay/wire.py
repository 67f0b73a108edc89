"""What is really on the wires of a fabric: frames as they pass a link, and VXLAN's parts of them."""

import select
import socket
import threading
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Self

from netfabric.fabric.prefix import Address
from netfabric.lab.namespace import Namespace

_EVERYTHING = 3
_SO_RCVBUFFORCE = 33
_IPV4, _IPV6 = 0x0800, 0x86DD
_UDP, _PORT = 17, 4789


@dataclass(frozen=True, slots=True)
class Packet:
    """An IP packet in a frame, and what it carries if that is VXLAN."""

    mac: bytes
    """To whom the frame goes."""
    kind: int
    source: Address | None = None
    target: Address | None = None
    vni: int = 0
    inner: "Packet | None" = None


def parse(frame: bytes) -> Packet:
    """Return what is in a frame; VXLAN is unpacked."""
    mac, kind = frame[:6], int.from_bytes(frame[12:14], "big")
    packet = frame[14:]
    if kind == _IPV4:
        source, target, protocol, rest = packet[12:16], packet[16:20], packet[9], packet[20:]
    elif kind == _IPV6:
        source, target, protocol, rest = packet[8:24], packet[24:40], packet[6], packet[40:]
    else:
        return Packet(mac, kind)
    addresses = ip_address(source), ip_address(target)
    if protocol != _UDP or int.from_bytes(rest[2:4], "big") != _PORT:
        return Packet(mac, kind, *addresses)
    vni = int.from_bytes(rest[12:15], "big")
    return Packet(mac, kind, *addresses, vni, parse(rest[16:]))


class Capture:
    """Keeps every frame that passes a link, in either direction, while it is entered; all are there afterwards."""

    def __init__(self, namespace: Namespace, link: str) -> None:
        self._namespace = namespace
        self._link = link
        self._frames: list[bytes] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"capture {link}")

    def __enter__(self) -> Self:
        with self._namespace.entered():
            self._socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERYTHING)
            )
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 8 << 20)
        self._socket.bind((self._link, _EVERYTHING))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def packets(self) -> list[Packet]:
        """Return what has passed."""
        return [parse(frame) for frame in list(self._frames)]

    def _run(self) -> None:
        last = False
        while not last:
            last = self._ended.is_set()
            while select.select([self._socket], [], [], 0.05)[0]:
                self._frames.append(self._socket.recv(1 << 16))
