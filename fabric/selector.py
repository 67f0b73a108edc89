"""Label selectors of Kubernetes (meta/v1 LabelSelector): which labels one chooses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from netfabric.fabric.errors import InvalidError

Object = Mapping[str, Any]
Labels = Mapping[str, str]
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


@dataclass(frozen=True, slots=True)
class Selector:
    """What labels have to be; an empty one chooses everything."""

    labels: tuple[tuple[str, str], ...] = ()
    expressions: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    """(key, operator, values)."""

    @classmethod
    def parse(cls, raw: Object | None) -> Self:
        """Read a selector as the API has it; raise InvalidError for an operator that is not known."""
        raw = raw or {}
        expressions = raw.get("matchExpressions") or ()
        for one in expressions:
            if one["operator"] not in _OPERATORS:
                raise InvalidError(
                    f"selector: operator {one['operator']!r}", f"one of {', '.join(_OPERATORS)}"
                )
        return cls(
            tuple(sorted((raw.get("matchLabels") or {}).items())),
            tuple((e["key"], e["operator"], tuple(e.get("values") or ())) for e in expressions),
        )

    def chooses(self, labels: Labels) -> bool:
        """Return whether what has these labels is chosen."""
        return all(labels.get(name) == value for name, value in self.labels) and all(
            _holds(operator, values, labels.get(key)) for key, operator, values in self.expressions
        )


EVERYTHING = Selector()


def _holds(operator: str, values: tuple[str, ...], value: str | None) -> bool:
    match operator:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case _:
            return value is None
