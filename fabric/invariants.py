"""What must hold in the store at every revision, and in words where it does not."""

from collections.abc import Iterable, Iterator

from netfabric.fabric.invariants_hosts import check_hosts
from netfabric.fabric.invariants_networks import check_networks
from netfabric.fabric.kinds import KINDS
from netfabric.fabric.references import references_of
from netfabric.fabric.view import ROOT, View
from netfabric.fabric.violation import Violation

Entries = Iterable[tuple[str, bytes]]
"""Keys with their values, all of one revision."""


def violations(entries: Entries) -> list[Violation]:
    """Return everything that is wrong with a store's content, sorted; an empty list is what it should be.

    Subnets, tags and links are gone through as they are stored: the index that rules ask is not believed.
    """
    return violations_of(_view_of(entries))


def violations_of(view: View) -> list[Violation]:
    """Return everything that is wrong with what a view shows."""
    found = [*_unreadable(view), *_misplaced(view), *dangling(view, firm=True)]
    return sorted({*found, *check_networks(view), *check_hosts(view)})


def loose_ends(entries: Entries) -> list[Violation]:
    """Return what is named and does not exist where that is allowed: rules outlive what they match."""
    return sorted(dangling(_view_of(entries), firm=False))


def _view_of(entries: Entries) -> View:
    view = View()
    ours = [(key, value, 1) for key, value in entries if key.startswith(ROOT)]
    view.apply(ours, (), 1)
    return view


def _unreadable(view: View) -> Iterator[Violation]:
    for key, reason in view.broken.items():
        yield Violation(
            "unreadable",
            key.removeprefix(ROOT),
            f"cannot be read: {reason}",
            "delete the key, or upgrade this netmaster if a newer one wrote it",
        )


def _misplaced(view: View) -> Iterator[Violation]:
    """Objects of a type that nobody knows, or under a key that is not theirs."""
    for type_, objects in view.objects.items():
        kind = KINDS.get(type_)
        for key, stored in objects.items():
            if kind is None:
                yield Violation("misplaced", f"{type_} {key}", "is of an unknown type", "delete it")
            elif not key == stored.value.get("key") == kind.key_of(stored.value):
                said = f"says that it is {stored.value.get('key')} ({kind.key_of(stored.value)})"
                yield Violation(
                    "misplaced", f"{type_} {key}", said, "delete it and create it again"
                )


def dangling(view: View, *, firm: bool) -> Iterator[Violation]:
    """Yield references to what does not exist: those that must not be (firm), or those that may."""
    for type_, objects in view.objects.items():
        for field, named, reference in references_of(type_):
            if named.firm is not firm:
                continue
            there = view.objects.get(named.type, {})
            for key, stored in objects.items():
                for name in reference.keys(stored.value):
                    if name not in there:
                        yield Violation(
                            "dangling",
                            f"{type_} {key}",
                            f"{field} names {named.type} {name}, which does not exist",
                            f"create {name}, or take it out of {key}",
                        )
