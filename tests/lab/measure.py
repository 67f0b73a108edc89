"""How long it takes from the engine's ADD until a container in another rack can reach the new one."""

import time
from dataclasses import dataclass
from statistics import median

from netfabric.lab.container import Container
from netfabric.lab.errors import LabError
from netfabric.lab.lab import Lab
from netfabric.lab.probe import first_answers

ROUNDS = 5
_NAME = "measured"
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Reach:
    """Medians, in seconds."""

    source: str
    host: str
    add: float
    """The CNI ADD itself, the plugin's process included."""
    reachable: dict[int, float]
    """From the start of ADD to the first answer, by family."""


def reach(lab: Lab) -> Reach:
    """Attach a container a few times on the first host, pinged from the last one's; raise LabError."""
    source, host = lab.containers()[-1], next(iter(lab.machines))
    adds: list[float] = []
    times: dict[int, list[float]] = {4: [], 6: []}
    for _ in range(ROUNDS):
        start = time.monotonic()
        container = lab.attach(host, _NAME)
        try:
            for family, answered in _answers(source, container, lab).items():
                times[family].append(answered - start)
        finally:
            lab.detach(host, _NAME)
        adds.append(container.took)
    medians = {family: median(found) for family, found in times.items() if found}
    return Reach(source.title, host, median(adds), medians)


def _answers(source: Container, container: Container, lab: Lab) -> dict[int, float]:
    try:
        found = first_answers(source.namespace, container.addresses, _PATIENCE)
    except TimeoutError as error:
        log = lab.machine(container.host).netplugin.log
        raise LabError(container.host, f"{container.title}: {error}", log) from None
    return {address.version: answered for address, answered in found.items()}
