"""Errors of `/api/v2` as RFC 9457 problem details: object, cause and remedy."""

import json
from http import HTTPStatus

from aiohttp import web

from netfabric.api.statuses import MalformedError, PreconditionError, status_of
from netfabric.fabric.errors import FabricError

__all__ = ["MalformedError", "PreconditionError", "problem"]


def problem(error: FabricError, about: str = "", status: int = 0) -> web.Response:
    """Return the reply that tells an error."""
    status = status or status_of(error).http
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
