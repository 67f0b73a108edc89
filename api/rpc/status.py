"""Errors as gRPC statuses."""

import grpc

from netfabric.fabric.errors import (
    ConflictError,
    ExhaustedError,
    FabricError,
    InvalidError,
    NotFoundError,
    OperatorError,
    PeerError,
    UnauthorizedError,
)


class SupersededError(PeerError):
    """Another stream of the same host's agent has taken over."""


STATUSES: tuple[tuple[type[FabricError], grpc.StatusCode], ...] = (
    (InvalidError, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFoundError, grpc.StatusCode.NOT_FOUND),
    (ConflictError, grpc.StatusCode.ALREADY_EXISTS),
    (ExhaustedError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (UnauthorizedError, grpc.StatusCode.PERMISSION_DENIED),
    (OperatorError, grpc.StatusCode.FAILED_PRECONDITION),
    (SupersededError, grpc.StatusCode.ABORTED),
    (PeerError, grpc.StatusCode.UNAVAILABLE),
)


def status_of(error: FabricError) -> grpc.StatusCode:
    """Return the status of an error's class."""
    return next((s for type_, s in STATUSES if isinstance(error, type_)), grpc.StatusCode.INTERNAL)
