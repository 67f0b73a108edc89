"""The invariant checker: silent on a sound store, and one planted fault after the other found."""

import json
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.invariants import loose_ends, violations
from netfabric.fabric.kinds import KINDS
from netfabric.fabric.rules import decide_put
from netfabric.fabric.rules_global import DEFAULTS
from netfabric.fabric.schema import validate
from netfabric.fabric.session import HeldLoan
from netfabric.fabric.stored import dump
from netfabric.fabric.view import ROOT, View, block_key, endpoint_key, loan_key
from netfabric.fabric.world import world_of

INTENT: tuple[tuple[str, dict[str, Any]], ...] = (
    ("global", {**DEFAULTS}),
    ("tenant", {"tenantName": "blue"}),
    ("tenant", {"tenantName": "red"}),
    ("network", {"tenantName": "blue", "networkName": "web", "subnet": "10.1.0.0/24"}),
    ("network", {"tenantName": "blue", "networkName": "x1", "encap": "vxlan"}),
    ("network", {"tenantName": "blue", "networkName": "x2", "encap": "vxlan"}),
    ("network", {"tenantName": "red", "networkName": "x1", "encap": "vxlan"}),
    ("network", {"tenantName": "red", "networkName": "tagged", "encap": "vlan"}),
    ("policy", {"tenantName": "blue", "policyName": "p"}),
    ("netprofile", {"tenantName": "blue", "profileName": "slow", "DSCP": 10}),
    ("extContractsGroup", {"tenantName": "blue", "contractsGroupName": "ext"}),
    ("endpointGroup", {"tenantName": "blue", "groupName": "front", "networkName": "web"}),
    ("endpointGroup", {"tenantName": "blue", "groupName": "back", "networkName": "web"}),
    ("rule", {"tenantName": "blue", "policyName": "p", "ruleId": "1", "direction": "in"}),
    ("appProfile", {"tenantName": "blue", "appProfileName": "shop"}),
    ("serviceLB", {"tenantName": "blue", "serviceName": "s", "networkName": "web"}),
    ("Bgp", {"hostname": "h1", "routerip": "192.0.2.1/24", "as": "65001"}),
    ("peer", {"hostname": "h1", "peerName": "tor1", "address": "192.0.2.11", "as": 65000}),
    ("peer", {"hostname": "h1", "peerName": "tor2", "address": "192.0.2.12", "as": 65000}),
)
MORE: dict[str, dict[str, Any]] = {
    "network blue:x1": {"subnet": "10.2.0.0/24", "ipv6Subnet": "fd10:2::/64"},
    "network blue:x2": {"subnet": "10.3.0.0/24"},
    "network red:x1": {"subnet": "10.2.0.0/24"},
    "network red:tagged": {"subnet": "10.4.0.10-10.4.0.20/24", "gateway": "10.4.0.1"},
    "network blue:web": {"gateway": "10.1.0.1"},
    "endpointGroup blue:front": {
        "ipPool": "10.1.0.10-10.1.0.19",
        "policies": ["p"],
        "netProfile": "slow",
        "extContractsGrps": ["ext"],
    },
    "endpointGroup blue:back": {"ipPool": "10.1.0.20-10.1.0.29"},
    "rule blue:p:1": {"fromEndpointGroup": "back", "action": "allow", "protocol": "tcp"},
    "appProfile blue:shop": {"endpointGroups": ["front"]},
    "extContractsGroup blue:ext": {"contractsType": "provided"},
    "serviceLB blue:s": {"selectors": ["a=b"], "ports": ["80:80:TCP"]},
}
A, B = EndpointKey("a", "eth0"), EndpointKey("b", "eth0")
Content = dict[str, bytes]


def endpoint(
    host: str, key: EndpointKey, *addresses: str, network: str = "web", group: str = "front"
) -> Endpoint:
    return Endpoint(
        key=key,
        host=host,
        tenant="blue",
        network=network,
        group=group,
        namespace="",
        link="nf0",
        mac="",
        addresses=tuple(map(ip_address, addresses)),
    )


def loan(id_: str = "l1", **fields: Any) -> HeldLoan:
    block = ip_network("10.1.0.0/26")
    known = {"owner": "h1", "borrower": "h2", "address": ip_address("10.1.0.40")}
    return HeldLoan(id_, "blue:web", block, **{**known, **fields})


@pytest.fixture(scope="module")
def sound() -> Content:
    """A store's content as rules write it, and agents."""
    content: Content = {}
    view = View()

    def put(key: str, value: bytes) -> None:
        content[key] = value
        view.apply([(key, value, len(content))], (), len(content))

    for type_, fields in INTENT:
        kind = KINDS[type_]
        key = kind.key_of(fields)
        obj = {**fields, **MORE.get(f"{type_} {key}", {}), "key": key}
        validate(kind, obj, "v2")
        for at, value in decide_put(world_of(view), kind, obj, "v2").puts.items():
            put(ROOT + at, json.dumps(value).encode())
    put(block_key("blue:web", ip_network("10.1.0.0/26")), b'{"host":"h1"}')
    put(block_key("blue:web", ip_network("10.1.0.64/26")), b'{"host":"h2"}')
    put(block_key("blue:x1", ip_network("fd10:2::/122")), b'{"host":"h2"}')
    put(loan_key("l1"), dump(loan()).encode())
    put(endpoint_key("h1", A), dump(endpoint("h1", A, "10.1.0.11")).encode())
    put(endpoint_key("h2", A), dump(endpoint("h2", A, "10.1.0.40")).encode())
    b = endpoint("h2", B, "fd10:2::5", network="x1", group="")
    put(endpoint_key("h2", B), dump(b).encode())
    put(f"{ROOT}guard/intent", b"{}")
    return content


def test_a_sound_store_has_nothing_wrong(sound: Content) -> None:
    assert violations(sound.items()) == []
    assert loose_ends(sound.items()) == []


Fault = Callable[[Content], None]


def gone(*keys: str) -> Fault:
    def plant(content: Content) -> None:
        for key in keys:
            del content[ROOT + key]

    return plant


def raw(key: str, value: str) -> Fault:
    def plant(content: Content) -> None:
        content[ROOT + key] = value.encode()

    return plant


def changed(type_: str, key: str, /, **fields: Any) -> Fault:
    """An object with other fields; None removes one."""

    def plant(content: Content) -> None:
        at = f"{ROOT}intent/{type_}/{key}"
        obj = {**json.loads(content[at]), **fields}
        content[at] = json.dumps({n: v for n, v in obj.items() if v is not None}).encode()

    return plant


def copied(type_: str, key: str, to: str, /, **fields: Any) -> Fault:
    """Another object like one, under a name of its own."""

    def plant(content: Content) -> None:
        obj = json.loads(content[f"{ROOT}intent/{type_}/{key}"])
        names = dict(zip(KINDS[type_].key, to.split(":"), strict=True))
        obj.update(names, key=to)
        content[f"{ROOT}intent/{type_}/{to}"] = json.dumps(obj).encode()
        changed(type_, to, **fields)(content)

    return plant


def held(endpoint: Endpoint, host: str = "") -> Fault:
    at = endpoint_key(host or endpoint.host, endpoint.key).removeprefix(ROOT)
    return raw(at, dump(endpoint))


def lent(loan: HeldLoan) -> Fault:
    return raw(f"alloc/loan/{loan.id}", dump(loan))


H2 = '{"host":"h2"}'
FAULTS: tuple[tuple[str, Fault, str], ...] = (
    # tags
    ("a VNI twice", changed("network", "red:x1", tag=1), "vni 1: is given to blue:x1 and red:x1"),
    ("a VNI twice, of which one leaks", changed("network", "red:x1", tag=1), "vni 3: is allocated"),
    ("a leaked VLAN", raw("alloc/vlan/7", '{"owner":"blue:old"}'), "vlan 7: is allocated to blue:old"),
    ("a VLAN not allocated", gone("alloc/vlan/1"), "vlan 1: is red:tagged's, and not allocated"),
    ("an owner that has another", raw("alloc/vlan/1", '{"owner":"blue:x1"}'), "allocated to blue:x1"),
    ("no VNI", changed("network", "blue:x1", tag=None), "network blue:x1: has no vni"),
    ("a tag out of range", changed("global", "global", vlans="5-9"), "vlan 1: is in use outside"),
    ("a range that is none", changed("global", "global", vlans="9-5"), "global: vlans: invalid range"),
    ("an allocation of nothing", raw("alloc/colour/7", '{"owner":"x"}'), "alloc/colour/7: is of no"),
    ("an allocation by name", raw("alloc/vni/red", '{"owner":"x"}'), "alloc/vni/red: is of no kind"),
    # subnets
    (
        "a subnet twice",
        copied("network", "blue:web", "blue:also", vips=None),
        "network blue:also (10.1.0.0/24): overlaps with blue:web (10.1.0.0/24)",
    ),
    (
        "a subnet in another",
        changed("network", "blue:x2", subnet="10.2.0.128/25"),
        "network blue:x1 (10.2.0.0/24): overlaps with blue:x2 (10.2.0.128/25)",
    ),
    (
        "routed subnets of two tenants",
        copied("network", "blue:web", "red:web", vips=None, subnet="10.1.0.64/26", gateway=None),
        "network blue:web (10.1.0.0/24): overlaps with red:web",
    ),
    (
        "IPv6 subnets",
        changed("network", "blue:x2", ipv6Subnet="fd10:2::/80"),
        "network blue:x1 (fd10:2::/64): overlaps with blue:x2 (fd10:2::/80)",
    ),
    # links
    ("a group's network", gone("intent/network/blue:web"), "endpointGroup blue:front: networkName"),
    ("a group's policy", changed("endpointGroup", "blue:back", policies=["q"]), "policies names policy"),
    ("a group's profile", gone("intent/netprofile/blue:slow"), "netProfile names netprofile blue:slow"),
    ("a group's contracts", gone("intent/extContractsGroup/blue:ext"), "names extContractsGroup"),
    ("a rule's policy", gone("intent/policy/blue:p"), "rule blue:p:1: policyName names policy blue:p"),
    ("a profile's group", gone("intent/endpointGroup/blue:front"), "appProfile blue:shop: endpointGr"),
    ("a tenant", gone("intent/tenant/red"), "network red:tagged: tenantName names tenant red"),
    ("a peer's speaker", gone("intent/Bgp/h1"), "peer h1:tor1: hostname names Bgp h1"),
    ("a service's network", changed("serviceLB", "blue:s", networkName="no"), "names network blue:no"),
    (
        "one name for two",
        copied("endpointGroup", "blue:back", "blue:web", ipPool=None),
        "blue:web: is the name of a network and of a group",
    ),
    # pools and services
    (
        "a pool outside",
        changed("endpointGroup", "blue:back", ipPool="10.1.0.250-10.1.1.5"),
        "endpointGroup blue:back: pool 10.1.0.250-10.1.1.5 is not inside network blue:web",
    ),
    (
        "pools that overlap",
        changed("endpointGroup", "blue:back", ipPool="10.1.0.19-10.1.0.29"),
        "endpointGroup blue:back: its pool overlaps blue:front's",
    ),
    ("a pool's gateway", changed("network", "blue:web", gateway="10.1.0.12"), "has the gateway 10.1.0.12"),
    ("a pool that is none", changed("endpointGroup", "blue:back", ipPool="x-y"), "blue:back: "),
    (
        "an address of two services",
        copied("serviceLB", "blue:s", "blue:t"),
        "10.1.0.254: is that of services blue:s and blue:t",
    ),
    ("a service's leaked address", gone("intent/serviceLB/blue:s"), "network blue:web: 10.1.0.254 is"),
    ("an address not reserved", changed("network", "blue:web", vips=None), "is not reserved in network"),
    (
        "a service's address elsewhere",
        lambda content: (
            changed("network", "blue:web", vips=["10.9.0.1"])(content),
            changed("serviceLB", "blue:s", vip="10.9.0.1")(content),
        )[0],
        "serviceLB blue:s: its address 10.9.0.1 is not one of network blue:web",
    ),
    # what hosts hold
    ("a block of no network", raw("alloc/block/blue:no/10.9.0.0_26", H2), "the network does not exist"),
    ("a block outside", raw("alloc/block/blue:web/10.1.1.0_26", H2), "is no block of the network"),
    ("a block in a block", raw("alloc/block/blue:web/10.1.0.32_27", H2), "overlaps with 10.1.0.32/27"),
    ("an IPv6 block in a block", raw("alloc/block/blue:x1/fd10:2::_121", H2), "overlaps with fd10"),
    ("a loan of another's block", lent(loan(owner="h2", borrower="h1")), "h2 lends out of 10.1.0.0/26"),
    ("a loan to itself", lent(loan(borrower="h1")), "h1 lends to itself"),
    ("a loan elsewhere", lent(loan(address=ip_address("10.1.0.99"))), "10.1.0.99 is not in 10.1.0.0/26"),
    ("an address lent twice", lent(loan("l2")), "loan l2: 10.1.0.40 of blue:web is lent already, by loan l1"),
    ("an address twice", held(endpoint("h1", B, "10.1.0.11")), "10.1.0.11 of blue:web is that of endpoint h1/a"),
    ("an endpoint of no network", held(endpoint("h1", B, network="no")), "network blue:no does not exist"),
    ("an endpoint of no group", held(endpoint("h1", B, group="no")), "endpoint group blue:no does not"),
    ("an endpoint outside", held(endpoint("h1", B, "10.9.0.1")), "is outside the range of network"),
    ("an endpoint's gateway", held(endpoint("h1", B, "10.1.0.1")), "10.1.0.1 is the gateway of network"),
    (
        "an endpoint with a service's address",
        lambda content: (
            raw("alloc/block/blue:web/10.1.0.192_26", H2)(content),
            held(endpoint("h2", B, "10.1.0.254"))(content),
        )[0],
        "10.1.0.254 is a service's address",
    ),
    ("another host's address", held(endpoint("h1", B, "10.1.0.70")), "10.1.0.64/26, which host h2 holds"),
    ("nobody's address", held(endpoint("h1", B, "10.1.0.130")), "10.1.0.128/26, which nobody holds"),
    ("a lent address", held(endpoint("h1", B, "10.1.0.40")), "10.1.0.40 is lent to host h2"),
    ("an endpoint in the wrong place", held(endpoint("h1", B), "h2"), "endpoint h2/b/eth0: says that it"),
    ("a peer twice", copied("peer", "h1:tor1", "h1:tor3"), "peer h1:tor3: 192.0.2.11 is the address of"),
    # form
    ("no JSON", raw("intent/tenant/green", "{"), "intent/tenant/green: cannot be read"),
    ("no object", raw("intent/tenant/green", "7"), "intent/tenant/green: cannot be read: no JSON object"),
    ("no endpoint", raw("endpoint/h1/a/eth0", "{}"), "endpoint/h1/a/eth0: cannot be read"),
    ("a network without subnet", changed("network", "blue:x2", subnet=None), "cannot be read"),
    ("an owner that is none", raw("alloc/vlan/1", "{}"), "alloc/vlan/1: cannot be read"),
    ("a key of another", changed("policy", "blue:p", key="blue:q"), "policy blue:p: says that it is blue:q"),
    ("names of another", changed("policy", "blue:p", policyName="q"), "says that it is blue:p (blue:q)"),
    ("an unknown type", raw("intent/planet/earth", '{"key":"earth"}'), "planet earth: is of an unknown"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("plant", "said"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS]
)
def test_planted_faults_are_found(sound: Content, plant: Fault, said: str) -> None:
    content = dict(sound)
    plant(content)
    found = [str(violation) for violation in violations(content.items())]
    assert any(said in text for text in found), found
    assert len(found) <= 8, "as many as rest on the network of the example"


def test_every_violation_says_what_to_do(sound: Content) -> None:
    for name, plant, _ in FAULTS:
        content = dict(sound)
        plant(content)
        assert all(violation.remedy for violation in violations(content.items())), name


def test_a_rule_may_name_what_is_gone(sound: Content) -> None:
    content = dict(sound)
    gone("intent/endpointGroup/blue:back")(content)
    assert violations(content.items()) == []
    (found,) = loose_ends(content.items())
    assert str(found).startswith(
        "rule blue:p:1: fromEndpointGroup names endpointGroup blue:back, which does not exist"
    )


def test_what_is_not_ours_is_not_looked_at() -> None:
    assert violations([("/other/intent/tenant/x", b"{"), (f"{ROOT}tick", b"")]) == []
