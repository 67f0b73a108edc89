"""The network configuration on standard input: read and checked."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Never

from netfabric.agent.cni.environment import IDENTIFIER
from netfabric.agent.cni.problem import CniError, Code
from netfabric.agent.cni.value import addresses_of, mac_of
from netfabric.fabric.endpoint import EndpointKey
from netfabric.fabric.errors import InvalidError
from netfabric.fabric.prefix import Address

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
DEFAULT_VERSION = "1.0.0"
"""Of an answer to what names no version that we have."""
DEFAULT_TENANT, DEFAULT_NETWORK = "default", "default-net"
DEFAULT_MTU = 1500
_MTU = range(1280, 65536)
"""What IPv6 needs (RFC 8200, section 5), and what a veth can have."""
_ATTACHMENTS = ("cni.dev/valid-attachments", "cni.dev/attachments")
"""The second is what early runtimes of 1.1.0 wrote."""
_DNS = {"nameservers": list, "domain": str, "search": list, "options": list}
_Json = dict[str, Any]


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
    dns: Mapping[str, Any] = field(default_factory=dict)
    previous: Mapping[str, Any] | None = None
    """prevResult, as it came."""
    valid: frozenset[EndpointKey] | None = None
    """GC: what is still there; None where nothing is said of it."""

    def at_least(self, version: str) -> bool:
        """Return whether the version asked for is this one or a later one."""
        return VERSIONS.index(self.version) >= VERSIONS.index(version)


def version_of(raw: object) -> str:
    """Return the version to answer in, whatever else is wrong."""
    asked = raw.get("cniVersion") if isinstance(raw, dict) else None
    return asked if asked in VERSIONS else DEFAULT_VERSION


def decode(data: bytes) -> _Json:
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


def parse(raw: _Json) -> Configuration:
    """Check a network configuration; raise CniError that names the key."""
    version = raw.get("cniVersion")
    if version not in VERSIONS:
        raise CniError(
            Code.INCOMPATIBLE_VERSION,
            f"network configuration: cniVersion is {_shown(version)}",
            f"write one of {', '.join(VERSIONS)}",
        )
    name = _text(raw, "name")
    if not IDENTIFIER.fullmatch(name):
        raise _bad("name", f"{name[:64]!r} is no network's name", "letters, digits, _ . and -")
    if _object(raw, "ipam").get("type"):
        raise _bad("ipam", "netfabric gives addresses itself", "leave ipam away")
    runtime, extra = _object(raw, "runtimeConfig"), _object(_object(raw, "args"), "cni", "args.cni")
    return Configuration(
        version=version,
        name=name,
        tenant=_text(raw, "tenant") or DEFAULT_TENANT,
        network=_text(raw, "network") or DEFAULT_NETWORK,
        group=_text(raw, "group"),
        addresses=_addresses(runtime, "runtimeConfig.ips") or _addresses(extra, "args.cni.ips"),
        mac=_mac(runtime, "runtimeConfig.mac") or _mac(extra, "args.cni.mac"),
        mtu=_mtu(raw),
        labels=_labels(extra),
        dns=_dns(raw),
        previous=_object(raw, "prevResult") if raw.get("prevResult") is not None else None,
        valid=_valid(raw),
    )


def _bad(key: str, cause: str, remedy: str) -> CniError:
    return CniError(Code.BAD_CONFIGURATION, f"network configuration: {key}: {cause}", remedy)


def _shown(value: object) -> str:
    return "missing" if value is None else json.dumps(value)[:64]


def _wrong(key: str, value: object, kind: str) -> CniError:
    return _bad(key, f"{_shown(value)} is no {kind}", f"write {kind}")


def _text(raw: _Json, key: str) -> str:
    value = raw.get(key, "")
    if not isinstance(value, str) or len(value) > 255 or not value.isprintable():
        raise _wrong(key, value, "a short text")
    return value


def _object(raw: _Json, key: str, path: str = "") -> _Json:
    value = raw.get(key)
    if value is not None and not isinstance(value, dict):
        raise _wrong(path or key, value, "an object")
    return value or {}


def _addresses(raw: _Json, path: str) -> tuple[Address, ...]:
    value = raw.get("ips") or []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise _wrong(path, value, "a list of addresses")
    try:
        return addresses_of(value)
    except InvalidError as error:
        raise _bad(path, error.what, error.remedy) from None


def _mac(raw: _Json, path: str) -> str:
    try:
        return mac_of(_text(raw, "mac"))
    except InvalidError as error:
        raise _bad(path, error.what, error.remedy) from None


def _mtu(raw: _Json) -> int:
    value = raw.get("mtu", DEFAULT_MTU)
    if not isinstance(value, int) or value not in _MTU:
        raise _wrong("mtu", value, f"a number from {_MTU.start} to {_MTU.stop - 1}")
    return value


def _labels(extra: _Json) -> tuple[tuple[str, str], ...]:
    """Read args.cni.labels, as CNI's conventions have them: [{"key": …, "value": …}]."""
    value = extra.get("labels") or []
    try:
        pairs = {_text(one, "key"): _text(one, "value") for one in value}
    except (TypeError, AttributeError):
        kind = 'a list of {"key": …, "value": …}'
        raise _wrong("args.cni.labels", value, kind) from None
    return tuple(sorted(pairs.items()))


def _dns(raw: _Json) -> _Json:
    found = _object(raw, "dns")
    for key, value in found.items():
        kind = _DNS.get(key)
        lines = value if isinstance(value, list) else []
        if (
            kind is None
            or not isinstance(value, kind)
            or not all(isinstance(x, str) for x in lines)
        ):
            raise _wrong(f"dns.{key}", value, "a part of dns as CNI has it")
    return found


def _valid(raw: _Json) -> frozenset[EndpointKey] | None:
    path = next((path for path in _ATTACHMENTS if raw.get(path) is not None), None)
    if path is None:
        return None
    try:
        return frozenset(EndpointKey(one["containerID"], one["ifname"]) for one in raw[path])
    except (TypeError, KeyError):
        kind = 'a list of {"containerID": …, "ifname": …}'
        raise _wrong(path, raw[path], kind) from None
