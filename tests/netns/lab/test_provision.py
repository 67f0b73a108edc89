"""The virtual machines of the Vagrantfile: the same topology as the lab's plan, and files that their tools accept."""

import shutil
import subprocess
from pathlib import Path

import pytest

from netfabric.lab.frr import configuration
from netfabric.lab.intent import intent
from netfabric.lab.lab import Lab
from netfabric.lab.plan import Plan, plan
from netfabric.lab.settings import Settings

ROOT = Path(__file__).parents[3]
PROVISION = ROOT / "tests/lab/provision"
ABSENT = "host4"
"""Three hosts, not four: memory."""


@pytest.fixture(scope="module")
def lab() -> Lab:
    found = Lab(Settings(racks=2, hosts=2, tors=1, spines=1))
    whole = plan(found.settings)
    found.plan = Plan(
        whole.settings,
        tuple(node for node in whole.nodes if node.name != ABSENT),
        tuple(wire for wire in whole.wires if wire.lower.node != ABSENT),
    )
    return found


def test_ruby_reads_the_vagrantfile() -> None:
    assert shutil.which("ruby")
    done = subprocess.run(
        ["ruby", "-c", ROOT / "Vagrantfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "Syntax OK\n", "")


def test_shellcheck_finds_nothing_in_the_scripts() -> None:
    scripts = sorted(PROVISION.glob("*.sh"))
    done = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert len(scripts) >= 6
    assert all(script.stat().st_mode & 0o111 for script in scripts)


def test_the_network_cards_are_those_of_the_plan(lab: Lab) -> None:
    lines = [line.split() for line in (PROVISION / "links").read_text().splitlines()]
    written = {tuple(words) for words in lines if words[0] != "#"}
    planned = set()
    for wire in lab.plan.wires:
        for end, other in ((wire.upper, wire.lower), (wire.lower, wire.upper)):
            if end.addresses and end.node != "netmaster":
                name = "oob" if other.node == "mgmt" else f"{wire.upper.node}-{wire.lower.node}"
                planned.add((end.node, name, str(end.v4), str(end.v6 or "-")))
    assert written == planned


def test_the_switches_configuration_is_the_labs(lab: Lab) -> None:
    for name, switch in lab.switches.items():
        assert (PROVISION / f"frr/{name}.conf").read_text() == configuration(switch.settings)


def test_the_intent_is_the_labs(lab: Lab, tmp_path: Path) -> None:
    """netctl is replaced by a script that writes its words down: they are compared with the objects."""
    record = tmp_path / "netctl"
    record.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/said\n')
    record.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    subprocess.run([PROVISION / "intent.sh"], env=environment, check=True)
    said = (tmp_path / "said").read_text().splitlines()
    assert said == [_words(put.plural, put.body) for put in intent(lab.plan)]


def _words(plural: str, body: dict[str, object]) -> str:
    match plural:
        case "tenants":
            return f"tenant create {body['tenantName']}"
        case "networks":
            subnets = f"--subnet {body['subnet']} --subnetv6 {body['ipv6Subnet']}"
            return f"network create {body['networkName']} {subnets}"
        case "bgps":
            return f"bgp create {body['hostname']} --router-ip {body['routerip']} --as {body['as']}"
        case _:
            where = f"peer create {body['hostname']} {body['peerName']}"
            return f"{where} --address {body['address']} --as {body['as']}"
