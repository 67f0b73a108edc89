"""What inspect and the read-only collections tell of endpoints, sessions, routes and blocks."""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import pytest

from netfabric.fabric.counts import dump_counts
from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.packed import dump_routes
from netfabric.fabric.route import LearnedRoute
from netfabric.fabric.session import RuleCount, SessionStatus
from netfabric.fabric.view import HostStatus, block_key, counted_key, learned_key

if TYPE_CHECKING:
    from tests.api.rest.conftest import Api

WEB1 = Endpoint(
    key=EndpointKey("c1234567890", "eth0"),
    host="h1",
    tenant="default",
    network="net1",
    group="web",
    namespace="/run/netns/c1",
    link="nf0123456789ab",
    mac="02:02:3c:01:01:01",
    addresses=(ip_address("60.1.1.1"), ip_address("fd60::1")),
    name="web-1",
    labels=(("app", "web"),),
)
WEB2 = replace(
    WEB1, key=EndpointKey("d1234567890", "eth0"), name="web-2", addresses=(ip_address("60.1.1.2"),)
)
OPER = {
    "containerID": "c1234567890",
    "containerName": "web-1",
    "endpointGroupKey": "web:default",
    "endpointID": "c1234567890-eth0",
    "homingHost": "h1",
    "intfName": "nf0123456789ab",
    "ipAddress": ["60.1.1.1", "fd60::1"],
    "labels": "map[app:web]",
    "macAddress": "02:02:3c:01:01:01",
    "network": "net1.default",
    "serviceName": "web",
}
SESSION = SessionStatus(
    peer="h1:16.1.2.3",
    address=ip_address("16.1.2.3"),
    asn=65002,
    state="established",
    since=1_700_000_000.0,
    received=2,
    advertised=5,
    prefixes=(ip_network("10.1.1.1/32"), ip_network("10.1.1.2/32")),
)


@pytest.fixture
async def fabric(api: "Api") -> "Api":
    """A network and a group with two endpoints, on one host with one session."""
    await api.put("networks", "default:net1", subnet="60.1.1.0/24", gateway="60.1.1.254")
    await api.put("policies", "default:pol")
    await api.put("endpoint-groups", "default:web", networkName="net1", policies=["pol"])
    await api.put("bgps", "h1", routerip="65.1.1.1/24", neighbor="16.1.2.3", **BGP)
    await api.attach(WEB1)
    await api.attach(WEB2)
    await api.connect(HostStatus("h1", "192.0.2.1", "0.1.0", ("nexthop",), (SESSION,)))
    return api


BGP: Mapping[str, object] = {"as": "65001", "neighbor-as": "65002"}


async def test_network(fabric: "Api") -> None:
    oper = (await fabric.get("/api/v1/inspect/networks/default:net1/"))["Oper"]
    assert oper["allocatedIPAddresses"] == "60.1.1.1-60.1.1.2, 60.1.1.254"
    assert oper["availableIPAddresses"] == "60.1.1.3-60.1.1.253"
    assert (oper["allocatedAddressesCount"], oper["numEndpoints"]) == (2, 2)
    assert oper["networkTag"] == "net1.default"
    assert oper["endpoints"][0] == OPER


async def test_group_policy_and_tenant(fabric: "Api") -> None:
    group = (await fabric.get("/api/v1/inspect/endpointGroups/default:web/"))["Oper"]
    assert (group["numEndpoints"], group["groupTag"]) == (2, "web.default")
    policy = (await fabric.get("/api/v1/inspect/policys/default:pol/"))["Oper"]
    assert [e["containerName"] for e in policy["endpoints"]] == ["web-1", "web-2"]
    tenant = (await fabric.get("/api/v1/inspect/tenants/default/"))["Oper"]
    assert (tenant["totalEndpoints"], tenant["totalNetworks"], tenant["totalEPGs"]) == (2, 1, 1)
    assert tenant["networks"][0]["numEndpoints"] == 2


async def test_what_rules_counted(fabric: "Api") -> None:
    for name, action in (("1", "allow"), ("2", "deny")):
        await fabric.put("rules", f"default:pol:{name}", direction="in", action=action)
    first = (
        RuleCount("default:web", "in", "default:pol/1", 5, 300),
        RuleCount("default:web", "in", "default:pol/2", 2, 120),
        RuleCount("default:web", "out", "default", 9, 540),
    )
    more = (RuleCount("default:web", "in", "default:pol/2", 1, 60),)
    await fabric.store_value(counted_key("h1"), dump_counts(first).decode())
    await fabric.store_value(counted_key("h2"), dump_counts(more).decode())
    policy = (await fabric.get("/api/v1/inspect/policys/default:pol/"))["Oper"]
    assert policy["policyViolations"] == 3
    assert "rules" not in policy, "Contiv knows none"
    policy = (await fabric.get("/api/v2/inspect/policies/default:pol"))["Oper"]
    assert {one["rule"]: one["packets"] for one in policy["rules"]} == {"1": 5, "2": 3}
    rule = (await fabric.get("/api/v2/inspect/rules/default:pol:2"))["Oper"]
    of_group = {"group": "default:web", "packets": 3, "bytes": 180}
    assert rule == {"packets": 3, "bytes": 180, "groups": [of_group]}
    denying = {"networkName": "net1", "policies": ["pol"], "defaultAction": "deny"}
    await fabric.put("endpoint-groups", "default:web", **denying)
    policy = (await fabric.get("/api/v2/inspect/policies/default:pol"))["Oper"]
    assert policy["policyViolations"] == 3 + 9


@pytest.mark.parametrize("part", ["c1234", "c1234567890-eth0", "web-1", "b-1"])
async def test_endpoint_by_a_part_of_its_names(fabric: "Api", part: str) -> None:
    expected = {"Oper": OPER | {"virtualPort": "vnf0123456789ab"}}
    assert await fabric.get(f"/api/v1/inspect/endpoints/{part}/") == expected
    assert await fabric.get(f"/api/v2/inspect/endpoints/{part}") == expected


async def test_an_endpoint_without_ipv6_still_has_two_addresses(fabric: "Api") -> None:
    found = await fabric.get("/api/v1/inspect/endpoints/web-2/")
    assert found["Oper"]["ipAddress"] == ["60.1.1.2", ""]


async def test_bgp_is_as_contiv_says(fabric: "Api") -> None:
    assert await fabric.get("/api/v1/inspect/Bgps/h1/") == {
        "Config": {
            "key": "h1",
            "as": "65001",
            "hostname": "h1",
            "neighbor": "16.1.2.3",
            "neighbor-as": "65002",
            "routerip": "65.1.1.1/24",
        },
        "Oper": {
            "adminStatus": "ADMIN_STATE_UP",
            "neighborStatus": "established",
            "numRoutes": 2,
            "routes": ["10.1.1.1/32", "10.1.1.2/32"],
        },
    }
    oper = (await fabric.get("/api/v2/inspect/bgps/h1"))["Oper"]
    assert oper["sessions"][0]["advertised"] == 5


async def test_peers_say_why_they_are_down(fabric: "Api") -> None:
    await fabric.put("peers", "h1:tor1", address="16.1.2.9", **{"as": 65009})
    path = "/api/v2/inspect/peers/h1:tor1"
    assert (await fabric.get(path))["Oper"]["reason"] == "the host has not taken it up yet"
    down = SessionStatus(
        "h1:tor1", ip_address("16.1.2.9"), 65009, "active", 5.0, reason="no route to 16.1.2.9"
    )
    await fabric.connect(HostStatus("h1", sessions=(down,)))
    assert (await fabric.get(path))["Oper"]["reason"] == "no route to 16.1.2.9"


async def test_hosts_sessions_blocks(fabric: "Api") -> None:
    await fabric.store_value(block_key("default:net1", ip_network("60.1.1.0/26")), '{"host":"h1"}')
    (host,) = (await fabric.get("/api/v2/hosts"))["items"]
    assert (host["state"], host["endpoints"], host["features"]) == ("connected", 2, ["nexthop"])
    assert host["blocks"] == [{"network": "default:net1", "prefix": "60.1.1.0/26"}]
    (session,) = (await fabric.get("/api/v2/sessions?state=established"))["items"]
    assert (session["key"], session["received"]) == ("h1:16.1.2.3", 2)
    (block,) = (await fabric.get("/api/v2/blocks?network=default:net1"))["items"]
    assert (block["host"], block["inUse"]) == ("h1", 2)
    (info,) = [await fabric.get("/info")]
    assert info["netplugin-nodes"] == ["192.0.2.1"]


async def test_routes_by_prefix_origin_and_longest_match(fabric: "Api") -> None:
    learned = (
        LearnedRoute(ip_network("0.0.0.0/0"), "h1", (ip_address("16.1.2.3"),), (65002,)),
        LearnedRoute(ip_network("60.1.0.0/16"), "h1", (ip_address("16.1.2.3"),), (65002, 1)),
    )
    await fabric.store_value(learned_key("h1"), dump_routes(learned).decode())

    async def prefixes(query: str) -> list[str]:
        return [item["prefix"] for item in (await fabric.get(f"/api/v2/routes?{query}"))["items"]]

    hosts = ["60.1.1.1/32", "60.1.1.2/32", "fd60::1/128"]
    assert await prefixes("") == ["0.0.0.0/0", "60.1.0.0/16", *hosts]
    assert await prefixes("origin=endpoint") == hosts
    assert await prefixes("prefix=60.1.0.0/16") == ["60.1.0.0/16", *hosts[:2]]
    assert await prefixes("covers=60.1.1.1") == ["60.1.1.1/32"]
    assert await prefixes("covers=60.1.9.9") == ["60.1.0.0/16"]
    assert await prefixes("covers=9.9.9.9&host=h1") == ["0.0.0.0/0"]


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("routes?host=h9", 404, "host h9 is unknown"),
        ("sessions?host=h9", 404, "host h9 is unknown"),
        ("routes?colour=blue", 422, "unknown filter 'colour'"),
        ("routes?covers=x", 422, "prefix 'x'"),
        ("inspect/colours/blue", 404, "no such kind: colours"),
        ("inspect/networks/default:none", 404, "network default:none does not exist"),
        ("inspect/endpoints/nobody", 404, "endpoint not found"),
    ],
)
async def test_questions_that_can_only_be_mistakes(
    fabric: "Api", path: str, status: int, detail: str
) -> None:
    answer = await fabric.call("GET", f"/api/v2/{path}")
    assert answer.status == status
    assert detail in answer.json["detail"]
    assert answer.json["remedy"]


async def test_an_endpoint_keeps_what_it_uses(fabric: "Api") -> None:
    for plural, key, text in (
        ("networks", "default:net1", "cannot delete net1 has 1 endpoint groups"),
        ("endpoint-groups", "default:web", "Error: EPG web has active endpoints"),
    ):
        answer = await fabric.call("DELETE", f"/api/v2/{plural}/{key}")
        assert (answer.status, answer.json["detail"]) == (409, text)
    bare = replace(WEB1, key=EndpointKey("e1", "eth0"), network="net2", group="")
    await fabric.put("networks", "default:net2", subnet="60.1.2.0/24")
    await fabric.attach(bare)
    answer = await fabric.call("DELETE", "/api/v1/networks/default:net2/")
    assert (answer.status, answer.text) == (500, "Error: Network has active endpoints\n")


async def test_a_service_finds_its_providers_by_label(fabric: "Api") -> None:
    await fabric.put(
        "services", "default:s", networkName="net1", ports=["80:80:TCP"], selectors=["app=web"]
    )
    oper = (await fabric.get("/api/v1/inspect/serviceLBs/default:s/"))["Oper"]
    assert (oper["numProviders"], oper["serviceVip"]) == (2, "60.1.1.253")


async def test_tenants_talk_where_both_say_so(fabric: "Api") -> None:
    await fabric.put("tenants", "red")
    await fabric.put("networks", "red:net2", subnet="61.1.1.0/24")
    await fabric.put("policies", "red:pol")
    await fabric.put("endpoint-groups", "red:db", networkName="net2", policies=["pol"])
    key, address = EndpointKey("e1234567890", "eth0"), ip_address("61.1.1.1")
    red = replace(WEB1, key=key, name="db-1", tenant="red", network="net2", group="db")
    await fabric.attach(replace(red, addresses=(address,)))

    async def verdict() -> tuple[str, str]:
        (found,) = (await fabric.get("/api/v2/verdicts?from=web-1&to=db-1&port=80"))["items"]
        return found["action"], found["reason"]

    assert "tenants default and red do not talk" in (await verdict())[1]
    allow = {"action": "allow", "protocol": "tcp"}
    await fabric.put("rules", "default:pol:1", direction="out", toEndpointGroup="red:db", **allow)
    action, reason = await verdict()
    assert (action, reason.partition(": ")[2]) == ("deny", "group red:db has none, incoming")
    await fabric.put("rules", "red:pol:0", direction="in", **allow)
    assert (await verdict())[0] == "deny", "a rule about anybody is about nobody else's"
    await fabric.put("rules", "red:pol:1", direction="in", fromEndpointGroup="default:web", **allow)
    assert (await verdict())[0] == "allow"
    deny = {"direction": "in", "action": "deny", "priority": 2}
    await fabric.put("rules", "red:pol:2", **deny)
    assert await verdict() == ("deny", "rule red:pol:2 of group red:db, incoming")


async def test_verdicts_name_the_rule_that_decides(fabric: "Api") -> None:
    more = {"direction": "in", "action": "deny", "protocol": "tcp", "ports": ["80-90"]}
    await fabric.put("rules", "default:pol:1", **more)
    path = "/api/v2/verdicts?from=web-2&to=web-1&port="
    (verdict,) = (await fabric.get(f"{path}80"))["items"]
    assert (verdict["key"], verdict["action"]) == ("IPv4", "deny")
    assert verdict["reason"] == "rule default:pol:1 of group default:web, incoming"
    assert verdict["to"] == {
        "name": "web-1",
        "address": "60.1.1.1",
        "tenant": "default",
        "group": "default:web",
    }
    (rule,) = verdict["considered"]
    assert (rule["rule"], rule["matches"], rule["decides"]) == ("default:pol:1", True, True)
    (open_,) = (await fabric.get(f"{path}91"))["items"]
    assert open_["action"] == "allow"
    assert open_["considered"][0]["matches"] is False
    outside = (await fabric.get("/api/v2/verdicts?from=fd99::1&to=web-1&port=85"))["items"]
    assert [(item["key"], item["action"]) for item in outside] == [("IPv6", "deny")]
    for query, status in (
        ("from=nobody&to=web-1", 404),
        ("from=web-1&to=60.1.1.2&port=99999", 422),
        ("from=web-1&to=web-2&protocol=256", 422),
        ("from=fd99::1&to=web-2", 422),
        ("colour=red", 422),
    ):
        assert (await fabric.call("GET", f"/api/v2/verdicts?{query}")).status == status
