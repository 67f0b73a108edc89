"""Errors of `/api/v2` as RFC 9457 problem details: object, cause and remedy."""

import json
from http import HTTPStatus

from aiohttp import web

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

STATUSES: tuple[tuple[type[FabricError], int], ...] = (
    (InvalidError, 422),
    (NotFoundError, 404),
    (ConflictError, 409),
    (ExhaustedError, 409),
    (UnauthorizedError, 403),
    (OperatorError, 400),
    (PeerError, 503),
)


class PreconditionError(OperatorError):
    """If-Match or If-None-Match does not hold."""


class MalformedError(OperatorError):
    """The body is no JSON object."""


def status_of(error: FabricError) -> int:
    """Return the HTTP status of an error's class."""
    if isinstance(error, PreconditionError):
        return 412
    return next((status for type_, status in STATUSES if isinstance(error, type_)), 500)


def problem(error: FabricError, about: str = "", status: int = 0) -> web.Response:
    """Return the reply that tells an error."""
    status = status or status_of(error)
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "object": about,
        "detail": error.what,
        "remedy": error.remedy,
    }
    headers = {"Content-Type": "application/problem+json"}
    if status == 503:
        headers["Retry-After"] = "1"
    told = {name: value for name, value in body.items() if value != ""}
    return web.Response(status=status, body=json.dumps(told).encode() + b"\n", headers=headers)
