"""From ADD to the rest of the network: the ToRs' kernels, and the first answer to another rack."""

from collections.abc import Callable
from contextlib import ExitStack
from ipaddress import ip_interface
from pathlib import Path

from netfabric.fabric.prefix import Address, host_prefix
from netfabric.lab.kernel_watch import KernelWatch
from netfabric.lab.lab import Lab
from netfabric.lab.namespace import Namespace
from netfabric.lab.probe import first_answers
from tests.bench.attachment import ours
from tests.bench.plugin import Plugin
from tests.bench.timing import Comparison, Timings

ROUNDS = 50
PATIENCE = 10.0


def measure(lab: Lab, scratch: Path, say: Callable[[str], None]) -> Comparison:
    """Attach ROUNDS containers on the first host, one at a time, and see them arrive."""
    say(f"ADD until the switches and another rack know, {ROUNDS} containers …")
    tors = [node for node in lab.plan.tors if node.rack == 1]
    kinds = ", ".join(sorted({str(node.kind).upper() for node in tors}))
    in_fib = Timings(f"ADD → {kinds} ToR's kernel FIB", goal="under 15 ms")
    reached = Timings("ADD → answers a ping from the other rack")
    source = lab.containers()[-1].namespace
    plugin = ours(lab, "host1")
    with ExitStack() as stack:
        watches = [stack.enter_context(KernelWatch(Namespace(node.namespace))) for node in tors]
        for number in range(ROUNDS):
            container = Namespace(f"{lab.plan.prefix}p{number}")
            container.create()
            stack.callback(container.delete)
            _one(plugin, container, watches, source, in_fib, reached)
    return Comparison(
        "Making it known (from the start of ADD, IPv4)", [(in_fib, None), (reached, None)]
    )


def _one(
    plugin: Plugin,
    container: Namespace,
    watches: list[KernelWatch],
    source: Namespace,
    in_fib: Timings,
    reached: Timings,
) -> None:
    start, _, result = plugin.call("ADD", container)
    address: Address = ip_interface(result["ips"][0]["address"]).ip
    answered = first_answers(source, [address], PATIENCE)[address]
    prefix = host_prefix(address)
    arrived = [watch.wait(prefix, gone=False, timeout=PATIENCE, after=start) for watch in watches]
    plugin.call("DEL", container)
    in_fib.seconds += [when - start for when in arrived]
    reached.seconds.append(answered - start)
