"""A hundred pods at once on one host, by containerd's CRI; each ADD is timed where containerd calls the plugin."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from tests.engines.containerd import Containerd

# No process of its own besides the plugin's: 10 ms is what /proc/uptime tells.
_TIMED = """#!/bin/sh
read -r start _ </proc/uptime
{plugin}
code=$?
read -r end _ </proc/uptime
[ "$CNI_COMMAND" != ADD ] || echo "$start $end" >>{times}
exit $code
"""


@dataclass(frozen=True, slots=True)
class Burst:
    """How it went."""

    seconds: float
    """From the first request to the last answer."""
    adds: tuple[float, ...]
    """Of each ADD, in seconds, in the order they ended."""
    addresses: tuple[tuple[str, ...], ...]
    """Of each pod."""


@contextmanager
def timed(daemon: Containerd, plugin: str) -> Iterator[None]:
    """Have a plugin in the place of /opt/cni/bin timed meanwhile."""
    host = daemon.host
    real, kept = f"/opt/cni/bin/{plugin}", f"/opt/cni/timed/{plugin}"
    times = host.directory / "adds"
    times.unlink(missing_ok=True)
    host.run("mkdir", "-p", "/opt/cni/timed")
    host.run("mv", real, kept)
    try:
        host.run("tee", real, stdin=_TIMED.format(plugin=kept, times=times).encode())
        host.run("chmod", "755", real)
        yield
    finally:
        host.run("mv", kept, real)


@contextmanager
def burst(daemon: Containerd, plugin: str, count: int) -> Iterator[Burst]:
    """Start `count` pods at once; yield how it went while they are there, then remove them."""
    with timed(daemon, plugin), daemon.cri() as cri, ThreadPoolExecutor(count) as pool:
        start = time.monotonic()
        pods = list(pool.map(cri.run_pod, (f"burst-{number}" for number in range(count))))
        seconds = time.monotonic() - start
        try:
            lines = (daemon.host.directory / "adds").read_text().splitlines()
            adds = tuple(float(end) - float(begun) for begun, end in map(str.split, lines))
            yield Burst(seconds, adds, tuple(map(cri.addresses, pods)))
        finally:
            list(pool.map(cri.remove_pod, pods))
