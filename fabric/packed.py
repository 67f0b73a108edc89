"""A host's learned routes as the store keeps them: what routes share is said once, the value stays small."""

import json
from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from netfabric.fabric.errors import InvalidError
from netfabric.fabric.route import LearnedRoute


def dump_routes(routes: Iterable[LearnedRoute]) -> bytes:
    """Return routes as JSON: groups of prefixes with the same host, next hops, path, origin, tenant."""
    groups: dict[tuple[object, ...], list[str]] = {}
    likes: dict[tuple[object, ...], LearnedRoute] = {}
    for route in routes:
        shared = (route.host, route.next_hops, route.as_path, route.origin, route.tenant)
        likes.setdefault(shared, route)
        groups.setdefault(shared, []).append(str(route.prefix))
    found = [_group(likes[shared], groups[shared]) for shared in likes]
    return json.dumps(found, separators=(",", ":")).encode()


def _group(like: LearnedRoute, prefixes: list[str]) -> dict[str, object]:
    return {
        "host": like.host,
        "nextHops": [str(hop) for hop in like.next_hops],
        "asPath": like.as_path,
        "origin": like.origin,
        "tenant": like.tenant,
        "prefixes": " ".join(prefixes),
    }


def load_routes(value: bytes) -> tuple[LearnedRoute, ...]:
    """Return the routes that `dump_routes` wrote; raise InvalidError."""
    try:
        return tuple(
            LearnedRoute(
                ip_network(prefix),
                group["host"],
                hops,
                path,
                group["origin"],
                group["tenant"],
            )
            for group in json.loads(value)
            for hops in [tuple(ip_address(hop) for hop in group["nextHops"])]
            for path in [tuple(group["asPath"])]
            for prefix in group["prefixes"].split()
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidError(f"learned routes: {error!r}", "written by another version?") from None
