"""Ranges of VLAN ids and VNIs, written as in `global`: `1-4094`."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Literal, TypeAlias

from netfabric.fabric.errors import ConflictError, ExhaustedError, InvalidError

Tagged: TypeAlias = Literal["vlan", "vxlan"]

MAX_VLAN = 4094
"""4095 may stand at the end of a range, as in Contiv, but IEEE 802.1Q reserves it."""
CEILING: dict[Tagged, int] = {"vlan": 4095, "vxlan": 65535}
MAX_SPAN = 16000
POOL: dict[Tagged, str] = {"vlan": "vlan", "vxlan": "vni"}
ALLOC: dict[Tagged, str] = {encap: f"alloc/{pool}" for encap, pool in POOL.items()}


def parse_range(text: str, encap: Tagged) -> range:
    """Return the tags of a range; raise InvalidError with Contiv's texts."""
    first, _, last = text.partition("-")
    if not (first.isdecimal() and last.isdecimal()):
        raise InvalidError(f"invalid tags {text}, correct '10-50,70-100'", "write first-last")
    low, high = int(first), int(last)
    if low > high:
        raise InvalidError(f"invalid range {text}, min is greater than max", f"write {high}-{low}")
    if low < 1:
        raise InvalidError(f"invalid range {text}, values less than 1", "begin at 1 or above")
    if high > CEILING[encap]:
        raise InvalidError(
            f"invalid range {text}, vlan values exceed {CEILING[encap]} max allowed",
            f"end at {CEILING[encap]} or below",
        )
    if encap == "vxlan" and high - low > MAX_SPAN:
        raise InvalidError(
            f"does not allow vxlan range to exceed {MAX_SPAN} range {text}", "choose a shorter one"
        )
    return range(low, high + 1)


class TagSet(Collection[int]):
    """Tags in use, counted for each user, as the bits of one number: the lowest free one is found at once."""

    def __init__(self, tags: Iterable[int] = ()) -> None:
        self._users: Counter[int] = Counter()
        self._bits = 0
        for tag in tags:
            self.add(tag)

    def add(self, tag: int) -> None:
        """Count one more user of a tag."""
        self._users[tag] += 1
        self._bits |= 1 << tag

    def remove(self, tag: int) -> None:
        """Count one user less."""
        self._users[tag] -= 1
        if not self._users[tag]:
            del self._users[tag]
            self._bits &= ~(1 << tag)

    def lowest_free(self, allowed: range) -> int | None:
        """Return the lowest tag of `allowed` without a user, None where all have one."""
        free = (~self._bits & ((1 << allowed.stop) - 1)) >> allowed.start << allowed.start
        return (free & -free).bit_length() - 1 if free else None

    def __contains__(self, tag: object) -> bool:
        return tag in self._users

    def __iter__(self) -> Iterator[int]:
        return iter(self._users)

    def __len__(self) -> int:
        return len(self._users)


def choose(encap: Tagged, wanted: int, allowed: range, used: Collection[int]) -> int:
    """Return the tag that a network gets: the wanted one, or the lowest free one."""
    if wanted:
        return _wanted(encap, wanted, allowed, used)
    if encap == "vlan":
        allowed = range(allowed.start, min(allowed.stop, MAX_VLAN + 1))
    tags = used if isinstance(used, TagSet) else TagSet(used)
    tag = tags.lowest_free(allowed)
    if tag is not None:
        return tag
    raise ExhaustedError(
        f"no {encap}s available",
        f"netctl global set widens the range {allowed.start}-{allowed.stop - 1}",
    )


def _wanted(encap: Tagged, wanted: int, allowed: range, used: Collection[int]) -> int:
    remedy = f"choose a free one of {allowed.start}-{allowed.stop - 1}, or 0 for the lowest"
    if encap == "vxlan" and wanted not in allowed:
        raise InvalidError("requested vxlan is out of range", remedy)
    if wanted in used or wanted not in allowed or (encap == "vlan" and wanted > MAX_VLAN):
        name = f"vlan not available - vlan:{wanted}" if encap == "vlan" else "vxlan not available"
        raise ConflictError(f"requested {name}", remedy)
    return wanted


def runs(numbers: Iterable[int]) -> str:
    """Return numbers as Contiv writes them: `1, 5-7`."""
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)
