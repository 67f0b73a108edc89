"""Clients of an HTTP server in a process of their own, so that they take no time of what is measured.

Raw HTTP/1.1 on kept connections: each client sends its next request when it has the whole answer.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Request = tuple[str, str, object]
"""Method, path, and a body to be sent as JSON, or None."""
PATIENCE = 300.0
"""Seconds that a load may take."""


@dataclass(frozen=True, slots=True)
class Load:
    """What clients saw: how long all of it took, and each request, in seconds."""

    took: float
    seconds: tuple[float, ...]
    statuses: dict[int, int]


def run(address: str, clients: int, requests: Sequence[Request]) -> Load:
    """Let clients send requests as fast as they are answered; raise ValueError for a refused one."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.load", address, str(clients)],
        input=json.dumps(requests),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    found = json.loads(done.stdout)
    statuses = {int(status): count for status, count in found["statuses"].items()}
    if refused := {status: count for status, count in statuses.items() if status >= 300}:
        raise ValueError(f"{address}: refused requests, by status: {refused} ({found['said']})")
    return Load(found["took"], tuple(found["seconds"]), statuses)


class _Client(asyncio.Protocol):
    """One connection; the clients share the requests."""

    def __init__(self, requests: Iterator[bytes], tally: "_Tally") -> None:
        self._requests = requests
        self._tally = tally
        self._read = b""
        self._sent = 0.0
        self._transport: asyncio.Transport | None = None
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._next()

    def _next(self) -> None:
        assert self._transport is not None
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            return
        self._sent = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, end, body = self._read.partition(b"\r\n\r\n")
        if end and len(body) >= _length(head):
            self._read = b""
            self._tally.add(int(head[9:12]), time.perf_counter() - self._sent, body)
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(exc)


def _length(head: bytes) -> int:
    _, _, rest = head.lower().partition(b"content-length:")
    return int(rest.partition(b"\r\n")[0])


class _Tally:
    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.said = ""

    def add(self, status: int, seconds: float, body: bytes) -> None:
        self.seconds.append(seconds)
        self.statuses[status] += 1
        if status >= 300:
            self.said = body.decode().strip()


def _raw(address: str, request: Request) -> bytes:
    method, path, body = request
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


async def _load(address: str, clients: int, requests: Sequence[Request]) -> dict[str, object]:
    host, _, port = address.rpartition(":")
    raw = iter([_raw(address, request) for request in requests])
    tally, loop = _Tally(), asyncio.get_running_loop()
    start = time.perf_counter()
    opened = [
        await loop.create_connection(lambda: _Client(raw, tally), host, int(port))
        for _ in range(clients)
    ]
    await asyncio.gather(*(client.done for _, client in opened))
    took = time.perf_counter() - start
    return {
        "took": took,
        "seconds": tally.seconds,
        "statuses": tally.statuses,
        "said": tally.said,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_load(sys.argv[1], int(sys.argv[2]), json.load(sys.stdin)))))
