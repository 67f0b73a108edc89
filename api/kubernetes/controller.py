"""The leader's duty in a Kubernetes cluster: what its objects mean is worked out, and the store brought up to it."""

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from netfabric.api.commit import Commits
from netfabric.api.kubernetes.access import Access
from netfabric.api.kubernetes.resource import RESOURCES, RETRY, Following, Raw, Resource
from netfabric.api.mirror import Mirror
from netfabric.api.rest.writer import Writer
from netfabric.fabric.cluster import Cluster
from netfabric.fabric.controller_pods import decide_pods, differences
from netfabric.fabric.controller_services import decide_service
from netfabric.fabric.errors import FabricError, UnavailableError
from netfabric.fabric.service import Services
from netfabric.fabric.view import ViewChange
from netfabric.fabric.world import World, Write

log = structlog.get_logger(__name__)

GATHER = 0.01
"""Seconds for which changes are gathered: a pod's ADD waits for its placement."""
AGAIN = 1.0
"""Seconds after which a store that did not answer is tried again."""
LATER = 10.0
"""Seconds after which a Service that could have no object is tried again."""


class Controller:
    """Follows the cluster while this netmaster leads. Nothing is written before all of it has been listed."""

    def __init__(
        self,
        access: Access,
        mirror: Mirror,
        commits: Commits,
        writer: Writer,
        retry: tuple[float, float] = RETRY,
    ) -> None:
        """`retry`: seconds between attempts to reach the API, first and at most."""
        self._access = access
        self._mirror = mirror
        self._commits = commits
        self._writer = writer
        self._retry = retry
        self._cluster, self._services = Cluster(), Services()
        self._listed: set[Resource] = set()
        self._pods: set[str] = set()
        self._filters: set[str] = set()
        self._due: set[str] = set()
        self._postponed: set[str] = set()
        """Services without an object, for want of a network perhaps: tried again, but not at every change."""
        self._again_at = 0.0
        """When, by the event loop's clock."""
        """Services of which the object may not be as it should."""
        self._broken: dict[str, str] = {}
        self._wake = asyncio.Event()
        self.leading = False
        mirror.follow(self._stored)

    async def run(self) -> None:
        """Follow and write until cancelled: whoever led before left what it knew in the store, and no more."""
        self._cluster, self._services, self._broken = Cluster(), Services(), {}
        self._listed.clear()
        self.leading = True
        log.info("following Kubernetes", api=self._access.host)
        try:
            async with asyncio.TaskGroup() as tasks:
                for resource in RESOURCES:
                    following = Following(self._access, resource, self, self._retry)
                    tasks.create_task(following.run())
                tasks.create_task(self._write())
        finally:
            self.leading = False

    # what the API says

    def replace(self, resource: Resource, objects: list[Raw]) -> None:
        """See `resource.Listener`."""
        there = {_key(raw) for raw in objects}
        put, remove, known = self._verbs(resource)
        for key in known - there:
            remove(key)
        for raw in objects:
            put(raw)
        self._listed.add(resource)
        self._wake.set()

    def put(self, resource: Resource, raw: Raw) -> None:
        """See `resource.Listener`."""
        self._verbs(resource)[0](raw)
        self._wake.set()

    def remove(self, resource: Resource, raw: Raw) -> None:
        """See `resource.Listener`."""
        self._verbs(resource)[1](_key(raw))
        self._wake.set()

    def _verbs(
        self, resource: Resource
    ) -> tuple[Callable[[Raw], None], Callable[[str], None], set[str]]:
        cluster, services = self._cluster, self._services
        match resource.name:
            case "namespaces":
                return cluster.put_namespace, cluster.remove_namespace, {*cluster.namespaces}
            case "pods":
                return cluster.put_pod, cluster.remove_pod, {*cluster.pods}
            case "services":
                return services.put_service, services.remove_service, {*services.known}
            case "endpointslices":
                return services.put_slice, services.remove_slice, {*services.slices}
            case _:
                return cluster.put_policy, cluster.remove_policy, {*cluster.policies}

    # what is stored

    def _stored(self, change: ViewChange) -> None:
        """Somebody wrote pods, filters or services: see whether they are as they should be."""
        services = {key for type_, key in change.objects if type_ == "serviceLB"}
        if self.leading and (change.pods or change.filters or services):
            self._pods.update(pod for _, pod in change.pods)
            self._filters |= change.filters
            marks = self._mirror.view.services
            self._due.update(name for name, key in marks.items() if key in services)
            self._wake.set()

    async def _write(self) -> None:
        while len(self._listed) < len(RESOURCES):
            await self._changed()
        self._cluster.settle()
        self._services.settle()
        self._pods, self._filters = differences(self._mirror.view, self._cluster)
        self._due = self._mirror.view.services.keys() | self._services.wanted.keys()
        log.info(
            "Kubernetes listed",
            pods=len(self._cluster.placements),
            policies=len(self._cluster.policies),
            differences=len(self._pods) + len(self._filters),
        )
        while True:
            self._complain()
            try:
                await self._bring_up()
                await self._bring_up_services()
            except FabricError as error:
                log.warning("what Kubernetes says waits for the store", error=str(error))
                await asyncio.sleep(AGAIN)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._again_at if self._postponed else None):
                    await self._changed()
            if asyncio.get_running_loop().time() >= self._again_at:
                self._due |= self._postponed
                self._postponed = set()

    async def _changed(self) -> None:
        await self._wake.wait()
        await asyncio.sleep(GATHER)
        self._wake.clear()

    async def _bring_up(self) -> None:
        """Write until the store has all as it should be."""
        pods, filters = self._cluster.settle()
        self._pods |= pods
        self._filters |= filters
        pods, filters = set(self._pods), set(self._filters)
        while (
            await self._commits.carry_out(
                lambda: decide_pods(self._mirror.view, self._cluster, pods, filters)
            )
        ).write:
            pass
        self._pods -= pods
        self._filters -= filters

    async def _bring_up_services(self) -> None:
        """Write the objects of Services; what cannot be, for want of a network perhaps, is tried again later."""
        due, self._due = self._due | self._services.settle(), set()
        self._postponed -= due
        for key in sorted(due):
            try:
                while await self._write_service(key):
                    pass
            except UnavailableError:
                self._due |= due
                raise
            except FabricError as error:
                if not self._postponed:
                    self._again_at = asyncio.get_running_loop().time() + LATER
                self._postponed.add(key)
                log.warning("a Service has no object here", service=key, error=str(error))

    async def _write_service(self, key: str) -> bool:
        """Take a step towards a Service's object; return whether there was one to take."""
        wrote = False

        def decide(world: World) -> Write:
            nonlocal wrote
            marks, wanted = self._mirror.view.services, self._services.wanted.get(key)
            write = decide_service(world, marks, key, wanted)
            wrote = bool(write)
            return write

        await self._writer.write(decide)
        return wrote

    def _complain(self) -> None:
        """Say once of each policy that cannot be read, why."""
        broken = dict(self._cluster.broken)
        for name, reason in broken.items():
            if self._broken.get(name) != reason:
                log.warning(
                    "a NetworkPolicy cannot be read: its namespace is closed",
                    policy=name,
                    error=reason,
                )
        self._broken = broken


def _key(raw: Raw) -> str:
    meta = raw["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else str(meta["name"])
