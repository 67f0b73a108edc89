"""What policy costs on one host: an endpoint and a member with few rules and with 10,000; the first fill."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_network

from netfabric.agent.datapath.namespace import in_scratch_namespace
from netfabric.agent.datapath.nftables import Nftables
from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.filter import FilterRule, GroupFilter, Members, PeerMatch, PortRange
from netfabric.fabric.network import Network, whole_range
from netfabric.fabric.ruleset import RulesetKey, RulesetObject
from netfabric.fabric.ruleset_desired import DesiredRuleset
from netfabric.fabric.ruleset_plan import transaction

SAMPLES = 200


@dataclass
class FilteredHost:
    """A desired ruleset and the table that follows it, both fed as the agent feeds them."""

    groups: int
    members: int
    table: Nftables = field(default_factory=lambda: in_scratch_namespace(Nftables))
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
        self._follow(None)
        return time.perf_counter() - start

    def _follow(self, keys: set[RulesetKey] | None) -> None:
        self.table.apply(transaction(self.desired.objects, self.actual, keys))
        for key in keys if keys is not None else list(self.desired.objects):
            if key in self.desired.objects:
                self.actual[key] = self.desired.objects[key]
            else:
                self.actual.pop(key, None)

    def endpoint(self, turn: int) -> None:
        """Guard one endpoint more."""
        number = 1_000_000 + turn
        self._follow(self.desired.put_endpoint(_endpoint(number, turn % self.groups)))

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


def _milliseconds(step: Callable[[int], None]) -> float:
    taken = []
    for turn in range(SAMPLES):
        start = time.perf_counter()
        step(turn)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1000


def measure(groups: int, members: int) -> dict[str, float]:
    """Return seconds of the first fill, and medians in ms of one endpoint, one member and one changed rule."""
    host = FilteredHost(groups, members)
    try:
        return {
            "fill": host.fill(),
            "endpoint": _milliseconds(host.endpoint),
            "member": _milliseconds(host.member),
            "rule": _milliseconds(host.rule),
        }
    finally:
        host.table.close()


def main() -> None:
    """Print what small and large policies cost."""
    for groups, members in ((1, 20), (1000, 20_000)):
        found = measure(groups, members)
        costs = ", ".join(f"{what} {found[what]:.2f} ms" for what in ("endpoint", "member", "rule"))
        print(
            f"policy: {groups * 10} rules, {members} members: fill {found['fill']:.2f} s, {costs}"
        )


if __name__ == "__main__":
    main()
