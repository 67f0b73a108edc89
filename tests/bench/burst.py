"""A burst: 100 pods at once on one host through containerd's CRI, with netfabric and with Debian's `bridge`."""

import json
import subprocess
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from netfabric.lab import probe
from netfabric.lab.lab import Lab
from tests.bench.timing import Comparison, Timings
from tests.engines.containerd import Containerd
from tests.engines.cri import Runtime
from tests.engines.host import Host, missing

PODS, ROUNDS = 100, 2
PATIENCE = 10.0
_BIN, _CONF = Path("/opt/cni/bin"), Path("/etc/cni/net.d")
_LINK = "benchbr0"
_BRIDGE = {
    "cniVersion": "1.0.0",
    "name": "bench",
    "plugins": [
        {
            "type": "bridge",
            "bridge": _LINK,
            "isGateway": True,
            "ipam": {
                "type": "host-local",
                "dataDir": "/run/bench",
                "ranges": [[{"subnet": "10.88.0.0/16"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
    ],
}


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two that are compared: its plugin, its network, and what was measured."""

    plugin: str
    conflist: str
    pods: Timings
    adds: Timings


def measure(lab: Lab, scratch: Path, say: Callable[[str], None]) -> Comparison | None:
    """Start PODS pods at once with each, ROUNDS times in turns; return None, and say why, where no engine is."""
    if lacking := missing("containerd", "ctr", "runc", "gcc"):
        say(f"No burst of pods: {lacking}")
        return None
    say(f"{PODS} pods at once, {ROUNDS} times with each plugin …")
    with Host(lab.machine("host1"), scratch / "engine").running() as host:
        ours, theirs = sides = _sides(host, scratch)
        for _ in range(ROUNDS):
            for side in sides:
                _burst(lab, host, side)
        host.tries("ip", "link", "delete", _LINK)
    rows = [
        (ours.pods, theirs.pods),
        (theirs.pods, None),
        (ours.adds, theirs.adds),
        (theirs.adds, None),
    ]
    return Comparison(f"{PODS} pods at once on one host, by containerd's CRI", rows)


def _sides(host: Host, scratch: Path) -> tuple[Side, Side]:
    """Put both plugins where containerd looks, timed."""
    timed = scratch / "timed"
    source = Path(__file__).with_name("timed.c")
    subprocess.run(["gcc", "-O2", "-o", timed, source], check=True, timeout=60)
    host.run("cp", "/usr/lib/cni/bridge", "/usr/lib/cni/host-local", str(_BIN))
    conflist = host.run("cat", str(_CONF / "10-netfabric.conflist"))
    for plugin in ("netfabric", "bridge"):
        host.run("mv", str(_BIN / plugin), str(_BIN / f"{plugin}.real"))
        host.run("cp", str(timed), str(_BIN / plugin))
    return (
        _side("netfabric", conflist, "no longer than with bridge", "none over 2 s"),
        _side("bridge", json.dumps(_BRIDGE), "", ""),
    )


def _side(plugin: str, conflist: str, pods: str, adds: str) -> Side:
    return Side(
        plugin,
        conflist,
        Timings(f"all {PODS} pods run, {plugin}", goal=pods),
        Timings(f"ADD among them, {plugin}", goal=adds),
    )


def _burst(lab: Lab, host: Host, side: Side) -> None:
    times = str(_BIN / f"{side.plugin}.times")
    host.run("tee", str(_CONF / "10-netfabric.conflist"), stdin=side.conflist.encode())
    host.run("rm", "-f", times)
    with (
        Containerd(host).running() as daemon,
        daemon.cri() as cri,
        ThreadPoolExecutor(PODS) as pool,
    ):
        start = time.monotonic()
        pods = list(pool.map(cri.run_pod, (f"pod{number}" for number in range(PODS))))
        side.pods.seconds.append(time.monotonic() - start)
        side.adds.seconds += _adds(host.run("cat", times))
        if side.plugin == "netfabric":
            _connected(lab, cri, pods)
        list(pool.map(cri.remove_pod, pods))


def _adds(times: str) -> list[float]:
    """Return how many seconds each ADD took."""
    words = (line.split() for line in times.splitlines())
    return [float(milliseconds) / 1e3 for command, milliseconds in words if command == "ADD"]


def _connected(lab: Lab, cri: Runtime, pods: Iterable[str]) -> None:
    """Ping all of them from the other rack; raise RuntimeError where one does not answer."""
    source = lab.containers()[-1]
    addresses = {pod: tuple(map(ip_address, cri.addresses(pod))) for pod in pods}
    matrix = probe.ping({source.title: source.namespace}, addresses, PATIENCE)
    silent = [pair.target for pair, took in matrix.items() if took is None]
    if silent or len(matrix) != 2 * len(addresses):
        raise RuntimeError(f"{len(silent)} of {len(matrix)} do not answer {source.title}")
