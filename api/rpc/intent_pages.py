"""Long lists page by page: each answer says where the next one begins."""

import binascii
import heapq
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar
from zlib import crc32

from google.protobuf.message import Message

from netfabric.fabric.errors import InvalidError

USUAL, MOST = 100, 1000
"""Items of a page: where the client names no number, and at most."""
FULL = 1 << 20
"""Octets after which a page ends: clients take messages of 4 MB unless told otherwise."""
Item = TypeVar("Item", bound=Message)


class Paging(Protocol):
    """A request for a page."""

    page_size: int
    page_token: str


class ListRequest(Paging, Message):
    """A request for a page of what its other fields let through."""


def page(
    keys: Iterable[str], request: ListRequest, show: Callable[[str], Item]
) -> tuple[list[Item], str]:
    """Return a page's items, sorted by key, and the token of the next page, "" after the last.

    Raises InvalidError for a token that is not of this list. What comes or goes between two pages is in
    the list where its key is still to come.
    """
    after = _after(request)
    size = min(request.page_size or USUAL, MOST)
    found = heapq.nsmallest(size + 1, (key for key in keys if key > after))
    items: list[Item] = []
    weight = 0
    for key in found[:size]:
        items.append(show(key))
        weight += items[-1].ByteSize()
        if weight > FULL:
            break
    return items, _token(request, found[len(items) - 1]) if len(items) < len(found) else ""


def _token(request: ListRequest, last: str) -> str:
    return urlsafe_b64encode(_sum(request, last) + last.encode()).decode()


def _after(request: ListRequest) -> str:
    if not request.page_token:
        return ""
    try:
        token = urlsafe_b64decode(request.page_token)
        after = token[4:].decode()
    except (binascii.Error, ValueError):
        token, after = b"", ""
    if token[:4] != _sum(request, after):
        raise InvalidError(
            "page_token: not of this list", "repeat the request of the first page with the token"
        )
    return after


def _sum(request: ListRequest, last: str) -> bytes:
    """Return what tells a token of one list from one of another, or of a part of one."""
    bare = type(request)()
    bare.CopyFrom(request)
    bare.ClearField("page_size")
    bare.ClearField("page_token")
    return crc32(bare.SerializeToString(deterministic=True) + last.encode()).to_bytes(4, "big")
