"""Where a pod of Kubernetes belongs, as netmaster's controller found out: what a host needs to attach and guard it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from netfabric.fabric.endpoint import Endpoint

NAMESPACE_LABEL, UID_LABEL = "io.kubernetes.pod.namespace", "io.kubernetes.pod.uid"
"""Of an endpoint that a Kubernetes engine asked for; its name is the pod's."""


PODS = "pods/"
"""How names of filters and groups of peers begin that come from Kubernetes: no group can have such a name."""


def is_of_pods(group: str) -> bool:
    """Return whether a filter or a group of peers (`tenant:name`) comes from Kubernetes."""
    return group.partition(":")[2].startswith(PODS)


@dataclass(frozen=True, slots=True)
class Placement:
    """One pod."""

    pod: str
    """`namespace/name`."""
    host: str
    uid: str = ""
    tenant: str = "default"
    network: str = "default-net"
    group: str = ""
    filter: str = ""
    """The filter that is in force in place of its group's (`tenant:name`); empty: its group's."""
    peers: tuple[str, ...] = ()
    """Groups of peers (`tenant:name`) that it is in, because a policy's selector chooses it."""
    labels: tuple[tuple[str, str], ...] = ()
    """The pod's: the endpoint has them as it is attached."""

    def fits(self, endpoint: Endpoint) -> bool:
        """Return whether it speaks of an endpoint, and not of a pod of that name before or after."""
        return self.pod == pod_of(endpoint.name, endpoint.labels) and same_uid(
            self.uid, dict(endpoint.labels).get(UID_LABEL, "")
        )


def pod_of(name: str, labels: Iterable[tuple[str, str]]) -> str:
    """Return the pod (`namespace/name`) that an endpoint or a request of this name is of, "" if of none."""
    namespace = dict(labels).get(NAMESPACE_LABEL, "")
    return f"{namespace}/{name}" if namespace and name else ""


def same_uid(one: str, other: str) -> bool:
    """Return whether two pods of one name may be the same: old engines don't tell the uid."""
    return not (one and other) or one == other


@dataclass(slots=True)
class Placements:
    """Those of one host's pods, as netmaster says."""

    known: dict[str, Placement] = field(default_factory=dict)
    told: bool = False
    """Whether netmaster has said anything of pods."""

    def find(self, name: str, labels: tuple[tuple[str, str], ...]) -> Placement | None:
        """Return the placement of the pod that a request is of, None while it is not known."""
        found = self.known.get(pod_of(name, labels))
        if found is None or not same_uid(found.uid, dict(labels).get(UID_LABEL, "")):
            return None
        return found

    def take(self, full: bool, placed: Iterable[Placement], gone: Iterable[str]) -> None:
        """Take what netmaster says; `full` replaces all that was said before."""
        self.told = True
        if full:
            self.known.clear()
        for pod in gone:
            self.known.pop(pod, None)
        self.known.update((placement.pod, placement) for placement in placed)
