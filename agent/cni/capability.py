"""What an engine writes into `runtimeConfig`, for the capabilities that a configuration names.

CNI's conventions (CONVENTIONS.md); keys as Go reads them, in any case: containerd writes them capitalised.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from netfabric.agent.cni.field import (
    Json,
    addresses,
    mac,
    object_of,
    text,
    texts,
    unsupported,
    wrong,
)
from netfabric.fabric.prefix import Address
from netfabric.fabric.profile import NO_LIMITS, Bandwidth, Limit

ALIASES_LABEL = "netfabric.cni/aliases"
"""Other names that an engine gives a container, with commas between: `podman run --network-alias`."""
_FOREIGN = {
    "portMappings": 'put {"type": "portmap", "capabilities": {"portMappings": true}} behind netfabric',
    "ipRanges": "the network's subnet and its groups' pools say which addresses there are",
    "deviceID": "netfabric makes a veth pair; leave the capability away",
    "infinibandGUID": "netfabric makes a veth pair; leave the capability away",
}
"""Capabilities of other plugins: an engine that hands one over counts on it."""
_LARGEST = 1 << 63


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the engine asks for by capabilities."""

    addresses: tuple[Address, ...] = ()
    mac: str = ""
    aliases: tuple[str, ...] = ()
    bandwidth: Bandwidth = NO_LIMITS
    dns: Mapping[str, Any] = field(default_factory=dict)
    """As a result of CNI has it: nameservers, search, options."""

    @classmethod
    def parse(cls, raw: Json) -> "Capabilities":
        """Read `runtimeConfig`; raise CniError that names the key."""
        for key, remedy in _FOREIGN.items():
            if raw.get(key):
                raise unsupported(f"runtimeConfig.{key}", raw[key], remedy)
        return cls(
            addresses=addresses(raw, "ips", "runtimeConfig.ips"),
            mac=mac(raw, "runtimeConfig.mac"),
            aliases=_aliases(raw.get("aliases")),
            bandwidth=_bandwidth(object_of(raw, "bandwidth", "runtimeConfig.bandwidth")),
            dns=_dns(object_of(raw, "dns", "runtimeConfig.dns")),
        )


def lowered(raw: Json) -> Json:
    """Return an object with its keys in lower case."""
    return {key.lower(): value for key, value in raw.items()}


def _dns(raw: Json) -> Json:
    """`servers`, `searches` and `options` become what a result calls them."""
    written = lowered(raw)
    names = {"servers": "nameservers", "searches": "search", "options": "options"}
    found = {new: texts(written, old, f"runtimeConfig.dns.{old}") for old, new in names.items()}
    return {key: value for key, value in found.items() if value}


def _bandwidth(raw: Json) -> Bandwidth:
    """Read rates in bits per second and bursts in bits: ingress is what the container receives."""
    written = lowered(raw)
    limits = {}
    for kind in ("ingress", "egress"):
        rate, burst = (_number(written, kind, what) for what in ("rate", "burst"))
        limits[kind] = Limit(rate, burst // 8) if rate else None
    return Bandwidth(receive=limits["ingress"], send=limits["egress"])


def _number(written: Json, kind: str, what: str) -> int:
    value = written.get(kind + what) or 0
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LARGEST:
        path = f"runtimeConfig.bandwidth.{kind}{what.capitalize()}"
        raise wrong(path, value, "a number of bits")
    return value


def _aliases(value: object) -> tuple[str, ...]:
    """Read names: a list, or podman's lists by network."""
    path = "runtimeConfig.aliases"
    lists = list(value.values()) if isinstance(value, dict) else [value]
    names: dict[str, None] = {}
    for one in lists:
        for name in texts({"aliases": one}, "aliases", path):
            if not text({"alias": name}, "alias", path) or set(name) & set(", "):
                raise wrong(path, name, "a name")
            names[name] = None
    return tuple(names)
