"""`make bench`: measures, side by side in one run with what people use today, and prints tables."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from netfabric.lab.lab import Lab
from netfabric.lab.settings import Settings
from tests.bench import attachment, burst, overlay, policy, propagation, rest, routed
from tests.bench.timing import Comparison


def main() -> int:
    """Measure netmaster's REST, then bring a lab up, measure there, take it down."""
    console = Console(width=100)
    rates = rest.measure(console.print)
    settings = Settings(name="bench", racks=2, hosts=1, tors=2, tor="bird", containers=1)
    comparisons: list[Comparison] = []
    with (
        Lab(settings, on_step=lambda step: console.print(f"[dim]{step} …")) as lab,
        TemporaryDirectory() as scratch,
    ):
        for measure in (attachment.measure, propagation.measure):
            comparison = measure(lab, Path(scratch), console.print)
            comparisons.append(comparison)
        if together := burst.measure(lab, Path(scratch), console.print):
            comparisons.append(together)
    wide = Settings(name="benchvx", racks=2, hosts=1, tors=1, containers=0, vteps="ipv4")
    with Lab(wide, on_step=lambda step: console.print(f"[dim]{step} …")) as lab:
        overlay.prepare(lab)
        throughputs = [m.throughput(lab, console.print) for m in (overlay, routed)]
        comparisons.append(overlay.reach(lab, console.print))
    for throughput in throughputs:
        console.print(throughput.table())
    for comparison in comparisons:
        console.print(comparison.table())
    console.print(rest.table(rates))
    console.print(policy.measure(console.print).table())
    console.print(policy.throughput(console.print))
    return 0


if __name__ == "__main__":
    sys.exit(main())
