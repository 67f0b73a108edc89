"""Replies of `/api/v2`: JSON, a page of a list, the wrong method."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web
from multidict import MultiMapping

from netfabric.api.rest.problem import problem
from netfabric.fabric.errors import InvalidError

PAGING = ("limit", "after")


def reply(value: object, status: int = 200, **headers: str) -> web.Response:
    """Return JSON."""
    sent = {"Content-Type": "application/json", **headers}
    body = json.dumps(value, ensure_ascii=False).encode() + b"\n"
    return web.Response(status=status, body=body, headers=sent)


def listed(
    items: Sequence[Mapping[str, Any]], revision: int, query: Mapping[str, str]
) -> web.Response:
    """Return a list, or the page of it that `limit` and `after` ask for, with where the `next` one begins."""
    if not any(name in query for name in PAGING):
        return reply({"items": items, "revision": revision})
    limit, after = _limit(query), query.get("after", "")
    rest = sorted((i for i in items if i["key"] > after), key=lambda item: str(item["key"]))
    page = rest[:limit]
    more = {"next": page[-1]["key"]} if len(rest) > len(page) else {}
    return reply({"items": page, "revision": revision, **more})


def _limit(query: Mapping[str, str]) -> int:
    text = query.get("limit", "1000")
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= 10_000):
        raise InvalidError(f"limit {text!r} is no number of items", "choose 1 to 10000")
    return int(text)


def flag(query: MultiMapping[str], name: str) -> bool:
    """Return whether a query sets a flag; raise InvalidError for a value that is neither yes nor no."""
    for value in query.getall(name, ()):
        if value not in ("0", "1", "false", "true"):
            raise InvalidError(
                f"{name}={value} is neither yes nor no", f"write {name}=1, or nothing"
            )
    return query.get(name) in ("1", "true")


def without_paging(query: Mapping[str, str]) -> dict[str, str]:
    """Return the filters of a query."""
    return {name: value for name, value in query.items() if name not in PAGING}


def not_allowed(methods: str) -> web.Response:
    """Return a 405 that names the methods there are."""
    response = problem(InvalidError("method not allowed here", f"use {methods}"), status=405)
    response.headers["Allow"] = methods
    return response
