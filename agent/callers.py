"""Those who wait for an ADD, a DEL or a GC: requests become events, and answers find their callers."""

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeAlias, TypeVar

from netfabric.agent.datapath.base import Datapath
from netfabric.agent.datapath_thread import DatapathThread
from netfabric.fabric.effects import AttachAnswer, DetachAnswer, Refuse, ReserveAnswer
from netfabric.fabric.endpoint import AttachRequest, Endpoint, EndpointKey
from netfabric.fabric.errors import NotFoundError
from netfabric.fabric.events import (
    AttachRequested,
    CollectRequested,
    DetachRequested,
    Event,
    ReleaseRequested,
    ReserveRequested,
)
from netfabric.fabric.host import Host
from netfabric.fabric.network import Network
from netfabric.fabric.prefix import Address, Family

Result = TypeVar("Result")
Answer: TypeAlias = AttachAnswer | DetachAnswer | ReserveAnswer | Refuse


class Callers:
    """Implements `requests.Requests` and `requests.AddressRequests`. Reads the host's brain, and never changes it but by events."""

    def __init__(
        self,
        host: Host,
        post: Callable[[Event], None],
        datapath: Datapath,
        thread: DatapathThread,
    ) -> None:
        self._host = host
        self._post = post
        self._datapath = datapath
        self._thread = thread
        self._serial = 0
        self._attaching: dict[int, asyncio.Future[Endpoint]] = {}
        self._detaching: dict[int, asyncio.Future[None]] = {}
        self._reserving: dict[int, asyncio.Future[Address]] = {}

    async def attach(self, request: AttachRequest) -> Endpoint:
        """See `requests.Requests`."""
        token = self._token()
        self._post(AttachRequested(token, request))
        return await self._answer(self._attaching, token)

    async def detach(self, key: EndpointKey) -> None:
        """See `requests.Requests`."""
        token = self._token()
        self._post(DetachRequested(token, key))
        await self._answer(self._detaching, token)

    async def collect(self, valid: frozenset[EndpointKey]) -> None:
        """See `requests.Requests`."""
        token = self._token()
        self._post(CollectRequested(token, valid))
        await self._answer(self._detaching, token)

    async def reserve(self, network: str, family: Family, wanted: Address | None = None) -> Address:
        """See `requests.AddressRequests`."""
        token = self._token()
        self._post(ReserveRequested(token, network, family, wanted))
        return await self._answer(self._reserving, token)

    def release(self, network: str, address: Address) -> None:
        """See `requests.AddressRequests`."""
        self._post(ReleaseRequested(network, address))

    def _token(self) -> int:
        self._serial += 1
        return self._serial

    async def _answer(self, waiting: dict[int, asyncio.Future[Result]], token: int) -> Result:
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        waiting[token] = future
        try:
            return await future
        finally:
            del waiting[token]

    @property
    def waiting(self) -> int:
        """Return how many callers wait for their answer."""
        return len(self._attaching) + len(self._detaching) + len(self._reserving)

    def answer(self, effect: Answer) -> None:
        """Give a caller its answer, if it still waits."""
        match effect:
            case AttachAnswer(token, endpoint):
                if (attaching := self._attaching.get(token)) and not attaching.done():
                    attaching.set_result(endpoint)
            case DetachAnswer(token):
                if (detaching := self._detaching.get(token)) and not detaching.done():
                    detaching.set_result(None)
            case ReserveAnswer(token, address):
                if (reserving := self._reserving.get(token)) and not reserving.done():
                    reserving.set_result(address)
            case Refuse(token, error):
                waiting = (self._attaching, self._detaching, self._reserving)
                future = next((found[token] for found in waiting if token in found), None)
                if future and not future.done():
                    future.set_exception(error)

    async def check(self, key: EndpointKey) -> tuple[str, ...]:
        """See `requests.Requests`."""
        endpoint = self._host.endpoint(key)
        if endpoint is None:
            raise NotFoundError(
                f"endpoint {key}: not attached on host {self._host.settings.host}", "ADD it first"
            )
        guards = self._host.guard.elements(endpoint)
        return await self._thread.ask(self._datapath.check, endpoint, guards)

    def unready(self) -> str:
        """See `requests.Requests`."""
        host = self._host
        if not host.attachments.ready:
            return "the journal was lost, and no netmaster has said yet what is in use here"
        if host.intent is None:
            return "no netmaster has told this host its networks yet"
        if not host.connected and not any(pool.free(1) for pool in host.addresses.pools.values()):
            return "no netmaster is followed, and no block here has a free address"
        return ""

    def endpoints(self) -> Iterable[Endpoint]:
        """See `requests.Requests`."""
        return self._host.attachments.endpoints()

    def network(self, key: str) -> Network | None:
        """See `requests.Requests`."""
        return self._host.networks.get(key)

    def networks(self) -> Iterable[Network]:
        """See `requests.AddressRequests`."""
        return self._host.networks.values()
