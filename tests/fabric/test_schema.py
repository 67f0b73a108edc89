"""Every rule of form of every object: a value that is accepted, and one that is refused."""

from typing import Any

import pytest

from netfabric.fabric.errors import InvalidError
from netfabric.fabric.kinds import ALL, KINDS
from netfabric.fabric.schema import read_v2, shown_v2, validate

BASE: dict[str, dict[str, Any]] = {
    "tenant": {"tenantName": "t"},
    "network": {"tenantName": "t", "networkName": "n", "encap": "vlan", "subnet": "10.1.0.0/16"},
    "endpointGroup": {"tenantName": "t", "groupName": "g", "networkName": "n"},
    "policy": {"tenantName": "t", "policyName": "p"},
    "rule": {
        "tenantName": "t",
        "policyName": "p",
        "ruleId": "1",
        "action": "allow",
        "direction": "in",
    },
    "netprofile": {"tenantName": "t", "profileName": "p"},
    "global": {
        "name": "global",
        "pvtSubnet": "172.19.0.0/16",
        "vlans": "1-4094",
        "vxlans": "1-10000",
    },
    "Bgp": {"hostname": "h", "routerip": "50.1.1.1/24"},
    "serviceLB": {"tenantName": "t", "serviceName": "s", "networkName": "n"},
    "extContractsGroup": {"tenantName": "t", "contractsGroupName": "c"},
    "appProfile": {"tenantName": "t", "appProfileName": "a"},
    "aciGw": {
        "name": "aciGw",
        "enforcePolicies": "yes",
        "includeCommonTenant": "no",
        "physicalDomain": "phys",
    },
}
NAMES = (["a", "A-1", "a.b", "1"], ["", "-a", "a-", "a_b", "a..b", "é", "x" * 65])
PARTIAL = (["", "a", "a.b", "a."], ["-a", "a_b", "x" * 65])
ADDRESS = (["", "1.2.3.4", "255.255.255.255"], ["1.2.3", "1.2.3.256", "1.2.3.04", "fd00::1", "x"])
TAG = (["", "a", "a.b"], ["a_b", "-a"])

# (kind, field, accepted, refused)
FORMS: list[tuple[str, str, list[Any], list[Any]]] = [
    ("tenant", "defaultNetwork", *PARTIAL),
    ("network", "cfgdTag", *TAG),
    ("network", "encap", ["vlan", "vxlan"], ["", "routed", "VLAN", "gre"]),
    ("network", "gateway", *ADDRESS),
    ("network", "ipv6Gateway", ["", "fd00::1", "2016:430::254", "::1"], ["1.2.3.4", "fd00::g"]),
    (
        "network",
        "ipv6Subnet",
        ["", "fd00::/64", "2016:430::/100", "::/107", "fd00::/127", "fd00::/9"],
        ["fd00::", "fd00::/128", "fd00::/108", "fd00::/0", "10.0.0.0/8"],
    ),
    ("network", "nwType", ["", "infra", "data"], ["vlan"]),
    ("network", "pktTag", [0, 1, 16777216], [16777217, -1]),
    (
        "network",
        "subnet",
        ["10.0.0.0/8", "10.1.1.10-10.1.1.20/24", "10.0.0.0/31", "10.0.0.0/1"],
        ["", "10.0.0.0", "10.0.0.0/32", "10.0.0.0/0", "10.1.1.10-20/24", "10.0.0/24", "x/24"],
    ),
    ("endpointGroup", "cfgdTag", *TAG),
    ("endpointGroup", "ipPool", ["", "10.1.1.1-10.1.1.9", "10.1.1.1"], ["10.1.1.1-9", "x"]),
    ("endpointGroup", "netProfile", ["", "x" * 64], ["x" * 65]),
    ("endpointGroup", "networkName", *NAMES),
    ("rule", "action", ["allow", "deny"], ["", "drop"]),
    ("rule", "direction", ["in", "out"], ["", "both"]),
    ("rule", "fromEndpointGroup", *PARTIAL),
    ("rule", "toEndpointGroup", *PARTIAL),
    ("rule", "fromNetwork", *PARTIAL),
    ("rule", "toNetwork", *PARTIAL),
    (
        "rule",
        "fromIpAddress",
        ["", "10.1.1.1", "10.1.1.1/24", "10.1.1.1-9", "10.1.1.1-9/24"],
        ["10.1.1", "10.1.1.1/32", "10.1.1.1-256", "x"],
    ),
    ("rule", "toIpAddress", ["", "10.1.1.1", "10.1.0.0/16"], ["10.1.1.1/", "fd00::1"]),
    ("rule", "port", [0, 1, 65535], [65536, -1]),
    ("rule", "priority", [0, 1, 100], [101, -1]),
    ("rule", "protocol", ["", "tcp", "udp", "icmp", "89", "255"], ["TCP", "sctp", "1000"]),
    ("netprofile", "DSCP", [0, 63], [64, -1]),
    (
        "netprofile",
        "bandwidth",
        ["", "2gbps", "10 Gbps", "10 Gb", "10 gb", "5Gb", "4g", "4G", "20mb"],
        ["10 ms", "10 Gkms", "Gbps", "0 Gbps", " 10 Gbps", "invalid", "1" * 64 + "g"],
    ),
    ("netprofile", "burst", [0, 2, 10486], [10487]),
    ("netprofile", "profileName", ["a", "a b_c"], ["", "x" * 65]),
    ("global", "arpMode", ["", "proxy", "flood"], ["off"]),
    ("global", "fwdMode", ["", "bridge", "routing"], ["l3"]),
    ("global", "networkInfraType", ["", "aci", "aci-opflex", "default"], ["other"]),
    ("global", "pvtSubnet", ["172.19.0.0/16"], ["", "172.19.0.0/24", "172.19.0/16"]),
    ("global", "vlans", ["1-4094", "9-301"], ["", "1", "1-4094,5-6", "1-40944"]),
    ("global", "vxlans", ["1-10000"], ["", "a-b", "1-123456789"]),
    ("Bgp", "as", ["", "65001"], ["6" * 65]),
    ("Bgp", "neighbor", *ADDRESS),
    ("Bgp", "neighbor-as", ["", "65001"], ["6" * 65]),
    ("Bgp", "routerip", ["50.1.1.1/24", "50.1.1.1-9/24"], ["", "50.1.1.1", "50.1.1.1/32"]),
    ("serviceLB", "ipAddress", *ADDRESS),
    ("serviceLB", "networkName", *NAMES),
    ("aciGw", "enforcePolicies", ["yes", "no"], ["", "maybe"]),
    ("aciGw", "includeCommonTenant", ["yes", "no"], ["", "maybe"]),
    (
        "aciGw",
        "nodeBindings",
        ["", "topology/pod-1/node-101", "topology/pod-1/node-1,topology/pod-1/node-2"],
        ["node-1", "topology/pod-1/node-1,", "topology/pod-12345/node-1"],
    ),
    (
        "aciGw",
        "pathBindings",
        ["", "topology/pod-1/paths-101/pathep-[eth1/14]"],
        ["topology/pod-1/paths-101/eth1/14", "x"],
    ),
    ("aciGw", "physicalDomain", ["phys"], ["", "a_b", "x" * 129]),
]
KEYS: list[tuple[str, str, list[Any], list[Any]]] = [
    ("tenant", "tenantName", *NAMES),
    ("network", "networkName", *NAMES),
    ("network", "tenantName", *NAMES),
    ("endpointGroup", "groupName", *NAMES),
    ("policy", "policyName", *NAMES),
    ("rule", "ruleId", *NAMES),
    ("rule", "policyName", *NAMES),
    ("global", "name", ["global"], ["", "other"]),
    ("Bgp", "hostname", ["h", "h.example.org", "x" * 256], ["", "a_b", "x" * 257]),
    ("serviceLB", "serviceName", ["s", "x" * 256], ["", "x" * 257]),
    ("extContractsGroup", "contractsGroupName", *NAMES),
    ("appProfile", "appProfileName", *NAMES),
    ("aciGw", "name", ["aciGw"], ["", "other"]),
]


def obj(kind: str, field: str, value: Any) -> dict[str, Any]:
    made = BASE[kind] | {field: value}
    return made | {"key": KINDS[kind].key_of(made)}


ACCEPTED = [(k, f, v) for k, f, accepted, _ in FORMS + KEYS for v in accepted]
REFUSED = [(k, f, v) for k, f, _, refused in FORMS + KEYS for v in refused]


@pytest.mark.parametrize(("kind", "field", "value"), ACCEPTED)
def test_accepted(kind: str, field: str, value: Any) -> None:
    validate(KINDS[kind], obj(kind, field, value))


@pytest.mark.parametrize(("kind", "field", "value"), REFUSED)
def test_refused(kind: str, field: str, value: Any) -> None:
    with pytest.raises(InvalidError) as refused:
        validate(KINDS[kind], obj(kind, field, value))
    text = refused.value.what
    reasons = ("string too long", "string invalid format", "Value Out of bound")
    assert text in [f"{field} {reason}" for reason in reasons]
    assert refused.value.remedy


def test_every_field_with_a_rule_is_in_the_table() -> None:
    tried = {(kind, field) for kind, field, _, _ in FORMS + KEYS}
    ruled = {
        (kind.type, field.name)
        for kind in ALL
        if kind.plural and not kind.type.startswith("volume")
        for field in kind.fields_of("v1")
        if field.pattern or field.max_length or field.high is not None
    }
    shared = {(kind, "tenantName") for kind in BASE}  # one declaration, tried for networks
    assert ruled - tried - shared == set()


def test_the_first_wrong_field_by_name_is_told_and_the_key_before_all() -> None:
    wrong = obj("network", "subnet", "x") | {"encap": "x", "cfgdTag": "a_b"}
    with pytest.raises(InvalidError, match="cfgdTag"):
        validate(KINDS["network"], dict(wrong))
    with pytest.raises(InvalidError, match="Invalid Key"):
        validate(KINDS["network"], wrong | {"key": "t:other"})


def test_defaults_are_filled_in() -> None:
    rule, network = obj("rule", "priority", 0), obj("network", "nwType", "")
    validate(KINDS["rule"], rule)
    validate(KINDS["network"], network)
    assert (rule["priority"], network["nwType"]) == (1, "data")
    six = {"key": "t:n", "tenantName": "t", "networkName": "n", "ipv6Subnet": "fd00::/128"}
    validate(KINDS["network"], six, "v2")
    assert six["encap"] == "routed"


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"colour": "blue"}, "network: unknown field 'colour'"),
        ({"subnet": 5}, "network: subnet is not a string"),
        ({"pktTag": "5"}, "network: pktTag is not a whole number"),
        ({"pktTag": True}, "network: pktTag is not a whole number"),
        ({"pktTag": 5.5}, "network: pktTag is not a whole number"),
        ({"reserved": "10.0.0.0/24"}, "network: reserved is not a list of strings"),
        ({"reserved": [5]}, "network: reserved is not a list of strings"),
    ],
)
def test_v2_bodies_refused(body: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidError, match=complaint):
        read_v2(KINDS["network"], body)


def test_v2_keeps_zeros_that_mean_something_and_hides_secrets() -> None:
    kind = KINDS["peer"]
    read = read_v2(kind, {"med": 0, "prepend": 0, "password": "x", "as": "65001", "key": "h:t"})
    assert read == {"med": 0, "password": "x", "as": 65001}
    assert shown_v2(kind, read | {"key": "h:t"}) == {
        "key": "h:t",
        "as": 65001,
        "med": 0,
        "passwordSet": True,
    }
