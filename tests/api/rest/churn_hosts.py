"""Hosts that start and end containers at random while their networks come and go."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random

from netfabric.fabric.endpoint import AttachRequest, Endpoint, EndpointKey
from netfabric.fabric.errors import FabricError
from netfabric.fabric.events import AttachRequested
from tests.api.rpc.test_hosts import Machine


class Busy(Machine):
    """A host's brain over its real stream, and what runs on it."""

    def __init__(self, name: str, seed: str, masters: Sequence[str]) -> None:
        super().__init__(name, *masters)
        self.up: dict[str, Endpoint] = {}
        self.outcomes: Counter[str] = Counter()
        self._random = Random(f"{seed}/{name}")
        self._number = 0

    async def work(self, going: Callable[[], bool]) -> None:
        """Start and end containers; what cannot be is refused."""
        while going():
            try:
                await self._step()
                self.outcomes["done"] += 1
            except FabricError as error:
                self.outcomes[type(error).__name__] += 1
            except TimeoutError:
                self.outcomes["no answer"] += 1
            await asyncio.sleep(0.01)  # at the pace of containers, and the refused ones too

    async def _step(self) -> None:
        networks = sorted(key for key, n in self.host.networks.items() if n.encap == "routed")
        if self.up and (not networks or self._random.random() < 0.5):
            name = self._random.choice(sorted(self.up))
            await self.delete(name)
            del self.up[name]
        elif networks:
            self._number += 1
            name = f"c{self._number}"
            self.up[name] = await self._start(name, self._random.choice(networks))

    async def _start(self, name: str, network: str) -> Endpoint:
        tenant, _, short = network.partition(":")
        request = AttachRequest(EndpointKey(name, "eth0"), f"/ns/{name}", tenant, short)
        found: Endpoint = await self._asks(AttachRequested(len(self._answers), request))
        return found

    @property
    def running(self) -> set[tuple[str, str]]:
        """Return the host and the container of everything that runs and may be announced.

        A container may start just when its network is deleted. Its host is told, and shows it as refused.
        """
        known = self.host.attachments.known
        return {
            (endpoint.host, name)
            for name, endpoint in self.up.items()
            if not known[endpoint.key].refused
        }


@asynccontextmanager
async def busy(count: int, seed: str, masters: Sequence[str]) -> AsyncIterator[list[Busy]]:
    """Hosts, each with a list of netmasters (gRPC, `host:port`) that begins at another one."""
    async with asyncio.TaskGroup() as tasks:
        hosts = [
            Busy(f"h{n + 1}", seed, [*masters[n % len(masters) :], *masters[: n % len(masters)]])
            for n in range(count)
        ]
        running = [tasks.create_task(host.run()) for host in hosts]
        yield hosts
        for task in running:
            task.cancel()
