"""Objects as the Kubernetes API has them, for tests of whatever reads them."""

from collections.abc import Mapping
from typing import Any

from netfabric.fabric.pod import Pod

Object = dict[str, Any]


def as_object(pod: Pod, **status: Any) -> Object:
    """Return the API's object of a pod."""
    ports = [
        {"name": name, "protocol": protocol, "containerPort": number}
        for (name, protocol), number in pod.ports.items()
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": pod.namespace,
            "name": pod.name,
            "uid": pod.uid,
            "labels": dict(pod.labels),
        },
        "spec": {"nodeName": pod.host, "containers": [{"name": "main", "ports": ports}]},
        "status": {"phase": "Running"} | status,
    }


def namespace(name: str, labels: Mapping[str, str] | None = None) -> Object:
    """Return a namespace."""
    own = {"kubernetes.io/metadata.name": name}
    metadata = {"name": name, "labels": own | dict(labels or {})}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def policy(name: str, where: str = "default", **spec: Any) -> Object:
    """Return a NetworkPolicy."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"namespace": where, "name": name},
        "spec": spec,
    }
