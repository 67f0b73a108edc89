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


def service(name: str, where: str = "default", **spec: Any) -> Object:
    """Return a Service of network blue."""
    labels = {"io.contiv.network": "blue"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": where, "name": name, "labels": labels},
        "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.10", **spec},
    }


def endpoint_slice(of: str, where: str = "default", name: str = "", **ports: int) -> Object:
    """Return an EndpointSlice of a Service, with the numbers that its ports have in its pods."""
    labels = {"kubernetes.io/service-name": of}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"namespace": where, "name": name or f"{of}-x7k2p", "labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.2.0.5"], "conditions": {"ready": True}}],
        "ports": [{"name": n, "port": number, "protocol": "TCP"} for n, number in ports.items()],
    }
