"""ICMP and ICMPv6 echo from inside namespaces: the ping matrix, and when a first answer comes."""

import os
import select
import socket
import struct
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import cycle
from typing import Self

from netfabric.fabric.prefix import Address, Family
from netfabric.lab import icmp
from netfabric.lab.namespace import Namespace

PACE = 0.001
"""Seconds between echo requests to an address that is awaited."""
_AGAIN = 0.2
"""Seconds until an unanswered request of the matrix is sent again."""
_BATCH = 100
"""Sources that ping at the same time: two sockets each."""
_NUMBER = struct.Struct("!H")


@dataclass(slots=True)
class Pinger:
    """Raw sockets for both families in one namespace. Answers come from `receive`."""

    namespace: Namespace
    _sockets: dict[int, socket.socket] = field(default_factory=dict)
    _sent: dict[int, tuple[Address, float]] = field(default_factory=dict)
    _sequence: Iterator[int] = field(default_factory=lambda: cycle(range(1, 1 << 16)))

    def __enter__(self) -> Self:
        with self.namespace.entered():
            self._sockets[4] = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
            self._sockets[6] = socket.socket(
                socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6
            )
        for sock in self._sockets.values():
            sock.setblocking(False)
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._sockets.values():
            sock.close()

    def filenos(self) -> list[int]:
        """Return the descriptors to wait for."""
        return [sock.fileno() for sock in self._sockets.values()]

    def send(self, target: Address) -> None:
        """Send one echo request; one that cannot leave now (no route yet) is simply not answered."""
        number = next(self._sequence)
        self._sent[number] = target, time.monotonic()
        with suppress(OSError):
            self._sockets[target.version].sendto(_request(target.version, number), (str(target), 0))

    def receive(self) -> Iterator[tuple[Address, float]]:
        """Yield (address, round trip in seconds) of every answer that is here."""
        for family, sock in self._sockets.items():
            with suppress(BlockingIOError):
                while True:
                    packet, peer = sock.recvfrom(2048)
                    number = _answered(packet, family)
                    target, sent = self._sent.get(number, (None, 0.0))
                    if target is not None and target == ip_address(peer[0]):
                        yield target, time.monotonic() - sent


def _request(family: int, number: int) -> bytes:
    return icmp.request(family, os.getpid() & 0xFFFF, _NUMBER.pack(number))


def _answered(packet: bytes, family: int) -> int:
    """Return the number of the request that a packet answers, or 0."""
    data = icmp.replied(family, os.getpid() & 0xFFFF, packet)
    return int(_NUMBER.unpack_from(data)[0]) if len(data) >= _NUMBER.size else 0


def first_answers(
    source: Namespace, targets: Collection[Address], timeout: float
) -> dict[Address, float]:
    """Ping every millisecond; return the monotonic time of each target's first answer.

    Raises TimeoutError.
    """
    end = time.monotonic() + timeout
    answers: dict[Address, float] = {}
    with Pinger(source) as pinger:
        while len(answers) < len(targets):
            if time.monotonic() > end:
                silent = ", ".join(str(t) for t in targets if t not in answers)
                raise TimeoutError(f"no answer to {source.name} from {silent}")
            for target in targets:
                pinger.send(target)
            select.select(pinger.filenos(), [], [], PACE)
            for target, _ in pinger.receive():
                answers.setdefault(target, time.monotonic())
    return answers


@dataclass(frozen=True, slots=True)
class Pair:
    """One direction between two containers, over one family."""

    source: str
    target: str
    family: Family


Matrix = dict[Pair, float | None]
"""Round trip in seconds; None: no answer."""


def ping(
    sources: Mapping[str, Namespace],
    targets: Mapping[str, Sequence[Address]],
    timeout: float,
) -> Matrix:
    """Ping every target from every source but itself, for at most `timeout` seconds."""
    matrix: Matrix = {}
    names = sorted(sources)
    for start in range(0, len(names), _BATCH):
        some = {name: sources[name] for name in names[start : start + _BATCH]}
        matrix.update(_ping(some, targets, timeout))
    return matrix


def _ping(
    sources: Mapping[str, Namespace], targets: Mapping[str, Sequence[Address]], timeout: float
) -> Matrix:
    left = {
        (source, address): Pair(source, target, address.version)
        for source in sources
        for target, addresses in targets.items()
        if target != source
        for address in addresses
    }
    matrix: Matrix = dict.fromkeys(left.values())
    end = time.monotonic() + timeout
    pingers = {name: Pinger(namespace) for name, namespace in sources.items()}
    try:
        for pinger in pingers.values():
            pinger.__enter__()
        while left and time.monotonic() < end:
            for source, address, trip in _round(pingers, list(left)):
                if pair := left.pop((source, address), None):
                    matrix[pair] = trip
    finally:
        for pinger in pingers.values():
            pinger.__exit__()
    return matrix


def _round(
    pingers: Mapping[str, Pinger], wanted: Iterable[tuple[str, Address]]
) -> Iterator[tuple[str, Address, float]]:
    """Send one request for each (source, address); yield the answers until they cease to come."""
    waiting = 0
    for source, address in wanted:
        pingers[source].send(address)
        waiting += 1
        for answer in pingers[source].receive():
            waiting -= 1
            yield source, *answer
    by_fileno = {number: name for name, pinger in pingers.items() for number in pinger.filenos()}
    poll = select.poll()
    for number in by_fileno:
        poll.register(number, select.POLLIN)
    end = time.monotonic() + _AGAIN
    while waiting > 0 and (rest := end - time.monotonic()) > 0:
        for number, _ in poll.poll(rest * 1000):
            for answer in pingers[by_fileno[number]].receive():
                waiting -= 1
                yield by_fileno[number], *answer
