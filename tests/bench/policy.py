"""What policy costs on one host: endpoints, members and rules beside few rules and beside 10,000; throughput."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_network
from statistics import median

from rich.console import Console

from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.filter import FilterRule, GroupFilter, Members, PeerMatch, PortRange
from netfabric.fabric.network import Network, whole_range
from netfabric.fabric.ruleset import TABLE, RulesetKey, RulesetObject
from netfabric.fabric.ruleset_desired import DesiredRuleset
from netfabric.fabric.ruleset_plan import transaction
from tests.bench.timing import Comparison, Timings
from tests.netns.datapath.bench import RealBench

SAMPLES, ENDPOINTS, ROUNDS = 200, 60, 7
LISTENS = "until ss -Hltn | grep -q 5201; do sleep 0.05; done"


@dataclass
class FilteredHost:
    """A desired ruleset and the table that follows it, both fed as the agent feeds them."""

    groups: int
    members: int
    bench: RealBench
    desired: DesiredRuleset = field(default_factory=DesiredRuleset)
    actual: dict[RulesetKey, RulesetObject] = field(default_factory=dict)

    def fill(self) -> float:
        """Put a table with ten rules a group, every group with an endpoint here; return the seconds."""
        desired = self.desired
        network = Network("t", "n", "routed", (whole_range(ip_network("10.0.0.0/8")),))
        desired.set_networks([network])
        desired.set_filters({f"t:g{n}": _filter(n) for n in range(self.groups)})
        everyone: dict[int, set[IPv4Address | IPv6Address]] = {}
        for number in range(self.members):
            everyone.setdefault(number % self.groups, set()).add(IPv4Address(0x0B000000 + number))
        told = [Members(f"t:g{n}", frozenset(some)) for n, some in everyone.items()]
        desired.set_members(True, told)
        for number in range(self.groups):
            desired.put_endpoint(_endpoint(number, number))
        start = time.perf_counter()
        self.refill()
        return time.perf_counter() - start

    def _follow(self, keys: set[RulesetKey] | None) -> None:
        if step := transaction(self.desired.objects, self.actual, keys):
            self.bench.routed.filter(step)
        for key in keys if keys is not None else list(self.desired.objects):
            if key in self.desired.objects:
                self.actual[key] = self.desired.objects[key]
            else:
                self.actual.pop(key, None)

    def guard(self, turn: int) -> None:
        """Guard one endpoint more, without its links."""
        number = 1_000_000 + turn
        self._follow(self.desired.put_endpoint(_endpoint(number, turn % self.groups)))

    def attach(self, endpoint: Endpoint) -> None:
        """Guard an endpoint and build its datapath, as an ADD does."""
        self._follow(self.desired.put_endpoint(endpoint))
        self.bench.routed.attach(endpoint)

    def clear(self) -> None:
        """Be without any policy."""
        self.bench.host.run("nft", "delete", "table", "inet", TABLE)
        self.actual.clear()

    def refill(self) -> None:
        """Have the whole table again."""
        self._follow(None)

    def member(self, turn: int) -> None:
        """Have one remote member more."""
        joined = Members(f"t:g{turn % self.groups}", frozenset({IPv4Address(0x0C000000 + turn)}))
        self._follow(self.desired.set_members(False, [joined]))

    def rule(self, turn: int) -> None:
        """Change one rule."""
        number = turn % self.groups
        rules = list(_filter(number).rules)
        rules[5] = FilterRule("5", "t:p", "in", "allow", 5, "tcp", (PortRange(turn + 1, turn + 1),))
        wanted = GroupFilter(f"t:g{number}", "deny", tuple(rules))
        self._follow(self.desired.set_filters({**self.desired.filters, wanted.group: wanted}))


def _filter(number: int) -> GroupFilter:
    rules = tuple(
        FilterRule(
            str(n),
            "t:p",
            "in",
            "allow",
            n + 1,
            "tcp",
            (PortRange(80 + n, 80 + n),),
            peer=PeerMatch(group=f"t:g{number}" if n % 2 else ""),
        )
        for n in range(10)
    )
    return GroupFilter(f"t:g{number}", "deny", rules)


def _endpoint(number: int, group: int) -> Endpoint:
    return Endpoint(
        key=EndpointKey(f"c{number}", "eth0"),
        host="h",
        tenant="t",
        network="n",
        group=f"g{group}",
        namespace="",
        link=f"nf{number:012x}",
        mac="02:02:00:00:00:01",
        addresses=(IPv4Address(0x0A000000 + number), IPv6Address((0xFD << 120) + number)),
    )


def _sample(steps: Mapping[str, Callable[[int], None]], turns: int) -> dict[str, Timings]:
    """Time several steps in turns, so that what else the machine does befalls all alike."""
    found = {name: Timings(name) for name in steps}
    for turn in range(turns):
        for name, step in steps.items():
            start = time.perf_counter()
            step(turn)
            found[name].seconds.append(time.perf_counter() - start)
    return found


def measure(say: Callable[[str], None]) -> Comparison:
    """Return what an endpoint, a member and a changed rule cost, beside what they cost with few rules."""
    say("[dim]policy: 10 rules, and 10,000 …")
    few, many = RealBench("bf"), RealBench("bm")
    try:
        small, large = FilteredHost(1, 20, few), FilteredHost(1000, 20_000, many)
        filled = [Timings("first fill, 10,000 rules", [large.fill()]), Timings("", [small.fill()])]
        rows = [
            _against("ADD's datapath and policy", _attaching(small, large), "within 1.5 times"),
            _against("its policy alone", _pair(small, large, "guard")),
            _against("a remote member more", _pair(small, large, "member"), "under 5 ms"),
            _against("a rule changed", _pair(small, large, "rule")),
        ]
    finally:
        few.close()
        many.close()
    title = "Policy: 10,000 rules in 1,000 groups, 20,000 members; ratio to 10 rules in one group"
    return Comparison(title, [*rows, (filled[0], filled[1])])


def _against(name: str, found: Mapping[str, Timings], goal: str = "") -> tuple[Timings, Timings]:
    found["large"].name, found["large"].goal = name, goal
    return found["large"], found["small"]


def _pair(small: FilteredHost, large: FilteredHost, step: str) -> dict[str, Timings]:
    return _sample({"small": getattr(small, step), "large": getattr(large, step)}, SAMPLES)


def _attaching(small: FilteredHost, large: FilteredHost) -> dict[str, Timings]:
    def step(host: FilteredHost) -> Callable[[int], None]:
        made = [host.bench.container(number + 1) for number in range(ENDPOINTS)]
        ready = [replace(e, tenant="t", network="n", group="g0") for e in made]
        return lambda turn: host.attach(ready[turn])

    return _sample({"small": step(small), "large": step(large)}, ENDPOINTS)


def throughput(say: Callable[[str], None]) -> str:
    """Return how an allowed flow behind 200 rules compares to the same one without any table, in words."""
    say("[dim]policy: throughput …")
    bench = RealBench("bt")
    try:
        host = FilteredHost(1, 20, bench)
        rules = tuple(
            FilterRule(str(n), "t:p", "in", "allow", 1, "tcp", (PortRange(6000 + n, 6000 + n),))
            for n in range(200)
        )
        allowed = FilterRule("iperf", "t:p", "in", "allow", 1, "tcp", (PortRange(5201, 5201),))
        host.desired.set_filters({"t:g0": GroupFilter("t:g0", "deny", (*rules, allowed))})
        host.desired.set_filters(host.desired.filters | {"t:g1": GroupFilter("t:g1")})
        one, two = (replace(bench.container(n + 1), tenant="t", network="n") for n in range(2))
        one, two = replace(one, group="g0"), replace(two, group="g1")
        host.refill()
        host.attach(one)
        host.attach(two)
        return _compared(host, one, two)
    finally:
        bench.close()


def _compared(host: FilteredHost, server: Endpoint, client: Endpoint) -> str:
    words = host.bench.inside(server).command("iperf3", "-s")
    listening = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        host.bench.inside(server).run("timeout", "5", "sh", "-c", LISTENS)
        found: dict[str, list[float]] = {"with": [], "without": []}
        for _ in range(ROUNDS):
            found["with"].append(_iperf(host, server, client))
            host.clear()
            found["without"].append(_iperf(host, server, client))
            host.refill()
    finally:
        listening.kill()
        listening.wait()
    guarded, bare = median(found["with"]), median(found["without"])
    return (
        f"an allowed TCP flow behind 200 rules: {guarded:.1f} Gbit/s, without a table {bare:.1f}:"
        f" {guarded / bare:.2f} (goal: 0.90; medians of {ROUNDS} runs in turns)"
    )


def _iperf(host: FilteredHost, server: Endpoint, client: Endpoint) -> float:
    out = host.bench.inside(client).run("iperf3", "-c", str(server.addresses[0]), "-t", "2", "-J")
    return float(json.loads(out)["end"]["sum_received"]["bits_per_second"]) / 1e9


def main() -> None:
    """Print what policies cost."""
    console = Console(width=110)
    console.print(measure(console.print).table())
    console.print(throughput(console.print))


if __name__ == "__main__":
    main()
