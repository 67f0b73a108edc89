"""The result of ADD in each version of CNI, and what of an earlier one no longer holds."""

from collections.abc import Mapping
from typing import Any

from netfabric.agent.cni.configuration import Configuration
from netfabric.agent.datapath.host_end import GATEWAYS, MAC
from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.prefix import DEFAULT_ROUTES, family_of, host_prefix

_HOST, _CONTAINER = 0, 1
"""Positions in `interfaces`."""


def result_of(endpoint: Endpoint, configuration: Configuration) -> dict[str, Any]:
    """Return what ADD answers: the pair, the addresses, the way out; behind what an earlier plugin of the list made."""
    if not configuration.at_least("0.3.0"):
        return _first_generation(endpoint, configuration)
    own = _own(endpoint, configuration)
    if configuration.previous is None:
        return own
    return _after(configuration.previous, own)


def _after(previous: Mapping[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Pass a prevResult on with ours behind it. A default route that is there already stays the only one."""
    before = _list(previous, "interfaces")
    ips = [{**ip, "interface": ip["interface"] + len(before)} for ip in own["ips"]]
    taken = {route.get("dst") for route in _list(previous, "routes")}
    return {
        **previous,
        "cniVersion": own["cniVersion"],
        "interfaces": before + own["interfaces"],
        "ips": _list(previous, "ips") + ips,
        "routes": _list(previous, "routes") + [r for r in own["routes"] if r["dst"] not in taken],
        "dns": own["dns"] or previous.get("dns") or {},
    }


def names(previous: Mapping[str, Any], interface: str, namespace: str) -> bool:
    """Return whether an earlier plugin of the list says that it made this interface in the container."""
    return any(
        one.get("name") == interface and one.get("sandbox") == namespace
        for one in _list(previous, "interfaces")
    )


def _first_generation(endpoint: Endpoint, configuration: Configuration) -> dict[str, Any]:
    """Write it as 0.1.0 and 0.2.0 have it: one address a family, with its routes, and no interfaces."""
    result: dict[str, Any] = {"cniVersion": configuration.version}
    for address in endpoint.addresses:
        family = family_of(address)
        gateway = str(GATEWAYS[family == 6])
        result[f"ip{family}"] = {
            "ip": str(host_prefix(address)),
            "gateway": gateway,
            "routes": [{"dst": str(DEFAULT_ROUTES[family == 6]), "gw": gateway}],
        }
    return {**result, "dns": dict(configuration.dns)}


def _own(endpoint: Endpoint, configuration: Configuration) -> dict[str, Any]:
    families = [family_of(address) for address in endpoint.addresses]
    gateways = [GATEWAYS[family == 6] for family in families]
    ips: list[dict[str, Any]] = [
        {"address": str(host_prefix(address)), "gateway": str(gateway), "interface": _CONTAINER}
        for address, gateway in zip(endpoint.addresses, gateways, strict=True)
    ]
    if not configuration.at_least("1.0.0"):
        for family, ip in zip(families, ips, strict=True):
            ip["version"] = str(family)
    routes = [
        {"dst": str(DEFAULT_ROUTES[family == 6]), "gw": str(gateway)}
        for family, gateway in zip(families, gateways, strict=True)
    ]
    return {
        "cniVersion": configuration.version,
        "interfaces": _interfaces(endpoint, configuration),
        "ips": ips,
        "routes": routes,
        "dns": dict(configuration.dns),
    }


def _interfaces(endpoint: Endpoint, configuration: Configuration) -> list[dict[str, Any]]:
    host: dict[str, Any] = {"name": endpoint.link, "mac": MAC}
    container: dict[str, Any] = {
        "name": endpoint.key.interface,
        "mac": endpoint.mac,
        "sandbox": endpoint.namespace,
    }
    if configuration.at_least("1.1.0"):
        host["mtu"] = container["mtu"] = endpoint.mtu
    return [host, container]


def differences(previous: Mapping[str, Any], endpoint: Endpoint, namespace: str) -> tuple[str, ...]:
    """Return in words what a prevResult says of our interface that is not so; () if all is.

    What later plugins of the list added to it is theirs to check.
    """
    interfaces = _list(previous, "interfaces")
    places = [n for n, one in enumerate(interfaces) if _is_ours(one, endpoint, namespace)]
    if not places:
        name = endpoint.key.interface
        return (f"prevResult has no interface {name} in {endpoint.namespace}",)
    found = [one.get("address") for one in _list(previous, "ips") if one.get("interface") in places]
    problems = [f"prevResult lacks {own}" for own in endpoint.prefixes if str(own) not in found]
    if (mac := interfaces[places[0]].get("mac")) not in (None, "", endpoint.mac):
        problems.append(f"prevResult has MAC {mac} instead of {endpoint.mac}")
    return tuple(problems)


def _list(previous: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = previous.get(key)
    return (
        [one if isinstance(one, dict) else {} for one in value] if isinstance(value, list) else []
    )


def _is_ours(interface: Mapping[str, Any], endpoint: Endpoint, namespace: str) -> bool:
    return interface.get("name") == endpoint.key.interface and interface.get("sandbox") in (
        endpoint.namespace,
        namespace,
    )
