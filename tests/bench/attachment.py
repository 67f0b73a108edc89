"""ADD and DEL of a container: netfabric's plugin beside Debian's `bridge` with `host-local`."""

from collections.abc import Callable
from pathlib import Path

from netfabric.lab.lab import DEFAULT_NETWORK, Lab
from netfabric.lab.namespace import Namespace
from tests.bench.plugin import Plugin, bridge
from tests.bench.timing import Comparison, Timings

ROUNDS = 100
GOALS = {
    ("netfabric", "ADD"): "ratio at most 0.5",
    ("netfabric", "DEL"): "0.3 s of it: the fabric forgets the route first",
}
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
            (name, command): Timings(f"{command}, {name}", goal=GOALS.get((name, command), ""))
            for name in plugins
            for command in ("ADD", "DEL")
        }
        for start in range(0, ROUNDS, BATCH):
            for name, plugin in plugins.items():
                _batch(lab, plugin, range(start, start + BATCH), name, taken)
    finally:
        other_host.delete()
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
    """As an engine goes about it: a namespace, its ADD, the next; later each DEL, and its namespace's end."""
    containers = [Namespace(f"{lab.plan.prefix}b{number}") for number in numbers]
    try:
        for container in containers:
            container.create()
            _timed(plugin, "ADD", container, taken[name, "ADD"])
        for container in containers:
            _timed(plugin, "DEL", container, taken[name, "DEL"])
            container.delete()
    finally:
        for container in containers:
            container.delete()


def _timed(plugin: Plugin, command: str, container: Namespace, into: Timings) -> None:
    start, end, _ = plugin.call(command, container)
    into.seconds.append(end - start)
