"""/api/v2: statuses, problem details, ETags, partial updates; and that what is refused changes nothing."""

import asyncio
import json
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest

from netfabric.api.store.memory import MemoryStore
from netfabric.fabric.errors import UnavailableError
from netfabric.fabric.world import World, Write

if TYPE_CHECKING:
    from tests.api.rest.conftest import Api

NET = "/api/v2/networks/default:n"


async def test_create_read_change_delete(api: "Api") -> None:
    made = await api.call("PUT", NET, {"subnet": "10.1.0.0/16"})
    assert (made.status, made.headers["Location"]) == (201, "/api/v2/networks/default:n")
    assert made.json == {
        "key": "default:n",
        "encap": "routed",
        "networkName": "n",
        "nwType": "data",
        "subnet": "10.1.0.0/16",
        "tenantName": "default",
    }
    read = await api.call("GET", NET)
    assert (read.status, read.json, read.headers["ETag"]) == (200, made.json, made.headers["ETag"])
    changed = await api.call("PATCH", NET, {"announce": "blocks", "reserved": ["10.1.9.0/24"]})
    assert changed.status == 200
    assert changed.headers["ETag"] != made.headers["ETag"]
    assert changed.json["announce"] == "blocks"
    back = await api.call("PATCH", NET, {"announce": None})
    assert "announce" not in back.json
    assert back.json["reserved"] == ["10.1.9.0/24"]
    gone = await api.call("DELETE", NET)
    assert (gone.status, gone.text) == (204, "")
    assert (await api.call("GET", NET)).status == 404


async def test_post_creates_and_never_replaces(api: "Api") -> None:
    body = {"tenantName": "blue"}
    assert (await api.call("POST", "/api/v2/tenants", body)).status == 201
    again = await api.call("POST", "/api/v2/tenants", body)
    assert (again.status, again.json["detail"]) == (409, "tenant blue exists already")


async def test_the_same_put_again_writes_nothing(api: "Api") -> None:
    body = {"subnet": "10.1.0.0/16"}
    first = await api.call("PUT", NET, body)
    before = await api.stored()
    second = await api.call("PUT", NET, body)
    assert (second.status, second.headers["ETag"]) == (200, first.headers["ETag"])
    assert await api.stored() == before


async def test_preconditions(api: "Api") -> None:
    tag = (await api.call("PUT", NET, {"subnet": "10.1.0.0/16"})).headers["ETag"]
    stale = await api.call("PATCH", NET, {"announce": "blocks"}, If_Match='"1"')
    assert (stale.status, stale.json["detail"]) == (412, "network default:n has changed")
    assert (await api.call("PUT", NET, {"subnet": "10.1.0.0/16"}, If_None_Match="*")).status == 412
    assert (await api.call("PATCH", NET, {"announce": "blocks"}, If_Match=tag)).status == 200
    assert (await api.call("DELETE", NET, If_Match=tag)).status == 412
    assert (await api.call("DELETE", NET, If_Match="*")).status == 204
    assert (await api.call("DELETE", NET, If_Match="*")).status in (404, 412)


async def test_lists_are_sorted_and_filtered(api: "Api") -> None:
    await api.put("tenants", "blue")
    for key, net in (("default:b", 1), ("blue:a", 2), ("default:a", 3)):
        await api.put("networks", key, subnet=f"10.{net}.0.0/16")
    items = (await api.get("/api/v2/networks"))["items"]
    assert [item["key"] for item in items] == ["blue:a", "default:a", "default:b"]
    items = (await api.get("/api/v2/networks?tenantName=default&subnet=10.3.0.0/16"))["items"]
    assert [item["key"] for item in items] == ["default:a"]


async def test_a_secret_is_kept_and_never_told(api: "Api") -> None:
    await api.put("bgps", "h1", routerip="50.1.1.1/24", **{"as": "65001"})
    path, body = "/api/v2/peers/h1:t", {"address": "50.1.1.2", "as": 65002, "password": "s3cret"}
    made = await api.call("PUT", path, body)
    assert "s3cret" not in made.text
    assert made.json["passwordSet"] is True
    await api.call("PUT", path, made.json | {"holdTime": 30})
    (stored,) = [json.loads(v) for k, v in (await api.stored()).items() if "intent/peer" in k]
    assert (stored["password"], stored["holdTime"]) == ("s3cret", 30)
    for where in ("/api/v2/peers", "/api/v2/inspect/peers/h1:t"):
        assert "s3cret" not in (await api.call("GET", where)).text
    bare = await api.call("PATCH", path, {"password": None})
    assert "passwordSet" not in bare.json


PORT = {"tenantName": "default", "networkName": "n"}
REFUSED = [
    # method, path, body, status, detail, object
    (
        "PUT",
        "networks/default:x",
        {"subnet": "10.1.1.0/24"},
        409,
        "network n conflicts with subnet",
    ),
    (
        *("PUT", "networks/default:x", {"subnet": "10.2.0.0/16", "gateway": "10.3.0.1"}, 422),
        "hostIP 10.3.0.1 is exceeding beyond subnet 10.2.0.0/16",
    ),
    ("PUT", "networks/default:x", {"subnet": "10.2.0.0/33"}, 422, "subnet string invalid format"),
    ("PUT", "networks/default:x", {}, 422, "network default:x: no subnet"),
    ("PUT", "networks/none:x", {"subnet": "10.2.0.0/16"}, 422, "Tenant not found"),
    ("PUT", "networks/x", {"subnet": "10.2.0.0/16"}, 422, "Invalid Key"),
    ("PUT", "networks/default:x", {"subnet": "10.2.0.0/16", "pktTag": 5}, 422, "pktTag"),
    (
        *("PUT", "networks/default:x", {"subnet": "10.2.0.0/16", "blockLength": 8}, 422),
        "blockLength 8 does not fit subnet",
    ),
    (
        *("PUT", "networks/default:x", {"subnet": "10.2.0.0/16", "reserved": ["10.3.0.0/24"]}, 422),
        "reserved 10.3.0.0/24 is outside the subnet",
    ),
    ("PUT", "networks/default:n", {"subnet": "10.9.0.0/16"}, 409, "Cant change network parameters"),
    ("PATCH", "networks/default:n", {"encap": "vxlan"}, 409, "Cant change network parameters"),
    ("PUT", "tenants/blue", {"key": "red"}, 422, "tenant blue: the body is of red"),
    ("PUT", "tenants/blue", {"key": 5}, 422, "key is not a string"),
    ("PUT", "peers/h1:t", {"passwordSet": False}, 422, "passwordSet is not true"),
    ("PUT", "tenants/a%0Ab", {}, 422, "tenantName string invalid format"),
    ("PATCH", "networks/default:x", {"announce": "blocks"}, 404, "default:x does not exist"),
    ("DELETE", "networks/default:x", None, 404, "network default:x does not exist"),
    ("DELETE", "networks/default:n", None, 409, "cannot delete n has 2 endpoint groups"),
    ("PUT", "bgps/h2", {"as": "x", "routerip": "50.1.1.2/24"}, 422, "Bgp h2: AS 'x' is not a"),
    ("PUT", "bgps/h2", {"as": "0", "routerip": "50.1.1.2/24"}, 422, "AS 0 is reserved"),
    ("PUT", "bgps/h2", {"as": "4294967296", "routerip": "50.1.1.2/24"}, 422, "larger than 4 bytes"),
    ("PUT", "bgps/h2", {"as": "65001", "routerip": "50.1.1.1/24"}, 409, "is that of h1"),
    ("PUT", "bgps/h2", {"as": "65001", "routerip": "fd00::1/64"}, 422, "no router id"),
    ("PUT", "peers/h9:t", {"address": "50.1.1.9", "as": 65002}, 422, "host h9 has no Bgp object"),
    ("PUT", "peers/h1:t", {"address": "tor", "as": 65002}, 422, "'tor' is not an address"),
    ("PUT", "peers/h1:t", {"address": "50.1.1.9", "as": 65001}, 409, "AS 65001 is the host's own"),
    ("PUT", "peers/h1:t", {"address": "50.1.1.1", "as": 65002}, 422, "is the host's own address"),
    ("PUT", "peers/h1:t", {"address": "fe80::1", "as": 65002}, 422, "is link-local"),
    (
        *("PUT", "peers/h1:t", {"address": "50.1.1.9", "as": 65002, "families": [4, 6]}, 422),
        "IPv6 routes need an IPv6 session",
    ),
    (
        *("PUT", "peers/h1:t", {"address": "50.1.1.9", "as": 65002, "password": "a b"}, 422),
        "password string invalid format",
    ),
    (
        *("PUT", "peers/h1:t", {"address": "50.1.1.9", "as": 65002, "communities": ["1:70000"]}),
        *(422, "a part exceeds 65535"),
    ),
    (
        *(
            "PUT",
            "peers/h1:t",
            {"address": "50.1.1.9", "as": 65002, "importWithin": ["10.0.0.0/8-7"]},
        ),
        *(422, "importWithin"),
    ),
    ("DELETE", "bgps/h1", None, 409, "cannot delete Bgp h1 has 1 peers"),
    ("PUT", "ports/h1:nf1", {"tenantName": "default", "networkName": "n"}, 422, "linkName"),
    ("PUT", "ports/h1:t1", {"tenantName": "default", "networkName": "x"}, 422, "Network x not"),
    ("PUT", "ports/h1:t1", {"tenantName": "none", "networkName": "n"}, 422, "Tenant not found"),
    ("PUT", "ports/h1:t1", PORT | {"groupName": "x"}, 422, "Endpoint group x not found"),
    ("PUT", "ports/h1:t1", PORT | {"ipAddress": "10.9.0.5"}, 422, "is none that network"),
    ("PUT", "ports/h1:t1", PORT | {"ipAddress": "10.1.0.5"}, 409, "10.1.0.5 is that of h1:tap0"),
    ("PUT", "ports/h1:t1", PORT | {"macAddress": "01:00:00:00:00:01"}, 422, "macAddress"),
    ("DELETE", "networks/default:m", None, 409, "cannot delete m has port h1:tap1"),
    ("DELETE", "endpoint-groups/default:p", None, 409, "associated to port h1:tap0"),
    ("PATCH", "globals/global", {"vlans": "9-5"}, 422, "min is greater than max"),
    ("PATCH", "globals/global", {"pvtSubnet": "172.20.0.0/16"}, 409, "due to existing 2 vlans"),
    ("PUT", "networks/default:x", [1], 400, "the body is not a JSON object"),
    ("PUT", "networks/default:x", "{", 400, "the body is not JSON"),
    ("PUT", "networks/default:x", "\xff", 400, "the body is not JSON"),
    ("GET", "networks?colour=blue", None, 422, "unknown filter 'colour'"),
    ("GET", "colours", None, 404, "no such URL"),
    ("POST", "networks/default:x", {}, 405, "method not allowed here"),
    ("DELETE", "networks", None, 405, "method not allowed here"),
    ("PUT", "hosts", {}, 405, "method not allowed here"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "detail"), REFUSED)
async def test_refused_by_name_cause_and_remedy_and_nothing_written(
    api: "Api", method: str, path: str, body: Any, status: int, detail: str
) -> None:
    await api.put("networks", "default:n", subnet="10.1.0.0/16")
    await api.put("endpoint-groups", "default:g", networkName="n")
    await api.put("bgps", "h1", routerip="50.1.1.1/24", **{"as": "65001"})
    await api.put("peers", "h1:tor", address="50.1.1.2", **{"as": 65002})
    await api.put("networks", "default:m", subnet="10.4.0.0/16")
    await api.put("endpoint-groups", "default:p", networkName="n")
    await api.put("ports", "h1:tap0", **PORT, ipAddress="10.1.0.5", groupName="p")
    await api.put("ports", "h1:tap1", **PORT | {"networkName": "m"})
    before = await api.stored()
    answer = await api.call(method, f"/api/v2/{path}", body)
    assert answer.status == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json
    assert detail in problem["detail"]
    assert problem["remedy"]
    assert problem["status"] == status
    assert await api.stored() == before
    if "/" in path and "%" not in path and status < 405:
        assert path.partition("/")[2] in problem["object"]


async def test_a_body_that_is_too_large(api: "Api") -> None:
    answer = await api.call("PUT", NET, BytesIO(b"x" * (1 << 21)))
    assert (answer.status, answer.json["remedy"]) == (413, "send less")


async def test_reads_go_on_and_writes_say_why_while_the_store_is_away(
    api: "Api", monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.put("networks", "default:n", subnet="10.1.0.0/16")

    async def away(*_: object) -> None:
        raise UnavailableError("etcd 192.0.2.1:2379: no answer", "start it")

    monkeypatch.setattr(MemoryStore, "txn", away)
    monkeypatch.setattr(MemoryStore, "get", away)
    assert (await api.call("GET", NET)).status == 200
    refused = await api.call("PUT", "/api/v2/tenants/blue", {})
    assert (refused.status, refused.json["detail"]) == (503, "etcd 192.0.2.1:2379: no answer")
    assert refused.headers["Retry-After"] == "1"
    one = await api.call("POST", "/api/v1/tenants/blue/", {"tenantName": "blue"})
    assert (one.status, one.text) == (500, "etcd 192.0.2.1:2379: no answer\n")
    assert await api.get("/readyz") == {
        "status": "degraded",
        "store": "etcd 192.0.2.1:2379: no answer: start it",
    }


async def test_who_waited_while_the_store_failed_does_not_wait_again(
    api: "Api", monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(*_: object) -> None:
        nonlocal asked
        asked += 1
        begun.set()
        await go_on.wait()
        raise UnavailableError("no answer", "wait")

    monkeypatch.setattr(MemoryStore, "txn", slow)
    writes = [asyncio.ensure_future(api.writer.write(one_tenant)) for _ in range(20)]
    await begun.wait()
    go_on.set()
    failed = await asyncio.gather(*writes, return_exceptions=True)
    assert {str(error) for error in failed} == {"no answer: wait"}
    assert asked == 1


def one_tenant(_: World) -> Write:
    return Write({"intent/tenant/t": {"key": "t", "tenantName": "t"}})


async def test_many_writers_at_once_never_overlap(api: "Api") -> None:
    answers = await asyncio.gather(
        *(
            api.call("PUT", f"/api/v2/networks/default:n{n}", {"subnet": "10.1.0.0/16"})
            for n in range(10)
        )
    )
    assert sorted(answer.status for answer in answers) == [201, *[409] * 9]


async def test_a_rule_may_name_another_tenants_group(api: "Api") -> None:
    await api.put("tenants", "red")
    await api.put("networks", "red:n", subnet="10.9.0.0/16")
    await api.put("endpoint-groups", "red:db", networkName="n")
    await api.put("policies", "default:p")
    body = {"direction": "out", "action": "allow", "toEndpointGroup": "red:db"}
    assert (await api.put("rules", "default:p:1", **body))["toEndpointGroup"] == "red:db"
    shown = (await api.get("/api/v2/inspect/rules/default:p:1"))["Config"]
    assert shown["links"]["MatchEndpointGroup"] == {"type": "endpointGroup", "key": "red:db"}
    for wrong in ("red:web", "blue:db", "red:", ":db", "red:db:x"):
        answer = await api.call(
            "PUT", "/api/v2/rules/default:p:2", body | {"toEndpointGroup": wrong}
        )
        assert (answer.status, wrong) == (422, wrong)
    contiv = body | {"key": "default:p:2", "tenantName": "default", "policyName": "p"}
    answer = await api.call("POST", "/api/v1/rules/default:p:2/", contiv | {"ruleId": "2"})
    assert (answer.status, answer.text) == (500, "toEndpointGroup string invalid format\n")
    gone = await api.call("DELETE", "/api/v2/endpoint-groups/red:db")
    assert gone.status == 204, "as within a tenant: the rule then matches nothing"


async def test_rules_have_ports_and_groups_a_default(api: "Api") -> None:
    await api.call("PUT", NET, {"subnet": "10.1.0.0/16"})
    await api.call("PUT", "/api/v2/policies/default:p", {})
    group = "/api/v2/endpoint-groups/default:web"
    body = {"networkName": "n", "policies": ["p"], "defaultAction": "deny"}
    assert (await api.call("PUT", group, body)).json["defaultAction"] == "deny"
    contiv = {"tenantName": "default", "groupName": "web", "networkName": "n", "policies": []}
    again = await api.call(
        "POST", "/api/v1/endpointGroups/default:web/", contiv | {"key": "default:web"}
    )
    assert again.status == 200
    assert (await api.call("GET", group)).json["defaultAction"] == "deny"
    refused = await api.call("PATCH", group, {"defaultAction": "maybe"})
    assert refused.status == 422
    base = {"direction": "in", "action": "allow", "protocol": "tcp"}
    rule = "/api/v2/rules/default:p:1"
    made = await api.call("PUT", rule, base | {"ports": ["80", "8000-8080"], "log": True})
    assert (made.status, made.json["ports"]) == (201, ["80", "8000-8080"])
    v6 = await api.call("PUT", "/api/v2/rules/default:p:2", base | {"fromIpAddress": "fd00:1::/64"})
    assert v6.status == 201
    for wrong in (
        {"ports": ["80"], "protocol": "icmp"},
        {"ports": ["9-8"]},
        {"ports": ["80"], "port": 80},
        {"icmpTypes": [8]},
        {"protocol": "256"},
        {"fromIpAddress": "10.1.1.9-3"},
    ):
        answer = await api.call("PUT", "/api/v2/rules/default:p:3", base | wrong)
        assert (answer.status, wrong) == (422, wrong)
