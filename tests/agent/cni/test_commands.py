"""Every command against an agent that executes: results of each version, what repeats, what is refused."""

import asyncio
import json
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from netfabric.agent.cni.capability import ALIASES_LABEL
from netfabric.agent.cni.commands import NETWORK_LABEL, Commands
from netfabric.agent.cni.wire import Call
from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.errors import (
    ConflictError,
    ExhaustedError,
    FabricError,
    InvalidError,
    KernelError,
    NamespaceGoneError,
    NotFoundError,
    UnauthorizedError,
    UnavailableError,
)
from netfabric.fabric.profile import NO_LIMITS, Bandwidth, Limit
from tests.agent.cni.conftest import Ledger, Ran, configuration, variables

KEY = EndpointKey("c0ffee", "eth0")


async def run(
    ledger: Ledger, command: str, stdin: bytes = configuration(), /, **changes: str
) -> Ran:
    answer = await Commands(ledger).answer(Call(variables(command, **changes), stdin))
    return Ran(answer.status, answer.text.decode(), "")


async def refused(ledger: Ledger, command: str, stdin: bytes, /, **changes: str) -> tuple[int, str]:
    done = await run(ledger, command, stdin, **changes)
    assert done.status == 1
    error = done.json
    assert set(error) == {"cniVersion", "code", "msg", "details"}
    assert error["details"], f"no remedy: {error}"
    return error["code"], error["msg"]


# ADD


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
async def test_add_in_every_version(ledger: Ledger, version: str) -> None:
    done = await run(ledger, "ADD", configuration(version, dns={"nameservers": ["10.0.0.53"]}))
    endpoint = ledger.up[KEY]
    mtu = {"mtu": 1500} if version == "1.1.0" else {}
    ips: list[dict[str, Any]] = [
        {"address": "10.1.0.2/32", "gateway": "169.254.1.1", "interface": 1},
        {"address": "fd00:1::2/128", "gateway": "fe80::1", "interface": 1},
    ]
    if version < "1.0.0":
        ips[0]["version"], ips[1]["version"] = "4", "6"
    assert done.status == 0
    assert done.json == {
        "cniVersion": version,
        "interfaces": [
            {"name": endpoint.link, "mac": "02:4e:46:00:00:01", **mtu},
            {"name": "eth0", "mac": "02:02:0a:01:00:02", "sandbox": "/run/netns/blue", **mtu},
        ],
        "ips": ips,
        "routes": [
            {"dst": "0.0.0.0/0", "gw": "169.254.1.1"},
            {"dst": "::/0", "gw": "fe80::1"},
        ],
        "dns": {"nameservers": ["10.0.0.53"]},
    }


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", None, ""])
async def test_add_in_the_first_two_versions(ledger: Ledger, version: str | None) -> None:
    """SPEC 0.2.0, section "Result"; what names no version is of 0.1.0, as in CNI's library."""
    done = await run(ledger, "ADD", configuration(cniVersion=version, dns={"domain": "x"}))
    assert done.json == {
        "cniVersion": version or "0.1.0",
        "ip4": {
            "ip": "10.1.0.2/32",
            "gateway": "169.254.1.1",
            "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}],
        },
        "ip6": {
            "ip": "fd00:1::2/128",
            "gateway": "fe80::1",
            "routes": [{"dst": "::/0", "gw": "fe80::1"}],
        },
        "dns": {"domain": "x"},
    }


BEFORE = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "br0"}, {"name": "net0", "sandbox": "/run/netns/blue"}],
    "ips": [{"address": "192.0.2.7/24", "interface": 1}],
    "routes": [{"dst": "0.0.0.0/0", "gw": "192.0.2.1"}],
    "dns": {"nameservers": ["192.0.2.53"]},
    "more": 1,
}


async def test_what_earlier_plugins_made_is_passed_on(ledger: Ledger) -> None:
    """SPEC 1.1.0, section 2, "ADD": a prevResult is the base of the answer, with what was made here added."""
    done = await run(ledger, "ADD", configuration(prevResult=BEFORE))
    assert [one["name"] for one in done.json["interfaces"]][:2] == ["br0", "net0"]
    assert [one.get("sandbox") for one in done.json["interfaces"][2:]] == [None, "/run/netns/blue"]
    assert [(ip["address"], ip["interface"]) for ip in done.json["ips"]] == [
        ("192.0.2.7/24", 1),
        ("10.1.0.2/32", 3),
        ("fd00:1::2/128", 3),
    ]
    routes = [(route["dst"], route["gw"]) for route in done.json["routes"]]
    assert routes == [("0.0.0.0/0", "192.0.2.1"), ("::/0", "fe80::1")]
    assert (done.json["dns"], done.json["more"]) == (BEFORE["dns"], 1)
    check = await run(ledger, "CHECK", configuration(prevResult=done.json))
    assert (check.status, check.out) == (0, "")


@pytest.mark.parametrize("previous", [{}, {"cniVersion": "1.0.0", "interfaces": None}])
async def test_an_empty_previous_result_changes_nothing(
    ledger: Ledger, previous: dict[str, Any]
) -> None:
    first = await run(ledger, "ADD")
    again = await run(ledger, "ADD", configuration(prevResult=previous))
    assert (again.status, again.json["ips"]) == (0, first.json["ips"])


async def test_an_interface_of_an_earlier_plugin_is_not_made_again(ledger: Ledger) -> None:
    stdin = configuration(prevResult=BEFORE)
    code, message = await refused(ledger, "ADD", stdin, CNI_IFNAME="net0")
    assert (code, "net0" in message) == (101, True)
    assert not ledger.seen


@pytest.mark.parametrize("spell", [str, lambda key: key[0].upper() + key[1:]])
async def test_a_bandwidth_is_asked_for_in_bits(ledger: Ledger, spell: Any) -> None:
    """CONVENTIONS.md: ingress is towards the container; bursts are in bits, too. containerd's keys are capitalised."""
    rates = {
        "ingressRate": 8_000_000,
        "ingressBurst": 800_000,
        "egressRate": 4_000,
        "egressBurst": 0,
    }
    limits = {spell(key): value for key, value in rates.items()}
    await run(ledger, "ADD", configuration(runtimeConfig={"bandwidth": limits}))
    await run(ledger, "ADD", configuration(runtimeConfig={"bandwidth": {}}), CNI_IFNAME="net1")
    asked, free = ledger.seen
    assert asked.bandwidth == Bandwidth(receive=Limit(8_000_000, 100_000), send=Limit(4_000))
    assert free.bandwidth == NO_LIMITS


async def test_name_servers_of_the_engine_count_more(ledger: Ledger) -> None:
    """containerd writes the keys of a capability capitalised."""
    runtime = {"dns": {"Servers": ["10.0.0.9"], "Searches": ["svc"], "Options": ["ndots:5"]}}
    stdin = configuration(dns={"nameservers": ["10.0.0.53"], "domain": "x"}, runtimeConfig=runtime)
    done = await run(ledger, "ADD", stdin)
    assert done.json["dns"] == {
        "nameservers": ["10.0.0.9"],
        "domain": "x",
        "search": ["svc"],
        "options": ["ndots:5"],
    }


@pytest.mark.parametrize(
    "args",
    [
        {"cni": {"labels": [{"key": f"io.contiv.{key}", "value": value}]}}
        for key, value in (("tenant", "acme"), ("network", "blue"), ("net-group", "web"))
    ],
)
async def test_contivs_labels_say_where_an_endpoint_belongs(
    ledger: Ledger, args: dict[str, Any]
) -> None:
    stdin = configuration(tenant="t", network="n", group="g", args=args)
    await run(ledger, "ADD", stdin)
    asked = ledger.seen[0]
    found = {asked.tenant, asked.network, asked.group}
    (label,) = args["cni"]["labels"]
    assert found ^ {"t", "n", "g"} >= {label["value"]}
    await run(ledger, "ADD", stdin, CNI_ARGS="TENANT=a;NETWORK=b;GROUP=c", CNI_IFNAME="net1")
    assert (ledger.seen[1].tenant, ledger.seen[1].network, ledger.seen[1].group) == ("a", "b", "c")


async def test_add_of_one_family(ledger: Ledger) -> None:
    done = await run(ledger, "ADD", configuration(tenant="acme", network="blue"))
    assert [ip["address"] for ip in done.json["ips"]] == ["10.2.0.2/32"]
    assert [route["dst"] for route in done.json["routes"]] == ["0.0.0.0/0"]


async def test_add_again_answers_the_same(ledger: Ledger) -> None:
    first, second = [await run(ledger, "ADD") for _ in range(2)]
    assert first == second
    assert len(ledger.up) == 1


async def test_one_container_may_have_two_interfaces(ledger: Ledger) -> None:
    first = await run(ledger, "ADD")
    second = await run(ledger, "ADD", CNI_IFNAME="net1")
    assert first.json["ips"] != second.json["ips"]


async def test_what_an_add_asks_for(ledger: Ledger) -> None:
    stdin = configuration(
        tenant="acme",
        network="red",
        group="web",
        runtimeConfig={
            "ips": ["10.1.0.9/24"],
            "mac": "02-AA-00-00-00-01",
            "portMappings": [],
            "aliases": {"netfabric": ["front", "www"]},
        },
        args={"cni": {"labels": [{"key": "tier", "value": "front"}], "ips": ["10.1.0.7"]}},
        ipam={},
    )
    await run(ledger, "ADD", stdin)
    asked = ledger.seen[0]
    assert (asked.key, asked.namespace) == (KEY, "/run/netns/blue")
    assert (asked.tenant, asked.network, asked.group) == ("acme", "red", "web")
    assert (asked.addresses, asked.mac) == ((ip_address("10.1.0.9"),), "02:aa:00:00:00:01")
    assert asked.labels == (
        (ALIASES_LABEL, "front,www"),
        (NETWORK_LABEL, "netfabric"),
        ("tier", "front"),
    )


async def test_the_mtu_is_the_configurations(ledger: Ledger) -> None:
    done = await run(ledger, "ADD", configuration("1.1.0", mtu=9000))
    assert [interface["mtu"] for interface in done.json["interfaces"]] == [9000, 9000]


async def test_arguments_count_more_than_the_configuration(ledger: Ledger) -> None:
    stdin = configuration(tenant="x", network="x", runtimeConfig={"ips": ["10.1.0.9"], "mac": ""})
    arguments = (
        "K8S_POD_INFRA_CONTAINER_ID=c0ffee;IP=fd00:1::77/64;K8S_POD_NAME=web-0;GROUP=web;"
        "IgnoreUnknown=1;MAC=02:AA:00:00:00:02;Something=else;K8S_POD_NAMESPACE=shop;"
        "TENANT=default;NETWORK=default-net;K8S_POD_UID=1-2;IP=10.1.0.77"
    )
    done = await run(ledger, "ADD", stdin, CNI_ARGS=arguments)
    asked = ledger.seen[0]
    assert (asked.tenant, asked.network, asked.group) == ("default", "default-net", "web")
    assert (asked.name, asked.mac) == ("web-0", "02:aa:00:00:00:02")
    assert asked.labels == (
        ("io.kubernetes.pod.namespace", "shop"),
        ("io.kubernetes.pod.uid", "1-2"),
        (NETWORK_LABEL, "netfabric"),
    )
    assert [ip["address"] for ip in done.json["ips"]] == ["10.1.0.77/32", "fd00:1::77/128"]


async def test_several_addresses_in_one_argument(ledger: Ledger) -> None:
    await run(ledger, "ADD", CNI_ARGS="IP=10.1.0.5,fd00:1::5")
    assert ledger.seen[0].addresses == (ip_address("10.1.0.5"), ip_address("fd00:1::5"))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"CNI_COMMAND": "-"}, "CNI_COMMAND"),
        ({"CNI_COMMAND": "add"}, "CNI_COMMAND"),
        ({"CNI_CONTAINERID": "-"}, "CNI_CONTAINERID"),
        ({"CNI_CONTAINERID": ""}, "CNI_CONTAINERID"),
        ({"CNI_CONTAINERID": "../../etc"}, "CNI_CONTAINERID"),
        ({"CNI_CONTAINERID": "-x"}, "CNI_CONTAINERID"),
        ({"CNI_CONTAINERID": "a\n"}, "CNI_CONTAINERID"),
        ({"CNI_CONTAINERID": "a" * 256}, "CNI_CONTAINERID"),
        ({"CNI_IFNAME": "-"}, "CNI_IFNAME"),
        ({"CNI_IFNAME": "x" * 16}, "CNI_IFNAME"),
        ({"CNI_IFNAME": "a/b"}, "CNI_IFNAME"),
        ({"CNI_IFNAME": "a:b"}, "CNI_IFNAME"),
        ({"CNI_IFNAME": "a b"}, "CNI_IFNAME"),
        ({"CNI_IFNAME": "a%d"}, "CNI_IFNAME"),
        ({"CNI_IFNAME": ".."}, "CNI_IFNAME"),
        ({"CNI_IFNAME": "é"}, "CNI_IFNAME"),
        ({"CNI_NETNS": "-"}, "CNI_NETNS"),
        ({"CNI_NETNS": ""}, "CNI_NETNS"),
        ({"CNI_NETNS": "run/netns/x"}, "CNI_NETNS"),
        ({"CNI_ARGS": "IP"}, "CNI_ARGS"),
        ({"CNI_ARGS": "IP=10.0.0"}, "CNI_ARGS"),
        ({"CNI_ARGS": "IP=10.1.0.5;IP=10.1.0.6"}, "CNI_ARGS"),
        ({"CNI_ARGS": "IP=0.0.0.0"}, "CNI_ARGS"),
        ({"CNI_ARGS": "IP=fe80::5%eth0"}, "CNI_ARGS"),
        ({"CNI_ARGS": "MAC=01:00:5e:00:00:01"}, "CNI_ARGS"),
        ({"CNI_ARGS": "MAC=02:00:00:00:00"}, "CNI_ARGS"),
        ({"CNI_ARGS": "Unheard=of"}, "Unheard"),
    ],
)
async def test_a_wrong_variable_is_code_4(
    ledger: Ledger, changes: dict[str, str], word: str
) -> None:
    code, message = await refused(ledger, "ADD", configuration(), **changes)
    assert (code, word in message) == (4, True), message
    assert not ledger.seen


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"name": None}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": ["x"]}, "name"),
        ({"tenant": 5}, "tenant"),
        ({"tenant": "a\nb"}, "tenant"),
        ({"network": "x" * 256}, "network"),
        ({"group": {}}, "group"),
        ({"ipam": []}, "ipam"),
        ({"mtu": 1279}, "mtu"),
        ({"mtu": "1500"}, "mtu"),
        ({"mtu": True}, "mtu"),
        ({"runtimeConfig": 1}, "runtimeConfig"),
        ({"runtimeConfig": {"ips": "10.1.0.5"}}, "runtimeConfig.ips"),
        ({"runtimeConfig": {"ips": [5]}}, "runtimeConfig.ips"),
        ({"runtimeConfig": {"ips": ["10.1.0.5", "10.1.0.6"]}}, "runtimeConfig.ips"),
        ({"runtimeConfig": {"mac": "no"}}, "runtimeConfig.mac"),
        ({"args": []}, "args"),
        ({"args": {"cni": 1}}, "args.cni"),
        ({"args": {"cni": {"labels": {"a": "b"}}}}, "args.cni.labels"),
        ({"args": {"cni": {"labels": 7}}}, "args.cni.labels"),
        ({"args": {"cni": {"ips": ["x"]}}}, "args.cni.ips"),
        ({"dns": {"nameservers": "10.0.0.1"}}, "dns.nameservers"),
        ({"dns": {"search": [1]}}, "dns.search"),
        ({"dns": {"other": "x"}}, "dns.other"),
        ({"runtimeConfig": {"dns": []}}, "runtimeConfig.dns"),
        ({"runtimeConfig": {"dns": {"Servers": "10.0.0.1"}}}, "runtimeConfig.dns.servers"),
        ({"runtimeConfig": {"aliases": "front"}}, "runtimeConfig.aliases"),
        ({"runtimeConfig": {"aliases": {"n": ["a b"]}}}, "runtimeConfig.aliases"),
        ({"runtimeConfig": {"bandwidth": {"ingressRate": "1M"}}}, "bandwidth.ingressRate"),
        ({"runtimeConfig": {"bandwidth": {"EgressBurst": -1}}}, "bandwidth.egressBurst"),
        ({"args": {"org.apache.mesos": 1}}, "args"),
        ({"args": {"org.apache.mesos": {"network_info": {"labels": []}}}}, "network_info.labels"),
        ({"prevResult": 7}, "prevResult"),
        ({"prevResult": {"interfaces": 7}}, "prevResult.interfaces"),
        ({"prevResult": {"ips": [7]}}, "prevResult.ips"),
    ],
)
async def test_a_wrong_configuration_is_code_7(
    ledger: Ledger, changes: dict[str, Any], word: str
) -> None:
    code, message = await refused(ledger, "ADD", configuration(**changes))
    assert (code, word in message) == (7, True), message
    assert not ledger.seen


@pytest.mark.parametrize(
    ("changes", "key", "value"),
    [
        ({"ipam": {"type": "host-local"}}, "ipam", "host-local"),
        ({"ipam": {"subnet": "10.9.0.0/24"}}, "ipam", "10.9.0.0/24"),
        ({"ipMasq": True}, "ipMasq", "true"),
        ({"runtimeConfig": {"portMappings": [{"hostPort": 80}]}}, "portMappings", "80"),
        ({"runtimeConfig": {"ipRanges": [[{"subnet": "10.9.0.0/24"}]]}}, "ipRanges", "10.9.0.0/24"),
        ({"runtimeConfig": {"deviceID": "0000:00:1f.6"}}, "deviceID", "0000:00:1f.6"),
    ],
)
async def test_what_other_plugins_do_is_code_2(
    ledger: Ledger, changes: dict[str, Any], key: str, value: str
) -> None:
    """SPEC 1.1.0, section "Error": the message has key and value of the unsupported field."""
    code, message = await refused(ledger, "ADD", configuration(**changes))
    assert (code, key in message, value in message) == (2, True, True), message
    assert not ledger.seen


@pytest.mark.parametrize("version", ["0.2.1", "1.2.0", 1.0, [], {}])
async def test_another_version_is_code_1(ledger: Ledger, version: Any) -> None:
    done = await run(ledger, "ADD", json.dumps({"cniVersion": version, "name": "x"}).encode())
    assert (done.json["code"], done.json["cniVersion"]) == (1, "1.0.0")
    assert "1.1.0" in done.json["details"]


@pytest.mark.parametrize("stdin", [b"", b"{", b"[]", b"7", b"\xff", b'{"a":NaN}', b"[" * 100_000])
async def test_no_json_is_code_6(ledger: Ledger, stdin: bytes) -> None:
    assert (await refused(ledger, "ADD", stdin))[0] == 6


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidError("x", "y"), 7),
        (NotFoundError("x", "y"), 7),
        (ConflictError("x", "y"), 101),
        (ExhaustedError("x", "y"), 102),
        (UnauthorizedError("x", "y"), 103),
        (KernelError("x", "y"), 100),
        (NamespaceGoneError("x", "y"), 3),
        (UnavailableError("x", "y"), 11),
        (FabricError("x", "y"), 999),
    ],
)
async def test_the_agents_errors_have_codes(ledger: Ledger, error: FabricError, code: int) -> None:
    ledger.broken = error
    assert await refused(ledger, "ADD", configuration("0.4.0")) == (code, "x")


async def test_an_unknown_network_is_named(ledger: Ledger) -> None:
    code, message = await refused(ledger, "ADD", configuration(network="none"))
    assert (code, "default:none" in message) == (7, True)
    assert not ledger.up


# DEL


async def test_del_undoes_add(ledger: Ledger) -> None:
    await run(ledger, "ADD")
    done = await run(ledger, "DEL")
    assert (done.status, done.out, ledger.up) == (0, "", {})


@pytest.mark.parametrize("namespace", ["", "-", "/run/netns/gone", "/proc/99999999/ns/net", "x"])
async def test_del_does_not_need_the_namespace(ledger: Ledger, namespace: str) -> None:
    await run(ledger, "ADD")
    stdin = configuration(prevResult={"ips": []})
    done = await run(ledger, "DEL", stdin, CNI_NETNS=namespace, CNI_ARGS="any thing")
    assert (done.status, ledger.up) == (0, {})


async def test_del_by_a_configuration_that_was_spoilt_meanwhile(ledger: Ledger) -> None:
    """It is the list of today that an engine hands over, and not that of the ADD."""
    await run(ledger, "ADD")
    stdin = configuration(mtu=1, tenant=7, ipam={"type": "x"}, prevResult=8, args=9)
    assert (await run(ledger, "DEL", stdin)).status == 0
    assert not ledger.up


async def test_gc_by_a_configuration_that_was_spoilt_meanwhile(ledger: Ledger) -> None:
    await run(ledger, "ADD")
    stdin = configuration("1.1.0", mtu=1, **{"cni.dev/valid-attachments": []})
    assert (await run(ledger, "GC", stdin)).status == 0
    assert not ledger.up


async def test_del_of_what_is_unknown_succeeds_any_number_of_times(ledger: Ledger) -> None:
    many = await asyncio.gather(*(run(ledger, "DEL") for _ in range(5)))
    assert {done.status for done in many} == {0}


async def test_del_takes_one_interface(ledger: Ledger) -> None:
    await run(ledger, "ADD")
    await run(ledger, "ADD", CNI_IFNAME="net1")
    await run(ledger, "DEL", CNI_IFNAME="net1")
    assert list(ledger.up) == [KEY]


@pytest.mark.parametrize("error", [NotFoundError("x"), NamespaceGoneError("x")])
async def test_what_is_gone_already_is_deleted(ledger: Ledger, error: FabricError) -> None:
    ledger.broken = error
    assert (await run(ledger, "DEL")).status == 0


async def test_del_that_fails_says_so(ledger: Ledger) -> None:
    ledger.broken = KernelError("link nf0: busy", "see dmesg")
    assert await refused(ledger, "DEL", configuration()) == (100, "link nf0: busy")


async def test_del_while_add_runs(ledger: Ledger) -> None:
    ledger.gate.clear()
    async with asyncio.TaskGroup() as group:
        add = group.create_task(run(ledger, "ADD"))
        await ledger.asked.wait()
        deleted = group.create_task(run(ledger, "DEL"))
        await deleted
        ledger.gate.set()
    assert (deleted.result().status, add.result().json["code"]) == (0, 101)
    assert not ledger.up


# CHECK


async def added(ledger: Ledger, version: str) -> tuple[dict[str, Any], Endpoint]:
    return (await run(ledger, "ADD", configuration(version))).json, ledger.up[KEY]


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
async def test_check_of_what_is_right(ledger: Ledger, version: str) -> None:
    result, _ = await added(ledger, version)
    result["interfaces"].insert(0, {"name": "br0"})  # a later plugin of the list made a bridge
    for ip in result["ips"]:
        ip["interface"] += 1
    result["ips"].append({"address": "10.9.0.1/24", "interface": 0})
    done = await run(ledger, "CHECK", configuration(version, prevResult=result))
    assert (done.status, done.out) == (0, "")


async def test_check_says_what_is_wrong_with_the_datapath(ledger: Ledger) -> None:
    result, _ = await added(ledger, "1.0.0")
    ledger.problems = ("link nf1 is gone", "no default route")
    code, message = await refused(ledger, "CHECK", configuration(prevResult=result))
    assert code == 104
    assert message == "endpoint c0ffee/eth0: link nf1 is gone; no default route"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r["ips"].pop(), "prevResult lacks fd00:1::2/128"),
        (lambda r: r["ips"][0].update(address="10.1.0.9/32"), "prevResult lacks 10.1.0.2/32"),
        (lambda r: r["ips"][0].update(interface=0), "prevResult lacks 10.1.0.2/32"),
        (lambda r: r["interfaces"].pop(), "prevResult has no interface eth0"),
        (lambda r: r["interfaces"][1].update(sandbox="/x"), "prevResult has no interface eth0"),
        (lambda r: r["interfaces"][1].update(mac="02:00:00:00:00:09"), "02:00:00:00:00:09"),
        (lambda r: r.update(interfaces=[], ips=[{}]), "prevResult has no interface eth0"),
    ],
)
async def test_check_compares_the_previous_result(ledger: Ledger, change: Any, words: str) -> None:
    result, _ = await added(ledger, "1.0.0")
    change(result)
    code, message = await refused(ledger, "CHECK", configuration(prevResult=result))
    assert (code, words in message) == (104, True), message


async def test_check_of_what_is_unknown_is_code_3(ledger: Ledger) -> None:
    code, message = await refused(ledger, "CHECK", configuration(prevResult={}))
    assert (code, str(KEY) in message) == (3, True)


async def test_check_without_a_previous_result_is_code_7(ledger: Ledger) -> None:
    code, message = await refused(ledger, "CHECK", configuration())
    assert (code, "prevResult" in message) == (7, True)


# GC and STATUS


async def test_gc_removes_what_is_not_valid(ledger: Ledger) -> None:
    for container in ("a", "b", "c"):
        await run(ledger, "ADD", configuration("1.1.0"), CNI_CONTAINERID=container)
    valid = [{"containerID": "b", "ifname": "eth0"}, {"containerID": "c", "ifname": "eth1"}]
    for key in ("cni.dev/valid-attachments", "cni.dev/attachments"):
        done = await run(ledger, "GC", configuration("1.1.0", **{key: valid}), CNI_IFNAME="-")
        assert (done.status, done.out) == (0, "")
        assert list(ledger.up) == [EndpointKey("b", "eth0")]


async def test_gc_of_one_network_leaves_the_others(ledger: Ledger) -> None:
    await run(ledger, "ADD", configuration("1.1.0", name="other"))
    docker = replace(ledger.up[KEY], key=EndpointKey("docker", "eth0"), labels=())
    ledger.up[docker.key] = docker
    stdin = configuration("1.1.0", **{"cni.dev/valid-attachments": []})
    assert (await run(ledger, "GC", stdin)).status == 0
    assert len(ledger.up) == 2


async def test_gc_goes_on_after_one_that_fails(ledger: Ledger) -> None:
    for container in ("a", "b", "c"):
        await run(ledger, "ADD", configuration("1.1.0"), CNI_CONTAINERID=container)
    plain = ledger.detach

    async def detach(key: EndpointKey) -> None:
        if key.container == "a":
            raise KernelError("endpoint a/eth0: busy", "see dmesg")
        await plain(key)

    ledger.detach = detach  # type: ignore[method-assign]
    stdin = configuration("1.1.0", **{"cni.dev/valid-attachments": []})
    assert (await refused(ledger, "GC", stdin))[0] == 100
    assert list(ledger.up) == [EndpointKey("a", "eth0")]


@pytest.mark.parametrize(
    "changes",
    [{}, {"cni.dev/valid-attachments": 7}, {"cni.dev/valid-attachments": [{"ifname": 1}]}],
)
async def test_gc_that_does_not_say_what_is_valid_removes_nothing(
    ledger: Ledger, changes: dict[str, Any]
) -> None:
    await run(ledger, "ADD", configuration("1.1.0"))
    assert (await refused(ledger, "GC", configuration("1.1.0", **changes)))[0] == 7
    assert len(ledger.up) == 1


async def test_status(ledger: Ledger) -> None:
    done = await run(ledger, "STATUS", configuration("1.1.0"), CNI_CONTAINERID="-", CNI_NETNS="-")
    assert (done.status, done.out) == (0, "")
    ledger.reason = "host host-1: no netmaster has answered yet"
    assert await refused(ledger, "STATUS", configuration("1.1.0")) == (50, ledger.reason)


@pytest.mark.parametrize(
    ("command", "version"), [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0")]
)
async def test_a_command_later_than_the_version_is_code_1(
    ledger: Ledger, command: str, version: str
) -> None:
    code, message = await refused(ledger, command, configuration(version))
    assert (code, command in message) == (1, True)


async def test_version_is_answered_by_the_agent_too(ledger: Ledger) -> None:
    done = await run(ledger, "VERSION", b'{"cniVersion": "0.4.0"}')
    assert done.json["cniVersion"] == "0.4.0"
    assert len(done.json["supportedVersions"]) == 7
