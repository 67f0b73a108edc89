"""The Oper part of Contiv's inspect: what became of an object, derived from the world as it is."""

from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address
from typing import Any

from netfabric.fabric.counts import DEFAULT
from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.errors import NotFoundError, UnavailableError
from netfabric.fabric.intent import network_of
from netfabric.fabric.prefix import Address
from netfabric.fabric.rules_groups import pool_of
from netfabric.fabric.rules_tenancy import tags_in_use
from netfabric.fabric.session import SessionStatus
from netfabric.fabric.spans import Span, merged, text_of, within, without
from netfabric.fabric.tags import parse_range, runs
from netfabric.fabric.world import Fields, World

Oper = dict[str, Any]


def endpoint_oper(endpoint: Endpoint) -> Oper:
    """Return an endpoint as lists show it."""
    labels = " ".join(f"{name}:{value}" for name, value in sorted(endpoint.labels))
    group = f"{endpoint.group}:{endpoint.tenant}" if endpoint.group else ""
    return {
        "containerID": endpoint.key.container,
        "containerName": endpoint.name,
        "endpointGroupKey": group,
        "endpointID": f"{endpoint.key.container}-{endpoint.key.interface}",
        "homingHost": endpoint.host,
        "intfName": endpoint.link,
        "ipAddress": [_of_family(endpoint.addresses, 4), _of_family(endpoint.addresses, 6)],
        "labels": f"map[{labels}]",
        "macAddress": endpoint.mac,
        "network": f"{endpoint.network}.{endpoint.tenant}",
        "serviceName": endpoint.group,
    }


def _of_family(addresses: Iterable[Address], version: int) -> str:
    return next((str(a) for a in addresses if a.version == version), "")


def find_endpoint(world: World, part: str) -> Oper:
    """Return the first endpoint whose id, container or name contains `part`; raise NotFoundError."""
    for endpoint in sorted(world.endpoints_of(), key=lambda e: e.key):
        oper = endpoint_oper(endpoint)
        if any(part in oper[name] for name in ("endpointID", "containerID", "containerName")):
            return oper | {"virtualPort": f"v{endpoint.link}"}
    raise NotFoundError("endpoint not found", "netctl endpoint ls lists them")


def _spans(endpoints: Iterable[Endpoint]) -> list[Span]:
    numbers = (int(a) for e in endpoints for a in e.addresses if isinstance(a, IPv4Address))
    return [(number, number) for number in numbers]


def _pools(world: World, network: Fields) -> list[Span]:
    """The pools of a network's groups: taken, as the network sees it."""
    keys = world.users("network", network["key"], "endpointGroup", "networkName")
    pools = [pool_of(world.get("endpointGroup", key) or {}) for key in keys]
    return [(int(pool[0]), int(pool[1])) for pool in pools if pool]


def _addresses(
    world: World, network: Fields, endpoints: Sequence[Endpoint], pool: Span | None = None
) -> Oper:
    """Return allocated and available IPv4 addresses, of the network or of a group's pool."""
    read = network_of(network)
    range_ = read.range_of(4)
    if range_ is None:
        return {}
    taken = _spans(endpoints) + ([] if pool else _pools(world, network))
    if range_.gateway is not None:
        taken.append((int(range_.gateway), int(range_.gateway)))
    taken += [
        (int(p.network_address), int(p.broadcast_address)) for p in read.reserved if p.version == 4
    ]
    whole = pool or (int(range_.first), int(range_.last))
    shown = within(pool, merged(taken)) if pool else merged(taken)
    return {
        "allocatedIPAddresses": text_of(shown),
        "availableIPAddresses": text_of(without(whole, merged(taken))),
    }


def _tags(network: Fields) -> Oper:
    """VXLAN: `externalPktTag` is the VNI. (Contiv's `pktTag` is then a VLAN local to a host.)"""
    tag = int(network.get("tag") or 0)
    return {"pktTag": tag, "externalPktTag": tag if network["encap"] == "vxlan" else 0}


def network_oper(world: World, network: Fields) -> Oper:
    """Return a network's tags, addresses and endpoints."""
    endpoints = world.endpoints_of(network=network["key"])
    return {
        **_addresses(world, network, endpoints),
        **_tags(network),
        "allocatedAddressesCount": len(endpoints),
        "endpoints": [endpoint_oper(e) for e in endpoints],
        "networkTag": network.get("cfgdTag") or f"{network['networkName']}.{network['tenantName']}",
        "numEndpoints": len(endpoints),
    }


def group_oper(world: World, group: Fields) -> Oper:
    """Return a group's tags, addresses (of its pool, if it has one) and endpoints."""
    endpoints = world.endpoints_of(group=group["key"])
    tenant = group["tenantName"]
    network_key = f"{tenant}:{group['networkName']}"
    network = world.get("network", network_key)
    found: Oper = {
        "endpoints": [endpoint_oper(e) for e in endpoints],
        "groupTag": group.get("cfgdTag") or f"{group['groupName']}.{tenant}",
        "numEndpoints": len(endpoints),
    }
    if network is None:
        return found
    pool = pool_of(group)
    span = (int(pool[0]), int(pool[1])) if pool else None
    everyone = world.endpoints_of(network=network_key)
    return found | _addresses(world, network, everyone, span) | _tags(network)


def policy_oper(world: World, policy: Fields) -> Oper:
    """Return the endpoints of the groups that use a policy, and how many packets it has denied them."""
    groups = world.users("policy", policy["key"], "endpointGroup", "policies")
    endpoints = [e for group in groups for e in world.endpoints_of(group=group)]
    return {
        "endpoints": [endpoint_oper(e) for e in endpoints],
        "numEndpoints": len(endpoints),
        "policyViolations": _denied_by_rules(world, policy, groups)
        + sum(_denied_by_default(world, group) for group in groups),
    }


def _rules_of(world: World, policy: str) -> list[Fields]:
    found = (world.get("rule", key) for key in world.users("policy", policy, "rule", "policyName"))
    return [rule for rule in found if rule is not None]


def _denied_by_rules(world: World, policy: Fields, groups: Sequence[str]) -> int:
    denying = (r for r in _rules_of(world, policy["key"]) if r["action"] == "deny")
    return sum(_hits(world, rule, group)[0] for rule in denying for group in groups)


def _denied_by_default(world: World, group: str) -> int:
    if (world.get("endpointGroup", group) or {}).get("defaultAction") != "deny":
        return 0
    return sum(world.counted(group, direction, DEFAULT)[0] for direction in ("in", "out"))


def _hits(world: World, rule: Fields, group: str) -> tuple[int, int]:
    name = f"{rule['tenantName']}:{rule['policyName']}/{rule['ruleId']}"
    return world.counted(group, rule["direction"], name)


def rule_oper(world: World, rule: Fields) -> Oper:
    """Return the packets that a rule has decided about, of each group that uses its policy and of all."""
    policy = f"{rule['tenantName']}:{rule['policyName']}"
    groups = world.users("policy", policy, "endpointGroup", "policies")
    counted = [(group, *_hits(world, rule, group)) for group in groups]
    return {
        "packets": sum(packets for _, packets, _ in counted),
        "bytes": sum(octets for _, _, octets in counted),
        "groups": [
            {"group": group, "packets": packets, "bytes": octets}
            for group, packets, octets in counted
            if packets
        ],
    }


def counting_policy_oper(world: World, policy: Fields) -> Oper:
    """Return what Contiv tells of a policy, and what each of its rules has counted."""
    rules = [
        {"rule": rule["ruleId"], **rule_oper(world, rule)}
        for rule in _rules_of(world, policy["key"])
    ]
    return policy_oper(world, policy) | {"rules": rules}


def tenant_oper(world: World, tenant: Fields) -> Oper:
    """Return what a tenant holds."""
    name = tenant["tenantName"]

    def states(type_: str) -> list[Oper]:
        return [OPER[type_](world, obj) for obj in world.within(type_, name)]

    def count(type_: str) -> int:
        return len(list(world.within(type_, name)))

    endpoints = world.endpoints_of(tenant=name)
    return {
        "endpointGroups": states("endpointGroup"),
        "endpoints": [endpoint_oper(e) for e in endpoints],
        "networks": states("network"),
        "policies": states("policy"),
        "servicelbs": states("serviceLB"),
        "totalAppProfiles": count("appProfile"),
        "totalEPGs": count("endpointGroup"),
        "totalEndpoints": len(endpoints),
        "totalNetprofiles": count("netprofile"),
        "totalNetworks": count("network"),
        "totalPolicies": count("policy"),
        "totalServicelbs": count("serviceLB"),
    }


def global_oper(world: World, settings: Fields) -> Oper:
    """Return what of the ranges is in use."""
    vnis = tags_in_use(world, "vxlan")
    free = (tag for tag in parse_range(settings["vxlans"], "vxlan") if tag not in vnis)
    default = world.get("tenant", "default") or {}
    return {
        "clusterMode": world.cluster_mode,
        "defaultNetwork": default.get("defaultNetwork", ""),
        "freeVXLANsStart": next(free, 0),
        "numNetworks": sum(1 for _ in world.all("network")),
        "vlansInUse": runs(tags_in_use(world, "vlan")),
        "vxlansInUse": runs(vnis),
    }


def bgp_oper(world: World, bgp: Fields) -> Oper:
    """Return the state of a host's session; Contiv knows one, so the object's neighbour or the first."""
    host = bgp["hostname"]
    sessions = world.sessions(host)
    if sessions is None:
        raise UnavailableError(
            f"Get http://{host}:9090/inspect/bgp: no agent of that name is connected",
            "netctl host ls lists the hosts: the object's hostname must be one of them",
        )
    session = _session(sessions, str(bgp.get("neighbor") or ""))
    if session is None:
        return {"adminStatus": "ADMIN_STATE_UP", "neighborStatus": "idle"}
    return {
        "adminStatus": "ADMIN_STATE_UP",
        "neighborStatus": session.state,
        "numRoutes": session.received,
        "routes": [str(prefix) for prefix in session.prefixes],
    }


def _session(sessions: Sequence[SessionStatus], neighbor: str) -> SessionStatus | None:
    if not neighbor:
        return sessions[0] if sessions else None
    return next((s for s in sessions if str(s.address) == neighbor), None)


def peer_oper(world: World, peer: Fields) -> Oper:
    """Return the state of a peer's session, with the reason where it is down."""
    sessions = world.sessions(str(peer["hostname"]))
    if sessions is None:
        return {"state": "unknown", "reason": f"no agent of {peer['hostname']} is connected"}
    session = next((s for s in sessions if s.peer == peer["key"]), None)
    if session is None:
        return {"state": "idle", "reason": "the host has not taken it up yet"}
    return session_oper(session)


def session_oper(session: SessionStatus) -> Oper:
    """Return a session as `/api/v2` shows it."""
    return {
        "key": session.peer,
        "address": str(session.address),
        "asn": session.asn,
        "state": session.state,
        "since": session.since,
        "received": session.received,
        "advertised": session.advertised,
        "reason": session.reason,
        "prefixes": [str(prefix) for prefix in session.prefixes],
    }


def speaker_oper(world: World, bgp: Fields) -> Oper:
    """Return what Contiv tells of a host's BGP, and every session; also while its agent is away."""
    sessions = world.sessions(bgp["hostname"])
    if sessions is None:
        return {
            "neighborStatus": "unknown",
            "reason": f"no agent of host {bgp['hostname']} is connected",
        }
    return bgp_oper(world, bgp) | {"sessions": [session_oper(session) for session in sessions]}


def service_oper(world: World, service: Fields) -> Oper:
    """Return a service's virtual address, and the endpoints that its selectors choose."""
    wanted = {tuple(selector.split("=", 1)) for selector in service.get("selectors", ())}
    providers = [
        endpoint_oper(e)
        for e in world.endpoints_of(tenant=service["tenantName"])
        if wanted <= set(e.labels)
    ]
    return {
        "numProviders": len(providers),
        "providers": providers,
        "serviceVip": service.get("vip", ""),
    }


def aci_gw_oper(world: World, _: Fields) -> Oper:
    """Return how many application profiles there are."""
    return {"numAppProfiles": sum(1 for _ in world.all("appProfile"))}


OPER: dict[str, Callable[[World, Fields], Oper]] = {
    "tenant": tenant_oper,
    "network": network_oper,
    "endpointGroup": group_oper,
    "policy": policy_oper,
    "global": global_oper,
    "Bgp": bgp_oper,
    "serviceLB": service_oper,
    "aciGw": aci_gw_oper,
}
OPER2 = OPER | {
    "Bgp": speaker_oper,
    "peer": peer_oper,
    "policy": counting_policy_oper,
    "rule": rule_oper,
}
"""As `/api/v2` shows it."""
