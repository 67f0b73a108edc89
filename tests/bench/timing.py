"""Samples of durations and how they are printed: medians, 99th percentiles, ratios."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles

from rich.table import Table


@dataclass(slots=True)
class Timings:
    """Durations of one operation, in seconds, in the order they were taken."""

    name: str
    seconds: list[float] = field(default_factory=list)
    goal: str = ""
    """What it should be, in words."""

    @property
    def median(self) -> float:
        """Return the middle duration."""
        return median(self.seconds)

    @property
    def p99(self) -> float:
        """Return the duration that 99 of 100 stay under; of a single one, that one."""
        if len(self.seconds) == 1:
            return self.seconds[0]
        return quantiles(self.seconds, n=100, method="inclusive")[98]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rows of one table: (what was timed, what it is compared with)."""

    title: str
    rows: Sequence[tuple[Timings, Timings | None]]

    def table(self) -> Table:
        """Return it as a table: milliseconds, and the ratio of the medians."""
        table = Table(title=self.title, title_justify="left", title_style="bold")
        for heading in ("what", "n", "median ms", "p99 ms", "ratio of medians", "goal"):
            table.add_column(heading, justify="left" if heading in ("what", "goal") else "right")
        for timed, other in self.rows:
            table.add_row(
                timed.name,
                str(len(timed.seconds)),
                f"{timed.median * 1e3:.2f}",
                f"{timed.p99 * 1e3:.2f}",
                f"{timed.median / other.median:.2f}" if other else "",
                timed.goal,
            )
        return table
