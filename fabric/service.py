"""Services of Kubernetes (core/v1, discovery.k8s.io/v1) as services of the fabric, where they fit."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from netfabric.fabric.placement import NAMESPACE_LABEL
from netfabric.fabric.pod import NETWORK, TENANT
from netfabric.fabric.schema import Object

Raw = Mapping[str, Any]
SERVICE_LABEL = "kubernetes.io/service-name"
"""Of an EndpointSlice: the Service that it belongs to."""
_PROTOCOLS = ("TCP", "UDP")


@dataclass(frozen=True, slots=True)
class Service:
    """A serviceLB object."""

    tenant: str
    network: str
    name: str
    ports: tuple[str, ...]
    """`80:8080:TCP`."""
    selectors: tuple[str, ...]
    """`label=value`, all of which a container has."""

    @property
    def key(self) -> str:
        """Return `tenant:name`."""
        return f"{self.tenant}:{self.name}"

    def fields(self) -> Object:
        """Return the object as `/api/v2` takes it."""
        return {
            "key": self.key,
            "tenantName": self.tenant,
            "serviceName": self.name,
            "networkName": self.network,
            "ports": list(self.ports),
            "selectors": list(self.selectors),
        }


def service_of(raw: Raw, slices: Iterable[Raw]) -> Service | None:
    """Return what a Service is in the fabric; None where it is none of the fabric's, or does not fit.

    It is the fabric's by its label `io.contiv.network`; it fits if it selects pods, and each port is TCP or UDP and
    has one number in all of its pods.
    """
    meta, spec = raw["metadata"], raw.get("spec") or {}
    labels, selector = meta.get("labels") or {}, spec.get("selector") or {}
    network = labels.get(NETWORK)
    if not network or not selector or spec.get("type") == "ExternalName":
        return None
    ports = [_port(port, slices) for port in spec.get("ports") or ()]
    if not ports or None in ports:
        return None
    chosen = {**selector, NAMESPACE_LABEL: meta["namespace"]}
    return Service(
        tenant=labels.get(TENANT) or "default",
        network=network,
        name=f"{meta['name']}.{meta['namespace']}",
        ports=tuple(port for port in ports if port),
        selectors=tuple(f"{name}={value}" for name, value in sorted(chosen.items())),
    )


def _port(port: Raw, slices: Iterable[Raw]) -> str | None:
    protocol, target = port.get("protocol", "TCP"), port.get("targetPort") or port["port"]
    if protocol not in _PROTOCOLS:
        return None
    if not isinstance(target, int):
        name = port.get("name") or ""
        numbers = {
            there["port"]
            for one in slices
            for there in one.get("ports") or ()
            if (there.get("name") or "") == name and there.get("port")
        }
        if len(numbers) != 1:
            return None
        (target,) = numbers
    return f"{port['port']}:{target}:{protocol}"


class Services:
    """Services and their EndpointSlices as the API says them, and what they are in the fabric."""

    def __init__(self) -> None:
        self.wanted: dict[str, Service] = {}
        """By `namespace/name`."""
        self.known: dict[str, Raw] = {}
        self.slices: dict[str, Raw] = {}
        self._of: dict[str, set[str]] = {}
        """Slices by Service."""
        self._stale: set[str] = set()

    def put_service(self, raw: Raw) -> None:
        """Take a Service that is new, or changed."""
        key = f"{raw['metadata']['namespace']}/{raw['metadata']['name']}"
        self.known[key] = raw
        self._stale.add(key)

    def remove_service(self, key: str) -> None:
        """Forget a Service."""
        if self.known.pop(key, None) is not None:
            self._stale.add(key)

    def put_slice(self, raw: Raw) -> None:
        """Take an EndpointSlice that is new, or changed."""
        meta = raw["metadata"]
        key = f"{meta['namespace']}/{meta['name']}"
        self.remove_slice(key)
        service = (meta.get("labels") or {}).get(SERVICE_LABEL)
        if service:
            self.slices[key] = {"metadata": meta, "ports": raw.get("ports") or ()}
            owner = f"{meta['namespace']}/{service}"
            self._of.setdefault(owner, set()).add(key)
            self._stale.add(owner)

    def remove_slice(self, key: str) -> None:
        """Forget an EndpointSlice."""
        raw = self.slices.pop(key, None)
        if raw is not None:
            meta = raw["metadata"]
            owner = f"{meta['namespace']}/{meta['labels'][SERVICE_LABEL]}"
            self._of[owner].discard(key)
            self._stale.add(owner)

    def settle(self) -> set[str]:
        """Work out what changed; return the Services that may be others now."""
        stale, self._stale = self._stale, set()
        for key in stale:
            raw = self.known.get(key)
            slices = [self.slices[name] for name in sorted(self._of.get(key, ()))]
            made = service_of(raw, slices) if raw is not None else None
            if made is None:
                self.wanted.pop(key, None)
            else:
                self.wanted[key] = made
        return stale
