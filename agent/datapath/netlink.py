"""A netlink socket in a namespace: many requests in one send, dumps, and errors by request."""

import ctypes
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from netfabric.agent.datapath.message import ACK, DUMP, NLMSG_DONE, NLMSG_ERROR, Message, messages
from netfabric.fabric.errors import KernelError, NamespaceGoneError

_CLONE_NEWNET = 0x40000000
_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _STRICT = 270, 10, 11, 12
_RCVBUFFORCE = 33
CHUNK = 128 << 10
TIMEOUT = 5.0
"""Seconds after which a kernel that does not answer is an error; it answers in microseconds."""
_libc = ctypes.CDLL(None, use_errno=True)


def setns(descriptor: int) -> None:
    """Move the calling thread into the network namespace of an open file; raise OSError."""
    if _libc.setns(descriptor, _CLONE_NEWNET):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def open_namespace(path: str | Path) -> int:
    """Return an open descriptor of a network namespace; raise NamespaceGoneError."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NamespaceGoneError(
            f"network namespace {path}: {error.strerror}",
            "the container has ended; nothing is left to attach",
        ) from None


@contextmanager
def inside(descriptor: int) -> Iterator[None]:
    """Be in another network namespace with this thread. Never await inside."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            setns(descriptor)
        except OSError as error:
            raise NamespaceGoneError(
                f"network namespace: {error.strerror}", "is the path a network namespace?"
            ) from None
        try:
            yield
        finally:
            setns(home)
    finally:
        os.close(home)


class Netlink:
    """One blocking rtnetlink socket. A call takes well under a millisecond, and never more than TIMEOUT."""

    def __init__(self) -> None:
        """Open the socket in the namespace that the calling thread is in."""
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._socket.settimeout(TIMEOUT)
        for option in (_CAP_ACK, _EXT_ACK, _STRICT):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 16 << 20)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(self, requests: Sequence[Message]) -> dict[int, tuple[int, str]]:
        """Send requests in order; return the failures: position → (errno, the kernel's words).

        Only the last of a chunk asks for an acknowledgement: the kernel answers failures anyway, in order.
        """
        failures: dict[int, tuple[int, str]] = {}
        start = 0
        while start < len(requests):
            start = self._send_chunk(requests, start, failures)
        return failures

    def _send_chunk(
        self, requests: Sequence[Message], start: int, failures: dict[int, tuple[int, str]]
    ) -> int:
        """Send as many as fit from `start` on; return the position after them."""
        base, size, end = self._sequence + 1 - start, 0, start
        while end < len(requests) and size < CHUNK:
            size += 16 + len(requests[end].body)
            end += 1
        packed = [requests[i].pack(base + i) for i in range(start, end - 1)]
        packed.append(requests[end - 1].pack(base + end - 1, ACK))
        self._sequence = base + end - 1
        self._socket.send(b"".join(packed))
        for position, number, words in self._acknowledgements(base, end - 1):
            if number:
                failures[position] = (number, words)
        return end

    def _acknowledgements(self, base: int, last: int) -> Iterator[tuple[int, int, str]]:
        while True:
            for kind, flags, sequence, body in messages(self._receive()):
                if kind != NLMSG_ERROR or not base <= sequence <= base + last:
                    continue  # an answer to something given up earlier
                number = -struct.unpack_from("=i", body)[0]
                yield sequence - base, number, _words(flags, body) if number else ""
                if sequence == base + last:
                    return

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(1 << 20)
        except TimeoutError:
            raise KernelError("netlink: the kernel does not answer", "see dmesg") from None

    def dump(self, request: Message) -> Iterator[bytes]:
        """Yield the bodies of everything that a dump request finds."""
        self._sequence += 1
        self._socket.send(request.pack(self._sequence, DUMP))
        while True:
            for kind, _, sequence, body in messages(self._receive()):
                if sequence != self._sequence:
                    continue
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    self._raise_dump(body)
                yield body

    def _raise_dump(self, body: bytes) -> None:
        number = -struct.unpack_from("=i", body)[0]
        raise KernelError(f"netlink dump: {os.strerror(number)}", "is this kernel 5.3 or newer?")

    def ask(self, request: Message) -> tuple[int, bytes]:
        """Send one request that is answered by one message; return (errno, its body)."""
        self._sequence += 1
        self._socket.send(request.pack(self._sequence))
        while True:
            for kind, _, sequence, body in messages(self._receive()):
                if sequence == self._sequence:
                    failed = -struct.unpack_from("=i", body)[0] if kind == NLMSG_ERROR else 0
                    return failed, body


def _words(flags: int, body: bytes) -> str:
    """Return the extended acknowledgement's text, if the kernel gave one (NLM_F_ACK_TLVS)."""
    if not flags & 0x200:
        return ""
    skip = 20 if flags & 0x100 else 4 + struct.unpack_from("=I", body, 4)[0]
    data = body[skip:]
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if kind == 1:
            return data[4:length].rstrip(b"\0").decode(errors="replace")
        if length < 4:
            break
        data = data[(length + 3) & ~3 :]
    return ""
