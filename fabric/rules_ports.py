"""What ports may be made, changed and removed."""

from netfabric.fabric.errors import ConflictError, InvalidError
from netfabric.fabric.intent import network_of, port_of
from netfabric.fabric.ipam import usable
from netfabric.fabric.network import Network
from netfabric.fabric.port import Port
from netfabric.fabric.prefix import Address, family_of
from netfabric.fabric.rules_tenancy import require_tenant
from netfabric.fabric.schema import Object
from netfabric.fabric.world import Draft, Fields


def create_port(draft: Draft, new: Object) -> None:
    """Check what it names, and that what it asks for is nobody else's."""
    require_tenant(draft, new)
    port = port_of(new)
    key = f"{port.tenant}:{port.network}"
    found = draft.world.get("network", key)
    if found is None:
        raise InvalidError(f"Network {port.network} not found", "create the network first")
    network = network_of(found)
    for address in port.addresses:
        _check_address(address, network)
    _check_group(draft, port)
    for other in (port_of(obj) for obj in draft.world.all("port") if obj["key"] != new["key"]):
        shared = set(other.addresses) & set(port.addresses)
        if shared and (other.tenant, other.network) == (port.tenant, port.network):
            raise ConflictError(
                f"port {new['key']}: {min(map(str, shared))} is that of {other.host}:{other.link}",
                "give every port an address of its own",
            )


def _check_address(address: Address, network: Network) -> None:
    range_ = network.range_of(family_of(address))
    if range_ is None or not usable(network, range_, address):
        raise InvalidError(
            f"address {address} is none that network {network.key} gives",
            "choose one of its subnet, and neither its gateway nor a reserved one",
        )


def _check_group(draft: Draft, port: Port) -> None:
    if not port.group:
        return
    group = draft.world.get("endpointGroup", f"{port.tenant}:{port.group}")
    if group is None:
        raise InvalidError(f"Endpoint group {port.group} not found", "create the group first")
    if group["networkName"] != port.network:
        raise InvalidError(
            f"Endpoint group {port.group} belongs to network {group['networkName']}",
            f"choose a group of {port.network}",
        )


def update_port(draft: Draft, old: Fields, new: Object) -> None:
    """Everything of a port may change: its host then takes it down, and up again."""
    create_port(draft, new)


def delete_port(draft: Draft, old: Fields) -> None:
    """A port may go at any time."""
