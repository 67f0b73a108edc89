"""Runs of IPv4 addresses, as Contiv prints them: `10.1.1.1-10.1.1.4, 10.1.1.254`."""

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address

Span = tuple[int, int]
"""First and last address, both included."""


def merged(spans: Iterable[Span]) -> list[Span]:
    """Return the same addresses in as few spans as possible, ascending."""
    found: list[Span] = []
    for low, high in sorted(spans):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found


def without(whole: Span, taken: Sequence[Span]) -> list[Span]:
    """Return what of `whole` is left when merged `taken` is gone."""
    left: list[Span] = []
    start, end = whole
    for low, high in taken:
        if low > start and start <= end:
            left.append((start, min(low - 1, end)))
        start = max(start, high + 1)
    if start <= end:
        left.append((start, end))
    return left


def within(whole: Span, spans: Iterable[Span]) -> list[Span]:
    """Return what of `spans` lies in `whole`."""
    cut = ((max(low, whole[0]), min(high, whole[1])) for low, high in spans)
    return [(low, high) for low, high in cut if low <= high]


def text_of(spans: Iterable[Span]) -> str:
    """Return spans as text."""
    return ", ".join(
        str(IPv4Address(low)) if low == high else f"{IPv4Address(low)}-{IPv4Address(high)}"
        for low, high in spans
    )


def overlaps(spans: Iterable[tuple[Span, str]]) -> Iterator[tuple[str, str]]:
    """Yield the owners of every two spans that have an address in common, the lower span's first."""
    open_: list[tuple[int, str]] = []
    for (low, high), owner in sorted(spans):
        open_ = [(end, other) for end, other in open_ if end >= low]
        yield from ((other, owner) for _, other in open_)
        open_.append((high, owner))
