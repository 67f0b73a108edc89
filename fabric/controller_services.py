"""What is written so that a Service of Kubernetes has its serviceLB object; those that others made are left alone."""

from netfabric.fabric.controller import relative
from netfabric.fabric.errors import ConflictError
from netfabric.fabric.kinds_services import SERVICE_LB
from netfabric.fabric.rules import decide_delete, decide_put
from netfabric.fabric.schema import validate
from netfabric.fabric.service import Service
from netfabric.fabric.view import service_key
from netfabric.fabric.world import World, Write


def decide_service(world: World, marks: dict[str, str], key: str, wanted: Service | None) -> Write:
    """Return a step towards a Service's object; call again until there is nothing to write.

    `marks` are the objects that were made for Services, by `namespace/name`. Raises OperatorError.
    """
    mark, made = relative(service_key(key)), marks.get(key, "")
    old = world.get("serviceLB", made) if made else None
    moves = old is not None and wanted is not None and old["networkName"] != wanted.network
    if made and (wanted is None or made != wanted.key or moves):
        write = decide_delete(world, SERVICE_LB, made, "v2") if old is not None else Write({})
        return Write(write.puts, (*write.deletes, mark), write.unchanged)
    if wanted is None:
        return Write({})
    if not made and world.get("serviceLB", wanted.key) is not None:
        raise ConflictError(
            f"service {wanted.key} exists, and was not made for the Service {key}",
            "rename one of them",
        )
    new = wanted.fields()
    validate(SERVICE_LB, new, "v2")
    write = decide_put(world, SERVICE_LB, new, "v2")
    if not write:
        return write
    return Write({**write.puts, mark: {"key": wanted.key}}, write.deletes, write.unchanged)
