"""The leader's duty in a Kubernetes cluster: what its objects mean is worked out, and the store brought up to it."""

import asyncio
from collections.abc import Callable

import structlog

from netfabric.api.commit import Commits
from netfabric.api.kubernetes.access import Access
from netfabric.api.kubernetes.resource import RESOURCES, RETRY, Following, Raw, Resource
from netfabric.api.mirror import Mirror
from netfabric.fabric.cluster import Cluster
from netfabric.fabric.controller_pods import decide_pods, differences
from netfabric.fabric.errors import UnavailableError
from netfabric.fabric.view import ViewChange

log = structlog.get_logger(__name__)

GATHER = 0.01
"""Seconds for which changes are gathered: a pod's ADD waits for its placement."""
AGAIN = 1.0
"""Seconds after which a store that did not answer is tried again."""


class Controller:
    """Follows the cluster while this netmaster leads. Nothing is written before all of it has been listed."""

    def __init__(
        self,
        access: Access,
        mirror: Mirror,
        commits: Commits,
        retry: tuple[float, float] = RETRY,
    ) -> None:
        """`retry`: seconds between attempts to reach the API, first and at most."""
        self._access = access
        self._mirror = mirror
        self._commits = commits
        self._retry = retry
        self._cluster = Cluster()
        self._listed: set[Resource] = set()
        self._pods: set[str] = set()
        self._filters: set[str] = set()
        self._broken: dict[str, str] = {}
        self._wake = asyncio.Event()
        self.leading = False
        mirror.follow(self._stored)

    async def run(self) -> None:
        """Follow and write until cancelled: whoever led before left what it knew in the store, and no more."""
        self._cluster, self._broken = Cluster(), {}
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
        cluster = self._cluster
        match resource.name:
            case "namespaces":
                return cluster.put_namespace, cluster.remove_namespace, {*cluster.namespaces}
            case "pods":
                return cluster.put_pod, cluster.remove_pod, {*cluster.pods}
            case _:
                return cluster.put_policy, cluster.remove_policy, {*cluster.policies}

    # what is stored

    def _stored(self, change: ViewChange) -> None:
        """Somebody wrote pods or filters: see whether they are as they should be."""
        if self.leading and (change.pods or change.filters):
            self._pods.update(pod for _, pod in change.pods)
            self._filters |= change.filters
            self._wake.set()

    async def _write(self) -> None:
        while len(self._listed) < len(RESOURCES):
            await self._changed()
        self._cluster.settle()
        self._pods, self._filters = differences(self._mirror.view, self._cluster)
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
            except UnavailableError as error:
                log.warning("what Kubernetes says waits for the store", error=str(error))
                await asyncio.sleep(AGAIN)
                continue
            await self._changed()

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
