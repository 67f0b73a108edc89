"""Remotes at agents: of the tenants with an overlay that have an endpoint on the host, as deltas."""

from dataclasses import replace
from ipaddress import ip_address

from netfabric.api.store.base import Store
from netfabric.api.store.memory import MemoryStore
from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.prefix import Address
from netfabric.fabric.session import EndpointsChanged, Remote, RemotesChanged
from netfabric.fabric.view import vtep_key
from tests.api.rpc.agents import Agent, endpoint, netmaster, put, remove, until

VTEPS = {f"h{n}": ip_address(f"192.0.2.{n}") for n in range(1, 4)}


async def _network(store: Store, tenant: str, name: str = "net", **fields: object) -> None:
    obj = {"tenantName": tenant, "networkName": name, "encap": "vxlan", "pktTag": 100}
    await put(store, "network", f"{tenant}:{name}", subnet="10.1.0.0/16", **obj | fields)


def _agent(master: str, host: str) -> Agent:
    return Agent(master, host, vtep=VTEPS[host])


async def _address(agent: Agent, network: str) -> Address:
    await agent.welcomed()
    block = (await agent.wants(network)).block
    assert block is not None
    return block[5]


def _of(host: str, tenant: str, address: Address, container: str = "c") -> Endpoint:
    return replace(endpoint(host, str(address), container, "net"), tenant=tenant)


def _told(agent: Agent) -> dict[tuple[str, Address], Remote]:
    known: dict[tuple[str, Address], Remote] = {}
    for message in agent.told:
        if isinstance(message, RemotesChanged):
            known = {} if message.full else known
            for where in message.removed:
                known.pop((where.network, where.address), None)
            known.update(((r.network, r.address), r) for r in message.added)
    return known


async def test_a_host_is_told_of_a_tenants_remotes_as_long_as_it_has_an_endpoint_of_it() -> None:
    store = MemoryStore()
    await _network(store, "red")
    await _network(store, "blue")
    async with (
        netmaster(store) as master,
        _agent(master.address, "h1") as one,
        _agent(master.address, "h2") as two,
    ):
        red = await _address(one, "red:net")
        mine = await _address(two, "blue:net")
        assert red == mine  # tenants overlap
        await one.reports(_of("h1", "red", red))
        await two.reports(_of("h2", "blue", mine))
        block = (await two.wants("red:net")).block
        assert block is not None
        await until(lambda: ("blue:net", mine) in _told(two))
        assert _told(two).keys() == {("blue:net", mine)}
        red2 = block[7]
        await two.reports(_of("h2", "red", red2, "d"))
        remote = Remote("red:net", red, "h1", VTEPS["h1"], 1)
        await until(lambda: _told(two).get(("red:net", red)) == remote)
        await until(lambda: _told(one).get(("red:net", red2)))
        assert sum(isinstance(told, RemotesChanged) and told.full for told in one.told) == 1
        await one.say(EndpointsChanged(down=(_of("h1", "red", red).key,)))
        await until(lambda: ("red:net", red) not in _told(two))
        await two.say(EndpointsChanged(down=(_of("h2", "red", red2, "d").key,)))
        await until(lambda: _told(two).keys() == {("blue:net", mine)})


async def test_remotes_stay_while_their_host_is_away_and_go_with_it() -> None:
    store = MemoryStore()
    await _network(store, "red")
    async with netmaster(store) as master, _agent(master.address, "h2") as two:
        async with _agent(master.address, "h1") as one:
            red = await _address(one, "red:net")
            await one.reports(_of("h1", "red", red))
            red2 = await _address(two, "red:net")
            await two.reports(_of("h2", "red", red2))
            await until(lambda: ("red:net", red) in _told(two))
        await until(lambda: "h1" not in master.view.hosts)
    async with netmaster(store) as other, _agent(other.address, "h2") as again:
        await again.welcomed()
        await until(lambda: ("red:net", red) in _told(again))
        await remove(store, "network", "red:net")
        await until(lambda: not _told(again))
        assert store is other.store
        entry = await store.get(vtep_key("h1"))
        assert entry is not None


async def test_a_host_that_moved_its_vtep_is_told_anew() -> None:
    store = MemoryStore()
    await _network(store, "red")
    async with netmaster(store) as master, _agent(master.address, "h2") as two:
        async with _agent(master.address, "h1") as one:
            red = await _address(one, "red:net")
            await one.reports(_of("h1", "red", red))
            red2 = await _address(two, "red:net")
            await two.reports(_of("h2", "red", red2))
        held = _of("h1", "red", red)
        async with Agent(
            master.address, "h1", vtep=VTEPS["h3"], endpoints=(held,), fresh=True
        ) as one:
            await until(
                lambda: (
                    (r := _told(two).get(("red:net", red))) is not None and r.vtep == VTEPS["h3"]
                )
            )
