"""Errors told to gRPC clients: a status, a message, and the remedy beside it."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote

import grpc.aio

from netfabric.api.statuses import status_of
from netfabric.fabric.errors import FabricError

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Answer = TypeVar("Answer")

MESSAGE, REMEDY = 1200, 600
"""Octets of UTF-8. On the wire each may become three, and a client takes 8 KB of metadata."""
_PLAIN = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


async def told(context: Context, serve: Callable[[], Awaitable[Answer]]) -> Answer:
    """Serve; where an error ends that, end with its status, and its remedy as metadata."""
    try:
        return await serve()
    except FabricError as error:
        await context.abort(status_of(error).grpc, _short(str(error), MESSAGE), remedy_of(error))


def remedy_of(error: FabricError) -> tuple[tuple[str, str], ...]:
    """Return the trailing metadata: `remedy`, percent-encoded UTF-8 (RFC 3986) where it is not ASCII."""
    return (("remedy", quote(_short(error.remedy, REMEDY), safe=_PLAIN)),) if error.remedy else ()


def _short(text: str, octets: int) -> str:
    encoded = text.encode(errors="replace")
    if len(encoded) <= octets:
        return encoded.decode()
    return encoded[: octets - 3].decode(errors="ignore") + "…"
