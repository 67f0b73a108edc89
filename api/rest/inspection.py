"""What `inspect` of `/api/v2` answers: an object as it is configured, its links, and what became of it."""

from typing import Any

from netfabric.api.rest.gojson import pruned
from netfabric.fabric import kinds
from netfabric.fabric.errors import NotFoundError
from netfabric.fabric.links import link_sets_of, links_of
from netfabric.fabric.oper import OPER2, find_endpoint
from netfabric.fabric.schema import Kind, shown_v2
from netfabric.fabric.world import Fields, World

ENDPOINTS = "endpoints"


def inspected(world: World, plural: str, key: str) -> dict[str, Any]:
    """Return `Config` and, for kinds that have a state, `Oper`; raise NotFoundError.

    An endpoint has only the latter, and is named by a part of its id, container or name.
    """
    if plural == ENDPOINTS:
        return {"Oper": pruned(find_endpoint(world, key))}
    kind = kinds.V2.get(plural)
    if kind is None:
        known = ", ".join(sorted([*kinds.V2, ENDPOINTS]))
        raise NotFoundError(f"no such kind: {plural}", f"there are {known}")
    obj = world.get(kind.type, key)
    if obj is None:
        raise missing(kind, key)
    found = {"Config": shown_v2(kind, obj) | _links(world, kind, obj)}
    if kind.type in OPER2:
        found["Oper"] = pruned(OPER2[kind.type](world, obj))
    return found


def _links(world: World, kind: Kind, obj: Fields) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if kind.link_sets is not None:
        found["link-sets"] = link_sets_of(world, kind, obj)
    if kind.links is not None:
        found["links"] = links_of(world, kind, obj)
    return found


def missing(kind: Kind, key: str) -> NotFoundError:
    """Return the error for an object that does not exist."""
    return NotFoundError(
        f"{kind.type} {key} does not exist", f"GET /api/v2/{kind.plural2} lists what there is"
    )
