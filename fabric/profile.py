"""How much an endpoint may send and receive, and how what it sends is marked."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from re import fullmatch
from typing import Any, Self

_UNITS = {"k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
_KILOBYTE = 1024
_LEAST_BURST = 64 << 10
"""What one segment that the kernel hands over whole may have (64 KiB)."""
_SHARE = 50
"""Of a second, for the burst of a limit that names none: 20 ms at the rate."""
_HIGHEST_RATE = 400_000_000_000
_LARGEST_BURST = 1 << 30
"""Beyond these no limit is any other: kernels count the octets of a queue in 32 bits."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A rate that holds on average, and how much may pass at once."""

    rate: int
    """Bits per second, of Ethernet frames."""
    burst: int = 0
    """Bytes; 0: what suits the rate."""

    @property
    def bucket(self) -> int:
        """Return the bytes that may pass at once: never less than what the kernel sends as one."""
        wanted = self.burst or self.rate // 8 // _SHARE
        return min(max(wanted, _LEAST_BURST), _LARGEST_BURST)

    @property
    def kept(self) -> Self:
        """Return the same in whole octets per second and with its bucket, as a kernel says it."""
        octets = min(max(self.rate, 8), _HIGHEST_RATE) // 8
        return replace(self, rate=octets * 8, burst=self.bucket)


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Limits in both directions, as the endpoint sees them; None: as fast as it goes."""

    receive: Limit | None = None
    send: Limit | None = None

    def __bool__(self) -> bool:
        return self.receive is not None or self.send is not None

    @property
    def kept(self) -> Self:
        """Return the same limits as a kernel says them."""
        receive, send = (limit and limit.kept for limit in (self.receive, self.send))
        return replace(self, receive=receive, send=send)


NO_LIMITS = Bandwidth()


@dataclass(frozen=True, slots=True)
class Profile:
    """What a netprofile gives to each endpoint of the groups that name it."""

    bandwidth: Bandwidth = NO_LIMITS
    dscp: int = 0
    """The DSCP (RFC 2474) of what they send; 0: as they set it."""


NO_PROFILE = Profile()


def profile_of(netprofile: Mapping[str, Any]) -> Profile:
    """Return what a stored netprofile says: one bandwidth, both ways, each endpoint for itself."""
    dscp = int(netprofile.get("DSCP") or 0)
    rate = rate_of(str(netprofile.get("bandwidth") or ""))
    if not rate:
        return Profile(dscp=max(dscp, 0))
    limit = Limit(rate, int(netprofile.get("burst") or 0) * _KILOBYTE)
    return Profile(Bandwidth(limit, limit), max(dscp, 0))


def rate_of(text: str) -> int:
    """Return the bits per second of a bandwidth such as `10 mbps`, `10Gb` or `4g`; 0 for none."""
    found = fullmatch(r"(\d+) ?([kmgKMG])(b|bps)?", text.strip())
    return min(int(found[1]) * _UNITS[found[2].lower()], _HIGHEST_RATE) if found else 0
