"""Where the networks' subnets lie: who overlaps with a new one is found without looking at all of them."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Network
from typing import Any

from netfabric.fabric.prefix import Family
from netfabric.fabric.spans import Span

Fields = Mapping[str, Any]
FIELDS: dict[Family, str] = {4: "subnet", 6: "ipv6Subnet"}
ROUTED = "*"
"""The space of all routed networks: they share the underlay. The others are called as their tenants."""


def span_of(network: Fields, family: Family) -> Span | None:
    """Return first and last address of a network's subnet (`a/len` or `a-b/len`), None without one.

    Raises ValueError for what is no subnet.
    """
    text = str(network.get(FIELDS[family]) or "")
    return _span(text, family) if text else None


@lru_cache(maxsize=1024)  # a new network's is asked for several times
def _span(text: str, family: Family) -> Span:
    if family == 6:
        prefix = IPv6Network(text, strict=False)
        return int(prefix.network_address), int(prefix.broadcast_address)
    addresses, _, length = text.partition("/")
    first, _, last = addresses.partition("-")
    low = int(IPv4Address(first))
    if last:
        return low, int(IPv4Address(last))
    if not 0 <= int(length) <= 32:
        raise ValueError(f"no length of an IPv4 prefix: {length}")
    size = 1 << (32 - int(length))
    low -= low % size
    return low, low + size - 1


def spaces_of(network: Fields) -> list[str]:
    """Return the spaces in which a network's subnets must not overlap with others."""
    tenant = str(network.get("tenantName") or "")
    return [tenant, ROUTED] if network.get("encap") == "routed" else [tenant]


class Space:
    """Spans with their owners. Spans that overlap are kept too, though nobody may make such."""

    def __init__(self) -> None:
        self._apart: list[tuple[int, int, str]] = []
        """Sorted, and no two overlap: so only neighbours have to be looked at."""
        self._odd: list[tuple[int, int, str]] = []

    def add(self, span: Span, owner: str) -> None:
        """Take a span in."""
        if next(self._among(span), None) is None:
            insort(self._apart, (*span, owner))
        else:
            self._odd.append((*span, owner))

    def remove(self, span: Span, owner: str) -> None:
        """Take a span out that was added."""
        entry = (*span, owner)
        at = bisect_left(self._apart, entry)
        if at < len(self._apart) and self._apart[at] == entry:
            del self._apart[at]
        elif entry in self._odd:
            self._odd.remove(entry)

    def overlapping(self, span: Span) -> Iterator[str]:
        """Yield the owners of spans that have an address in common with this one."""
        yield from self._among(span)
        for low, high, owner in self._odd:
            if span[0] <= high and low <= span[1]:
                yield owner

    def _among(self, span: Span) -> Iterator[str]:
        first, last = span
        at = bisect_right(self._apart, first, key=lambda entry: entry[0])
        if at and self._apart[at - 1][1] >= first:
            yield self._apart[at - 1][2]
        while at < len(self._apart) and self._apart[at][0] <= last:
            yield self._apart[at][2]
            at += 1

    def __bool__(self) -> bool:
        return bool(self._apart or self._odd)


class Subnets:
    """The subnets of all networks, by space and family."""

    def __init__(self) -> None:
        self._spaces: dict[tuple[str, Family], Space] = {}

    def add(self, key: str, network: Fields) -> None:
        """Take a network's subnets in; what cannot be read overlaps with nothing."""
        for place, span in _places(network):
            self._spaces.setdefault(place, Space()).add(span, key)

    def remove(self, key: str, network: Fields) -> None:
        """Take a network's subnets out."""
        for place, span in _places(network):
            space = self._spaces[place]
            space.remove(span, key)
            if not space:
                del self._spaces[place]

    def overlapping(self, network: Fields, family: Family) -> Iterator[str]:
        """Yield the keys of networks whose subnet of a family overlaps with that of `network`."""
        span = span_of(network, family)
        if span is not None:
            for name in spaces_of(network):
                space = self._spaces.get((name, family))
                if space is not None:
                    yield from space.overlapping(span)


def _places(network: Fields) -> list[tuple[tuple[str, Family], Span]]:
    found: list[tuple[tuple[str, Family], Span]] = []
    families: tuple[Family, Family] = (4, 6)
    for family in families:
        try:
            span = span_of(network, family)
        except (ValueError, TypeError):
            continue
        if span is not None:
            found += [((name, family), span) for name in spaces_of(network)]
    return found
