"""A host removed for good whose agent comes back: what it finds, and that nobody has an address twice."""

from ipaddress import ip_network

from netfabric.api.rest.hosts import Hosts
from netfabric.api.rest.writer import Writer
from netfabric.api.store.memory import MemoryStore
from netfabric.fabric.controller_removal import decide_removal
from netfabric.fabric.session import EndpointsAnswered, HeldBlock
from tests.api.rpc.agents import Agent, Netmaster, endpoint, netmaster, network, until

BLUE = "default:blue"
FIRST, SECOND = ip_network("10.1.0.0/28"), ip_network("10.1.0.16/28")


async def remove(master: Netmaster, host: str, *, force: bool = False) -> None:
    """Remove a host as REST does."""
    await Hosts(Writer(master.store, master.mirror)).release(host, force)


async def test_it_comes_back_to_what_nobody_has_got() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/27", blockLength=28)
    async with netmaster(store) as master:
        async with Agent(master.address, "h1") as old:
            await old.welcomed()
            assert [(await old.wants(BLUE)).block for _ in range(2)] == [FIRST, SECOND]
            ours = (endpoint("h1", "10.1.0.2"), endpoint("h1", "10.1.0.18"))
            assert len((await old.reports(*ours)).stored) == 2
        await until(lambda: not master.view.hosts)
        await remove(master, "h1")
        assert not master.view.endpoints
        async with Agent(master.address, "h2") as other:
            await other.welcomed()
            assert (await other.wants(BLUE)).block == FIRST
            assert (await other.reports(endpoint("h2", "10.1.0.2"))).stored
            held = tuple(HeldBlock(BLUE, block) for block in (FIRST, SECOND))
            async with Agent(master.address, "h1", blocks=held, endpoints=ours) as back:
                welcome = await back.welcomed()
                assert welcome.blocks == (HeldBlock(BLUE, SECOND),)
                answered = await back.hears(EndpointsAnswered)
                assert [one.key for one in answered.stored] == [ours[1].key]
                assert "held by host h2, not by h1" in answered.refused[0].reason
        assert {str(e.addresses[0]): host for (host, _), e in master.view.endpoints.items()} == {
            "10.1.0.2": "h2",
            "10.1.0.18": "h1",
        }


async def test_forced_the_agent_is_sent_away_and_told_why() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/27", blockLength=28)
    async with netmaster(store) as master, Agent(master.address, "h1") as agent:
        await agent.welcomed()
        assert (await agent.wants(BLUE)).block == FIRST
        await until(lambda: master.view.hosts and master.view.blocks)
        await remove(master, "h1", force=True)
        assert "was removed by an operator" in str((await agent.refused()).details())
        assert not master.view.blocks
        assert not decide_removal(master.view, "h1").write
        held = (HeldBlock(BLUE, FIRST),)
        async with Agent(master.address, "h1", blocks=held) as back:
            assert (await back.welcomed()).blocks == held
