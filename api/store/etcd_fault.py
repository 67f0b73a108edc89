"""What etcd says when a call fails, and what that means: did it happen, may it be asked again, who must mend it.

Texts are those of etcd's `rpctypes`; they have been the same since 3.0, and clients compare them.
"""

from enum import Enum, auto

import grpc
from grpc import aio

from netfabric.api.store.etcd_channel import EtcdSettings
from netfabric.fabric.errors import (
    CompactedError,
    FabricError,
    InvalidError,
    NotFoundError,
    UnauthorizedError,
    UnavailableError,
)


class Fault(Enum):
    """What to do about a failed call."""

    LOGIN = auto()
    """It did not happen; authenticate and ask again."""
    NOT_DONE = auto()
    """It did not happen; ask another member."""
    UNKNOWN = auto()
    """It may have happened; ask again what may be asked twice."""
    FINAL = auto()
    """Asking again does not help."""


_LOGIN = ("invalid auth token", "revision of auth store is old")
_NO_USER = "user name is empty"
_NOT_DONE = (
    "etcdserver: no leader",
    "etcdserver: too many requests",
    "failed to connect to all addresses",
)
_UNKNOWN = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
)


def fault_of(error: aio.AioRpcError, settings: EtcdSettings) -> Fault:
    """Return what kind of failure this is."""
    said = error.details() or ""
    if any(text in said for text in _LOGIN) or (settings.user and _NO_USER in said):
        return Fault.LOGIN
    if any(text in said for text in _NOT_DONE):
        return Fault.NOT_DONE
    return Fault.UNKNOWN if error.code() in _UNKNOWN else Fault.FINAL


_MEANING: tuple[tuple[str, type[FabricError], str], ...] = (
    ("required revision has been compacted", CompactedError, "list again"),
    ("requested lease not found", NotFoundError, "grant another"),
    (
        "too many operations in txn request",
        InvalidError,
        "start etcd with a larger --max-txn-ops (netfabric's lab has 8192)",
    ),
    ("request is too large", InvalidError, "start etcd with a larger --max-request-bytes"),
    ("duplicate key given in txn request", InvalidError, "change each key once"),
    ("invalid user ID or password", UnauthorizedError, "check the store's user and password"),
    (_NO_USER, UnauthorizedError, "etcd asks for a user and password: give them"),
    ("invalid auth token", UnavailableError, "see whether all of etcd's members are in step"),
    (
        "permission denied",
        UnauthorizedError,
        "grant the user a role with readwrite on the prefix /netfabric/",
    ),
    (
        "database space exceeded",
        UnavailableError,
        "compact and defragment etcd, then disarm its alarm (etcdctl alarm disarm)",
    ),
)


def meaning_of(said: str, settings: EtcdSettings) -> FabricError:
    """Return the error that etcd's words stand for."""
    for text, kind, remedy in _MEANING:
        if text in said:
            return kind(f"{settings}: {said}", remedy)
    return UnavailableError(f"{settings}: {said}", "see etcd's log")
