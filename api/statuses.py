"""One table of errors: what each class is as an HTTP status and as a gRPC status."""

from typing import NamedTuple

import grpc

from netfabric.fabric.errors import (
    CompactedError,
    ConflictError,
    ExhaustedError,
    FabricError,
    InvalidError,
    NotFoundError,
    OperatorError,
    PeerError,
    UnauthorizedError,
)


class MalformedError(OperatorError):
    """The request cannot be read at all."""


class PreconditionError(OperatorError):
    """An object is not what the request relied on: If-Match, If-None-Match, an expected revision."""


class ExistsError(ConflictError):
    """Asked to be made only where there is none, and there is one."""


class SupersededError(PeerError):
    """Another stream of the same host's agent has taken over."""


class Status(NamedTuple):
    """The statuses of a class of errors, and of its subclasses that have no row above it."""

    error: type[FabricError]
    http: int
    grpc: grpc.StatusCode


STATUSES = (
    Status(MalformedError, 400, grpc.StatusCode.INVALID_ARGUMENT),
    Status(InvalidError, 422, grpc.StatusCode.INVALID_ARGUMENT),
    Status(NotFoundError, 404, grpc.StatusCode.NOT_FOUND),
    Status(PreconditionError, 412, grpc.StatusCode.ABORTED),
    Status(ExistsError, 409, grpc.StatusCode.ALREADY_EXISTS),
    Status(ConflictError, 409, grpc.StatusCode.FAILED_PRECONDITION),
    Status(ExhaustedError, 409, grpc.StatusCode.RESOURCE_EXHAUSTED),
    Status(UnauthorizedError, 403, grpc.StatusCode.PERMISSION_DENIED),
    Status(OperatorError, 400, grpc.StatusCode.FAILED_PRECONDITION),
    Status(SupersededError, 503, grpc.StatusCode.ABORTED),
    Status(CompactedError, 503, grpc.StatusCode.OUT_OF_RANGE),
    Status(PeerError, 503, grpc.StatusCode.UNAVAILABLE),
    Status(FabricError, 500, grpc.StatusCode.INTERNAL),
)


def status_of(error: FabricError) -> Status:
    """Return the row of an error's class."""
    return next(row for row in STATUSES if isinstance(error, row.error))
