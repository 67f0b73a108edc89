"""Whether an ADD can be served at all, and in words why it cannot."""

from collections.abc import Mapping

from netfabric.fabric.endpoint import AttachRequest, EndpointKey
from netfabric.fabric.errors import (
    ConflictError,
    FabricError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from netfabric.fabric.events import HostSettings, ReserveRequested
from netfabric.fabric.filter import GroupFilter
from netfabric.fabric.ipam import usable
from netfabric.fabric.network import Network
from netfabric.fabric.placement import pod_of
from netfabric.fabric.prefix import Address, family_of

_NOTHING: Mapping[str, str] = {}


def admit(
    request: AttachRequest,
    network: Network | None,
    host: str,
    lacking: Mapping[str, str] = _NOTHING,
) -> Network:
    """Return the network that a request names; raise what is wrong with the request.

    `lacking` says by encap why this host cannot carry it.
    """
    network = _carried(f"{request.tenant}:{request.network}", network, host, lacking)
    for address in request.addresses:
        _admit_address(address, network)
    return network


def _carried(key: str, network: Network | None, host: str, lacking: Mapping[str, str]) -> Network:
    if network is None:
        raise NotFoundError(
            f"network {key}: not known on host {host}",
            "netctl net ls -a lists the networks; netctl net create makes one",
        )
    if why := lacking.get(network.encap):
        raise InvalidError(
            f"network {network.key}: host {host} cannot carry encap {network.encap}: {why}",
            "netctl host inspect lists what each host can do; use another one, or encap routed",
        )
    return network


def admit_reservation(
    asked: ReserveRequested,
    network: Network | None,
    host: str,
    lacking: Mapping[str, str] = _NOTHING,
) -> None:
    """Raise what is wrong with an address that is to be reserved."""
    found = _carried(asked.network, network, host, lacking)
    if found.range_of(asked.family) is None:
        raise InvalidError(
            f"network {found.key} has no IPv{asked.family} subnet",
            f"ask for an address of {' or '.join(str(r.subnet) for r in found.ranges)}",
        )
    if asked.wanted is not None:
        _admit_address(asked.wanted, found)


def admit_group(request: AttachRequest, filters: Mapping[str, GroupFilter], host: str) -> None:
    """Raise what is wrong with the group that a request names, if it names one."""
    if not request.group:
        return
    group = f"{request.tenant}:{request.group}"
    found = filters.get(group)
    if found is None:
        raise NotFoundError(
            f"endpoint group {group}: not known on host {host}",
            "netctl group ls -a lists the groups; netctl group create makes one",
        )
    network = f"{request.tenant}:{request.network}"
    if found.network != network:
        raise InvalidError(
            f"endpoint group {group}: belongs to network {found.network}, not to {network}",
            f"ask for network {found.network}, or for a group of {network}",
        )


def _admit_address(address: Address, network: Network) -> None:
    range_ = network.range_of(family_of(address))
    if range_ is None or address not in range_.subnet:
        raise InvalidError(
            f"address {address} is not in network {network.key}",
            f"ask for one of {' or '.join(str(r.subnet) for r in network.ranges)}",
        )
    if not usable(network, range_, address):
        raise InvalidError(
            f"address {address} of network {network.key} is never given out: "
            "it is the gateway, reserved, or outside the range",
            f"ask for another of {range_.first}-{range_.last}, or for none",
        )


def being_removed(key: EndpointKey) -> ConflictError:
    """Return the answer to an ADD of what is on its way down."""
    return ConflictError(f"endpoint {key} is being removed", "try again when its DEL has ended")


def elsewhere(key: EndpointKey, namespace: str) -> ConflictError:
    """Return the answer to an ADD of the same key with another namespace."""
    return ConflictError(f"endpoint {key} is attached in {namespace} already", "DEL it first")


def in_use(address: Address, network: str) -> ConflictError:
    """Return the answer to an ADD of an address that this host holds and cannot give."""
    return ConflictError(
        f"address {address} of network {network} is in use or cooling down here",
        "ask for another, or for none",
    )


def journal_lost(host: str) -> UnavailableError:
    """Return the answer to any request while it is not known what this host holds."""
    return UnavailableError(
        f"host {host}: its journal is new or was lost, and no netmaster answered yet",
        "bring a netmaster up; requests are served once it is known what is in use",
    )


def no_intent(host: str) -> UnavailableError:
    """Return the answer to an ADD on a host that has never heard of any network."""
    return UnavailableError(
        f"host {host}: no netmaster has told it of any network yet",
        "check that netmaster and its store run (netctl host ls)",
    )


def no_placement(request: AttachRequest, settings: HostSettings) -> UnavailableError:
    """Return the answer to an ADD of a pod of which netmaster has said nothing in time."""
    return UnavailableError(
        f"pod {pod_of(request.name, request.labels) or request.key}: netmaster has not said within"
        f" {settings.block_timeout:g} s which network it belongs to on host {settings.host}",
        "check that netmaster runs with --kubernetes and that its log shows no trouble with the API;"
        f" the node's name has to be the agent's --host, {settings.host}",
    )


def no_block(network: str, seconds: float) -> FabricError:
    """Return the answer to an ADD that got no address in time."""
    return UnavailableError(
        f"network {network}: no block with a free address here, and no netmaster gave one "
        f"within {seconds:g} s",
        "check that netmaster and its store run (netctl host ls)",
    )
