"""Several objects put as one change: what others refer to goes first, each on what those before it leave."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Literal

from netfabric.fabric.errors import FabricError, InvalidError
from netfabric.fabric.kinds import ALL
from netfabric.fabric.references import REFERENCES
from netfabric.fabric.rules import decide_put
from netfabric.fabric.schema import Kind, Object, validate
from netfabric.fabric.trial import NOT_YET, Trial
from netfabric.fabric.view import View
from netfabric.fabric.world import Fields, World, Write, intent_key

Outcome = Literal["created", "changed", "unchanged"]


def _order() -> dict[str, int]:
    graph = {kind.type: {"global"} - {kind.type} for kind in ALL}
    for user, fields in REFERENCES.items():
        graph[user] |= {named.type for named in fields.values()} - {user}
    sorter = TopologicalSorter({user: sorted(needed) for user, needed in graph.items()})
    return {type_: at for at, type_ in enumerate(sorter.static_order())}


ORDER = _order()
"""By type: where it stands among the others when they are made; the settings of the fabric come first."""


@dataclass(frozen=True, slots=True)
class Wish:
    """An object as it shall be, its `key` among the fields."""

    kind: Kind
    obj: Object
    keeps: tuple[str, ...] = ()
    """Secrets that stay as they are."""


@dataclass(frozen=True, slots=True)
class Became:
    """What a wish made of an object."""

    obj: Fields
    outcome: Outcome
    revision: int
    """Of the object as it was, where unchanged; NOT_YET where it comes with a commit."""

    def at(self, revision: int) -> int:
        """Return the object's revision once the write is committed at `revision`."""
        return revision if self.revision == NOT_YET else self.revision


def decide_several(
    view: View, world: World, wishes: Sequence[Wish]
) -> tuple[Write, tuple[Became, ...]]:
    """Return one write that fulfils all wishes, and what becomes of each, in their order.

    `world` shows `view`, and nothing else may use that meanwhile. Raises OperatorError, naming the object.
    """
    _refuse_twice(wishes)
    several = _Several(world)
    with Trial(view) as trial:
        for at in sorted(range(len(wishes)), key=lambda at: ORDER[wishes[at].kind.type]):
            trial.apply(several.decide(at, wishes[at]))
    return several.write, tuple(several.became[at] for at in range(len(wishes)))


class _Several:
    """Writes merged as they are decided."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._puts: dict[str, Fields] = {}
        self._deletes: dict[str, None] = {}
        self._unchanged: dict[str, int] = {}
        self.became: dict[int, Became] = {}

    @property
    def write(self) -> Write:
        return Write(self._puts, tuple(self._deletes), self._unchanged)

    def decide(self, at: int, wish: Wish) -> Write:
        kind, key = wish.kind, str(wish.obj["key"])
        stored = self._world.objects.get(kind.type, {}).get(key)
        with naming(kind, key):
            new = dict(wish.obj) | _kept(wish, stored.value if stored else {})
            validate(kind, new, "v2")
            write = decide_put(self._world, kind, new, "v2")
        changed = intent_key(kind.type, key) in write.puts
        outcome: Outcome = "created" if stored is None else "changed" if changed else "unchanged"
        revision = stored.revision if stored and not changed else NOT_YET
        self.became[at] = Became(new, outcome, revision)
        self._merge(write)
        return write

    def _merge(self, write: Write) -> None:
        """The last to change a key counts, and the first to have seen what the store has there."""
        for name in write.deletes:
            self._puts.pop(name, None)
            self._deletes[name] = None
        for name, fields in write.puts.items():
            self._deletes.pop(name, None)
            self._puts[name] = fields
        for name, seen in write.unchanged.items():
            self._unchanged.setdefault(name, seen)


def _kept(wish: Wish, old: Fields) -> Object:
    kept = {name: old.get(name) for name in wish.keeps if name not in wish.obj}
    for name, value in kept.items():
        if value is None:
            raise InvalidError(f"{name}Set without a {name}", f"give {name}, or neither")
    return kept


@contextmanager
def naming(kind: Kind, key: str) -> Iterator[None]:
    """Let every error name the object: some of Contiv's texts don't."""
    try:
        yield
    except FabricError as error:
        if f"{kind.type} {key}" in error.what:
            raise
        raise type(error)(f"{kind.type} {key}: {error.what}", error.remedy) from None


def _refuse_twice(wishes: Sequence[Wish]) -> None:
    seen: set[tuple[str, str]] = set()
    for wish in wishes:
        name = (wish.kind.type, str(wish.obj["key"]))
        if name in seen:
            raise InvalidError(f"{name[0]} {name[1]} comes twice", "give each object once")
        seen.add(name)
