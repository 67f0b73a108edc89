"""What a new fabric begins with: its settings, and the tenant `default`."""

from typing import Any

import structlog

from netfabric.api.rest.writer import Writer
from netfabric.api.settings import Settings
from netfabric.fabric.kinds_routing import GLOBAL
from netfabric.fabric.kinds_tenancy import TENANT
from netfabric.fabric.rules import decide_put
from netfabric.fabric.rules_global import DEFAULTS
from netfabric.fabric.schema import Kind
from netfabric.fabric.world import World, Write

DEFAULT_TENANT = {"key": "default", "tenantName": "default"}
log = structlog.get_logger()


async def bootstrap(writer: Writer, settings: Settings) -> None:
    """Create what is missing; what exists stays as it is. Raises UnavailableError."""
    given = {"fwdMode": settings.fwd_mode, "networkInfraType": settings.infra}
    told = {name: value for name, value in given.items() if value}
    await _create(writer, GLOBAL, {**DEFAULTS, **told})
    await _create(writer, TENANT, DEFAULT_TENANT)
    there = writer.world.get("global", "global") or {}
    for name, value in told.items():
        if there.get(name) != value:
            log.warning(
                "the fabric keeps its own setting: netctl global set changes it",
                setting=name,
                stored=there.get(name),
                given=value,
            )


async def _create(writer: Writer, kind: Kind, obj: dict[str, Any]) -> None:
    def decide(world: World) -> Write:
        if world.get(kind.type, obj["key"]) is not None:
            return Write({})
        return decide_put(world, kind, dict(obj), "v2")

    await writer.write(decide)
