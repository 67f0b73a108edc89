"""Samples of durations and how they are printed: medians, 99th percentiles, ratios."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles


@dataclass(frozen=True, slots=True)
class Timings:
    """Durations of one operation, in seconds, in the order they were taken."""

    name: str
    seconds: Sequence[float]

    @property
    def median(self) -> float:
        """Return the middle duration."""
        return median(self.seconds)

    @property
    def p99(self) -> float:
        """Return the duration that 99 of 100 stay under."""
        return quantiles(self.seconds, n=100, method="inclusive")[98]

    def row(self, reference: "Timings | None" = None) -> list[str]:
        """Return name, n, median, p99 in ms, and the ratio of the medians to a reference."""
        ratio = f"{self.median / reference.median:.2f}" if reference else ""
        return [
            self.name,
            str(len(self.seconds)),
            f"{self.median * 1e3:.2f}",
            f"{self.p99 * 1e3:.2f}",
            ratio,
        ]


HEADINGS = ("what", "n", "median ms", "p99 ms", "ratio")
