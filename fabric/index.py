"""Answers about all objects that a rule needs for one: who refers to it, what overlaps with it, which tag is free."""

from collections.abc import Iterable, Mapping
from typing import Any

from netfabric.fabric.references import REFERENCES, references_of
from netfabric.fabric.subnets import Subnets
from netfabric.fabric.tags import CEILING, POOL, TagSet

Fields = Mapping[str, Any]
_TAGS = range(1, max(CEILING.values()) + 1)


class Index:
    """Kept in step with the objects: one change costs one change."""

    def __init__(self) -> None:
        self.subnets = Subnets()
        self.tags = {kind: TagSet() for kind in POOL.values()}
        """By `vlan` and `vni`: those of networks, and those that are allocated, which ought to be the same."""
        self._users: dict[tuple[str, str, str], dict[str, None]] = {}

    def users(self, user: str, field: str, key: str) -> Iterable[str]:
        """Return the keys of objects of type `user` whose `field` names the object `key`.

        Raises KeyError for a field that no kind declares as a link.
        """
        REFERENCES[user][field]
        return self._users.get((user, field, key), ())

    def replace(self, type_: str, key: str, before: Fields | None, after: Fields | None) -> None:
        """Take in that an object changed; None: it is not there."""
        if before is not None:
            self._remove(type_, key, before)
        if after is not None:
            self._add(type_, key, after)

    def _add(self, type_: str, key: str, obj: Fields) -> None:
        for place in _places(type_, obj):
            self._users.setdefault(place, {})[key] = None
        if type_ == "network":
            self.subnets.add(key, obj)
            for tags, tag in self._tag_of(obj):
                tags.add(tag)

    def _remove(self, type_: str, key: str, obj: Fields) -> None:
        for place in _places(type_, obj):
            users = self._users[place]
            del users[key]
            if not users:
                del self._users[place]
        if type_ == "network":
            self.subnets.remove(key, obj)
            for tags, tag in self._tag_of(obj):
                tags.remove(tag)

    def _tag_of(self, network: Fields) -> list[tuple[TagSet, int]]:
        encap, tag = network.get("encap"), network.get("tag", 0)
        kinds = [kind for name, kind in POOL.items() if name == encap]
        return [(self.tags[kind], int(tag)) for kind in kinds if tag in _TAGS]

    def allocate(self, name: str, *, taken: bool) -> None:
        """Take in that `kind/number` was allocated, or is not any more."""
        kind, _, number = name.partition("/")
        if kind in self.tags and number.isascii() and number.isdecimal() and int(number) in _TAGS:
            tags = self.tags[kind]
            (tags.add if taken else tags.remove)(int(number))


def _places(type_: str, obj: Fields) -> set[tuple[str, str, str]]:
    return {
        (type_, field, named)
        for field, _, reference in _OF.get(type_, ())
        for named in reference.keys(obj)
    }


_OF = {type_: references_of(type_) for type_ in REFERENCES}
