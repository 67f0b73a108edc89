"""netctl apply, diff, export, watch: intent as one file."""

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from netfabric.api.netctl.declared import ORDER, differences, exported, read_file, steps
from netfabric.fabric import kinds
from netfabric.fabric.errors import InvalidError

if TYPE_CHECKING:
    from tests.api.conftest import NetmasterProcess
    from tests.api.netctl.conftest import Netctl

FILE = """
peers:
- {hostname: h1, peerName: tor, address: 10.99.0.2, as: 65002, password: s3cret}
endpoint-groups:
- {tenantName: blue, groupName: web, networkName: n1, policies: [p]}
rules:
- {tenantName: blue, policyName: p, ruleId: '1', action: allow, direction: in}
policies:
- {tenantName: blue, policyName: p}
networks:
- {tenantName: blue, networkName: n1, subnet: 10.1.0.0/16}
tenants:
- {tenantName: blue}
bgps:
- {hostname: h1, as: 65001, routerip: 10.99.0.1/24}
"""
THINGS = ["tenant blue", "network blue:n1", "policy blue:p", "endpointGroup blue:web"]
THINGS += ["rule blue:p:1", "Bgp h1", "peer h1:tor"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "fabric.yaml"
    path.write_text(FILE)
    return path


def test_everything_has_its_place_in_the_order() -> None:
    assert set(ORDER) == set(kinds.V2)


def test_apply_is_in_order_and_idempotent_and_prune_takes_it_away(
    netctl: "Netctl", file: Path
) -> None:
    path = str(file)
    planned = netctl("apply", "-f", path, "--dry-run").out.splitlines()
    assert planned == [f"{thing} would be created" for thing in THINGS] + ["7 created (dry run)"]
    assert netctl("tenant", "ls", "-q").out == "default\n"
    done = netctl("apply", "-f", path).out.splitlines()
    assert done == [f"{thing} created" for thing in THINGS] + ["7 created"]
    assert netctl("apply", "-f", path).out == "7 unchanged\n"
    assert netctl("diff", "-f", path).out == ""
    file.write_text(FILE.replace("s3cret", "other").replace("as: 65002", "as: 65003"))
    assert netctl("diff", "-f", path).out == "~ peer h1:tor\n    - as: 65002\n    + as: 65003\n"
    assert netctl("apply", "-q", "-f", path).out == "1 changed, 6 unchanged\n"
    file.write_text(FILE.replace("s3cret", "again").replace("as: 65002", "as: 65003"))
    assert netctl("apply", "-q", "-f", path).out == "1 changed, 6 unchanged\n"  # the password alone
    file.write_text("\n".join(f"{plural}: []" for plural in ORDER if plural != "globals"))
    removed = netctl("apply", "-f", path, "--prune").out.splitlines()
    assert removed[-1] == "7 removed"
    assert netctl("tenant", "ls", "-q").out == "default\n"


def test_what_is_exported_can_be_applied(netctl: "Netctl", file: Path, tmp_path: Path) -> None:
    netctl("apply", "-q", "-f", str(file))
    for form in ("yaml", "json"):
        out = netctl("export", "-o", form).out
        assert "s3cret" not in out
        copy = tmp_path / f"copy.{form}"
        copy.write_text(out)
        assert netctl("diff", "-f", str(copy)).out == ""
        assert netctl("apply", "-q", "-f", str(copy)).out == "9 unchanged\n"
    found = yaml.safe_load(out)
    found["peers"][0]["peerName"] = "new"
    copy.write_text(json.dumps(found))
    said = netctl("apply", "-f", str(copy), status=2)
    assert "peer h1:new: passwordSet without a password" in said.err
    file.write_text("\n".join(f"{plural}: []" for plural in ORDER if plural != "globals"))
    netctl("apply", "-q", "-f", str(file), "--prune")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[", "neither YAML nor JSON"),
        ("5", "no kinds"),
        ("nets: []", "unknown kind 'nets'"),
        ("networks: {}", "networks is no list of objects"),
        ("networks: [5]", "networks is no list of objects"),
        ("tenants: [{tenantName: x}, {tenantName: a_b}]", "tenant a_b: tenantName string invalid"),
        ("tenants: [{tenantName: x, colour: blue}]", "unknown field 'colour'"),
        ("tenants: [{tenantName: x, key: y}]", "tenant x: its key is given as y"),
    ],
)
def test_while_anything_in_the_file_is_wrong_nothing_is_sent(
    netctl: "Netctl", file: Path, text: str, says: str
) -> None:
    file.write_text(text)
    said = netctl("apply", "-f", str(file), status=3)
    assert says in said.err
    assert said.err.count("\n") == 1
    assert said.out == "nothing was done\n"
    assert netctl("tenant", "ls", "-q").out == "default\n"


def test_what_was_done_before_a_refusal_is_said(netctl: "Netctl", file: Path) -> None:
    file.write_text(
        "tenants: [{tenantName: t1}]\n"
        "networks: [{tenantName: none, networkName: n, subnet: 10.1.0.0/16}]\n"
    )
    said = netctl("apply", "-f", str(file), status=2)
    assert said.out == "tenant t1 created\n1 created\n"
    assert "network none:n: Tenant not found" in said.err
    netctl("tenant", "rm", "t1")


def test_no_such_file(netctl: "Netctl") -> None:
    assert "/nowhere.yaml" in netctl("apply", "-f", "/nowhere.yaml", status=3).err


def test_an_unknown_kind_cannot_be_watched(netctl: "Netctl") -> None:
    assert "unknown kind 'net'" in netctl("watch", "net", status=3).err


def test_watch_tells_what_is_there_and_what_changes(
    netmaster: "NetmasterProcess", netctl: "Netctl", netctl_command: Path
) -> None:
    words = [str(netctl_command), "--netmaster", netmaster.url, "watch", "tenants", "-o", "json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None

        def told() -> Any:
            assert watching.stdout is not None
            found = json.loads(watching.stdout.readline())
            return found["event"], found["object"].get("key", "")

        assert [told(), told()] == [("put", "default"), ("listed", "")]
        netctl("tenant", "create", "w")
        assert told() == ("put", "w")
        netctl("tenant", "rm", "w")
        assert told() == ("delete", "w")
        watching.terminate()


def test_defaults_are_no_differences() -> None:
    wanted = read_file("f", "networks: [{tenantName: t, networkName: n, subnet: 10.1.0.0/16}]")
    there = {
        "networks": [
            {"key": "t:n", "tenantName": "t", "networkName": "n", "subnet": "10.1.0.0/16"}
            | {"encap": "routed", "nwType": "data", "announce": "blocks"}
        ]
    }
    (step,) = steps(wanted, there, prune=False)
    assert step.action == "change"
    assert list(differences(step)) == ["- announce: blocks"]
    assert exported(there)["networks"][0]["announce"] == "blocks"


def test_the_settings_and_the_default_tenant_are_never_pruned() -> None:
    there = {"globals": [{"key": "global"}], "tenants": [{"key": "default"}, {"key": "x"}]}
    found = list(steps({"globals": [], "tenants": []}, there, prune=True))
    assert [(step.action, step.key) for step in found] == [("remove", "x")]


def test_files_are_read_with_what_is_wrong_in_one_line() -> None:
    with pytest.raises(InvalidError) as refused:
        read_file("f.yaml", "a: [\nb")
    assert "\n" not in str(refused.value)
