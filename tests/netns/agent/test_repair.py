"""What others change is mended within an audit; what is not ours is left alone."""

from functools import partial

import pytest

from tests.agent.small_netmaster import SmallNetmaster
from tests.netns.agent.conftest import Machine

pytestmark = pytest.mark.netns


@pytest.fixture
async def pair(machine: Machine, netmaster: SmallNetmaster) -> list[str]:
    """Two attached containers, "1" and "2": the addresses of the second one; audits only on demand."""
    machine.start(netmaster.address, "--audit-interval", "3600")
    await machine.serving()
    await machine.add("1")
    return await machine.add("2")


def _link(machine: Machine, name: str) -> str:
    found = {e["container"]: e["link"] for e in machine.status()["endpoints"]}
    return str(found[f"id-{name}"])


async def test_a_deleted_route(machine: Machine, pair: list[str]) -> None:
    for version, address in (("-4", pair[0]), ("-6", pair[1])):
        machine.namespace.run("ip", version, "route", "delete", address)
        await machine.until(partial(machine.pings, "1", address), f"{address} again")


async def test_a_deleted_neighbour(machine: Machine, pair: list[str]) -> None:
    link = _link(machine, "2")
    machine.namespace.run("ip", "neigh", "delete", pair[0], "dev", link)
    await machine.until(
        lambda: "PERMANENT" in machine.namespace.run("ip", "neigh", "show", pair[0]),
        "the neighbour",
    )
    assert machine.pings("1", pair[0])


async def test_a_deleted_link(machine: Machine, pair: list[str]) -> None:
    machine.namespace.run("ip", "link", "delete", _link(machine, "2"))
    await machine.until(lambda: machine.pings("1", pair[1]), "the container again")


async def test_foreign_routes_stay(machine: Machine, pair: list[str]) -> None:
    foreign = "198.51.100.0/24 via 10.90.0.0 dev up0 proto static"
    machine.namespace.run("ip", "route", "add", *foreign.split())
    machine.namespace.run("ip", "route", "delete", pair[0])
    await machine.until(lambda: machine.pings("1", pair[0]), "ours again")
    assert "proto static" in machine.namespace.run("ip", "route", "show", "198.51.100.0/24")
