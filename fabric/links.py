"""Link sets and links of an object, derived from what objects say of each other."""

from typing import Any

from netfabric.fabric.references import is_scoped
from netfabric.fabric.schema import Kind, Link, Reference
from netfabric.fabric.world import Fields, World

Pointer = dict[str, str]


def pointer(type_: str, key: str) -> Pointer:
    """Return a link as Contiv prints it."""
    return {"type": type_, "key": key}


def _linked(world: World, kind: Kind, obj: Fields, link: Link) -> list[str]:
    if not link.fields:
        return []
    if link.backward:
        return sorted(world.referring(link, kind.type, kind.key_of(obj)))
    named = Reference(link.fields, link.type, scoped=is_scoped(link.type)).keys(obj)
    return sorted(key for key in set(named) if world.get(link.type, key) is not None)


def link_sets_of(world: World, kind: Kind, obj: Fields) -> dict[str, dict[str, Pointer]]:
    """Return the link sets that are not empty, sorted by name and by key."""
    found = {
        link.name: {key: pointer(link.type, key) for key in _linked(world, kind, obj, link)}
        for link in sorted(kind.link_sets or (), key=lambda link: link.name)
    }
    return {name: links for name, links in found.items() if links}


def links_of(world: World, kind: Kind, obj: Fields) -> dict[str, Any]:
    """Return every link by name; one that is not set is empty."""
    found: dict[str, Any] = {}
    for link in sorted(kind.links or (), key=lambda link: link.name):
        keys = _linked(world, kind, obj, link)
        found[link.name] = pointer(link.type, keys[0]) if keys else {}
    return found
