"""What goes over the agent's CNI socket: one call and one answer a connection, lengths first, big-endian.

call:    "NFC1", length of the environment, length of standard input, NAME=VALUE NUL …, standard input
answer:  "NFC1", exit status (0 or 1), length of standard output, standard output
"""

from asyncio import IncompleteReadError, StreamReader
from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct

from netfabric.fabric.errors import InvalidError

MAGIC = b"NFC1"
ENVIRONMENT_LIMIT, INPUT_LIMIT, ANSWER_LIMIT = 1 << 18, 1 << 20, 4 << 20
"""Bytes. The shims keep to the same limits."""
_HEADER = Struct("!4sII")


@dataclass(frozen=True, slots=True)
class Call:
    """One run of the plugin."""

    environment: Mapping[str, str]
    """CNI_* only."""
    configuration: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What the shim prints, and its exit status."""

    text: bytes
    status: int = 0


async def read_call(reader: StreamReader) -> Call:
    """Return the call that a shim sent; raise InvalidError."""
    try:
        magic, variables, length = _HEADER.unpack(await reader.readexactly(_HEADER.size))
        if magic != MAGIC or variables > ENVIRONMENT_LIMIT or length > INPUT_LIMIT:
            raise InvalidError("call on the CNI socket: not as the plugin makes it", _REMEDY)
        environment = await reader.readexactly(variables)
        return Call(_environment(environment), await reader.readexactly(length))
    except IncompleteReadError:
        raise InvalidError("call on the CNI socket: it ends too early", _REMEDY) from None


_REMEDY = "install the plugin again: netplugin install-cni"


def _environment(raw: bytes) -> dict[str, str]:
    pairs = (item.partition("=") for item in raw.decode(errors="replace").split("\0") if item)
    return {name: value for name, _, value in pairs}


def encode(answer: Answer) -> bytes:
    """Return an answer as it goes out."""
    return _HEADER.pack(MAGIC, answer.status, len(answer.text)) + answer.text
