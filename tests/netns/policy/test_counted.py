"""What rules decide is counted, and told: packets sent on one host are seen at netmaster."""

import re
import time
from collections import Counter
from collections.abc import Callable

import pytest

from netfabric.fabric.ruleset import TABLE
from tests.netns.policy.conftest import Field
from tests.netns.policy.probing import Range
from tests.policy_reference import Object

pytestmark = [pytest.mark.netns, pytest.mark.slow]

OPEN, CLOSED, ELSE = 80, 22, 8080
PATIENCE = 40.0
"""Seconds: hosts tell every 10."""


def rule(name: str, **more: object) -> Object:
    return {"tenantName": "default", "policyName": "db", "ruleId": name, "direction": "in"} | more


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def oper(world: Field, plural: str, key: str) -> Object:
    found = world.lab.controller.ask(lambda netmaster: netmaster.inspect(plural, key))
    return dict(found.get("Oper", {}))


def kernels_own(world: Field, host: str) -> Counter[str]:
    """Return what the rules of group db have counted, as `nft` shows it."""
    text = world.lab.namespace(host).run("nft", "list", "table", "inet", TABLE)
    chain = re.search(r"chain in_default_db_.*?\n\t}", text, re.DOTALL)
    assert chain is not None
    found: Counter[str] = Counter()
    for packets, name in re.findall(r'packets (\d+) .*comment "([^ "#]+)', chain[0]):
        found[name] += int(packets)
    return found


def test_packets_are_counted_by_rule(world: Field, probes: Range) -> None:
    world.put("rules", "default:db:yes", rule("yes", action="allow", protocol="tcp", port=OPEN))
    no = rule("no", action="deny", protocol="tcp", port=CLOSED, fromEndpointGroup="web")
    world.put("rules", "default:db:no", no)
    world.group("db", "lab", policies=["db"], defaultAction="deny")
    until(lambda: probes.reaches("web", "db", OPEN) and not probes.reaches("web", "db", ELSE))
    assert not probes.reaches("web", "db", CLOSED)
    (host,) = (m for m in world.lab.machines if world.containers["db"].host == m)
    own = kernels_own(world, host)
    until(lambda: oper(world, "rules", "default:db:no").get("packets") == own["default:db/no"])
    shown = oper(world, "policies", "default:db")
    by_rule = {one["rule"]: one["packets"] for one in shown["rules"]}
    assert by_rule == {"yes": own["default:db/yes"], "no": own["default:db/no"]}
    assert shown["policyViolations"] == own["default:db/no"] + own["default"]
    assert min(*by_rule.values(), own["default"]) > 0
