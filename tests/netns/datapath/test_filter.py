"""The packet filter on a real kernel: what is forged, what has no policy yet, and changes under traffic."""

import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import IO

import pytest

from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.filter import FilterRule, GroupFilter, Members, PeerMatch, PortRange
from netfabric.fabric.network import Network, whole_range
from netfabric.fabric.prefix import Address
from netfabric.fabric.ruleset import RulesetKey, RulesetObject
from netfabric.fabric.ruleset_desired import DesiredRuleset
from netfabric.fabric.ruleset_plan import transaction
from tests.netns.datapath.bench import RealBench, address

pytestmark = pytest.mark.netns

ECHO = FilterRule("echo", "default:p", "in", "allow", 50, "icmp")


@dataclass
class Guarded:
    """A host whose table follows a desired ruleset."""

    bench: RealBench
    desired: DesiredRuleset = field(default_factory=DesiredRuleset)
    actual: dict[RulesetKey, RulesetObject] = field(default_factory=dict)

    def follow(self) -> int:
        """Make the table as desired; return how many steps that took."""
        step = transaction(self.desired.objects, self.actual)
        if step:
            self.bench.routed.filter(step)
        self.actual = dict(self.desired.objects)
        return len(step.steps)

    def attach(self, number: int, group: str, *, guarded: bool = True) -> Endpoint:
        endpoint = replace(self.bench.container(number), group=group)
        if guarded:
            self.desired.put_endpoint(endpoint)
            self.follow()
        self.bench.routed.attach(endpoint)
        return endpoint

    def policy(self, group: str, *rules: FilterRule, default: str = "deny") -> None:
        filters = dict(self.desired.filters)
        wanted = GroupFilter(f"default:{group}", "deny" if default == "deny" else "allow", rules)
        self.desired.set_filters({**filters, wanted.group: wanted})
        self.follow()

    def pings(self, source: Endpoint, target: Address | str, *more: str) -> bool:
        words = ("ping", "-c", "1", "-W", "1", *more, str(target))
        inside = self.bench.inside(source)
        return (
            subprocess.run(inside.command(*words), capture_output=True, check=False).returncode == 0
        )

    def packets(self, chain: str, rule: str) -> int:
        """Return what a rule has counted, as nft shows it."""
        text = self.bench.host.run("nft", "list", "chain", "inet", "netfabric", chain)
        found = re.search(rf'packets (\d+) .*comment "{rule} [0-9a-f]{{12}}"', text)
        assert found, text
        return int(found[1])


@pytest.fixture
def host(real: RealBench) -> Iterator[Guarded]:
    made = Guarded(real)
    networks = [
        Network("default", "blue", "routed", (whole_range(ip_network("10.1.0.0/16")),)),
        Network("red", "red", "routed", (whole_range(ip_network("10.2.0.0/16")),)),
    ]
    made.desired.set_networks(networks)
    made.follow()
    yield made


def test_a_link_without_policy_is_closed(host: Guarded) -> None:
    free = host.attach(1, "")
    bare = host.attach(2, "", guarded=False)
    for version in (4, 6):
        assert not host.pings(bare, address(1, version)), "nothing leaves it"
        assert not host.pings(free, address(2, version)), "and nothing reaches it"
    host.desired.put_endpoint(bare)
    assert host.follow() == 4, "two sources, and the link in two sets"
    for version in (4, 6):
        assert host.pings(bare, address(1, version))
        assert host.pings(free, address(2, version))


@pytest.mark.parametrize("version", [4, 6])
def test_a_forged_address_goes_nowhere(host: Guarded, version: int) -> None:
    sender, receiver = host.attach(1, ""), host.attach(2, "")
    assert host.pings(sender, address(2, version))
    forged = str(address(99, version))
    inside = host.bench.inside(sender)
    inside.run("ip", "address", "add", forged, "dev", "eth0", *(["nodad"] if version == 6 else []))
    before = host.packets("antispoofing", "forged")
    assert not host.pings(sender, address(2, version), "-I", forged)
    assert host.packets("antispoofing", "forged") > before
    assert host.pings(receiver, address(1, version))


def test_a_forged_mac_goes_nowhere(host: Guarded) -> None:
    sender = host.attach(1, "")
    host.attach(2, "")
    inside = host.bench.inside(sender)
    inside.run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:99")
    assert not host.pings(sender, address(2, 4))
    assert host.packets("antispoofing", "forged") > 0


def test_replies_pass_and_a_rule_opens_one_way_only(host: Guarded) -> None:
    host.policy("server", ECHO)
    host.policy("client", default="allow")
    server, client = host.attach(1, "server"), host.attach(2, "client")
    assert host.pings(client, address(1, 4))
    assert not host.pings(server, address(2, 4)), "its group denies what no rule allows"


def test_a_member_more_or_less(host: Guarded) -> None:
    only = replace(ECHO, peer=PeerMatch(group="default:friends"))
    host.policy("server", only)
    host.attach(1, "server")
    stranger = host.attach(2, "")
    assert not host.pings(stranger, address(1, 4))
    friend = [Members("default:friends", frozenset({address(2, 4)}))]
    host.desired.set_members(False, friend)
    assert host.follow() == 1
    assert host.pings(stranger, address(1, 4))
    assert not host.pings(stranger, address(1, 6))
    host.desired.set_members(False, [], friend)
    assert host.follow() == 1
    assert not host.pings(stranger, address(1, 4))


def test_tenants_are_apart_unless_both_agree(host: Guarded) -> None:
    here = host.attach(1, "server")
    host.policy("server", default="allow")
    there = replace(
        host.bench.container(2), tenant="red", group="g", addresses=(_red(2), address(2, 6))
    )
    host.desired.put_endpoint(there)
    host.desired.set_filters({**host.desired.filters, "red:g": GroupFilter("red:g")})
    host.follow()
    host.bench.routed.attach(there)
    assert not host.pings(there, address(1, 4))
    assert not host.pings(here, _red(2))
    rule = replace(ECHO, peer=PeerMatch(group="red:g"))
    host.policy("server", rule, default="allow")
    assert not host.pings(there, address(1, 4)), "one side alone opens nothing"
    agreed = replace(ECHO, direction="out", peer=PeerMatch(group="default:server"))
    host.desired.set_filters(
        {**host.desired.filters, "red:g": GroupFilter("red:g", rules=(agreed,))}
    )
    host.follow()
    assert host.pings(there, address(1, 4))
    assert not host.pings(here, _red(2)), "in that direction only"


def _red(number: int) -> Address:
    return ip_network("10.2.0.0/16")[number]


def test_the_host_is_reached_for_echo_and_names_only(host: Guarded) -> None:
    inside = host.bench.inside(host.attach(1, ""))
    with subprocess.Popen(
        host.bench.host.command(
            "python3",
            "-c",
            "import socket as s;a=[s.create_server(('10.90.0.1',p)) for p in (53,2222)];"
            "print(flush=True);input()",
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as server:
        assert server.stdout
        server.stdout.readline()
        assert host.pings(host.desired.endpoints[next(iter(host.desired.endpoints))], "10.90.0.1")
        connect = "import socket,sys;socket.create_connection(('10.90.0.1',int(sys.argv[1])),1)"
        reached = [
            subprocess.run(
                inside.command("python3", "-c", connect, port), capture_output=True, check=False
            ).returncode
            == 0
            for port in ("53", "2222")
        ]
        server.communicate(b"\n", timeout=5)
    assert reached == [True, False]


def test_a_thousand_changes_lose_nothing_that_is_allowed(host: Guarded) -> None:
    many = [
        FilterRule(str(n), "default:p", "in", "deny", 1 + n % 100, "tcp", (PortRange(n, n),))
        for n in range(1, 41)
    ]
    host.policy("server", ECHO, *many)
    host.attach(1, "server")
    client = host.attach(2, "")
    ping = subprocess.Popen(
        host.bench.inside(client).command(
            "ping", "-i", "0.001", "-c", "100000", "-W", "1", str(address(1, 4))
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with ping:
        assert ping.stdout
        _until(ping.stdout, "icmp_seq=20 ")
        for turn in range(1000):
            kept = [one for n, one in enumerate(many) if n != turn % len(many)]
            host.policy("server", ECHO, *kept)
        ping.send_signal(signal.SIGINT)
        rest = ping.stdout.read()
    found = re.search(r"(\d+) packets transmitted, (\d+) received", rest)
    assert found, rest
    # The one on its way when ping is stopped counts as sent.
    assert int(found[1]) - int(found[2]) <= 1, rest[-300:]
    assert int(found[1]) > 200


def _until(lines: IO[str], words: str) -> None:
    for line in lines:
        if words in line:
            return
    raise AssertionError(f"{words} never came")


def test_what_is_read_is_what_was_put(host: Guarded) -> None:
    host.policy(
        "server",
        ECHO,
        FilterRule(
            "2",
            "default:p",
            "in",
            "allow",
            protocol="tcp",
            ports=(PortRange(1, 9), PortRange(65000, 65535)),
            peer=PeerMatch(
                group="default:friends",
                prefixes=(ip_network("0.0.0.0/1"), ip_network("128.0.0.0/1"), ip_network("::/0")),
                without=(ip_network("10.0.0.0/9"), ip_network("10.128.0.0/10")),
            ),
            log=True,
        ),
    )
    host.attach(1, "server")
    friends = frozenset(address(n, v) for n in range(1, 200) for v in (4, 6))
    host.desired.set_members(True, [Members("default:friends", friends)])
    host.follow()
    again = host.bench.again()
    again.prepare()
    found = again.observe().ruleset
    assert found is not None
    assert dict(found.objects) == dict(host.desired.objects)
    assert again.observe().ruleset is None, "nothing has changed since"


def test_other_tables_stay(host: Guarded) -> None:
    foreign = "table inet other { chain c { type filter hook forward priority 5; counter\n }\n}\n"
    host.bench.host.run("nft", "-f", "-", stdin=foreign)
    before = host.bench.host.run("nft", "list", "table", "inet", "other")
    host.bench.routed.filter(replace(transaction(host.desired.objects, {}), anew=True))
    assert host.bench.host.run("nft", "list", "table", "inet", "other") == before
