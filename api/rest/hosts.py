"""`/api/v2/hosts/NAME`: one host as it is, and its removal for good."""

from typing import Any

import structlog
from aiohttp import web

from netfabric.api.rest.readings import host_names, hosts
from netfabric.api.rest.reply import flag, not_allowed, reply
from netfabric.api.rest.writer import Writer
from netfabric.fabric import kinds
from netfabric.fabric.controller_removal import Holding, decide_removal, holding_of
from netfabric.fabric.errors import InvalidError, NotFoundError
from netfabric.fabric.rules import decide_delete
from netfabric.fabric.view import View
from netfabric.fabric.world import World, Write

FLAGS = ("force", "withIntent", "dryRun")
log = structlog.get_logger()


class Hosts:
    """Handlers of a host's URL."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def handle(self, name: str, request: web.Request) -> web.Response:
        """Serve GET and DELETE; raise NotFoundError for a host that nobody has heard of."""
        view = self._writer.view
        if request.method not in ("GET", "HEAD", "DELETE"):
            return not_allowed("GET, DELETE")
        if name not in host_names(view) and not holding_of(view, name):
            raise NotFoundError(f"host {name} is unknown", "netctl host ls lists the hosts")
        if request.method != "DELETE":
            return reply(hosts(view, {"name": name})[0])
        return reply(await self._remove(name, request))

    async def _remove(self, host: str, request: web.Request) -> dict[str, Any]:
        """Remove what is held in the host's name, and with `withIntent` its Bgp and peers."""
        for asked in request.query:
            if asked not in FLAGS:
                raise InvalidError(f"unknown parameter {asked!r}", f"there are {', '.join(FLAGS)}")
        force, with_intent, dry = (flag(request.query, name) for name in FLAGS)
        held = holding_of(self._writer.view, host)
        objects = objects_of(self._writer.view, host)
        decide_removal(self._writer.view, host, force=force)
        if not dry:
            await self.release(host, force)
            if with_intent:
                await self._remove_intent(objects)
            log.warning("a host was removed", host=host, **_counts(held), force=force)
        gone, stay = (objects, []) if with_intent else ([], objects)
        answer = _told(host, held, self._writer.view)
        return answer | {"dryRun": dry, "objects": _named(gone), "objectsKept": _named(stay)}

    async def release(self, host: str, force: bool) -> None:
        """Remove what the store holds of a host, write by write; raise ConflictError where its agent is there.

        Only the first write may end a session: an agent that is back lives.
        """
        first = force
        done = Write({})

        def decide(world: World) -> Write:
            nonlocal done
            done = decide_removal(self._writer.view, host, force=first).write
            return done

        while True:
            await self._writer.write(decide)
            if not done:
                return
            first = False

    async def _remove_intent(self, objects: list[tuple[str, str]]) -> None:
        for type_, key in objects:

            def decide(world: World, type_: str = type_, key: str = key) -> Write:
                if world.get(type_, key) is None:
                    return Write({})
                return decide_delete(world, kinds.KINDS[type_], key, "v2")

            await self._writer.write(decide)


def objects_of(view: View, host: str) -> list[tuple[str, str]]:
    """Return type and key of what people decided for a host: its ports and peers, then its Bgp."""
    found = [
        (type_, key)
        for type_ in ("port", "peer")
        for key, stored in sorted(view.objects.get(type_, {}).items())
        if stored.value.get("hostname") == host
    ]
    return found + [("Bgp", key) for key in view.objects.get("Bgp", {}) if key == host]


def _named(objects: list[tuple[str, str]]) -> list[str]:
    return [f"{type_} {key}" for type_, key in objects]


def _counts(held: Holding) -> dict[str, int]:
    found = {"endpoints": held.endpoints, "loans": held.loans, "blocks": held.blocks}
    return {name: len(things) for name, things in found.items()}


def _told(host: str, held: Holding, view: View) -> dict[str, Any]:
    return {
        "key": host,
        **_counts(held),
        "kept": [
            {
                "network": block.network,
                "prefix": str(block.prefix),
                "reason": f"{loan.address} of it is lent to host {loan.borrower}",
            }
            for block, loan in holding_of(view, host).kept
        ],
    }
