"""What netctl prints, and how it exits."""

import json

import pytest
import yaml

from netfabric.api.netctl import output
from netfabric.api.netctl.client import refusal
from netfabric.api.netctl.main import run
from netfabric.api.netctl.policy import check_direction
from netfabric.api.netctl.routing import sessions_up
from netfabric.fabric.errors import InvalidError

ITEMS = [
    {"tenantName": "default", "networkName": "net1", "encap": "routed"},
    {"tenantName": "blue", "networkName": "a-longer-name"},
]
COLUMNS: list[output.Column] = [
    ("Tenant", "tenantName"),
    ("Network", "networkName"),
    ("Tag", lambda item: item.get("pktTag", 0)),
]


def test_table_is_padded_like_gos_tabwriter(capsys: pytest.CaptureFixture[str]) -> None:
    output.show(ITEMS, COLUMNS, "table")
    assert capsys.readouterr().out == (
        "Tenant   Network        Tag\n"
        "------   -------        ---\n"
        "default  net1           0\n"
        "blue     a-longer-name  0\n"
    )


def test_quiet_prints_one_name_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.show(ITEMS, COLUMNS, "table", "networkName", quiet=True)
    assert capsys.readouterr().out == "net1\na-longer-name\n"


def test_json_and_yaml_carry_everything(capsys: pytest.CaptureFixture[str]) -> None:
    output.show(ITEMS, COLUMNS, "json")
    assert json.loads(capsys.readouterr().out) == ITEMS
    output.show(ITEMS, COLUMNS, "yaml")
    assert yaml.safe_load(capsys.readouterr().out) == ITEMS


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["polcy"], 1, "No such command 'polcy'"),
        ([], 1, "Usage: netctl"),
        (["net", "create", "blue"], 3, "Subnet is required"),
        (["net", "create", "blue", "-s", "10.0.0.0/24", "-g", "10.0.0"], 3, "Invalid gateway"),
        (["bgp", "create", "h1"], 3, "Missing attributes"),
        (["bgp", "create", "h1", "--router-ip", "10.0.0.1", "--as", "1"], 3, "Wrong CIDR format"),
        (["route", "get", "nonsense"], 3, "Not an address: nonsense"),
        (["--netmaster", "ftp://x", "net", "ls"], 3, "no URL"),
        (["--netmaster", "http://127.0.0.1:1", "net", "list"], 4, "Connection refused"),
        (["login"], 3, "login requires a https auth_proxy URL"),
    ],
)
def test_exit_statuses_are_contivs(
    words: list[str], status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == status
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_code_names_netctl(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    assert "_NETCTL_COMPLETE" in capsys.readouterr().out


def test_rule_options_must_fit_the_direction() -> None:
    blank = dict.fromkeys(
        ("to_group", "to_network", "from_group", "from_network", "from_ip_address"), ""
    )
    check_direction(blank | {"direction": "in", "from_group": "web"})
    with pytest.raises(InvalidError, match="Cant specify to-group for incoming rule"):
        check_direction(blank | {"direction": "in", "to_group": "web"})
    with pytest.raises(InvalidError, match="Cant specify from-ip-address for outgoing rule"):
        check_direction(blank | {"direction": "out", "from_ip_address": "10.0.0.1"})
    with pytest.raises(InvalidError, match="Unknown direction up"):
        check_direction(blank | {"direction": "up"})


def test_refusals_read_problem_details_and_plain_text() -> None:
    problem = json.dumps({"detail": "network a:b is in use", "remedy": "detach first"})
    assert str(refusal(409, problem)) == "network a:b is in use: detach first"
    assert str(refusal(500, "network not found\n")) == "network not found"


def test_sessions_up_counts_established() -> None:
    host = {"sessions": [{"state": "established"}, {"state": "active"}]}
    assert sessions_up(host) == "1/2"
