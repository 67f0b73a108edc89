"""What services, external contracts, application profiles and the ACI gateway may be."""

from ipaddress import IPv4Address, ip_address
from typing import Any

from netfabric.fabric.errors import ConflictError, ExhaustedError, InvalidError
from netfabric.fabric.intent import network_of
from netfabric.fabric.ipam import usable
from netfabric.fabric.network import Network, Range
from netfabric.fabric.rules_tenancy import require_tenant
from netfabric.fabric.schema import Object
from netfabric.fabric.world import Draft, Fields, World

_PORT = "Invalid Port maping . Port format is - Port:TargetPort:Protocol"


def create_service(draft: Draft, new: Object) -> None:
    """Check a service, and give it a virtual address out of its network."""
    _give_address(draft, _checked(draft.world, new), new)


def _checked(world: World, new: Fields) -> Fields:
    """Check a service's form and names; return its network."""
    if not new.get("selectors"):
        raise InvalidError("Invalid selector options", "give key=value of the containers' labels")
    if not new.get("ports"):
        raise InvalidError(_PORT, "give at least one, such as 80:8080:TCP")
    for port in new["ports"]:
        _check_port(port)
    tenant, network = new["tenantName"], new["networkName"]
    if world.get("tenant", tenant) is None:
        raise InvalidError(f"Tenant {tenant} not found", "create the tenant first")
    found = world.get("network", f"{tenant}:{network}")
    if found is None:
        raise InvalidError(f"Network {network} not found", "create the network first")
    for selector in new["selectors"]:
        key, equals, value = selector.partition("=")
        if not (key and equals and value):
            raise InvalidError(
                f"Invalid selector {selector}. selector format is key1=value1", "write key=value"
            )
    return found


def _check_port(text: str) -> None:
    parts = text.split(":")
    if len(parts) != 3 or parts[2].upper() not in ("TCP", "UDP"):
        raise InvalidError(_PORT, f"{text!r}: the protocol is TCP or UDP, such as 80:8080:TCP")
    if not all(p.isascii() and p.isdecimal() and 0 < int(p) < 65536 for p in parts[:2]):
        raise InvalidError(_PORT, f"{text!r}: ports are numbers from 1 to 65535")


def _give_address(draft: Draft, network: Fields, new: Object) -> None:
    """Reserve the virtual address in the network, in the same write."""
    wanted = new.get("ipAddress")
    vip = str(wanted) if wanted else _free_address(draft.world, network)
    if wanted:
        _check_wanted(draft.world, network, wanted)
    new["vip"] = vip
    draft.put("network", {**network, "vips": sorted({*network.get("vips", ()), vip})})


def _ipv4(network: Fields) -> tuple[Network, Range]:
    read = network_of(network)
    range_ = read.range_of(4)
    if range_ is None:
        raise InvalidError(
            f"network {read.key} has no IPv4 subnet", "a service needs an IPv4 address"
        )
    return read, range_


def _in_use(world: World, network: Fields) -> set[Any]:
    endpoints = world.endpoints_of(network=network["key"])
    return {address for endpoint in endpoints for address in endpoint.addresses}


def _check_wanted(world: World, network: Fields, wanted: str) -> None:
    read, range_ = _ipv4(network)
    address = ip_address(wanted)
    if not usable(read, range_, address) or address in _in_use(world, network):
        raise ConflictError(
            f"ipAddress {wanted} is not free in network {read.key}",
            f"choose another of {range_.first}-{range_.last}, or none",
        )


def _free_address(world: World, network: Fields) -> str:
    """The highest free address: hosts claim blocks from below, and held blocks are left alone."""
    read, range_ = _ipv4(network)
    taken = _in_use(world, network)
    held = [block for block in world.blocks(read.key) if block.version == 4]
    fallback: IPv4Address | None = None
    for number in range(int(range_.last), int(range_.first) - 1, -1):
        address = IPv4Address(number)
        if not usable(read, range_, address) or address in taken:
            continue
        if not any(address in block for block in held):
            return str(address)
        fallback = fallback or address
    if fallback is None:
        raise ExhaustedError(
            f"auto allocation failed - address exhaustion in subnet {range_.subnet}",
            "choose a larger network",
        )
    return str(fallback)


def update_service(draft: Draft, old: Fields, new: Object) -> None:
    """Delete and create, keeping the virtual address."""
    if old["networkName"] != new["networkName"]:
        raise ConflictError("Cant change the network of a service", "delete it and create it again")
    if new.get("ipAddress") and new["ipAddress"] != old.get("vip"):
        raise ConflictError("Cant change the address of a service", "delete it and create it again")
    _checked(draft.world, new)


def delete_service(draft: Draft, old: Fields) -> None:
    """A service may always go; its address is free again."""
    tenant, name = old["tenantName"], old["networkName"]
    network = draft.world.get("network", f"{tenant}:{name}")
    if network is None:
        raise ConflictError(f"Network {name} not found in tenant {tenant}", "create it again")
    left = [vip for vip in network.get("vips", ()) if vip != old.get("vip")]
    kept = {k: v for k, v in network.items() if k != "vips"}
    draft.put("network", {**kept, "vips": left} if left else kept)


def create_contracts(draft: Draft, new: Object) -> None:
    """Check a group of external contracts."""
    if new.get("contractsType") not in ("provided", "consumed"):
        raise InvalidError(
            "Contracts group need to be either 'provided' or 'consumed'", "set contractsType"
        )
    require_tenant(draft, new)


def update_contracts(draft: Draft, old: Fields, new: Object) -> None:
    """Only /api/v2 may change external contracts."""
    if draft.dialect == "v1":
        raise ConflictError(
            "external contracts update not supported", "delete it and create it again"
        )
    create_contracts(draft, new)


def delete_contracts(draft: Draft, old: Fields) -> None:
    """External contracts must be unused."""
    users = draft.world.users("extContractsGroup", old["key"], "endpointGroup", "extContractsGrps")
    if users:
        raise ConflictError("External contracts group is in-use", f"by {', '.join(users)}")


def create_profile(draft: Draft, new: Object) -> None:
    """Every group of an application profile must exist."""
    require_tenant(draft, new)
    for group in new.get("endpointGroups", ()):
        key = f"{new['tenantName']}:{group}"
        if draft.world.get("endpointGroup", key) is None:
            raise InvalidError(f"EndpointGroup {key} not found", "create the group first")


def update_profile(draft: Draft, old: Fields, new: Object) -> None:
    """The list of groups is replaced."""
    create_profile(draft, new)


def delete_profile(draft: Draft, old: Fields) -> None:
    """A profile may always go."""


def create_aci_gw(draft: Draft, new: Object) -> None:
    """The gateway's settings need nothing."""


def update_aci_gw(draft: Draft, old: Fields, new: Object) -> None:
    """The gateway's settings may change."""


def delete_aci_gw(draft: Draft, old: Fields) -> None:
    """The gateway's settings may go when no application profile needs them."""
    if count := len(list(draft.world.all("appProfile"))):
        raise ConflictError(f"{count} App-Profiles found. Delete them first", "netctl app-profile")
