"""A broken invariant."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Violation:
    """What is wrong with which object, and what to do about it. `kind` is a word for programs."""

    kind: str
    about: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        said = f"{self.about}: {self.what}"
        return f"{said}: {self.remedy}" if self.remedy else said
