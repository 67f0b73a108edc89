"""Ranges of VLAN ids and VNIs, written as in `global`: `1-4094`."""

from collections.abc import Collection, Iterable
from typing import Literal, TypeAlias

from netfabric.fabric.errors import ConflictError, ExhaustedError, InvalidError

Tagged: TypeAlias = Literal["vlan", "vxlan"]

MAX_VLAN = 4094
"""4095 may stand at the end of a range, as in Contiv, but IEEE 802.1Q reserves it."""
CEILING: dict[Tagged, int] = {"vlan": 4095, "vxlan": 65535}
MAX_SPAN = 16000
ALLOC: dict[Tagged, str] = {"vlan": "alloc/vlan", "vxlan": "alloc/vni"}


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


def choose(encap: Tagged, wanted: int, allowed: range, used: Collection[int]) -> int:
    """Return the tag that a network gets: the wanted one, or the lowest free one."""
    if wanted:
        return _wanted(encap, wanted, allowed, used)
    for tag in allowed:
        if tag not in used and (encap == "vxlan" or tag <= MAX_VLAN):
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
