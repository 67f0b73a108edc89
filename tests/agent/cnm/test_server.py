"""The plugin's socket on a real loop with a kernel that executes: HTTP, errors in words, one agent a socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from netfabric.agent.cnm.server import CnmServer
from netfabric.fabric.errors import ConflictError, InvalidError, KernelError
from tests.agent.rig import Rig, kernel_with, running

Answer = tuple[int, dict[str, Any]]
SUBNET = "10.1.0.0/16"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path / "journal.db", kernel_with()) as rig:
        yield rig


@pytest.fixture
async def socket(rig: Rig, tmp_path: Path) -> AsyncIterator[Path]:
    path = tmp_path / "plugins" / "netfabric.sock"
    async with asyncio.TaskGroup() as group:
        task = group.create_task(
            CnmServer(rig.callers, path, tmp_path / "cnm.json", "global").run()
        )
        async with asyncio.timeout(5):
            while not path.exists():  # noqa: ASYNC110 a file sets no event
                await asyncio.sleep(0.01)
        yield path
        task.cancel()
    assert not path.exists()


async def post(path: Path, name: str, body: bytes | dict[str, Any] = b"") -> Answer:
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
        session.post(f"http://plugin/{name}", data=data) as answer,
    ):
        return answer.status, await answer.json(content_type=None)


async def test_capabilities_need_no_body(socket: Path) -> None:
    scope = {"Scope": "global", "ConnectivityScope": "global"}
    assert await post(socket, "NetworkDriver.GetCapabilities") == (200, scope)
    assert (await post(socket, "IpamDriver.GetDefaultAddressSpaces"))[0] == 200
    for name in ("FreeNetwork", "DiscoverNew", "DiscoverDelete", "ReleasePool"):
        where = "IpamDriver" if name == "ReleasePool" else "NetworkDriver"
        assert await post(socket, f"{where}.{name}", {"x": 1}) == (200, {})


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff", b"[" * 100_000])
async def test_what_is_no_json_is_refused_in_words(socket: Path, body: bytes) -> None:
    status, said = await post(socket, "NetworkDriver.Join", body)
    assert status == 500
    assert "no JSON" in said["Err"]


async def test_a_call_that_nobody_knows(socket: Path) -> None:
    status, said = await post(socket, "NetworkDriver.Nonsense")
    assert (status, "no such call" in said["Err"]) == (404, True)


async def test_a_pool_and_its_addresses(socket: Path, rig: Rig) -> None:
    _, pool = await post(socket, "IpamDriver.RequestPool", {"Pool": SUBNET})
    assert pool == {"PoolID": "default:blue|4", "Pool": SUBNET, "Data": {}}
    asked = {"PoolID": pool["PoolID"], "Address": ""}
    first = (await post(socket, "IpamDriver.RequestAddress", asked))[1]
    assert first == {"Address": "10.1.0.1/32", "Data": {}}
    given_back = {"PoolID": pool["PoolID"], "Address": "10.1.0.1"}
    assert await post(socket, "IpamDriver.ReleaseAddress", given_back) == (200, {})
    assert (await post(socket, "IpamDriver.RequestAddress", asked))[1] == first


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"Pool": ""}, "add --subnet"),  # a swarm's workers hear of nothing else
        ({"Pool": SUBNET, "SubPool": "10.1.1.0/24"}, "--ip-range"),
        ({"Pool": "10.1.0.1/16"}, "no subnet"),
        ({"Pool": "", "Options": {"network": "blue"}, "V6": True}, "no IPv6 subnet"),
        ({"Options": 7}, "no object"),
    ],
)
async def test_pools_that_cannot_be(socket: Path, body: dict[str, Any], words: str) -> None:
    status, said = await post(socket, "IpamDriver.RequestPool", body)
    assert (status, words in said["Err"]) == (500, True), said


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"PoolID": "x"}, "not netfabric's"),
        ({"PoolID": "default:none|4"}, "not known"),
        ({"PoolID": "default:blue|4", "Address": "10.1.0.x"}, "no address"),
        ({"PoolID": "default:blue|4", "Address": "10.9.0.1"}, "not in network"),
        (
            {
                "PoolID": "default:blue|4",
                "Address": "10.1.0.77",
                "Options": {"RequestAddressType": "com.docker.network.gateway"},
            },
            "--gateway",
        ),
    ],
)
async def test_addresses_that_cannot_be(socket: Path, body: dict[str, Any], words: str) -> None:
    status, said = await post(socket, "IpamDriver.RequestAddress", body)
    assert (status, words in said["Err"]) == (500, True), said


async def test_a_swarms_manager_names_no_address_space(socket: Path) -> None:
    data = [{"Pool": SUBNET, "Gateway": "169.254.1.1/32"}]
    body = {"NetworkID": "n", "Options": {"group": "web"}, "IPv4Data": data}
    options = {"tenant": "default", "network": "blue", "group": "web"}
    expected = (200, {"Options": options})
    assert await post(socket, "NetworkDriver.AllocateNetwork", body) == expected


async def test_a_second_agent_leaves_the_socket_alone(
    socket: Path, rig: Rig, tmp_path: Path
) -> None:
    with pytest.raises(ConflictError, match="another agent"):
        await CnmServer(rig.callers, socket, tmp_path / "other.json").run()
    assert (await post(socket, "Plugin.Activate"))[0] == 200


async def test_a_path_that_is_too_long(rig: Rig, tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="too long"):
        await CnmServer(rig.callers, tmp_path / ("x" * 110), tmp_path / "cnm.json").run()


async def test_a_directory_that_cannot_be(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KernelError, match="--cnm-socket"):
        await CnmServer(rig.callers, tmp_path / "file" / "s", tmp_path / "cnm.json").run()


async def test_an_endpoint_from_its_creation_to_its_end(socket: Path, rig: Rig) -> None:
    data = [{"AddressSpace": "netfabric-global", "Pool": SUBNET, "Gateway": "169.254.1.1/32"}]
    network = {"NetworkID": "n", "Options": {}, "IPv4Data": data, "IPv6Data": []}
    assert await post(socket, "NetworkDriver.CreateNetwork", network) == (200, {})
    asked = {"PoolID": "default:blue|4", "Address": "10.1.0.7"}
    await post(socket, "IpamDriver.RequestAddress", asked)
    ids = {"NetworkID": "n", "EndpointID": "e"}
    interface = {"Interface": {"Address": "10.1.0.7/32", "MacAddress": "02:00:00:00:00:AA"}}
    created = await post(socket, "NetworkDriver.CreateEndpoint", {**ids, **interface})
    assert created == (200, {"Interface": {}})
    joined = await post(socket, "NetworkDriver.Join", {**ids, "SandboxKey": "/s"})
    (endpoint,) = rig.callers.endpoints()
    assert (endpoint.mac, [str(a) for a in endpoint.addresses]) == (
        "02:00:00:00:00:aa",
        ["10.1.0.7"],
    )
    routes = [
        {"Destination": "169.254.1.1/32", "RouteType": 1, "NextHop": ""},
        {"Destination": SUBNET, "RouteType": 0, "NextHop": "169.254.1.1"},
    ]
    assert joined == (
        200,
        {
            "InterfaceName": {"SrcName": f"nd{endpoint.link[2:]}", "DstPrefix": "eth"},
            "Gateway": "169.254.1.1",
            "StaticRoutes": routes,
            "DisableGatewayService": False,
        },
    )
    for name in ("Leave", "DeleteEndpoint", "DeleteNetwork"):
        assert await post(socket, f"NetworkDriver.{name}", ids) == (200, {})
    assert not list(rig.callers.endpoints())
