"""A steady stream of pings, and which of them were lost when."""

import itertools
import os
import select
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Self

from netfabric.fabric.prefix import Address
from netfabric.lab import icmp
from netfabric.lab.namespace import Namespace

GRACE = 1.0
"""Seconds after the last request in which an answer still counts."""
_NUMBER = struct.Struct("!HI")
"""The sequence number, always 0 here, and the request's own, which does not wrap."""
_identities = itertools.count(os.getpid())


class Stream:
    """Sends an echo request every `interval` seconds from a namespace for as long as it is entered."""

    def __init__(self, source: Namespace, target: Address, interval: float = 0.01) -> None:
        self._source = source
        self._target = target
        self._interval = interval
        self._identity = next(_identities) & 0xFFFF
        self._sent: list[float] = []
        self._answered: set[int] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"ping {target}")

    def __enter__(self) -> Self:
        protocol = socket.IPPROTO_ICMP if self._target.version == 4 else socket.IPPROTO_ICMPV6
        family = socket.AF_INET if self._target.version == 4 else socket.AF_INET6
        with self._source.entered():
            self._socket = socket.socket(family, socket.SOCK_RAW, protocol)
        self._socket.setblocking(False)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    @property
    def sent(self) -> int:
        """Return how many requests have been sent."""
        return len(self._sent)

    def lost(self, after: float = 0.0) -> list[float]:
        """Return when each request without an answer was sent (monotonic), of those sent after `after`.

        Meaningful once the stream has ended: until then the newest are merely under way.
        """
        return [t for n, t in enumerate(self._sent) if t > after and n not in self._answered]

    def wait(self, count: int, timeout: float = 60.0) -> None:
        """Wait until `count` more requests have been sent; raise TimeoutError."""
        goal, end = len(self._sent) + count, time.monotonic() + timeout
        while len(self._sent) < goal:
            if time.monotonic() > end:
                raise TimeoutError(f"{self._target}: only {len(self._sent)} of {goal} pings sent")
            self._ended.wait(self._interval)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._ended.is_set():
            self._send()
            due = max(due + self._interval, time.monotonic())
            self._receive(due)
        self._receive(time.monotonic() + GRACE, until_complete=True)

    def _send(self) -> None:
        number = len(self._sent)
        self._sent.append(time.monotonic())
        with suppress(OSError):  # no route now: exactly what counts as lost
            self._socket.sendto(self._request(number), (str(self._target), 0))

    def _receive(self, until: float, until_complete: bool = False) -> None:
        while (left := until - time.monotonic()) > 0:
            if until_complete and len(self._answered) == len(self._sent):
                return
            if select.select([self._socket], [], [], left)[0]:
                self._take(self._socket.recv(2048))

    def _request(self, number: int) -> bytes:
        return icmp.request(self._target.version, self._identity, _NUMBER.pack(0, number))

    def _take(self, packet: bytes) -> None:
        data = icmp.replied(self._target.version, self._identity, packet)
        if len(data) >= _NUMBER.size:
            self._answered.add(_NUMBER.unpack_from(data)[1])
