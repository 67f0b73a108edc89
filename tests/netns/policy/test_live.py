"""Policy that changes under traffic, and policy that outlives the processes that made it."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from netfabric.fabric.prefix import Address
from netfabric.fabric.ruleset import TABLE
from netfabric.lab.namespace import Namespace
from netfabric.lab.traffic import Stream
from tests.netns.policy.conftest import NETWORKS, Field
from tests.netns.policy.probing import Range
from tests.netns.policy.test_matrix import CELLS, expected, generated, settles, write
from tests.policy_reference import Fabric, Object

pytestmark = [pytest.mark.netns, pytest.mark.slow]

CHANGES = 1000
PORT, FREE_PORT = 80, 9090
PATIENCE = 20.0


def rule(policy: str, name: str, **more: object) -> Object:
    return {
        "tenantName": "default",
        "policyName": policy,
        "ruleId": name,
        "direction": "in",
        "action": "allow",
    } | more


@contextmanager
def connecting(
    source: Namespace, target_namespace: Namespace, target: Address, failures: list[OSError]
) -> Iterator[list[int]]:
    """Open one TCP connection after the other; yield how many there were."""
    ended, opened = threading.Event(), [0]
    with target_namespace.entered():
        server = socket.create_server((str(target), FREE_PORT))
    server.settimeout(0.9)

    def work() -> None:
        with server, source.entered():
            while not ended.wait(0.01):
                try:
                    # A lost SYN is sent again after a second.
                    client = socket.create_connection((str(target), FREE_PORT), timeout=0.9)
                    with client, server.accept()[0]:
                        opened[0] += 1
                except OSError as error:
                    failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield opened
    finally:
        ended.set()
        thread.join()


def test_a_thousand_changes_lose_no_packet_of_what_is_allowed(world: Field, probes: Range) -> None:
    """A ping each millisecond, and new connections all the time: allowed by a rule, and denied without it."""
    source, target = world.containers["web"], world.containers["db"]
    failures: list[OSError] = []
    world.group("db", "lab", policies=["db"], defaultAction="deny")
    keep = rule("db", "keep", priority=100, fromEndpointGroup="web")
    world.put("rules", "default:db:keep", keep)
    _until(lambda: probes.reaches("web", "db", PORT) and not probes.reaches("loose", "db", PORT))
    with (
        Stream(source.namespace, target.addresses[0], 0.001) as four,
        Stream(source.namespace, target.addresses[1], 0.001) as six,
        connecting(source.namespace, target.namespace, target.addresses[0], failures) as opened,
    ):
        four.wait(100)
        for number in range(CHANGES // 2):
            name = f"r{number % 7}"
            action = "deny" if number % 2 else "allow"
            peer = {"fromEndpointGroup": ("web", "cache", "db")[number % 3]}
            changed = rule("db", name, action=action, priority=1 + number % 90, **peer)
            world.put("rules", f"default:db:{name}", changed)
            world.remove("rules", f"default:db:{name}")
        four.wait(200)
    assert (four.lost(), six.lost(), failures) == ([], [], [])
    assert opened[0] > 50
    assert not probes.reaches("loose", "db", PORT)
    world.remove("rules", "default:db:keep")


def _until(condition: object) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end


def test_agents_alone_enforce_what_they_knew(world: Field, probes: Range) -> None:
    """netmaster is down, both agents are killed, their tables are gone: the journals say all of it again."""
    groups, rules = generated(3, world)
    write(world, groups, rules, [])
    wanted = expected(Fabric(list(NETWORKS), groups, rules, world.members()), world)
    settles(probes, wanted)
    lab = world.lab
    lab.kill("netmaster", "netmaster")
    for host in lab.machines:
        lab.kill(host, "netplugin")
    assert probes.passing(CELLS) == wanted
    for host in lab.machines:
        lab.namespace(host).run("nft", "delete", "table", "inet", TABLE)
        lab.restart(host, "netplugin")
    settles(probes, wanted)
    assert probes.passing(CELLS) == wanted
    lab.restart("netmaster", "netmaster")
