#!/usr/bin/python3 -ISE
"""The CNI plugin in Python, where there is no compiler for shim.c: the same output for the same input.

Imports only what the interpreter has built in: each module file read costs a millisecond or more.
"""

import _socket
import posix
import select
import time
from errno import EAGAIN, ECONNREFUSED, EINTR, ENOENT

ENVIRONMENT_LIMIT, INPUT_LIMIT, ANSWER_LIMIT = 1 << 18, 1 << 20, 4 << 20
TIMEOUT = 60.0
"""Seconds for everything."""
RETRY = 5.0
"""Seconds a missing agent is waited for: it may be restarting."""
PAUSE = 0.05
LOSSES = 3
"""Connections lost half-way, after which no further one is made."""
PATH_LIMIT = 107
BAD_ENVIRONMENT, IO_FAILURE, NOT_JSON, BAD_CONFIGURATION, TRY_LATER, UNAVAILABLE = (
    4,
    5,
    6,
    7,
    11,
    50,
)

MAGIC, DEFAULT_SOCKET = b"NFC1", b"/run/netfabric/cni.sock"
AGENT = "see that netplugin runs on this host and answers"
VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
_STDIN, _STDOUT = 0, 1


class Failed(Exception):
    """A CNI error: which object, what is wrong with it, and what to do."""

    def __init__(self, code: int, name: bytes, cause: str, remedy: str) -> None:
        self.code, self.name, self.cause, self.remedy = code, name, cause, remedy

    def text(self, version: str) -> str:
        """Return it as CNI writes it."""
        return (
            f'{{"cniVersion":"{version}","code":{self.code},'
            f'"msg":"{_quoted(self.name)}: {self.cause}","details":"{self.remedy}"}}\n'
        )


def _quoted(name: bytes) -> str:
    out = ""
    for byte in name:
        if len(out) + 7 >= 256:
            break
        if byte in b'"\\':
            out += "\\"
        out += f"\\u{byte:04x}" if byte < 0x20 else chr(byte) if byte < 0x7F else "?"
    return out


# The network configuration. Only its top-level texts "socket" and "cniVersion" matter here


class Malformed(Exception):
    """This is no JSON."""


class Scanner:
    """A position in the network configuration."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data + b"\0", 0

    def next_in(self, wanted: bytes) -> bool:
        """Return whether the next byte is one of these; the NUL at the end is none."""
        return self.data[self.at] in wanted

    def skip_space(self) -> None:
        """Go on to what is no white space."""
        while self.next_in(b" \t\r\n"):
            self.at += 1

    def take(self, wanted: bytes) -> bool:
        """Go past the next byte if it is this one."""
        found = self.next_in(wanted)
        self.at += found
        return found

    def expect(self, wanted: bytes) -> None:
        """Go past the next byte; raise Malformed where it is another."""
        if not self.take(wanted):
            raise Malformed

    def string(self) -> "bytes | None":
        """Return a string decoded; None if it has a NUL or half of a surrogate pair."""
        self.expect(b'"')
        out, usable = b"", True
        while not self.take(b'"'):
            start = self.at
            while self.data[self.at] >= 0x20 and not self.next_in(b'"\\'):
                self.at += 1
            out += self.data[start : self.at]
            if self.take(b"\\"):
                piece = self._escape()
                usable = usable and piece not in (None, b"\0")
                out += piece or b""
            elif not self.next_in(b'"'):
                raise Malformed
        return out if usable else None

    def _escape(self) -> "bytes | None":
        found = self.data[self.at : self.at + 1]
        plain = dict(zip(b'"\\/bfnrt', b'"\\/\b\f\n\r\t', strict=True))
        self.at += 1
        if found and found[0] in plain:
            return bytes([plain[found[0]]])
        if found != b"u":
            raise Malformed
        first = self._hex()
        after = self.at
        if 0xD800 <= first < 0xDC00 and self.take(b"\\") and self.take(b"u"):
            second = self._hex_or_nothing()
            if 0xDC00 <= second < 0xE000:
                return chr(0x10000 + ((first - 0xD800) << 10) + second - 0xDC00).encode()
        self.at = after
        return None if 0xD800 <= first < 0xE000 else chr(first).encode()

    def _hex(self) -> int:
        value = self._hex_or_nothing()
        if value < 0:
            raise Malformed
        return value

    def _hex_or_nothing(self) -> int:
        value = 0
        for _ in range(4):
            if not self.next_in(b"0123456789abcdefABCDEF"):
                return -1
            value = value << 4 | int(self.data[self.at : self.at + 1], 16)
            self.at += 1
        return value

    def skip_value(self) -> None:
        """Go past any value, looking only at brackets and strings."""
        depth = 0
        while True:
            self.skip_space()
            if self.next_in(b'"'):
                self.string()
            elif self.take(b"{["):
                depth += 1
            elif depth and self.take(b"}]"):
                depth -= 1
            elif not (depth and self.take(b",:")):
                self._skip_word()
            if not depth:
                return

    def _skip_word(self) -> None:
        start = self.at
        while self.next_in(b"+-.0123456789Eaeflnrstu"):
            self.at += 1
        if self.at == start:
            raise Malformed


def scan(data: bytes) -> "dict[bytes, bytes | None]":
    """Return the texts at the top, by key; of a key that stands twice, the last. Raise Malformed."""
    found: dict[bytes, bytes | None] = {}
    scanner = Scanner(data)
    scanner.skip_space()
    scanner.expect(b"{")
    scanner.skip_space()
    more = not scanner.next_in(b"}")
    while more:
        scanner.skip_space()
        key = scanner.string() or b""
        scanner.skip_space()
        scanner.expect(b":")
        scanner.skip_space()
        found.pop(key, None)
        if scanner.next_in(b'"'):
            found[key] = scanner.string()
        else:
            scanner.skip_value()
        scanner.skip_space()
        more = scanner.take(b",")
    scanner.expect(b"}")
    scanner.skip_space()
    if scanner.at != len(data):
        raise Malformed
    return found


# Waiting, and the agent


class Call:
    """One run of the plugin."""

    def __init__(self) -> None:
        self.version = "1.0.0"
        limit = posix.environ.get(b"NETFABRIC_CNI_TIMEOUT", b"")
        limited = limit.isdigit() and len(limit) <= 3
        self.deadline = time.monotonic() + (int(limit) if limited else TIMEOUT)

    def wait_for(self, fd: int, events: int, name: bytes, remedy: str) -> None:
        """Wait until a file can be read or written; raise Failed when time is up."""
        poller = select.poll()
        poller.register(fd, events)
        while True:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise Failed(TRY_LATER, name, "no answer in time", remedy)
            if poller.poll(int(left * 1000)):
                return

    def read_input(self) -> bytes:
        """Return all of standard input."""
        remedy = "write the network configuration to it, and close it"
        data = bytearray()
        while True:
            self.wait_for(_STDIN, select.POLLIN, b"standard input", remedy)
            try:
                piece = posix.read(_STDIN, INPUT_LIMIT + 1 - len(data))
            except OSError:
                raise Failed(IO_FAILURE, b"standard input", "cannot be read", remedy) from None
            if not piece:
                return bytes(data)
            data += piece
            if len(data) > INPUT_LIMIT:
                name = b"network configuration"
                raise Failed(NOT_JSON, name, "larger than 1 MiB", "shorten it")

    def reach(self, path: bytes, patient: bool) -> _socket.socket:
        """Return a connection to the agent."""
        until = time.monotonic() + (RETRY if patient else 0)
        while True:
            connection = _socket.socket(
                _socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK
            )
            try:
                connection.connect(path)
                return connection
            except OSError as error:
                if error.errno not in (ENOENT, ECONNREFUSED, EAGAIN):
                    remedy = "check the path, and run as root"
                    raise Failed(IO_FAILURE, path, "cannot be reached", remedy) from None
            connection.close()
            if time.monotonic() >= min(until, self.deadline):
                code = TRY_LATER if patient else UNAVAILABLE
                raise Failed(code, path, "no agent listens there", AGENT)
            time.sleep(PAUSE)

    def send(self, connection: _socket.socket, path: bytes, data: bytes) -> bool:
        """Send all of it; return False where the agent has gone away."""
        rest = memoryview(data)
        while rest:
            self.wait_for(connection.fileno(), select.POLLOUT, path, AGENT)
            try:
                rest = rest[connection.send(rest, _socket.MSG_NOSIGNAL) :]
            except OSError as error:
                if error.errno not in (EINTR, EAGAIN):
                    return False
        return True

    def receive(self, connection: _socket.socket, path: bytes, length: int) -> "bytes | None":
        """Return that many bytes; None where the agent has gone away."""
        data = bytearray()
        while len(data) < length:
            self.wait_for(connection.fileno(), select.POLLIN, path, AGENT)
            try:
                piece = connection.recv(length - len(data))
            except OSError as error:
                if error.errno not in (EINTR, EAGAIN):
                    return None
                continue
            if not piece:
                return None
            data += piece
        return bytes(data)

    def ask(self, path: bytes, request: bytes, patient: bool) -> "tuple[bytes, int]":
        """Return the agent's answer and exit status."""
        for _ in range(LOSSES if patient else 1):
            connection = self.reach(path, patient)
            if self.send(connection, path, request):
                header = self.receive(connection, path, 12)
                if header is not None:
                    size = int.from_bytes(header[8:], "big")
                    if header[:4] != MAGIC or size > ANSWER_LIMIT:
                        cause = "what listens there is no agent of netfabric"
                        raise Failed(IO_FAILURE, path, cause, "check the path")
                    answer = self.receive(connection, path, size)
                    if answer is not None:
                        return answer, int(any(header[4:8]))
            connection.close()
            # The agent died meanwhile. Its next start knows what was done, and answers again.
            time.sleep(PAUSE)
        code = TRY_LATER if patient else UNAVAILABLE
        raise Failed(code, path, "the agent went away before it answered", AGENT)

    def run(self) -> "tuple[bytes, int]":
        """Return what to print, and the exit status."""
        command = posix.environ.get(b"CNI_COMMAND", b"")
        if not command:
            remedy = "this is a CNI plugin: a container engine runs it"
            raise Failed(BAD_ENVIRONMENT, b"CNI_COMMAND", "not set", remedy)
        variables = _environment()
        data = self.read_input()
        try:
            texts: dict[bytes, bytes | None] | None = scan(data)
        except Malformed:
            texts = None
        for version in VERSIONS:
            if texts and texts.get(b"cniVersion") == version.encode():
                self.version = version
        if command == b"VERSION":
            return _versions(self.version), 0
        if texts is None:
            remedy = "write it as the CNI specification says"
            raise Failed(NOT_JSON, b"network configuration", "no JSON object", remedy)
        sizes = len(variables).to_bytes(4, "big") + len(data).to_bytes(4, "big")
        return self.ask(_path(texts), MAGIC + sizes + variables + data, command != b"STATUS")


def _environment() -> bytes:
    """Return NAME=VALUE and a NUL, for each variable of CNI."""
    variables = b"".join(
        name + b"=" + value + b"\0"
        for name, value in posix.environ.items()
        if name.startswith(b"CNI_")
    )
    if len(variables) > ENVIRONMENT_LIMIT:
        raise Failed(BAD_ENVIRONMENT, b"CNI_ARGS", "larger than 256 KiB", "shorten it")
    return variables


def _versions(version: str) -> bytes:
    supported = ",".join(f'"{one}"' for one in VERSIONS)
    return f'{{"cniVersion":"{version}","supportedVersions":[{supported}]}}\n'.encode()


def _path(texts: "dict[bytes, bytes | None]") -> bytes:
    path = texts.get(b"socket", b"")
    if path == b"":
        path = posix.environ.get(b"NETFABRIC_CNI_SOCKET") or DEFAULT_SOCKET
    if path is None or not path.startswith(b"/") or len(path) > PATH_LIMIT:
        cause, remedy = (
            "no absolute path of at most 107 bytes",
            "write netplugin's RUN_DIR/cni.sock",
        )
        raise Failed(BAD_CONFIGURATION, b"socket", cause, remedy)
    return path


def main() -> None:
    """Run the plugin, and end the process."""
    call = Call()
    try:
        answer, status = call.run()
    except Failed as failure:
        answer, status = failure.text(call.version).encode(), 1
    try:
        while answer:
            answer = answer[posix.write(_STDOUT, answer) :]
    except OSError:
        status = 1
    posix._exit(status)


if __name__ == "__main__":
    main()
