"""Decides what a request to create, change or remove an object writes, or why it is refused."""

from collections.abc import Callable
from typing import NamedTuple

from netfabric.fabric import (
    rules_global,
    rules_groups,
    rules_policy,
    rules_ports,
    rules_routing,
    rules_services,
    rules_tenancy,
)
from netfabric.fabric.errors import InvalidError, NotFoundError
from netfabric.fabric.schema import Dialect, Kind, Object
from netfabric.fabric.world import Draft, Fields, World, Write


class Rules(NamedTuple):
    """The rules of one type; each raises an OperatorError, or adds to the draft what else changes."""

    create: Callable[[Draft, Object], None]
    update: Callable[[Draft, Fields, Object], None]
    delete: Callable[[Draft, Fields], None]


RULES = {
    "tenant": Rules(
        rules_tenancy.create_tenant, rules_tenancy.update_tenant, rules_tenancy.delete_tenant
    ),
    "network": Rules(
        rules_tenancy.create_network, rules_tenancy.update_network, rules_tenancy.delete_network
    ),
    "endpointGroup": Rules(
        rules_groups.create_group, rules_groups.update_group, rules_groups.delete_group
    ),
    "policy": Rules(
        rules_policy.create_policy, rules_policy.update_policy, rules_policy.delete_policy
    ),
    "rule": Rules(rules_policy.create_rule, rules_policy.update_rule, rules_policy.delete_rule),
    "netprofile": Rules(
        rules_policy.create_netprofile,
        rules_policy.update_netprofile,
        rules_policy.delete_netprofile,
    ),
    "global": Rules(
        rules_global.create_global, rules_global.update_global, rules_global.delete_global
    ),
    "Bgp": Rules(rules_routing.create_bgp, rules_routing.update_bgp, rules_routing.delete_bgp),
    "peer": Rules(rules_routing.create_peer, rules_routing.update_peer, rules_routing.delete_peer),
    "port": Rules(rules_ports.create_port, rules_ports.update_port, rules_ports.delete_port),
    "serviceLB": Rules(
        rules_services.create_service,
        rules_services.update_service,
        rules_services.delete_service,
    ),
    "extContractsGroup": Rules(
        rules_services.create_contracts,
        rules_services.update_contracts,
        rules_services.delete_contracts,
    ),
    "appProfile": Rules(
        rules_services.create_profile,
        rules_services.update_profile,
        rules_services.delete_profile,
    ),
    "aciGw": Rules(
        rules_services.create_aci_gw, rules_services.update_aci_gw, rules_services.delete_aci_gw
    ),
}


def rules_of(kind: Kind) -> Rules:
    """Return the rules of a kind; raise InvalidError for one that nobody may write."""
    found = RULES.get(kind.type)
    if found is None:
        raise InvalidError("Invalid object type", f"{kind.type} objects cannot be written")
    return found


def decide_put(world: World, kind: Kind, new: Object, dialect: Dialect) -> Write:
    """Return the write that creates or updates a validated object; `new` is completed in place.

    Fields that the dialect does not show are kept from the object as it is.
    Raises OperatorError; nothing is written where the object is as asked for already (`/api/v2`).
    """
    rules = rules_of(kind)
    draft = Draft(world, dialect)
    old = world.get(kind.type, new["key"])
    if old is None:
        rules.create(draft, new)
    else:
        shown = {field.name for field in kind.fields_of(dialect)}
        new.update({name: value for name, value in old.items() if name not in {*shown, "key"}})
        if dialect == "v2" and new == old:
            return draft.done()
        rules.update(draft, old, new)
    draft.put(kind.type, new)
    return draft.done()


def decide_delete(world: World, kind: Kind, key: str, dialect: Dialect) -> Write:
    """Return the write that removes an object; raise NotFoundError or another OperatorError."""
    rules = rules_of(kind)
    old = world.get(kind.type, key)
    if old is None:
        raise not_found(kind, key)
    draft = Draft(world, dialect)
    rules.delete(draft, old)
    draft.delete(kind.type, key)
    return draft.done()


def not_found(kind: Kind, key: str) -> NotFoundError:
    """Return the error for an object that does not exist, with Contiv's text."""
    return NotFoundError(f"{kind.type} not found", f"there is no {key}")
