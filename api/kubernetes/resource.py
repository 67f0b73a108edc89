"""One kind of object followed over the API: listed, then watched from there, and listed again where that is too long ago.

The protocol is in the Kubernetes documentation under "API concepts": resource versions, watches, bookmarks, 410 Gone.
"""

import asyncio
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
import structlog

from netfabric.api.kubernetes.access import Access
from netfabric.fabric.errors import FabricError, UnauthorizedError, UnavailableError

log = structlog.get_logger(__name__)

PAGE = 500
"""Objects in one answer of a list."""
WATCH = (240, 480)
"""Seconds after which the server is asked to end a watch: then the next one begins where it ended."""
RETRY = (0.2, 15.0)
"""Seconds between attempts: first, and at most."""
Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object, and where the API has all of them."""

    name: str
    path: str


RESOURCES = (
    Resource("namespaces", "/api/v1/namespaces"),
    Resource("pods", "/api/v1/pods"),
    Resource("networkpolicies", "/apis/networking.k8s.io/v1/networkpolicies"),
    Resource("services", "/api/v1/services"),
    Resource("endpointslices", "/apis/discovery.k8s.io/v1/endpointslices"),
)
"""All that the controller reads, with the verbs list and watch: the manifests grant no more."""


class Listener(Protocol):
    """Who is told of objects, in the order in which they changed."""

    def replace(self, resource: Resource, objects: list[Raw]) -> None:
        """These are all the objects that there are."""
        ...

    def put(self, resource: Resource, raw: Raw) -> None:
        """An object is new, or changed."""
        ...

    def remove(self, resource: Resource, raw: Raw) -> None:
        """An object is gone."""
        ...


class _GoneError(FabricError):
    """The server does not remember as far back as was asked for."""


class Following:
    """Follows one kind of object."""

    def __init__(
        self,
        access: Access,
        resource: Resource,
        listener: Listener,
        retry: tuple[float, float] = RETRY,
    ) -> None:
        self._access = access
        self._resource = resource
        self._listener = listener
        self._retry = retry
        self._delay = retry[0]
        self.version = ""
        """Up to which all is known; empty: nothing is, it has to be listed."""
        self.trouble = ""
        """Why it does not get on, "" while it does."""

    async def run(self) -> None:
        """Follow until cancelled; while the server does not answer, what is known stays so."""
        while True:
            try:
                if not self.version:
                    await self._list()
                await self._watch()
            except _GoneError as gone:
                log.info("listing again", resource=self._resource.name, reason=str(gone))
                self.version = ""
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                self.version = ""
                await self._wait(UnavailableError(f"{self._what}: no such objects: {error!r}"))
            except (UnavailableError, UnauthorizedError) as error:
                await self._wait(error)

    async def _wait(self, error: FabricError) -> None:
        self.trouble = str(error)
        log.warning(
            "Kubernetes' API does not serve us; what is known stays in force", error=self.trouble
        )
        await asyncio.sleep(self._delay * random.uniform(0.5, 1.0))
        self._delay = min(2 * self._delay, self._retry[1])

    def _well(self) -> None:
        self._delay, self.trouble = self._retry[0], ""

    async def _list(self) -> None:
        """Read all objects, page by page: together they are as of one version."""
        found: list[Raw] = []
        query = {"limit": str(PAGE)}
        while True:
            page = await self._page(query)
            found += page.get("items") or ()
            rest = page["metadata"].get("continue")
            if not rest:
                break
            query["continue"] = rest
        self._listener.replace(self._resource, found)
        self.version = page["metadata"]["resourceVersion"]
        self._well()

    async def _page(self, query: Mapping[str, str]) -> Raw:
        async with self._access.get(self._resource.path, **query) as response:
            await self._check(response)
            page: Raw = json.loads(await response.read())
            return page

    @property
    def _what(self) -> str:
        return f"Kubernetes API {self._access.host}{self._resource.path}"

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        """Raise what an answer that is no success means."""
        if response.status == 200:
            return
        said = f"{self._what}: {response.status} {(await response.text())[:500]}"
        if response.status == 410:
            raise _GoneError(said)
        if response.status in (401, 403):
            raise UnauthorizedError(said, "grant list and watch, as in docs/examples/kubernetes")
        raise UnavailableError(said, "see the API server's log")

    async def _watch(self) -> None:
        """Take changes until the server ends the watch, or the connection breaks."""
        query = {
            "watch": "1",
            "resourceVersion": self.version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(random.randint(*WATCH)),
        }
        async with self._access.get(self._resource.path, **query) as response:
            await self._check(response)
            began = self.version
            while line := await response.content.readline():
                self._take(json.loads(line))
                self._well()
        if self.version == began:  # a server that ends them at once is not asked at once again
            await asyncio.sleep(self._retry[0])

    def _take(self, event: Raw) -> None:
        raw = event["object"]
        match event["type"]:
            case "ADDED" | "MODIFIED":
                self._listener.put(self._resource, raw)
            case "DELETED":
                self._listener.remove(self._resource, raw)
            case "ERROR":
                said = f"{self._what}: {raw.get('message') or raw.get('reason')}"
                if raw.get("code") == 410:
                    raise _GoneError(said)
                raise UnavailableError(said, "see the API server's log")
        self.version = raw["metadata"]["resourceVersion"]
