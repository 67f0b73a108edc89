"""One table of errors: every class has its row, for HTTP and for gRPC."""

import inspect

import grpc
import pytest

from netfabric.api import statuses
from netfabric.api.rest.problem import problem
from netfabric.api.statuses import STATUSES, status_of
from netfabric.fabric import errors
from netfabric.fabric.errors import (
    CompactedError,
    ConflictError,
    ExhaustedError,
    FabricError,
    InvalidError,
    KernelError,
    NotFoundError,
    OperatorError,
    StaleError,
    UnauthorizedError,
    UnavailableError,
)

Code = grpc.StatusCode
EXPECTED = {
    InvalidError: (422, Code.INVALID_ARGUMENT),
    NotFoundError: (404, Code.NOT_FOUND),
    ConflictError: (409, Code.FAILED_PRECONDITION),
    ExhaustedError: (409, Code.RESOURCE_EXHAUSTED),
    UnauthorizedError: (403, Code.PERMISSION_DENIED),
    OperatorError: (400, Code.FAILED_PRECONDITION),
    UnavailableError: (503, Code.UNAVAILABLE),
    StaleError: (503, Code.UNAVAILABLE),
    CompactedError: (503, Code.OUT_OF_RANGE),
    KernelError: (500, Code.INTERNAL),
    statuses.MalformedError: (400, Code.INVALID_ARGUMENT),
    statuses.PreconditionError: (412, Code.ABORTED),
    statuses.ExistsError: (409, Code.ALREADY_EXISTS),
    statuses.SupersededError: (503, Code.ABORTED),
}


@pytest.mark.parametrize("kind", EXPECTED, ids=lambda kind: kind.__name__)
def test_both_statuses_of_a_class(kind: type[FabricError]) -> None:
    row = status_of(kind("it is so", "do something"))
    assert (row.http, row.grpc) == EXPECTED[kind]
    assert problem(kind("it is so")).status == row.http


def test_every_class_has_a_status() -> None:
    for module in (errors, statuses):
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, FabricError):
                assert status_of(kind("x")) in STATUSES


def test_no_row_hides_another() -> None:
    for at, row in enumerate(STATUSES):
        assert not any(issubclass(row.error, above.error) for above in STATUSES[:at]), row
