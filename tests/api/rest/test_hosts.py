"""Hosts over /api/v2: one as it is, and one that is removed for good."""

from ipaddress import ip_address
from typing import TYPE_CHECKING

from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.view import HostStatus

if TYPE_CHECKING:
    from tests.api.rest.conftest import Api

BLOCK = "/netfabric/v1/alloc/block/default:blue/10.1.0.0_26"


async def used(api: "Api", host: str = "h1") -> None:
    """A network with a block and an endpoint of a host that has a speaker and a peer."""
    await api.put("networks", "default:blue", subnet="10.1.0.0/16")
    await api.put("bgps", host, **{"as": "65001", "routerip": "10.9.0.2/31"})
    await api.put("peers", f"{host}:tor", **{"address": "10.9.0.3", "as": 65002})
    await api.store_value(BLOCK, f'{{"host":"{host}"}}')
    key, where = EndpointKey("c1", "eth0"), (ip_address("10.1.0.5"),)
    await api.attach(Endpoint(key, host, "default", "blue", "", "/ns", "nf0", "02:02", where))


async def test_one_host(api: "Api") -> None:
    await api.connect(HostStatus("h1", "192.0.2.1"))
    assert (await api.get("/api/v2/hosts/h1"))["state"] == "connected"
    missing = await api.call("GET", "/api/v2/hosts/h9")
    assert (missing.status, missing.json["detail"]) == (404, "host h9 is unknown")
    wrong = await api.call("PUT", "/api/v2/hosts/h1", {})
    assert (wrong.status, wrong.headers["Allow"]) == (405, "GET, DELETE")


async def test_removed_and_its_intent_stays(api: "Api") -> None:
    await used(api)
    answer = await api.call("DELETE", "/api/v2/hosts/h1")
    assert answer.status == 200
    assert answer.json == {
        "key": "h1",
        "endpoints": 1,
        "loans": 0,
        "blocks": 1,
        "kept": [],
        "dryRun": False,
        "objects": [],
        "objectsKept": ["peer h1:tor", "Bgp h1"],
    }
    assert (await api.get("/api/v2/endpoints"))["items"] == []
    assert (await api.get("/api/v2/blocks"))["items"] == []
    assert len((await api.get("/api/v2/peers"))["items"]) == 1


async def test_removed_with_its_intent(api: "Api") -> None:
    await used(api)
    answer = await api.call("DELETE", "/api/v2/hosts/h1?withIntent=1")
    assert answer.json["objects"] == ["peer h1:tor", "Bgp h1"]
    assert (await api.get("/api/v2/bgps"))["items"] == []
    assert (await api.call("DELETE", "/api/v2/hosts/h1")).status == 404


async def test_a_dry_run_changes_nothing(api: "Api") -> None:
    await used(api)
    before = await api.stored()
    answer = await api.call("DELETE", "/api/v2/hosts/h1?dryRun=1&withIntent=1")
    assert (answer.json["dryRun"], answer.json["blocks"]) == (True, 1)
    assert await api.stored() == before


async def test_a_connected_one_is_refused_unless_forced(api: "Api") -> None:
    await used(api)
    await api.connect(HostStatus("h1", "192.0.2.1"))
    before = await api.stored()
    for query in ("", "?dryRun=1"):
        refused = await api.call("DELETE", f"/api/v2/hosts/h1{query}")
        assert refused.status == 409
        assert refused.json["detail"] == "host h1: its agent at 192.0.2.1 is connected"
        assert refused.json["object"] == "host h1"
    assert await api.stored() == before
    assert (await api.call("DELETE", "/api/v2/hosts/h1?force=1")).json["endpoints"] == 1
    assert (await api.get("/api/v2/hosts?state=connected"))["items"] == []


async def test_an_unknown_parameter_is_refused(api: "Api") -> None:
    await used(api)
    answer = await api.call("DELETE", "/api/v2/hosts/h1?frce=1")
    assert (answer.status, answer.json["detail"]) == (422, "unknown parameter 'frce'")
