"""A backup restored under a netmaster that runs: agents say again what they hold, and nothing made since is missing."""

from collections.abc import Iterable
from ipaddress import ip_network
from typing import Any, cast

from netfabric.api.store.base import Entry, Put, Store
from netfabric.api.store.memory import MemoryStore
from netfabric.fabric.session import EndpointsAnswered, HeldBlock
from tests.api.rpc.agents import Agent, endpoint, netmaster, network, until

BLUE = "default:blue"


class Restorable:
    """A store whose data may be taken back in time; like an etcd restored with its old token it calls itself the same."""

    epoch = "same"

    def __init__(self) -> None:
        self.current = MemoryStore()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.current, name)

    async def restore(self, entries: Iterable[Entry]) -> None:
        before, self.current = self.current, MemoryStore()
        await self.current.txn([], [Put(entry.key, entry.value) for entry in entries])
        await before.close()


async def test_what_came_after_the_backup_is_reported_again() -> None:
    store = Restorable()
    await network(cast(Store, store), subnet="10.1.0.0/27", blockLength=28)
    async with netmaster(cast(Store, store)) as master:
        async with Agent(master.address, "h1") as agent:
            await agent.welcomed()
            assert (await agent.wants(BLUE)).block == ip_network("10.1.0.0/28")
            first, second = endpoint("h1", "10.1.0.2"), endpoint("h1", "10.1.0.3")
            await agent.reports(first)
            backup = [e for e in (await store.list("")).entries if not e.lease]
            await network(cast(Store, store), "late", subnet="10.2.0.0/24")
            await agent.knows(lambda intent: len(intent.networks) == 2)
            await agent.reports(second)
            await store.restore(backup)
            assert "replaced by an older one" in str((await agent.refused()).details())
            seen = agent.seen
        held = (HeldBlock(BLUE, ip_network("10.1.0.0/28")),)
        back = Agent(master.address, "h1", blocks=held, endpoints=(first, second), seen=seen)
        async with back:
            await back.welcomed()
            assert len((await back.hears(EndpointsAnswered)).stored) == 2
            assert back.intent is not None
            assert [n.name for n in back.intent.networks] == ["blue"], (
                "in full, without what was undone"
            )
            assert back.seen.epoch != seen.epoch
            await until(lambda: len(master.view.endpoints) == 2)
