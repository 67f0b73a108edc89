"""A netlink socket: many requests in one send, errors by request, single answers, and dumps."""

import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from errno import EEXIST, EOPNOTSUPP, EPERM

from netfabric.agent.datapath.message import (
    ACK,
    DUMP,
    DUMP_INTERRUPTED,
    NLMSG_DONE,
    NLMSG_ERROR,
    Message,
    Received,
    attributes,
    messages,
)
from netfabric.fabric.errors import KernelError

_SOL_NETLINK, _ADD_MEMBERSHIP, _CAP_ACK, _EXT_ACK, _STRICT = 270, 1, 10, 11, 12
_SNDBUFFORCE, _RCVBUFFORCE = 32, 33
_CAPPED, _ACK_TLVS, _ACK_TEXT = 0x100, 0x200, 1
_BUFFER = 64 << 10
CHUNK = 128 << 10
"""Octets sent at once: within the default send buffer."""
TIMEOUT = 5
"""Seconds after which a kernel that does not answer is an error; it answers in microseconds."""
_DUMP_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Refusal:
    """The kernel's no to one request."""

    number: int
    """errno."""
    words: str = ""
    """The extended acknowledgement's text, where the kernel gave one."""

    def error(self, what: str) -> KernelError:
        """Return it as an error about `what`."""
        cause = os.strerror(self.number) + (f" ({self.words})" if self.words else "")
        remedy = {
            EPERM: "run as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN",
            EOPNOTSUPP: "this kernel lacks the feature: load its module or use another kernel",
            EEXIST: "something else has it already",
        }.get(self.number, "")
        return KernelError(f"{what}: {cause}", remedy)


class Netlink:
    """One blocking netlink socket in the namespace that the thread is in when it is opened.

    A call takes well under a millisecond, unless somebody else holds the kernel's lock.
    """

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol
        )
        for option in (_CAP_ACK, _EXT_ACK, _STRICT):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        # The kernel's own timeout: Python's would cost a poll() for each call.
        patience = struct.pack("ll", TIMEOUT, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
        self._socket.bind((0, 0))
        self._sequence = 0

    @property
    def port(self) -> int:
        """Return the number by which notifications name this socket's changes."""
        return int(self._socket.getsockname()[0])

    def enlarge(self, sending: int = 0) -> None:
        """Make room for the refusals of a whole chunk, and for so many octets in one send."""
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 16 << 20)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        if sending:
            self._socket.setsockopt(socket.SOL_SOCKET, _SNDBUFFORCE, sending)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(self, requests: Sequence[Message]) -> Mapping[int, Refusal]:
        """Send requests in order; return what was refused, by position.

        Only the last of a chunk asks for an acknowledgement: refusals come anyway, in order.
        A refused request does not stop those after it.
        """
        refused: dict[int, Refusal] = {}
        start = 0
        while start < len(requests):
            end, size = start, 0
            while end < len(requests) and size < CHUNK - 4096:
                size += 16 + len(requests[end].body)
                end += 1
            self._send_chunk(requests[start:end], start, refused)
            start = end
        return refused

    def _send_chunk(
        self, requests: Sequence[Message], position: int, refused: dict[int, Refusal]
    ) -> None:
        first = self._sequence + 1
        last = self._sequence = self._sequence + len(requests)
        packed = [message.pack(first + i) for i, message in enumerate(requests[:-1])]
        packed.append(requests[-1].pack(last, ACK))
        self._socket.send(b"".join(packed))
        for answer in self._answers():
            if answer.kind != NLMSG_ERROR or not first <= answer.sequence <= last:
                continue
            if refusal := _refusal(answer):
                refused[position + answer.sequence - first] = refusal
            if answer.sequence == last:
                return

    def transact(self, requests: Sequence[Message]) -> Mapping[int, Refusal]:
        """Send requests of which the first and the last bracket a transaction; return what was refused.

        Nothing has changed unless that is empty. A refusal of the whole has the position 0.
        """
        first = self._sequence + 1
        asking = self._sequence = self._sequence + len(requests)
        asking -= 1  # the bracket itself is not acknowledged by older kernels
        packed = [message.pack(first + i) for i, message in enumerate(requests)]
        packed[-2] = requests[-2].pack(asking, ACK)
        self._socket.send(b"".join(packed))
        refused: dict[int, Refusal] = {}
        for answer in self._answers():
            if answer.kind != NLMSG_ERROR or not first <= answer.sequence <= asking:
                continue
            if refusal := _refusal(answer):
                refused[answer.sequence - first] = refusal
            if answer.sequence in (first, asking):
                break
        return refused

    def ask(self, request: Message) -> bytes | Refusal:
        """Send a request that is answered by one message; return its body."""
        self._sequence += 1
        self._socket.send(request.pack(self._sequence))
        for answer in self._answers():
            if answer.sequence == self._sequence:
                if answer.kind == NLMSG_ERROR:
                    return _refusal(answer) or Refusal(0)
                return answer.body
        raise AssertionError

    def dump(self, request: Message) -> list[bytes]:
        """Return the bodies of everything that a dump request finds; raise KernelError."""
        for _ in range(_DUMP_ATTEMPTS):
            found = self._dump_once(request)
            if found is not None:
                return found
        raise KernelError("netlink: the kernel's state changes faster than it can be read")

    def _dump_once(self, request: Message) -> list[bytes] | None:
        """Return None where something changed in between."""
        self._sequence += 1
        self._socket.send(request.pack(self._sequence, DUMP))
        found: list[bytes] = []
        interrupted = 0
        for answer in self._answers():
            if answer.sequence != self._sequence:
                continue
            interrupted |= answer.flags & DUMP_INTERRUPTED
            if answer.kind == NLMSG_DONE:
                break
            if answer.kind == NLMSG_ERROR:
                raise (_refusal(answer) or Refusal(0)).error(f"netlink dump {request.kind}")
            found.append(answer.body)
        return None if interrupted else found

    def _answers(self) -> Iterator[Received]:
        while True:
            try:
                yield from messages(self._socket.recv(_BUFFER))
            except OSError as error:
                raise KernelError(
                    f"netlink: no answer ({error.strerror})", "see the kernel's log"
                ) from None


def subscribe(groups: Sequence[int]) -> socket.socket:
    """Return a socket that gets notifications of these multicast groups; it does not block."""
    listener = socket.socket(
        socket.AF_NETLINK,
        socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
        socket.NETLINK_ROUTE,
    )
    listener.bind((0, 0))
    for group in groups:
        listener.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
    return listener


def _refusal(answer: Received) -> Refusal | None:
    """Return the errno and the words of an acknowledgement, None for a yes."""
    number = -int(struct.unpack_from("=i", answer.body)[0])
    if not number:
        return None
    words = b""
    if answer.flags & _ACK_TLVS:
        echoed = 16 if answer.flags & _CAPPED else struct.unpack_from("=I", answer.body, 4)[0]
        words = attributes(answer.body, 4 + echoed).get(_ACK_TEXT, b"")
    return Refusal(number, words.rstrip(b"\0").decode(errors="replace"))
