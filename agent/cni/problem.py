"""Errors as CNI has them: a code, what is wrong, what to do."""

from enum import IntEnum
from typing import Any

from netfabric.fabric.errors import (
    ConflictError,
    ExhaustedError,
    FabricError,
    KernelError,
    NamespaceGoneError,
    OperatorError,
    PeerError,
    UnauthorizedError,
)


class Code(IntEnum):
    """The specification's (section "Error"), and from 100 on our own."""

    INCOMPATIBLE_VERSION = 1
    UNSUPPORTED_FIELD = 2
    """The configuration asks for what other plugins do; `msg` has key and value."""
    UNKNOWN_CONTAINER = 3
    """Nothing is left to clean up: no DEL is needed."""
    BAD_ENVIRONMENT = 4
    IO_FAILURE = 5
    NOT_JSON = 6
    BAD_CONFIGURATION = 7
    TRY_LATER = 11
    UNAVAILABLE = 50
    """STATUS: no ADD can be served now; what is attached keeps forwarding (else it would be 51)."""
    KERNEL = 100
    CONFLICT = 101
    EXHAUSTED = 102
    UNAUTHORIZED = 103
    DAMAGED = 104
    """CHECK: the attachment is not as it was made."""
    INTERNAL = 999


class CniError(FabricError):
    """An error that is CNI's own, with its code."""

    def __init__(self, code: Code, what: str, remedy: str = "") -> None:
        super().__init__(what, remedy)
        self.code = code


# The first class that fits counts: what is special stands before what is general.
_CODES: tuple[tuple[type[FabricError], Code], ...] = (
    (NamespaceGoneError, Code.UNKNOWN_CONTAINER),
    (KernelError, Code.KERNEL),
    (PeerError, Code.TRY_LATER),
    (ConflictError, Code.CONFLICT),
    (ExhaustedError, Code.EXHAUSTED),
    (UnauthorizedError, Code.UNAUTHORIZED),
    (OperatorError, Code.BAD_CONFIGURATION),
)


def code_of(error: FabricError) -> Code:
    """Return the code of an error that the agent raised."""
    if isinstance(error, CniError):
        return error.code
    return next((code for kind, code in _CODES if isinstance(error, kind)), Code.INTERNAL)


def as_json(error: FabricError, version: str) -> dict[str, Any]:
    """Return an error as the specification writes it."""
    return {
        "cniVersion": version,
        "code": int(code_of(error)),
        "msg": error.what,
        "details": error.remedy,
    }
