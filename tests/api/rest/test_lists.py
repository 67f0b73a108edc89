"""Pages, watches and dry runs of /api/v2."""

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from netfabric.api.rest import watch

if TYPE_CHECKING:
    from tests.api.rest.conftest import Api


async def test_pages_have_everything_once(api: "Api") -> None:
    for number in range(7):
        await api.put("tenants", f"t{number}")
    seen, query = [], "limit=3"
    while query:
        page = await api.get(f"/api/v2/tenants?{query}")
        seen.append([item["key"] for item in page["items"]])
        query = f"limit=3&after={page['next']}" if "next" in page else ""
    assert seen == [["default", "t0", "t1"], ["t2", "t3", "t4"], ["t5", "t6"]]
    page = await api.get("/api/v2/tenants?tenantName=t3&limit=3")
    assert [item["key"] for item in page["items"]] == ["t3"]
    assert "next" not in page


@pytest.mark.parametrize("limit", ["0", "-1", "x", "10001", ""])
async def test_limits_refused(api: "Api", limit: str) -> None:
    answer = await api.call("GET", f"/api/v2/tenants?limit={limit}")
    assert answer.status == 422
    assert "is no number of items" in answer.json["detail"]


async def test_a_secret_cannot_be_guessed_by_filtering(api: "Api") -> None:
    answer = await api.call("GET", "/api/v2/peers?password=x")
    assert (answer.status, answer.json["detail"]) == (422, "unknown filter 'password'")


async def test_a_dry_run_tells_everything_and_changes_nothing(api: "Api") -> None:
    await api.put("networks", "default:a", subnet="10.1.0.0/16", encap="vxlan")
    await api.put("policies", "default:p")
    await api.put("rules", "default:p:1", action="allow", direction="in")
    before = await api.stored()
    made = await api.call(
        "PUT", "/api/v2/networks/default:b?dryRun=1", {"subnet": "10.2.0.0/16", "encap": "vxlan"}
    )
    assert made.status == 200
    allocated, created = made.json["changes"]
    assert allocated == {"change": "allocate", "key": "vni/2"}
    assert (created["change"], created["key"]) == ("create", "default:b")
    assert created["after"]["subnet"] == "10.2.0.0/16"
    changed = await api.call("PATCH", "/api/v2/networks/default:a?dryRun=1", {"ready": "fabric"})
    (update,) = changed.json["changes"]
    assert "ready" not in update["before"]
    assert update["after"]["ready"] == "fabric"
    gone = await api.call("DELETE", "/api/v2/policies/default:p?dryRun=1")
    assert [(c["change"], c["key"]) for c in gone.json["changes"]] == [
        ("delete", "default:p:1"),
        ("delete", "default:p"),
    ]
    same = await api.call("PATCH", "/api/v2/networks/default:a?dryRun=1", {})
    assert same.json["changes"] == []
    bad = await api.call("PUT", "/api/v2/networks/default:c?dryRun=1", {"subnet": "10.1.0.0/24"})
    assert bad.status == 409
    for value in ("x", "1&dryRun=x"):
        unclear = await api.call("DELETE", f"/api/v2/policies/default:p?dryRun={value}")
        assert (unclear.status, unclear.json["detail"]) == (422, "dryRun=x is neither yes nor no")
    typo = await api.call("DELETE", "/api/v2/policies/default:p?dryrun=1")
    assert typo.status == 422
    assert await api.stored() == before


async def events(stream: Any, count: int) -> list[tuple[str, Any]]:
    """Return the next events as (name, data)."""
    found: list[tuple[str, Any]] = []
    name = ""
    async with asyncio.timeout(5):
        while len(found) < count:
            line = (await stream.readline()).decode().rstrip()
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                found.append((name, json.loads(value)))
    return found


async def test_a_watch_begins_with_what_is_there_and_goes_on(api: "Api") -> None:
    await api.put("networks", "default:a", subnet="10.1.0.0/16")
    async with api.open("/api/v2/networks?watch=1&tenantName=default") as reply:
        assert reply.headers["Content-Type"] == "text/event-stream"
        first = await events(reply.content, 2)
        assert [name for name, _ in first] == ["put", "listed"]
        assert first[0][1]["key"] == "default:a"
        await api.put("tenants", "blue")
        await api.put("networks", "blue:x", subnet="10.3.0.0/16")
        await api.put("networks", "default:b", subnet="10.2.0.0/16")
        ((name, data),) = await events(reply.content, 1)
        assert (name, data["key"]) == ("put", "default:b")  # neither another kind nor tenant
        await api.call("DELETE", "/api/v2/networks/default:a")
        assert await events(reply.content, 1) == [("delete", {"key": "default:a"})]


async def test_a_silent_watch_is_kept_alive(api: "Api", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "HEARTBEAT", 0.01)
    async with api.open("/api/v2/bgps?watch=1") as reply:
        await events(reply.content, 1)
        async with asyncio.timeout(5):
            while await reply.content.readline() != b": alive\n":
                pass
