"""The difference between what is wanted and what is there."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Difference(Generic[Value]):
    """What to put (new or different) and what to remove. Empty when both sides agree."""

    put: tuple[Value, ...] = ()
    remove: tuple[Value, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.put or self.remove)


def difference(
    desired: Mapping[Key, Value],
    observed: Mapping[Key, Value],
    keys: Iterable[Key] | None = None,
) -> Difference[Value]:
    """Return how `observed` becomes `desired`, over some keys or all of both."""
    over = (
        list(keys) if keys is not None else [*desired, *(k for k in observed if k not in desired)]
    )
    return Difference(
        put=tuple(desired[k] for k in over if k in desired and desired[k] != observed.get(k)),
        remove=tuple(observed[k] for k in over if k in observed and k not in desired),
    )
