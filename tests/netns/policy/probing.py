"""Many packets at once that open connections: which of them were answered?"""

import itertools
import select
import socket
import struct
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from netfabric.lab.namespace import Namespace

TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58
ECHO, ECHO6 = 8, 128
PATIENCE = 1.6
"""Seconds for an answer."""
AGAIN = 0.5
"""Seconds after which datagrams are sent again."""
_identities = itertools.count(1)


@dataclass(frozen=True)
class Cell:
    """One packet: from a container to another, by name."""

    source: str
    target: str
    family: int
    protocol: int
    port: int = 0


class Range:
    """Servers in every container, and probes between them. Addresses are (IPv4, IPv6) by container."""

    def __init__(
        self,
        namespaces: Mapping[str, Namespace],
        addresses: Mapping[str, Mapping[int, str]],
        tcp: Iterable[int],
        udp: Iterable[int],
    ) -> None:
        self._namespaces = namespaces
        self._addresses = addresses
        self._tcp, self._udp = tuple(tcp), tuple(udp)
        self._stack = ExitStack()
        self._echoing: list[socket.socket] = []

    def __enter__(self) -> Self:
        for name in self._namespaces:
            for family, address in self._addresses[name].items():
                for port in self._tcp:
                    self._server(name, family, socket.SOCK_STREAM, address, port).listen(512)
                for port in self._udp:
                    made = self._server(name, family, socket.SOCK_DGRAM, address, port)
                    self._echoing.append(made)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _server(
        self, name: str, family: int, kind: socket.SocketKind, address: str, port: int
    ) -> socket.socket:
        made = self._socket(name, family, kind)
        self._stack.callback(made.close)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        return made

    def _socket(
        self, name: str, family: int, kind: socket.SocketKind, protocol: int = 0
    ) -> socket.socket:
        with self._namespaces[name].entered():
            made = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind, protocol)
        made.setblocking(False)
        return made

    def passing(self, cells: Iterable[Cell]) -> set[Cell]:
        """Send one packet a cell, datagrams three times; return the cells that were answered."""
        with ExitStack() as stack:
            probes = {cell: self._probe(cell) for cell in cells}
            for probe, _ in probes.values():
                stack.callback(probe.close)
            return self._answered(probes)

    def reaches(self, source: str, target: str, port: int) -> bool:
        """Return whether a TCP connection opens, over IPv4."""
        cell = Cell(source, target, 4, TCP, port)
        return self.passing([cell]) == {cell}

    def _probe(self, cell: Cell) -> tuple[socket.socket, bytes]:
        """Return the socket of a probe, and what it sends."""
        target = self._addresses[cell.target][cell.family]
        source = self._addresses[cell.source][cell.family]
        if cell.protocol == TCP:
            made = self._socket(cell.source, cell.family, socket.SOCK_STREAM)
            made.bind((source, 0))
            made.connect_ex((target, cell.port))
            return made, b""
        if cell.protocol == UDP:
            made = self._socket(cell.source, cell.family, socket.SOCK_DGRAM)
            made.bind((source, 0))
            made.connect((target, cell.port))
            return made, b"are you there?"
        made = self._socket(cell.source, cell.family, socket.SOCK_RAW, cell.protocol)
        made.bind((source, 0))
        made.connect((target, 0))
        return made, _echo_request(cell.family, next(_identities) & 0xFFFF)

    def _answered(self, probes: dict[Cell, tuple[socket.socket, bytes]]) -> set[Cell]:
        found: set[Cell] = set()
        poll = select.poll()
        cells = {probe.fileno(): cell for cell, (probe, _) in probes.items()}
        echoing = {server.fileno(): server for server in self._echoing}
        for cell, (probe, _) in probes.items():
            poll.register(probe, select.POLLOUT if cell.protocol == TCP else select.POLLIN)
        for server in echoing.values():
            poll.register(server, select.POLLIN)
        start, sent = time.monotonic(), 0
        while (gone := time.monotonic() - start) < PATIENCE and len(found) < len(probes):
            if gone >= sent * AGAIN and sent < 3:
                sent += 1
                _send({cell: probe for cell, probe in probes.items() if cell not in found})
            for number, events in poll.poll(50):
                if number in echoing:
                    _echo(echoing[number])
                elif _is_answer(cells[number], *probes[cells[number]], events):
                    found.add(cells[number])
                    poll.unregister(number)
                elif events & (select.POLLERR | select.POLLHUP):
                    poll.unregister(number)
        return found


def _send(probes: Mapping[Cell, tuple[socket.socket, bytes]]) -> None:
    for probe, words in probes.values():
        if words:
            with suppress(OSError):
                probe.send(words)


def _echo(server: socket.socket) -> None:
    with suppress(BlockingIOError):
        words, sender = server.recvfrom(64)
        server.sendto(words, sender)


def _is_answer(cell: Cell, probe: socket.socket, words: bytes, events: int) -> bool:
    if cell.protocol == TCP:
        return not probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) and bool(
            events & select.POLLOUT and not events & select.POLLERR
        )
    try:
        heard = probe.recv(256)
    except OSError:
        return False
    if cell.protocol == UDP:
        return heard == words
    return _is_echo_reply(cell.family, heard, words)


def _echo_request(family: int, identity: int) -> bytes:
    kind = ECHO if family == 4 else ECHO6
    header = struct.pack("!BBHHH", kind, 0, 0, identity, 1)
    return struct.pack("!BBHHH", kind, 0, _checksum(header), identity, 1)


def _checksum(octets: bytes) -> int:
    """Return the Internet checksum (RFC 1071); for ICMPv6 the kernel writes its own over it."""
    total: int = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def _is_echo_reply(family: int, heard: bytes, request: bytes) -> bool:
    message = heard[(heard[0] & 15) * 4 :] if family == 4 else heard
    return (
        len(message) >= 8
        and message[0] == (0 if family == 4 else 129)
        and message[4:6] == request[4:6]
    )
