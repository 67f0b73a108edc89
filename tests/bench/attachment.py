"""ADD and DEL of a container: netfabric's plugin beside Debian's `bridge` with `host-local`."""

from collections.abc import Callable
from pathlib import Path

from netfabric.lab.lab import DEFAULT_NETWORK, Lab
from netfabric.lab.namespace import Namespace
from tests.bench.plugin import Plugin, bridge
from tests.bench.timing import Comparison, Timings

ROUNDS = 100
BATCH = 10
"""The two take turns in batches, so that what else the machine does hits both."""


def ours(lab: Lab, host: str) -> Plugin:
    """Return the plugin of a lab's host, as the lab's own engine calls it."""
    engine = lab.machine(host).engine
    conflist = engine.conflist(DEFAULT_NETWORK)
    configuration = {
        "cniVersion": conflist["cniVersion"],
        "name": conflist["name"],
        **conflist["plugins"][0],
    }
    return Plugin(engine.plugin, configuration, engine.namespace)


def measure(lab: Lab, scratch: Path, say: Callable[[str], None]) -> Comparison:
    """Attach and detach ROUNDS containers with each plugin, one at a time."""
    say(f"ADD and DEL, {ROUNDS} containers with each plugin …")
    other_host = Namespace(f"{lab.plan.prefix}bridge")
    other_host.create()
    try:
        plugins = {
            "netfabric": ours(lab, "host1"),
            "bridge + host-local": bridge(other_host, scratch / "host-local"),
        }
        taken = {
            (name, command): Timings(f"{command}, {name}")
            for name in plugins
            for command in ("ADD", "DEL")
        }
        for start in range(0, ROUNDS, BATCH):
            for name, plugin in plugins.items():
                _batch(lab, plugin, range(start, start + BATCH), name, taken)
    finally:
        other_host.delete()
    taken["netfabric", "ADD"].goal = "ratio at most 0.5"
    rows = [
        (
            taken[name, command],
            taken["bridge + host-local", command] if name == "netfabric" else None,
        )
        for command in ("ADD", "DEL")
        for name in plugins
    ]
    return Comparison("Attaching a container (netfabric's includes the durable address)", rows)


def _batch(
    lab: Lab,
    plugin: Plugin,
    numbers: range,
    name: str,
    taken: dict[tuple[str, str], Timings],
) -> None:
    containers = [Namespace(f"{lab.plan.prefix}b{number}") for number in numbers]
    for container in containers:
        container.create()
    try:
        for command in ("ADD", "DEL"):
            for container in containers:
                start, end, _ = plugin.call(command, container)
                taken[name, command].seconds.append(end - start)
    finally:
        for container in containers:
            container.delete()
