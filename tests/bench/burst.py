"""A burst: 100 pods at once on one host through containerd's CRI, with netfabric and with Debian's `bridge`."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from netfabric.lab import probe
from netfabric.lab.lab import Lab
from tests.bench.timing import Comparison, Timings
from tests.engines.burst import Burst, burst
from tests.engines.containerd import Containerd
from tests.engines.host import Host, missing

PODS, ROUNDS = 100, 2
PATIENCE = 10.0
_CONFLIST = "/etc/cni/net.d/10-netfabric.conflist"
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
    if lacking := missing("containerd", "ctr", "runc"):
        say(f"No burst of pods: {lacking}")
        return None
    say(f"{PODS} pods at once, {ROUNDS} times with each plugin …")
    with Host(lab.machine("host1"), scratch / "engine").running() as host:
        ours, theirs = sides = _sides(host)
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


def _sides(host: Host) -> tuple[Side, Side]:
    host.run("cp", "/usr/lib/cni/bridge", "/usr/lib/cni/host-local", "/opt/cni/bin/")
    ours = host.run("cat", _CONFLIST)
    return (
        _side("netfabric", ours, "no longer than with bridge", "none over 2 s"),
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
    host.run("tee", _CONFLIST, stdin=side.conflist.encode())
    with Containerd(host).running() as daemon, burst(daemon, side.plugin, PODS) as went:
        side.pods.seconds.append(went.seconds)
        side.adds.seconds += went.adds
        if side.plugin == "netfabric":
            _connected(lab, went)


def _connected(lab: Lab, went: Burst) -> None:
    """Ping all of them from the other rack; raise RuntimeError where one does not answer."""
    source = lab.containers()[-1]
    targets = {pod[0]: tuple(map(ip_address, pod)) for pod in went.addresses}
    matrix = probe.ping({source.title: source.namespace}, targets, PATIENCE)
    answers = [took for took in matrix.values() if took is not None]
    if len(answers) < 2 * PODS:
        raise RuntimeError(f"{len(answers)} of {2 * PODS} addresses answer {source.title}")
