"""Overlays: how soon a new endpoint is reached beside 1,000 others, and what VXLAN costs beside one made by hand."""

import json
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_interface
from statistics import median

from rich.table import Table

from netfabric.fabric.prefix import Address
from netfabric.lab.lab import Lab
from netfabric.lab.namespace import Namespace
from netfabric.lab.probe import first_answers
from tests.bench.plugin import Plugin
from tests.bench.timing import Comparison, Timings

REMOTES = 1000
ROUNDS = 50
PATIENCE = 20.0
TENANT, NETWORK = "bench", "bench:net"
HOSTS = ("host1", "host2")
TURNS, SECONDS = 5, 2
"""Of iperf3, for each of the two."""
_PORT = 4790
_WORKERS = 4


@dataclass(frozen=True, slots=True)
class Throughput:
    """Bits a second of one TCP connection, turn by turn."""

    title: str
    by_hand: str
    goal: float
    """Of the ratio."""
    ours: list[float]
    plain: list[float]

    def table(self) -> Table:
        """Return it as a table: gigabits a second, and the ratio of the medians."""
        table = Table(title=f"TCP between two hosts, {self.title}", title_justify="left")
        for heading in ("what", "turns", "median Gbit/s", "ratio of medians", "goal"):
            table.add_column(heading)
        both = median(self.ours), median(self.plain)
        ratio = f"{both[0] / both[1]:.2f}"
        turns = str(len(self.ours))
        table.add_row("netfabric", turns, f"{both[0] / 1e9:.2f}", ratio, f"at least {self.goal}")
        table.add_row(self.by_hand, turns, f"{both[1] / 1e9:.2f}", "", "")
        return table


def prepare(lab: Lab) -> None:
    """Make the tenant and its network."""
    network = {
        "tenantName": TENANT,
        "networkName": "net",
        "encap": "vxlan",
        "subnet": "10.7.0.0/16",
    }
    lab.controller.ask(lambda n: n.put("tenants", TENANT, {"tenantName": TENANT}))
    lab.controller.ask(lambda n: n.put("networks", NETWORK, network))


def throughput(lab: Lab, say: Callable[[str], None]) -> Throughput:
    """Compare VXLAN with a device and a bridge made by hand."""
    with _by_hand(lab) as plain:
        turns = take_turns(lab, say, NETWORK, plain, "10.77.0.2")
    return Throughput("over VXLAN", "vxlan + bridge by hand", 0.9, *turns)


def take_turns(
    lab: Lab,
    say: Callable[[str], None],
    network: str,
    plain: tuple[Namespace, Namespace],
    address: str,
) -> tuple[list[float], list[float]]:
    """Let ours and the plain one take turns, so that what else the machine does hits both."""
    say(f"TCP on {network}, {TURNS} turns of {SECONDS} s each …")
    name = network.partition(":")[2]
    one, other = (lab.attach(host, f"tcp{name}", network) for host in HOSTS)
    first_answers(one.namespace, other.addresses, PATIENCE)
    ours, by_hand = [], []
    for _ in range(TURNS):
        ours.append(_iperf(one.namespace, other.namespace, str(other.addresses[0])))
        by_hand.append(_iperf(*plain, address))
    return ours, by_hand


def _iperf(source: Namespace, target: Namespace, address: str) -> float:
    """Return the bits a second that the receiver got."""
    listening = target.command("iperf3", "-s", "-1", "--forceflush", "-B", address)
    with subprocess.Popen(listening, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        while "listening" not in server.stdout.readline():
            pass
        sending = source.command("iperf3", "-c", address, "-t", str(SECONDS), "-J")
        done = subprocess.run(sending, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"])


@contextmanager
def _by_hand(lab: Lab) -> Iterator[tuple[Namespace, Namespace]]:
    """A VXLAN device and a bridge on two hosts, and a container on each."""
    vteps = [lab.plan.node(host).vtep for host in HOSTS]
    made = [Namespace(f"{lab.plan.prefix}hand{n}") for n in (1, 2)]
    plain = f"type vxlan id 4000 dstport {_PORT}"
    with ExitStack() as stack:
        for number, (host, inside) in enumerate(zip(HOSTS, made, strict=True)):
            inside.create()
            stack.callback(inside.delete)
            lines = (
                f"link add hand {plain} local {vteps[number]} remote {vteps[1 - number]}",
                "link add handbr type bridge",
                "link set hand master handbr up",
                "link set handbr up",
                f"link add handv mtu 1450 type veth peer name eth0 netns {inside.name} mtu 1450",
                "link set handv master handbr up",
                f"-n {inside.name} address add 10.77.0.{number + 1}/24 dev eth0",
                f"-n {inside.name} link set eth0 up",
            )
            for line in lines:
                words = line.split()
                where = [] if words[0] == "-n" else ["-n", lab.plan.node(host).namespace]
                subprocess.run(["ip", *where, *words], check=True)
        yield made[0], made[1]


def reach(lab: Lab, say: Callable[[str], None]) -> Comparison:
    """Have REMOTES endpoints on the second host, and see ROUNDS more being reached from the first."""
    say(f"{REMOTES} endpoints on another host …")
    source = lab.attach("host1", "source", NETWORK)
    with ThreadPoolExecutor(_WORKERS) as pool:
        made = list(pool.map(lambda n: lab.attach("host2", f"r{n}", NETWORK), range(REMOTES)))
    first_answers(source.namespace, [made[-1].addresses[0]], PATIENCE)
    say(f"ADD until another host reaches it, {ROUNDS} containers …")
    engine = lab.machine("host2").engine
    conflist = engine.conflist(NETWORK)
    configuration = {
        "cniVersion": conflist["cniVersion"],
        "name": conflist["name"],
        **conflist["plugins"][0],
    }
    plugin = Plugin(engine.plugin, configuration, engine.namespace)
    reached = Timings(f"ADD → answers a ping, beside {REMOTES}", goal="median at most 100 ms")
    with ExitStack() as stack:
        for number in range(ROUNDS):
            container = Namespace(f"{lab.plan.prefix}o{number}")
            container.create()
            stack.callback(container.delete)
            start, _, result = plugin.call("ADD", container)
            address: Address = ip_interface(result["ips"][0]["address"]).ip
            reached.seconds.append(
                first_answers(source.namespace, [address], PATIENCE)[address] - start
            )
            plugin.call("DEL", container)
    return Comparison("An overlay's endpoint made known (from the start of ADD)", [(reached, None)])
