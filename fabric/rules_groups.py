"""What endpoint groups may be made, changed and removed."""

from ipaddress import IPv4Address, ip_address
from typing import cast

from netfabric.fabric.errors import ConflictError, InvalidError
from netfabric.fabric.intent import network_of
from netfabric.fabric.rules_tenancy import require_tenant
from netfabric.fabric.schema import Object
from netfabric.fabric.world import Draft, Fields, World


def create_group(draft: Draft, new: Object) -> None:
    """Everything that a group names must exist, and its pool must be free."""
    require_tenant(draft, new)
    tenant, name, network = new["tenantName"], new["groupName"], new["networkName"]
    found = draft.world.get("network", f"{tenant}:{network}")
    if found is None:
        raise InvalidError(f"Network {network} not found", "create the network first")
    if draft.world.get("network", f"{tenant}:{name}") is not None:
        raise ConflictError(
            f"Network {name} conflicts with the endpointGroup name",
            "choose another name: networks and groups of a tenant share one name space",
        )
    if new.get("ipPool"):
        _check_pool(draft.world, found, new)
    _require_named(draft, new)


def _require_named(draft: Draft, new: Fields) -> None:
    tenant = new["tenantName"]
    for policy in new.get("policies", ()):
        if draft.world.get("policy", f"{tenant}:{policy}") is None:
            raise InvalidError("Policy not found", f"create policy {policy} first")
    profile = new.get("netProfile")
    if profile and draft.world.get("netprofile", f"{tenant}:{profile}") is None:
        raise InvalidError("netprofile not found", f"create netprofile {profile} first")
    for group in new.get("extContractsGrps", ()):
        if draft.world.get("extContractsGroup", f"{tenant}:{group}") is None:
            raise InvalidError(f"External contracts group {group} not found", "create it first")


def pool_of(group: Fields) -> tuple[IPv4Address, IPv4Address] | None:
    """Return first and last address of a group's pool, or None; raise InvalidError."""
    text = str(group.get("ipPool") or "")
    if not text:
        return None
    first, _, last = text.partition("-")
    if not last or int(IPv4Address(first)) > int(IPv4Address(last)):
        raise InvalidError(f"invalid ip-pool {text}", "write first-last, the lower address first")
    return IPv4Address(first), IPv4Address(last)


def _check_pool(world: World, network: Fields, new: Fields) -> None:
    pool = pool_of(new)
    assert pool is not None
    range_ = network_of(network).range_of(4)
    if range_ is None:
        raise InvalidError(
            "ipv6 address pool is not supported for Endpoint Groups",
            "choose a network that has an IPv4 subnet",
        )
    first, last = pool
    if first not in range_.subnet or last not in range_.subnet:
        raise InvalidError(
            f"bad ip-pool {new['ipPool']}, EPG ip-pool must be a subset of network {range_.subnet}",
            f"choose addresses inside {range_.subnet}",
        )
    for what, low, high in _taken(world, network):
        if first <= high and low <= last:
            raise ConflictError(
                f"updating epg ipaddress in network failed: {what}", "choose a pool that is free"
            )
    gateway = range_.gateway
    if gateway is not None and first <= cast(IPv4Address, gateway) <= last:
        raise ConflictError(
            f"updating epg ipaddress in network failed: {gateway} is the gateway",
            "choose a pool without it",
        )


def _taken(world: World, network: Fields) -> list[tuple[str, IPv4Address, IPv4Address]]:
    """Other groups' pools and endpoints' addresses of a network."""
    found: list[tuple[str, IPv4Address, IPv4Address]] = []
    for key in world.users("network", network["key"], "endpointGroup", "networkName"):
        group = world.get("endpointGroup", key)
        pool = pool_of(group) if group else None
        if pool:
            found.append((f"{pool[0]}-{pool[1]} is the pool of {key}", *pool))
    found += [
        (f"{address} is in use", address, address)
        for endpoint in world.endpoints_of(network=network["key"])
        for address in endpoint.addresses
        if isinstance(address, IPv4Address)
    ]
    for service in world.users("network", network["key"], "serviceLB", "networkName"):
        vip = (world.get("serviceLB", service) or {}).get("vip")
        if vip:
            address = cast(IPv4Address, ip_address(vip))
            found.append((f"{address} is the address of {service}", address, address))
    return found


def update_group(draft: Draft, old: Fields, new: Object) -> None:
    """A group stays in its network with its pool; the rest may change."""
    if old["networkName"] != new["networkName"]:
        raise ConflictError(
            "Cannot change network association after epg is created.",
            "delete the group and create it again",
        )
    if old.get("ipPool") != new.get("ipPool"):
        raise ConflictError(
            "Cannot change IP pool after epg is created.", "delete the group and create it again"
        )
    _require_named(draft, new)


def delete_group(draft: Draft, old: Fields) -> None:
    """A group must be unused."""
    key, name = old["key"], old["groupName"]
    profiles = draft.world.users("endpointGroup", key, "appProfile", "endpointGroups")
    if profiles:
        raise ConflictError(
            f"Cannot delete {name}, associated to appProfile {profiles[0]}",
            "take it out of the profile first",
        )
    if ports := draft.world.users("endpointGroup", key, "port", "groupName"):
        raise ConflictError(
            f"Cannot delete {name}, associated to port {ports[0]}",
            "end it first: netctl endpoint ports, netctl endpoint rm",
        )
    if draft.world.endpoints_of(group=key):
        raise ConflictError(
            f"Error: EPG {name} has active endpoints",
            "stop its containers first: netctl endpoint ls",
        )
