"""REST on a real netmaster and a real etcd: networks made and read by 16 clients at once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

from rich.table import Table

from tests.api.conftest import NetmasterProcess
from tests.api.store.conftest import make_etcd
from tests.bench.load import Load, Request, run

CLIENTS = 16
MADE = 3_000
READ = 10_000
MANY = 5_000
"""Networks that are there when it is measured again: a fabric in use."""
DISK, TMPFS = Path("/var/tmp"), Path("/dev/shm")
POST_GOAL = "800/s, p99 under 60 ms"
GET_GOAL = "2,500/s"


@dataclass(frozen=True, slots=True)
class Rate:
    """What a load came to."""

    name: str
    load: Load
    goal: str = ""

    def row(self) -> tuple[str, ...]:
        """Return it as a line of the table."""
        cuts = quantiles(self.load.seconds, n=100, method="inclusive")
        return (
            self.name,
            str(len(self.load.seconds)),
            f"{len(self.load.seconds) / self.load.took:,.0f}",
            f"{cuts[49] * 1e3:.1f}",
            f"{cuts[98] * 1e3:.1f}",
            self.goal,
        )


def table(rates: list[Rate]) -> Table:
    """Return all rates as a table."""
    found = Table(
        title=f"REST, {CLIENTS} clients at once", title_justify="left", title_style="bold"
    )
    for heading in ("what", "n", "a second", "median ms", "p99 ms", "goal"):
        found.add_column(heading, justify="left" if heading in ("what", "goal") else "right")
    for rate in rates:
        found.add_row(*rate.row())
    return found


@contextmanager
def _netmaster(place: Path) -> Iterator[str]:
    """Yield the `host:port` of a netmaster whose etcd has its data in `place`."""
    with TemporaryDirectory(prefix="netfabric-bench", dir=place) as directory:
        etcd = make_etcd(Path(directory))
        try:
            netmaster = NetmasterProcess(Path(directory) / "netmaster.log", "--store", etcd.url)
            try:
                yield netmaster.ready().url.removeprefix("http://")
            finally:
                netmaster.stop()
        finally:
            etcd.stop()


def _made_v1(numbers: Iterator[int]) -> Iterator[Request]:
    """A VXLAN network each, as netctl posts it: it gets a VNI."""
    for number in numbers:
        name, addresses = f"n{number}", f"10.{number >> 8}.{number & 255}"
        body = {
            "key": f"default:{name}",
            "tenantName": "default",
            "networkName": name,
            "encap": "vxlan",
            "subnet": f"{addresses}.0/24",
            "gateway": f"{addresses}.254",
        }
        yield "POST", f"/api/v1/networks/default:{name}/", body


def _made_v2(numbers: Iterator[int]) -> Iterator[Request]:
    for number in numbers:
        subnet = f"10.{number >> 8}.{number & 255}.0/24"
        body = {"tenantName": "default", "networkName": f"n{number}", "subnet": subnet}
        yield "POST", "/api/v2/networks", body


def measure(say: Callable[[str], None]) -> list[Rate]:
    """Make and read networks with the store on a disk, and make some with it in memory."""
    say(f"REST with {CLIENTS} clients, etcd on {DISK} …")
    with _netmaster(DISK) as address:
        rates = list(_on_disk(address))
    say(f"REST with {CLIENTS} clients, etcd on {TMPFS} …")
    with _netmaster(TMPFS) as address:
        load = run(address, CLIENTS, [*islice(_made_v1(count()), MADE)])
        rates.append(Rate("POST network, /api/v1, etcd on tmpfs", load))
    return rates


def _on_disk(address: str) -> Iterator[Rate]:
    def load(requests: Iterator[Request], number: int) -> Load:
        return run(address, CLIENTS, [*islice(requests, number)])

    def read(path: str) -> Load:
        return run(address, CLIENTS, [("GET", path, None)] * READ)

    numbers = count()
    yield Rate("POST network, /api/v1", load(_made_v1(numbers), MADE), POST_GOAL)
    yield Rate("GET network, /api/v1", read("/api/v1/networks/default:n7/"), GET_GOAL)
    yield Rate("POST network, /api/v2", load(_made_v2(numbers), MADE), POST_GOAL)
    yield Rate("GET network, /api/v2", read("/api/v2/networks/default:n7"), GET_GOAL)
    load(_made_v2(numbers), max(0, MANY - 2 * MADE))
    many = f"{max(MANY, 2 * MADE):,} there"
    yield Rate(f"POST network, /api/v1, {many}", load(_made_v1(numbers), MADE), POST_GOAL)
    yield Rate(f"GET network, /api/v1, {many}", read("/api/v1/networks/default:n7/"), GET_GOAL)
