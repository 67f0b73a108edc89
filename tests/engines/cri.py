"""The calls of Kubernetes' Container Runtime Interface (runtime.v1) that the tests need, over gRPC, without its stubs."""

from collections import defaultdict
from typing import Self

import grpc

Field = tuple[int, "str | bytes | int"]
"""A field of a protobuf message by number: a string, an encoded message, or an integer."""


def message(*fields: Field) -> bytes:
    """Return an encoded message."""
    encoded = b""
    for number, value in fields:
        if isinstance(value, int):
            encoded += _varint(number << 3) + _varint(value)
        else:
            content = value.encode() if isinstance(value, str) else value
            encoded += _varint(number << 3 | 2) + _varint(len(content)) + content
    return encoded


def fields(encoded: bytes) -> dict[int, list[bytes | int]]:
    """Return a message's fields by number; it holds strings, messages and integers only."""
    found = defaultdict(list)
    at = 0
    while at < len(encoded):
        tag, at = _read(encoded, at)
        value: bytes | int
        value, at = _read(encoded, at)
        if tag & 7 == 2:
            end = at + value
            value, at = encoded[at:end], end
        found[tag >> 3].append(value)
    return found


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _read(encoded: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (encoded[at] & 0x7F) << shift
        shift += 7
        at += 1
        if encoded[at - 1] < 0x80:
            return value, at


class Runtime:
    """A container runtime behind its socket; every call raises grpc.RpcError."""

    def __init__(self, socket: str, image: str, cgroup: str) -> None:
        self._channel = grpc.insecure_channel(f"unix://{socket}")
        self._image = message((1, image))
        self._cgroup = cgroup

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def call(self, method: str, *request: Field) -> dict[int, list[bytes | int]]:
        """Call a method; return the fields of its answer."""
        path = f"/runtime.v1.RuntimeService/{method}"
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(path)
        answer = call(message(*request), timeout=180)
        return fields(answer)

    def sandbox_config(self, name: str) -> bytes:
        """Return a PodSandboxConfig."""
        metadata = message((1, name), (2, f"uid-{name}"), (3, "default"))
        return message((1, metadata), (2, name), (8, message((1, self._cgroup))))

    def run_pod(self, name: str) -> str:
        """Return the id of a new sandbox: its network is there."""
        return _text(self.call("RunPodSandbox", (1, self.sandbox_config(name)))[1])

    def run_container(self, pod: str, name: str, *command: str) -> str:
        """Return the id of a container that runs in a sandbox."""
        words: list[Field] = [(3, word) for word in command]
        config = message((1, message((1, name))), (2, self._image), *words)
        request: tuple[Field, ...] = ((1, pod), (2, config), (3, self.sandbox_config(name)))
        container = _text(self.call("CreateContainer", *request)[1])
        self.call("StartContainer", (1, container))
        return container

    def addresses(self, pod: str) -> tuple[str, ...]:
        """Return a sandbox's addresses, the first one first."""
        status = self.call("PodSandboxStatus", (1, pod))[1][0]
        assert isinstance(status, bytes)
        network = fields(status)[5][0]
        assert isinstance(network, bytes)
        found = fields(network)
        more = [fields(item)[1] for item in found[2] if isinstance(item, bytes)]
        return tuple(_text(value) for value in (found[1], *more))

    def executes(self, container: str, *command: str) -> bool:
        """Return whether a command in a container succeeds."""
        words: list[Field] = [(2, word) for word in command]
        done = self.call("ExecSync", (1, container), *words, (3, 10))
        return 3 not in done

    def remove_pod(self, pod: str) -> None:
        """Stop and remove a sandbox with all in it."""
        self.call("StopPodSandbox", (1, pod))
        self.call("RemovePodSandbox", (1, pod))

    def pods(self) -> list[str]:
        """Return the ids of all sandboxes."""
        items = self.call("ListPodSandbox")[1]
        return [_text(fields(item)[1]) for item in items if isinstance(item, bytes)]


def _text(values: list[bytes | int]) -> str:
    (value,) = values
    assert isinstance(value, bytes)
    return value.decode()
