"""netctl's commands against a real netmaster, in the order that a person would give them."""

import json
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from tests.api.conftest import NetmasterProcess
    from tests.api.netctl.conftest import Netctl


def table(text: str) -> list[list[str]]:
    """Return a table's rows without headings; cells are at least two blanks apart."""
    heading, dashes, *rows = text.splitlines()
    starts = [i for i, c in enumerate(dashes) if c == "-" and (i == 0 or dashes[i - 1] == " ")]
    cut = list(zip(starts, [*starts[1:], 10_000], strict=True))
    assert all(heading[start] != " " for start in starts)
    return [[row[a:b].strip() for a, b in cut] for row in rows]


def test_version(netctl: "Netctl") -> None:
    out = netctl("version").out
    assert out.count("Version: 0.") == 2
    assert out.startswith("Client Version:\n")
    assert "Server Version:\n" in out


def test_tenants(netctl: "Netctl") -> None:
    assert netctl("tenant", "create", "blue").out == "Creating tenant: blue\n"
    assert netctl("tenant", "ls").out == "Name\n----\nblue\ndefault\n"
    assert netctl("tenant", "list", "-q").out == "blue\ndefault\n"
    assert [t["key"] for t in json.loads(netctl("tenant", "ls", "-j").out)] == ["blue", "default"]
    assert json.loads(netctl("tenant", "inspect", "blue").out)["Config"]["tenantName"] == "blue"
    assert netctl("tenant", "rm", "blue").out == "Deleting tenant blue\n"
    assert "tenant blue does not exist" in netctl("tenant", "delete", "blue", status=2).err


def test_networks(netctl: "Netctl") -> None:
    netctl("tenant", "create", "red")
    words = ("-s", "10.20.0.0/16", "-g", "10.20.0.1", "-s6", "fd20::/64", "-g6", "fd20::1")
    assert netctl("net", "create", "n1", *words).out == "Creating network default:n1\n"
    netctl("network", "create", "-t", "red", "n2", "-s", "10.21.0.0/16", "-e", "vxlan", "-p", "77")
    row = ["default", "n1", "data", "routed", "0", "10.20.0.0/16", "10.20.0.1"]
    assert table(netctl("net", "ls").out) == [[*row, "fd20::/64", "fd20::1", ""]]
    assert len(table(netctl("net", "ls", "-a").out)) == 2
    assert netctl("net", "ls", "-t", "red", "-q").out == "n2\n"
    assert "tenant green does not exist" in netctl("net", "ls", "-t", "green", status=2).err
    config = json.loads(netctl("net", "inspect", "n1").out)["Config"]
    assert config["links"]["Tenant"] == {"type": "tenant", "key": "default"}
    assert config["encap"] == "routed"
    assert yaml.safe_load(netctl("net", "ls", "-o", "yaml").out)[0]["subnet"] == "10.20.0.0/16"
    assert netctl("net", "rm", "-t", "red", "n2").out == "Deleting network red:n2\n"
    netctl("net", "rm", "n1")
    netctl("tenant", "rm", "red")


def test_groups_policies_rules_profiles(netctl: "Netctl") -> None:
    netctl("net", "create", "n3", "-s", "10.23.0.0/16")
    assert netctl("policy", "create", "p1").out == "Creating policy default:p1\n"
    assert netctl("netprofile", "create", "fast", "-b", "10gbps", "-d", "3", "-s", "20").out
    words = ("-p", "p1", "-n", "fast", "-r", "10.23.0.5-10.23.0.9", "-tag", "gold")
    assert netctl("group", "create", "n3", "web", *words).out == (
        "Creating EndpointGroup default:web\n"
    )
    assert table(netctl("group", "ls").out) == [
        ["default", "web", "n3", "10.23.0.5-10.23.0.9", "gold", "p1", "fast"]
    ]
    assert table(netctl("netprofile", "ls").out) == [["fast", "default", "10 Gbps", "3", "20"]]
    netctl("policy", "rule-add", "p1", "1", "-l", "tcp", "-P", "80")
    netctl("policy", "rule-add", "p1", "2", "-d", "out", "-e", "web", "-j", "deny", "-p", "9")
    rules = netctl("policy", "rule-ls", "p1").out
    incoming, outgoing = rules.removeprefix("Incoming Rules:\n").split("Outgoing Rules:\n")
    assert table(incoming) == [["1", "1", "", "", "", "", "tcp", "80", "allow"]]
    assert table(outgoing) == [["2", "9", "web", "", "", "", "0", "deny"]]
    assert netctl("policy", "rule-ls", "p1", "-q").out == "1\n2\n"
    hits = netctl("policy", "rule-ls", "p1", "--hits").out
    assert [row[-3:] for row in table(hits.partition("Outgoing")[0].partition("\n")[2])] == [
        ["allow", "0", "0"]
    ]
    assert netctl("policy", "rule-rm", "p1", "2").out == ""
    assert table(netctl("policy", "ls").out) == [["default", "p1"]]
    assert "Policy is being used" in netctl("policy", "rm", "p1", status=2).err
    assert netctl("group", "rm", "web").out == ""
    for kind, name in (("policy", "p1"), ("netprofile", "fast"), ("net", "n3")):
        netctl(kind, "rm", name)


def test_bgp_and_peers(netctl: "Netctl") -> None:
    words = ("--router-ip", "50.1.1.1/24", "--as", "65001")
    neighbor = ("--neighbor", "50.1.1.2", "--neighbor-as", "65002")
    assert netctl("bgp", "create", "h1", *words, *neighbor).out == ""
    assert table(netctl("bgp", "ls").out) == [["h1", "50.1.1.1/24", "65001", "50.1.1.2", "65002"]]
    assert netctl("bgp", "ls", "-q").out == "h1\n"
    inspected = json.loads(netctl("bgp", "inspect", "h1").out)
    assert inspected["Oper"]["reason"] == "no agent of host h1 is connected"
    netctl("peer", "create", "h1", "tor2", "--address", "fd50::2", "--as", "65003", "--med", "0")
    netctl(
        "peer", "create", "h1", "tor1", "--address", "50.1.2.2", "--as", "65003", "--password", "x"
    )
    assert table(netctl("peer", "ls").out) == [
        ["h1", "tor1", "50.1.2.2", "65003", "9", "yes"],
        ["h1", "tor2", "fd50::2", "65003", "9", ""],
    ]
    shown = json.loads(netctl("peer", "ls", "-o", "json").out)
    assert "password" not in shown[0]
    assert shown[1]["med"] == 0
    assert netctl("bgp", "status").out.startswith("Host  Peer")
    assert "host h9 is unknown" in netctl("bgp", "status", "h9", status=2).err
    assert table(netctl("host", "ls").out)[0][:3] == ["h1", "", "away"]
    assert "has 2 peers" in netctl("bgp", "rm", "h1", status=2).err
    netctl("peer", "rm", "h1:tor1")
    netctl("peer", "rm", "h1:tor2")
    assert netctl("bgp", "rm", "h1").out == "Deleting Bgp router config: h1\n"


def test_global_set_changes_only_what_is_given(netctl: "Netctl") -> None:
    netctl("global", "set", "-s", "172.21.0.0/16")
    before = netctl("global", "info").out
    netctl("global", "set", "-v", "1-200")
    assert netctl("global", "info").out == before.replace("1-4094", "1-200")
    assert "Private subnet: 172.21.0.0/16\n" in before
    assert "exceed 4095" in netctl("global", "set", "-v", "1-5000", status=2).err
    assert json.loads(netctl("global", "inspect").out)["Config"]["vlans"] == "1-200"
    netctl("global", "set", "-v", "1-4094", "-s", "172.19.0.0/16")


def test_services_profiles_contracts_gateway(netctl: "Netctl") -> None:
    netctl("net", "create", "n4", "-s", "10.24.0.0/16")
    netctl("group", "create", "n4", "app")
    netctl("service", "create", "s1", "-s", "n4", "-l", "a=b", "-l", "c=d", "-p", "80:8080:TCP")
    assert table(netctl("service", "ls").out) == [["s1", "default", "n4", "[a=b c=d]"]]
    assert json.loads(netctl("service", "inspect", "s1").out)["Oper"]["serviceVip"]
    netctl("app-profile", "create", "a1", "-g", "app")
    netctl("app-profile", "update", "a1", "-g", "app")
    assert table(netctl("app-profile", "ls").out) == [["default", "a1", "app"]]
    assert netctl("app-profile", "group-ls", "a1").out == "app\n"
    netctl("external-contracts", "create", "e1", "-c", "-a", "uni/tn-common/brc-default")
    row = ["default", "e1", "consumed", "[uni/tn-common/brc-default]"]
    assert table(netctl("external-contracts", "ls").out) == [row]
    netctl("aci-gw", "set", "-d", "phys")
    assert "Physical domain: phys\n" in netctl("aci-gw", "info").out
    assert json.loads(netctl("aci-gw", "inspect").out)["Oper"] == {"numAppProfiles": 1}
    for words in (
        ("service", "rm", "s1"),
        ("app-profile", "rm", "a1"),
        ("external-contracts", "rm", "e1"),
        ("group", "rm", "app"),
        ("net", "rm", "n4"),
    ):
        netctl(*words)


def test_routes_hosts_endpoints_of_an_empty_fabric(netctl: "Netctl") -> None:
    assert table(netctl("route", "ls").out) == []
    assert "no route to 10.9.9.9" in netctl("route", "get", "10.9.9.9", status=2).err
    assert table(netctl("endpoint", "ls").out) == []
    assert "endpoint not found" in netctl("ep", "inspect", "nobody", status=2).err
    assert "host h9: unknown" in netctl("host", "inspect", "h9", status=2).err


REFUSALS = [
    # words, status, and what the one line on standard error says: object, cause, remedy
    (("net", "create", "a", "-s", "10.31.1.0/24"), 2, "network default:a: network base conflicts"),
    (("net", "create", "a", "-s", "10.40.0.0/16", "-g", "10.41.0.1"), 2, "choose a gateway inside"),
    (("net", "create", "a", "-s", "10.40.0.0/99"), 2, "network default:a: subnet string invalid"),
    (("net", "create", "a", "-t", "none", "-s", "10.40.0.0/16"), 2, "netctl tenant create none"),
    (("net", "create", "a_b", "-s", "10.40.0.0/16"), 2, "networkName string invalid format"),
    (("net", "create", "a"), 3, "Subnet is required"),
    (
        ("bgp", "create", "h1", "--router-ip", "1.1.1.1/24", "--as", "x"),
        2,
        "AS 'x' is not a number",
    ),
    (("bgp", "create", "h1", "--router-ip", "1.1.1.1/24", "--as", "0"), 2, "AS 0 is reserved"),
    (("peer", "create", "h8", "t", "--address", "1.1.1.1", "--as", "1"), 2, "has no Bgp object"),
    (("peer", "create", "h1", "t", "--address", "tor", "--as", "1"), 2, "'tor' is not an address"),
    (("group", "create", "none", "g"), 2, "Network none not found"),
    (("global", "set", "-f", "x"), 2, "networkInfraType string invalid format"),
    (("tenant", "rm", "none"), 2, "tenant none does not exist"),
    (("tenant", "create"), 1, "Missing argument 'NAME'"),
    (("nonsense",), 1, "No such command 'nonsense'"),
]


@pytest.mark.parametrize(("words", "status", "says"), REFUSALS)
def test_refusals_say_what_why_and_what_to_do(
    netctl: "Netctl", words: tuple[str, ...], status: int, says: str
) -> None:
    netctl("net", "create", "base", "-s", "10.31.0.0/16")
    before = netctl("net", "ls", "-a").out + netctl("bgp", "ls").out
    said = netctl(*words, status=status)
    assert says in said.err
    if status > 1:
        assert said.err.startswith("netctl: ")
        assert said.err.count("\n") == 1
    assert netctl("net", "ls", "-a").out + netctl("bgp", "ls").out == before


def test_the_command_itself_is_quick(netmaster: "NetmasterProcess", netctl_command: Path) -> None:
    words = [str(netctl_command), "--netmaster", netmaster.url, "tenant", "ls", "-q"]
    took = []
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        took.append(time.perf_counter() - start)
        assert done.stdout == "default\n"
    assert min(took) < 0.5  # about 0.1 on a machine that is at leisure


def completed(command: Path, line: str, **environment: str) -> list[str]:
    """Return what bash would offer at the end of a line."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    done = subprocess.run(
        [str(command)],
        env={"_NETCTL_COMPLETE": "bash_complete", **words, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return [offer.removeprefix("plain,") for offer in done.stdout.split()]


def test_completion_of_commands(netctl_command: Path) -> None:
    assert completed(netctl_command, "netctl net") == ["netprofile", "network"]


def test_completion_of_names(
    netmaster: "NetmasterProcess", netctl: "Netctl", netctl_command: Path
) -> None:
    for tenant, name in (("default", "c-one"), ("default", "c-two"), ("cc", "c-three")):
        netctl("tenant", "create", tenant)
        netctl("policy", "create", "-t", tenant, name)
    at = {"NETMASTER": netmaster.url}
    assert completed(netctl_command, "netctl policy rm c-", **at) == ["c-one", "c-two"]
    assert completed(netctl_command, "netctl policy rm -t cc c", **at) == ["c-three"]
    nobody = {"NETMASTER": "http://127.0.0.1:1"}
    assert completed(netctl_command, "netctl policy rm c-", **nobody) == []
    for tenant, name in (("default", "c-one"), ("default", "c-two"), ("cc", "c-three")):
        netctl("policy", "rm", "-t", tenant, name)
    netctl("tenant", "rm", "cc")


def test_links_as_endpoints(netctl: "Netctl") -> None:
    netctl("network", "create", "vms", "-s", "10.8.0.0/16")
    netctl("group", "create", "vms", "web")
    where = ("--host", "h1", "--link", "tap0")
    words = ("--network", "vms", "--group", "web", "--ip", "10.8.0.5", "--mac", "52:54:00:00:00:0A")
    assert netctl("endpoint", "add", *where, *words).out == ""
    asked = "10.8.0.5 52:54:00:00:00:0a"
    assert table(netctl("ep", "ports").out) == [["h1", "tap0", "default", "vms", "web", asked]]
    assert netctl("ep", "ports", "-q").out == "h1:tap0\n"
    assert "associated to port h1:tap0" in netctl("group", "rm", "web", status=2).err
    netctl("endpoint", "rm", *where)
    assert "h1:tap0 does not exist" in netctl("endpoint", "rm", *where, status=2).err


def test_a_host_is_removed(netctl: "Netctl") -> None:
    netctl("bgp", "create", "gone1", "--router-ip", "10.99.1.2/31", "--as", "65001")
    netctl("peer", "create", "gone1", "tor", "--address", "10.99.1.3", "--as", "65002")
    tried = netctl("host", "rm", "gone1", "--dry-run", "--with-intent").out.splitlines()
    assert tried[0] == "host gone1: would be removed (endpoints: 0, blocks: 0, loans: 0)"
    assert tried[1:] == ["would be removed: peer gone1:tor", "would be removed: Bgp gone1"]
    out = netctl("host", "rm", "gone1").out
    assert out.splitlines()[1:] == ["kept: peer gone1:tor, Bgp gone1 (--with-intent removes them)"]
    said = json.loads(netctl("hosts", "delete", "gone1", "--with-intent", "-o", "json").out)
    assert said["objects"] == ["peer gone1:tor", "Bgp gone1"]
    again = netctl("host", "rm", "gone1", status=2).err
    assert again == "netctl: host gone1 is unknown: netctl host ls lists the hosts\n"


def test_rules_with_ports_and_what_they_mean(netctl: "Netctl") -> None:
    netctl("net", "create", "--subnet", "10.77.0.0/24", "verdicts")
    netctl("policy", "create", "pv")
    netctl("policy", "rule-add", "pv", "1", "-l", "tcp", "--ports", "80, 8000-8080")
    netctl("policy", "rule-add", "pv", "2", "-l", "icmp", "--icmp-types", "8", "--log")
    assert "80,8000-8080" in netctl("policy", "rule-ls", "pv").out
    made = netctl("group", "create", "verdicts", "gv", "-p", "pv", "--default-action", "deny")
    assert made.out == "Creating EndpointGroup default:gv\n"
    told = netctl("policy", "test", "--from", "10.77.0.1", "--to", "10.77.0.2", "--port", "80/tcp")
    assert told.out == "IPv4: allow, by neither end has a group\n"
    assert (
        "TENANT:GROUP"
        in netctl("policy", "test", "--from", "default:gv", "--to", "10.77.0.2", status=2).err
    )
    for kind, name in (("group", "gv"), ("policy", "pv"), ("net", "verdicts")):
        netctl(kind, "rm", name)
