"""Hosts' brains over their real stream against real netmasters: addresses from ADD to reuse, across failures."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from netfabric.agent.stream import Stream
from netfabric.api.settings import Listen
from netfabric.api.store.memory import MemoryStore
from netfabric.fabric.effects import (
    Attach,
    AttachAnswer,
    Detach,
    DetachAnswer,
    Record,
    Refuse,
    Tell,
)
from netfabric.fabric.endpoint import AttachRequest, Endpoint, EndpointKey
from netfabric.fabric.errors import FabricError
from netfabric.fabric.events import (
    Attached,
    AttachRequested,
    Detached,
    DetachRequested,
    Event,
    HostSettings,
    Recorded,
    Started,
    Tick,
)
from netfabric.fabric.host import Host
from netfabric.fabric.kernel import KernelState
from tests.api.rpc.agents import PATIENCE, Netmaster, netmaster, network, until

BLUE = "default:blue"


class Machine:
    """A host whose kernel and disk do at once what they are told."""

    def __init__(self, name: str, *masters: str) -> None:
        settings = HostSettings(name, address=f"192.0.2.{name[1:]}", cool_down=0.2, low_water=0)
        self.host = Host(settings)
        self.stream = Stream(masters, self.post, lambda subject, text: None)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._queue: asyncio.Queue[Event] = asyncio.Queue()
        self.post(Started(None, KernelState({}), ()))

    def post(self, event: Event) -> None:
        self._queue.put_nowait(event)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.stream.run())
            while True:
                try:
                    async with asyncio.timeout(0.05):
                        event: Event = await self._queue.get()
                except TimeoutError:
                    event = Tick()
                for effect in self.host.handle(event, time.time()):
                    self._carry_out(effect)

    def _carry_out(self, effect: object) -> None:
        match effect:
            case Tell(message):
                self.stream.tell(message)
            case Record(_, number) if number:
                self.post(Recorded(number))
            case Attach(endpoint):
                self.post(Attached(endpoint.key))
            case Detach(endpoint):
                self.post(Detached(endpoint.key))
            case AttachAnswer(token, endpoint):
                self._answers[token].set_result(endpoint)
            case DetachAnswer(token):
                self._answers[token].set_result(None)
            case Refuse(token, error):
                self._answers[token].set_exception(error)

    async def _asks(self, event: AttachRequested | DetachRequested) -> Any:
        answer = self._answers[event.token] = asyncio.get_running_loop().create_future()
        self.post(event)
        async with asyncio.timeout(PATIENCE):
            return await answer

    async def add(self, container: str) -> Endpoint:
        request = AttachRequest(
            EndpointKey(container, "eth0"), f"/ns/{container}", "default", "blue"
        )
        token = len(self._answers)
        endpoint: Endpoint = await self._asks(AttachRequested(token, request))
        return endpoint

    async def delete(self, container: str) -> None:
        await self._asks(DetachRequested(len(self._answers), EndpointKey(container, "eth0")))

    async def knows_its_network(self) -> None:
        await until(lambda: BLUE in self.host.networks)


@asynccontextmanager
async def machines(count: int, *masters: Netmaster) -> AsyncIterator[list[Machine]]:
    """Machines, each with a list of netmasters that begins at another one."""
    async with machines_at(count, [master.address for master in masters]) as made:
        yield made


@asynccontextmanager
async def machines_at(count: int, addresses: list[str]) -> AsyncIterator[list[Machine]]:
    async with asyncio.TaskGroup() as tasks:
        made = [Machine(f"h{n + 1}", *addresses) for n in range(count)]
        running = [tasks.create_task(machine.run()) for machine in made]
        for machine in made:
            await machine.knows_its_network()
        yield made
        for task in running:
            task.cancel()


async def test_from_blocks_to_loans_and_back() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/28", blockLength=29)
    async with (
        netmaster(store, "m1") as one,
        netmaster(store, "m2") as two,
        machines(3, one, two) as (first, second, third),
    ):
        up = [await first.add("a1"), await second.add("b1")]
        assert set(one.view.blocks.values()) == {"h1", "h2"}
        borrowed = [await third.add(f"c{n}") for n in range(3)]
        everyone = [*up, *borrowed]
        assert len({e.addresses for e in everyone}) == len(everyone)
        await until(lambda: len(one.view.endpoints) == 5)
        assert len(one.view.loans) == 3
        assert {loan.borrower for loan in one.view.loans.values()} == {"h3"}

        more = [await machine.add(f"x{n}") for n, machine in enumerate([first, second] * 4)]
        everyone += more
        assert len({e.addresses for e in everyone}) == len(everyone) == 13
        try:
            while len(everyone) < 20:
                everyone.append(await third.add(f"d{len(everyone)}"))
        except FabricError as error:
            assert BLUE in str(error)
        assert len({e.addresses for e in everyone}) == len(everyone) == 14, "14 are all there are"

        for endpoint in borrowed:
            await third.delete(endpoint.key.container)
        await until(lambda: len(one.view.loans) == 1)
        again = await first.add("a2")
        assert again.addresses in {e.addresses for e in borrowed}
        await until(lambda: len(one.view.endpoints) == 12)
        await until(lambda: all(host.refused == 0 for host in one.view.hosts.values()))


async def test_a_netmaster_goes_and_hosts_follow_the_other() -> None:
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/24", blockLength=29)
    async with netmaster(store, "m2") as two, AsyncExitStack() as stack:
        one = await stack.enter_async_context(netmaster(store, "m1"))
        async with machines(4, one, two) as hosts:
            for machine in hosts:
                await machine.add("a")
            await until(lambda: len(two.view.endpoints) == 4)
            await stack.aclose()
            for machine in hosts:  # out of the block it holds: needs nobody
                await machine.add("b")
            await until(lambda: len(two.view.endpoints) == 8)
            await until(lambda: len(two.view.hosts) == 4)
            assert {m.stream.following for m in hosts} == {two.address}
            await network(store, "red", subnet="10.2.0.0/24")
            for machine in hosts:
                await until(lambda m=machine: "default:red" in m.host.networks)  # type: ignore[misc]


async def test_nothing_is_lost_or_doubled_while_netmasters_come_and_go() -> None:
    """Containers come and go on four hosts whose addresses don't suffice, under netmasters that restart."""
    chance = random.Random(7)
    store = MemoryStore()
    await network(store, subnet="10.1.0.0/27", blockLength=29)
    port = 0
    async with netmaster(store, "m2") as two:
        async with netmaster(store, "m1") as one:
            port = one.control.port
        async with AsyncExitStack() as stack:
            names = [f"127.0.0.1:{port}", two.address]
            hosts = await stack.enter_async_context(machines_at(4, names))
            up: dict[tuple[Machine, str], Endpoint] = {}

            async def load(machine: Machine, seed: int) -> None:
                mine = random.Random(seed)
                for number in range(60):
                    names = [name for at, name in up if at is machine]
                    if names and mine.random() < 0.45:
                        name = mine.choice(names)
                        await machine.delete(name)
                        del up[machine, name]
                    else:
                        with contextlib.suppress(FabricError):
                            up[machine, f"c{number}"] = await machine.add(f"c{number}")
                    taken = [e.addresses for e in up.values()]
                    assert len(set(taken)) == len(taken)

            async def restarts() -> None:
                while True:
                    async with netmaster(store, "m1", listen=Listen("127.0.0.1", port)):
                        await asyncio.sleep(chance.uniform(0.02, 0.3))

            async with asyncio.TaskGroup() as tasks:
                restarting = tasks.create_task(restarts())
                await asyncio.gather(*(load(m, n) for n, m in enumerate(hosts)))
                restarting.cancel()
            await until(lambda: _stored(two) == {(m.host.settings.host, n) for m, n in up})
            for machine, name in list(up):
                await machine.delete(name)
            await until(lambda: not two.view.endpoints)
            await until(lambda: _agreed(two, hosts))
            owners = {b: h for (_, b), h in two.view.blocks.items()}
            held = {b.prefix: m.host.settings.host for m in hosts for b in m.host.held()}
            assert held == owners


def _agreed(master: Netmaster, hosts: list[Machine]) -> bool:
    """Return whether store and hosts agree on loans; one that came too late for its ADD may be kept unused."""
    known = {m.host.settings.host: set(m.host.addresses.loans) for m in hosts}
    stored = {
        name: {
            loan.id for loan in master.view.loans.values() if name in (loan.owner, loan.borrower)
        }
        for name in known
    }
    return known == stored


def _stored(master: Netmaster) -> set[tuple[str, str]]:
    return {(host, key.container) for host, key in master.view.endpoints}
