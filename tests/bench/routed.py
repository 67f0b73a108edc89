"""What routed networks cost beside routes and links made by hand."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from netfabric.lab.lab import Lab
from netfabric.lab.namespace import Namespace
from netfabric.lab.plan import End
from tests.bench.overlay import HOSTS, TENANT, Throughput, take_turns

NETWORK = f"{TENANT}:flat"
_ADDRESSES = ("10.78.0.1", "10.78.0.2")


def throughput(lab: Lab, say: Callable[[str], None]) -> Throughput:
    """Compare a routed network with static routes on the same hosts and switches."""
    network = {
        "tenantName": TENANT,
        "networkName": "flat",
        "encap": "routed",
        "subnet": "10.79.0.0/16",
    }
    lab.controller.ask(lambda netmaster: netmaster.put("networks", NETWORK, network))
    with _by_hand(lab) as plain:
        turns = take_turns(lab, say, NETWORK, plain, _ADDRESSES[1])
    return Throughput("routed", "veth + static routes by hand", 0.95, *turns)


@contextmanager
def _by_hand(lab: Lab) -> Iterator[tuple[Namespace, Namespace]]:
    """A container on each host, and the two routes between them on every node of the way."""
    made = [Namespace(f"{lab.plan.prefix}route{n}") for n in (1, 2)]
    with ExitStack() as stack:
        for host, inside, address in zip(HOSTS, made, _ADDRESSES, strict=True):
            inside.create()
            stack.callback(inside.delete)
            _attach(lab.plan.node(host).namespace, inside.name, address)
            other = next(a for a in _ADDRESSES if a != address)
            for lower, upper in _way_up(lab, host):
                _route(lab, lower, other, upper)
                _route(lab, upper, address, lower)
        yield made[0], made[1]


def _attach(host: str, inside: str, address: str) -> None:
    for line in (
        f"-n {host} link add hand1 type veth peer name eth0 netns {inside}",
        f"-n {host} link set hand1 up",
        f"-n {inside} address add {address}/32 dev eth0",
        f"-n {inside} link set eth0 up",
        f"-n {host} route add {address}/32 dev hand1",
        f"-n {host} address add 10.78.255.1/32 dev hand1",
        f"-n {inside} route add 10.78.255.1 dev eth0",
        f"-n {inside} route add default via 10.78.255.1",
    ):
        subprocess.run(["ip", *line.split()], check=True)


def _way_up(lab: Lab, node: str) -> Iterator[tuple[End, End]]:
    """Yield (lower end, upper end) of each wire from a host up to the highest switch."""
    above = next(
        (w for w in lab.plan.wires if w.lower.node == node and w.upper.v6 and w.upper.v4), None
    )
    if above is not None:
        yield above.lower, above.upper
        yield from _way_up(lab, above.upper.node)


def _route(lab: Lab, where: End, address: str, via: End) -> None:
    assert via.v4 is not None
    words = f"route replace {address}/32 via {via.v4.ip} dev {where.link}".split()
    subprocess.run(["ip", "-n", lab.plan.node(where.node).namespace, *words], check=True)
