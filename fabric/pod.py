"""A pod as the Kubernetes API has it (core/v1), read for what the fabric needs of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

TENANT, NETWORK, GROUP = "io.contiv.tenant", "io.contiv.network", "io.contiv.net-group"
"""Labels of pods, as in Contiv; of a namespace, they are what its pods have that say nothing themselves."""
_MIRRORED = "kubernetes.io/config.mirror"
"""Annotation of the image of a static pod: the uid that kubelet knows it by."""
_ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that has an address of the fabric, or will have one."""

    namespace: str
    name: str
    host: str
    """Its node's name."""
    uid: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Named ports: numbers by (name, protocol)."""

    @property
    def key(self) -> str:
        """Return `namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self | None:
        """Read a pod; None where it is not ours: on no node yet, on its host's own network, or at its end."""
        meta, spec = raw["metadata"], raw.get("spec") or {}
        ended = (raw.get("status") or {}).get("phase") in _ENDED
        if ended or spec.get("hostNetwork") or not spec.get("nodeName"):
            return None
        return cls(
            namespace=meta["namespace"],
            name=meta["name"],
            host=spec["nodeName"],
            uid=(meta.get("annotations") or {}).get(_MIRRORED) or meta.get("uid", ""),
            labels=meta.get("labels") or {},
            ports=dict(_ports(spec)),
        )


def _ports(spec: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], int]]:
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        for port in container.get("ports") or ():
            if port.get("name"):
                yield (port["name"], port.get("protocol", "TCP")), port["containerPort"]
