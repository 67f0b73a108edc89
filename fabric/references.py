"""Which fields of which objects name other objects, gathered from the kinds' declarations of links."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from netfabric.fabric.kinds import ALL, KINDS
from netfabric.fabric.schema import Kind, Reference


class Named(NamedTuple):
    """A field that names objects of `type`; `firm`: they cannot be removed while they are named."""

    type: str
    firm: bool = True


_LOOSE = {
    ("rule", "fromEndpointGroup"),
    ("rule", "toEndpointGroup"),
    ("rule", "fromNetwork"),
    ("rule", "toNetwork"),
}
"""As in Contiv: what a rule matches may go, and the rule then matches nothing."""
_BESIDE_LINKS = (
    ("rule", "fromNetwork", "network"),
    ("rule", "toNetwork", "network"),
    ("peer", "hostname", "Bgp"),
)


def is_scoped(type_: str) -> bool:
    """Return whether objects of a type live in a tenant (and are named without it in references)."""
    return "tenantName" in KINDS[type_].key and type_ != "tenant"


def _declared(kind: Kind) -> Iterator[tuple[str, str, str]]:
    """Yield (type of the object, its field, type of what that names) as a kind's links say."""
    if kind.type != "tenant" and kind.field("tenantName"):
        yield kind.type, "tenantName", "tenant"
    for link in (*(kind.links or ()), *(kind.link_sets or ())):
        for field in link.fields:
            yield (link.type, field, kind.type) if link.backward else (kind.type, field, link.type)


def _gathered(found: Iterable[tuple[str, str, str]]) -> dict[str, dict[str, Named]]:
    table: dict[str, dict[str, Named]] = {}
    for user, field, named in found:
        table.setdefault(user, {})[field] = Named(named, (user, field) not in _LOOSE)
    return table


REFERENCES: Mapping[str, Mapping[str, Named]] = _gathered(
    [*(one for kind in ALL for one in _declared(kind)), *_BESIDE_LINKS]
)
"""By type and field."""


def references_of(type_: str) -> list[tuple[str, Named, Reference]]:
    """Return every field of a type that names others, with what reads it."""
    return [
        (field, named, Reference((field,), named.type, is_scoped(named.type)))
        for field, named in REFERENCES.get(type_, {}).items()
    ]
