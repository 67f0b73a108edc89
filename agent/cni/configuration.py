"""The network configuration on standard input: read and checked."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Never

from netfabric.agent.cni.capability import Capabilities
from netfabric.agent.cni.environment import IDENTIFIER
from netfabric.agent.cni.field import Json, bad, object_of, shown, text, unsupported, wrong
from netfabric.agent.cni.metadata import GROUP, NETWORK, TENANT, Metadata
from netfabric.agent.cni.problem import CniError, Code
from netfabric.fabric.endpoint import EndpointKey
from netfabric.fabric.prefix import Address
from netfabric.fabric.profile import NO_LIMITS, Bandwidth

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
UNWRITTEN_VERSION = "0.1.0"
"""What a configuration without cniVersion means, as in CNI's own library: Mesos' have none."""
DEFAULT_VERSION = "1.0.0"
"""Of an answer to what names a version that we do not have."""
DEFAULT_TENANT, DEFAULT_NETWORK = "default", "default-net"
DEFAULT_MTU = 1500
_MTU = range(1280, 65536)
"""What IPv6 needs (RFC 8200, section 5), and what a veth can have."""
_ATTACHMENTS = ("cni.dev/valid-attachments", "cni.dev/attachments")
"""The second is what early runtimes of 1.1.0 wrote."""
_DNS = {"nameservers": list, "domain": str, "search": list, "options": list}


@dataclass(frozen=True, slots=True)
class Configuration:
    """What one network's configuration says, to a first plugin of its list."""

    version: str
    name: str
    tenant: str = DEFAULT_TENANT
    network: str = DEFAULT_NETWORK
    group: str = ""
    addresses: tuple[Address, ...] = ()
    mac: str = ""
    mtu: int = DEFAULT_MTU
    labels: tuple[tuple[str, str], ...] = ()
    aliases: tuple[str, ...] = ()
    bandwidth: Bandwidth = NO_LIMITS
    dns: Mapping[str, Any] = field(default_factory=dict)
    kubernetes: bool = False
    """Tenant, network and group come from the pod's labels, over netmaster."""
    previous: Mapping[str, Any] | None = None
    """prevResult, as it came."""
    valid: frozenset[EndpointKey] | None = None
    """GC: what is still there; None where nothing is said of it."""

    def at_least(self, version: str) -> bool:
        """Return whether the version asked for is this one or a later one."""
        return VERSIONS.index(self.version) >= VERSIONS.index(version)


def version_of(raw: object) -> str:
    """Return the version to answer in, whatever else is wrong."""
    asked = _version(raw) if isinstance(raw, dict) else None
    return asked if isinstance(asked, str) and asked in VERSIONS else DEFAULT_VERSION


def _version(raw: Json) -> object:
    asked = raw.get("cniVersion")
    return UNWRITTEN_VERSION if asked is None or asked == "" else asked


def decode(data: bytes) -> Json:
    """Return the JSON object in `data`; raise CniError."""
    try:
        raw = json.loads(data.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        cause = "nested too deeply" if isinstance(error, RecursionError) else error
        raise CniError(
            Code.NOT_JSON,
            f"network configuration: no JSON: {cause}",
            "write it as the CNI specification says",
        ) from None
    if not isinstance(raw, dict):
        raise CniError(Code.NOT_JSON, "network configuration: no JSON object", "write {…}")
    return raw


def _no_number(text: str) -> Never:
    raise ValueError(f"{text} is no number of JSON")


def parse(raw: Json) -> Configuration:
    """Check a network configuration; raise CniError that names the key."""
    checked = parse_name(raw)
    _refuse_foreign(raw)
    runtime = Capabilities.parse(object_of(raw, "runtimeConfig"))
    metadata = Metadata.parse(object_of(raw, "args"))
    return replace(
        checked,
        tenant=metadata.says(TENANT) or text(raw, "tenant") or DEFAULT_TENANT,
        network=metadata.says(NETWORK) or text(raw, "network") or DEFAULT_NETWORK,
        group=metadata.says(GROUP) or text(raw, "group"),
        addresses=runtime.addresses or metadata.addresses,
        mac=runtime.mac or metadata.mac,
        mtu=_mtu(raw),
        labels=metadata.labels,
        aliases=runtime.aliases,
        bandwidth=runtime.bandwidth,
        dns={**_dns(raw), **runtime.dns},
        kubernetes=_kubernetes(raw),
        previous=_previous(raw) if checked.at_least("0.3.0") else None,
    )


def _kubernetes(raw: Json) -> bool:
    value = raw.get("kubernetes", False)
    if not isinstance(value, bool):
        raise wrong("kubernetes", value, "true or false")
    return value


def parse_attachments(raw: Json) -> Configuration:
    """Check what a GC needs; raise CniError."""
    return replace(parse_name(raw), valid=_valid(raw))


def parse_name(raw: Json) -> Configuration:
    """Check what a DEL needs: one that cannot be ADDed any more is still removed. Raise CniError."""
    version = _version(raw)
    if not isinstance(version, str) or version not in VERSIONS:
        raise CniError(
            Code.INCOMPATIBLE_VERSION,
            f"network configuration: cniVersion is {shown(version)}",
            f"write one of {', '.join(VERSIONS)}",
        )
    name = text(raw, "name")
    if not IDENTIFIER.fullmatch(name):
        raise bad("name", f"{name[:64]!r} is no network's name", "letters, digits, _ . and -")
    return Configuration(version=version, name=name)


def _refuse_foreign(raw: Json) -> None:
    """Refuse what other plugins do, and this one does not: nobody should count on it."""
    if ipam := object_of(raw, "ipam"):
        remedy = "netfabric gives addresses itself: leave ipam away, and ask for one by IP= or the capability ips"
        raise unsupported("ipam", ipam, remedy)
    if raw.get("ipMasq"):
        remedy = "addresses are routed in the whole fabric: leave ipMasq away"
        raise unsupported("ipMasq", raw["ipMasq"], remedy)


def _mtu(raw: Json) -> int:
    value = raw.get("mtu", DEFAULT_MTU)
    if not isinstance(value, int) or value not in _MTU:
        raise wrong("mtu", value, f"a number from {_MTU.start} to {_MTU.stop - 1}")
    return value


def _previous(raw: Json) -> Json | None:
    """Read prevResult: its lists are lists of objects, whatever else is in them."""
    if raw.get("prevResult") is None:
        return None
    found = object_of(raw, "prevResult")
    for key in ("interfaces", "ips", "routes"):
        value = found.get(key) or []
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise wrong(f"prevResult.{key}", value, "a list of objects")
    return found


def _dns(raw: Json) -> Json:
    found = object_of(raw, "dns")
    for key, value in found.items():
        kind = _DNS.get(key)
        lines = value if isinstance(value, list) else []
        if (
            kind is None
            or not isinstance(value, kind)
            or not all(isinstance(x, str) for x in lines)
        ):
            raise wrong(f"dns.{key}", value, "a part of dns as CNI has it")
    return found


def _valid(raw: Json) -> frozenset[EndpointKey] | None:
    path = next((path for path in _ATTACHMENTS if raw.get(path) is not None), None)
    if path is None:
        return None
    try:
        return frozenset(EndpointKey(one["containerID"], one["ifname"]) for one in raw[path])
    except (TypeError, KeyError):
        kind = 'a list of {"containerID": …, "ifname": …}'
        raise wrong(path, raw[path], kind) from None
