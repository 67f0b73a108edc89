"""A netmaster's REST server on a memory store, and a way to talk to it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from io import IOBase
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession
from yarl import URL

from netfabric.api.bootstrap import bootstrap
from netfabric.api.mirror import Mirror
from netfabric.api.rest.app import make_app
from netfabric.api.rest.site import listening
from netfabric.api.rest.writer import Writer
from netfabric.api.settings import Listen, Settings, StoreSettings
from netfabric.api.store.base import Put
from netfabric.api.store.memory import MemoryStore
from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.stored import dump
from netfabric.fabric.view import HostStatus, endpoint_key, host_key

ANYWHERE = Listen("127.0.0.1", 0)


@dataclass(frozen=True)
class Answer:
    status: int
    text: str
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Api:
    """The server's URLs, and the store behind it."""

    def __init__(self, session: ClientSession, port: int, store: MemoryStore, writer: Writer):
        self._session = session
        self.base = f"http://127.0.0.1:{port}"
        self.store = store
        self.writer = writer

    async def call(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """Send a request; a body that is neither text nor a file goes as JSON. Header names have _ for -."""
        data = body if isinstance(body, str | IOBase | None) else json.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        url = URL(self.base + path, encoded="%" in path)
        async with self._session.request(method, url, data=data, headers=named) as reply:
            return Answer(reply.status, await reply.text(), reply.headers.copy())

    def open(self, path: str) -> AbstractAsyncContextManager[ClientResponse]:
        """Begin a GET whose answer goes on."""
        return self._session.get(self.base + path)

    async def get(self, path: str) -> Any:
        answer = await self.call("GET", path)
        assert answer.status == 200, answer.text
        return answer.json

    async def put(self, plural: str, key: str, **fields: object) -> Any:
        """Create or replace an object by /api/v2."""
        answer = await self.call("PUT", f"/api/v2/{plural}/{key}", fields)
        assert answer.status in (200, 201), answer.text
        return answer.json

    async def stored(self) -> dict[str, bytes]:
        """Return all that the store holds."""
        return {entry.key: entry.value for entry in (await self.store.list("")).entries}

    async def attach(self, endpoint: Endpoint) -> None:
        """Store an endpoint as if its agent had reported it."""
        await self.store_value(endpoint_key(endpoint.host, endpoint.key), dump(endpoint))

    async def connect(self, host: HostStatus) -> None:
        """Store a host as if its agent were connected."""
        await self.store_value(host_key(host.name), dump(host))

    async def store_value(self, key: str, value: str) -> None:
        """Write a key as another process would."""
        revision = await self.store.txn([], [Put(key, value.encode())])
        await asyncio.wait_for(self.writer.reached(revision), 5)


@dataclass(frozen=True)
class Alone:
    """The only netmaster on its store leads."""

    address: str

    @property
    def leader(self) -> str:
        return self.address

    @property
    def masters(self) -> list[str]:
        return [self.address]


@contextlib.asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[Api]:
    store = MemoryStore()
    mirror = Mirror(store)
    writer = Writer(store, mirror, settings.cluster_mode)
    following = asyncio.ensure_future(mirror.run())
    try:
        await asyncio.wait_for(mirror.listed.wait(), 5)
        await bootstrap(writer, settings)
        app = make_app(writer, Alone("192.0.2.7"))
        async with listening(app, settings.rest) as rest, ClientSession() as session:
            yield Api(session, rest.port, store, writer)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await store.close()


@pytest.fixture
def settings() -> Settings:
    return Settings(StoreSettings("memory"), ANYWHERE, ANYWHERE, "m1")


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Api]:
    async with served(settings) as found:
        yield found
