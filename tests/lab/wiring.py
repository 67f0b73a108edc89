"""The namespaces of a lab and the wires between them, made from a plan."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

from netfabric.lab.errors import LabError
from netfabric.lab.namespace import Namespace
from netfabric.lab.plan import End, Node, Plan

BRIDGE = "oob"
"""The management bridge's name, in a namespace of its own."""
_FIRST_INDEX = 50

_EVERYWHERE = {
    # Addresses are usable at once: nobody else can have them on these wires.
    "net/ipv6/conf/all/accept_dad": "0",
    "net/ipv6/conf/default/accept_dad": "0",
}
_ON_SWITCHES = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv4/fib_multipath_hash_policy": "1",
    "net/ipv6/fib_multipath_hash_policy": "1",
}


def build(plan: Plan) -> None:
    """Make every namespace and wire, with its addresses; raise LabError naming the node."""
    _ip("lab", (f"netns add {node.namespace}" for node in plan.nodes))
    for node in plan.nodes:
        _tune(node)
    _ip("wiring", _links(plan))
    for node in plan.nodes:
        _ip(node.name, _addressing(plan, node), node.namespace)


def _tune(node: Node) -> None:
    """Set what a switch's or a machine's own administrator would; a host's agent sees to the rest."""
    values = _EVERYWHERE | (_ON_SWITCHES if node.role in ("spine", "tor") else {})
    with Namespace(node.namespace).entered():
        for name, value in values.items():
            (Path("/proc/sys") / name).write_text(value)


def _links(plan: Plan) -> Iterable[str]:
    """Every link gets an index of its own.

    Left alone, both ends of a pair often have the same one, each in its namespace. The kernel then takes them
    for no virtual links, and lets traffic pass only up to a second later (linkwatch_urgent_event).
    """
    for number, wire in enumerate(plan.wires, start=_FIRST_INDEX):
        upper, lower = (plan.node(end.node).namespace for end in (wire.upper, wire.lower))
        yield (
            f"link add {wire.upper.link} index {2 * number} netns {upper} "
            f"type veth peer name {wire.lower.link} index {2 * number + 1} netns {lower}"
        )


def _addressing(plan: Plan, node: Node) -> Iterable[str]:
    yield "link set lo up"
    if node.role == "mgmt":
        yield f"link add {BRIDGE} type bridge"
        yield f"link set {BRIDGE} up"
    if node.vtep is not None:
        yield f"address add {node.vtep} dev lo"
    for end in _ends(plan, node):
        yield from (f"address add {address} dev {end.link}" for address in end.addresses)
        yield f"link set {end.link} {f'master {BRIDGE} ' if node.role == 'mgmt' else ''}up"


def _ends(plan: Plan, node: Node) -> Iterable[End]:
    for wire in plan.wires:
        if ends := wire.seen_from(node.name):
            yield ends[0]


def _ip(node: str, lines: Iterable[str], namespace: str = "") -> None:
    """Run `ip` commands in one process."""
    words = ["ip", *(["-n", namespace] if namespace else []), "-batch", "-"]
    text = "".join(f"{line}\n" for line in lines)
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(node, f"ip: {' '.join(done.stderr.split())}")
