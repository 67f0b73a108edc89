"""What tenants and networks may be made, changed and removed."""

from typing import cast

from netfabric.fabric.errors import ConflictError, InvalidError, OperatorError
from netfabric.fabric.intent import network_of, true_encap
from netfabric.fabric.prefix import Family
from netfabric.fabric.schema import Object
from netfabric.fabric.subnets import FIELDS
from netfabric.fabric.tags import ALLOC, POOL, Tagged, TagSet, choose, parse_range
from netfabric.fabric.world import Draft, Fields, World

NETWORK_MAY_CHANGE = ("announce", "ready", "reserved")


def require_tenant(draft: Draft, obj: Fields) -> None:
    """Raise InvalidError where the object's tenant does not exist."""
    name = str(obj.get("tenantName") or "")
    if not name:
        raise InvalidError("Invalid tenant name", "name a tenant, such as default")
    if draft.world.get("tenant", name) is None:
        raise InvalidError("Tenant not found", f"create it first: netctl tenant create {name}")


def require_unchanged(old: Fields, new: Fields, may: tuple[str, ...], refusal: str) -> None:
    """Raise ConflictError with the text `refusal` where a field outside `may` differs."""
    for name in sorted({*old, *new}):
        if name not in may and old.get(name) != new.get(name):
            changeable = f"only {', '.join(may)} may change" if may else "nothing may change"
            raise ConflictError(
                refusal, f"{name} differs, and {changeable}: delete it and create it again"
            )


def create_tenant(draft: Draft, new: Object) -> None:
    """A tenant needs nothing."""


def update_tenant(draft: Draft, old: Fields, new: Object) -> None:
    """Only /api/v2 may change a tenant's default network."""
    refusal = "Cant change tenant parameters after its created"
    if draft.dialect == "v1":
        raise ConflictError(refusal, "it exists already")
    require_unchanged(old, new, ("defaultNetwork",), refusal)


_TENANT_HOLDS = (
    ("appProfile", "cannot delete {0}, has {1} app profiles"),
    ("endpointGroup", "cannot delete {0} has {1} endpoint groups"),
    ("policy", "cannot delete {0} has {1} policies"),
    ("netprofile", "Cannot delete {0} has {1} netprofiles"),
    ("network", "cannot delete {0} has {1} networks"),
    ("extContractsGroup", "cannot delete {0} has {1} external contracts groups"),
)


def delete_tenant(draft: Draft, old: Fields) -> None:
    """A tenant must be empty."""
    name = str(old["tenantName"])
    for type_, text in _TENANT_HOLDS:
        if count := len(list(draft.world.within(type_, name))):
            raise ConflictError(text.format(name, count), "delete those first")


def create_network(draft: Draft, new: Object) -> None:
    """Check a new network against its tenant's others, and give it its VLAN or VNI."""
    settings = _settings(draft.world)
    require_tenant(draft, new)
    if draft.dialect == "v1":
        new["encap"] = true_encap(new["encap"], settings["fwdMode"])
    refuse_overlap(draft.world, new)
    if draft.world.get("endpointGroup", new["key"]) is not None:
        raise ConflictError(
            f"EndpointGroup {new['networkName']} conflicts with the network name",
            "choose another name: networks and groups of a tenant share one name space",
        )
    network_of(new)
    if new["encap"] != "routed":
        _give_tag(draft, settings, new)
    elif draft.dialect == "v2" and new.get("pktTag"):
        raise InvalidError("pktTag: a routed network has no tag", "leave pktTag out")


def _settings(world: World) -> Fields:
    settings = world.get("global", "global")
    if settings is None:
        raise ConflictError("global configuration is not ready", "create global first")
    if not settings.get("fwdMode"):
        raise ConflictError(
            "global forwarding mode is not set", "netctl global set --fwd-mode routing"
        )
    return settings


def refuse_overlap(world: World, new: Fields) -> None:
    """Raise ConflictError where a subnet overlaps one of its tenant, or a routed one anywhere."""
    families: tuple[Family, Family] = (6, 4)
    for family in families:
        try:
            found = min(world.index.subnets.overlapping(new, family), default=None)
        except ValueError:  # no subnet at all: reading it as a network will say so
            continue
        if found is not None:
            raise _conflict(world, new, found, family)


def _conflict(world: World, new: Fields, key: str, family: Family) -> OperatorError:
    """Routed networks share the underlay, so the other one may be another tenant's."""
    other = world.get("network", key) or {}
    name = other.get("networkName") if other.get("tenantName") == new["tenantName"] else key
    blanks = "subnetv6 " if family == 6 else "subnet"
    field = FIELDS[family]
    return ConflictError(
        f"network {name} conflicts with {blanks} {new[field]}",
        f"{other.get(field)} is in use by {name}",
    )


def tags_in_use(world: World, encap: Tagged) -> TagSet:
    """Return the tags that networks of an encap have, and those that are allocated all the same."""
    return world.index.tags[POOL[encap]]


def _give_tag(draft: Draft, settings: Fields, new: Object) -> None:
    encap = cast(Tagged, new["encap"])
    allowed = parse_range(settings["vlans" if encap == "vlan" else "vxlans"], encap)
    used = tags_in_use(draft.world, encap)
    new["tag"] = choose(encap, int(new.get("pktTag") or 0), allowed, used)
    draft.claim(f"{ALLOC[encap]}/{new['tag']}", new["key"])


def update_network(draft: Draft, old: Fields, new: Object) -> None:
    """Only /api/v2 may change how a network is announced, and what of it is reserved."""
    refusal = "Cant change network parameters after its created"
    if draft.dialect == "v1":
        raise ConflictError(refusal, "delete it and create it again")
    require_unchanged(old, new, NETWORK_MAY_CHANGE, refusal)
    network_of(new)


_PORTS = "end it first: netctl endpoint ports, netctl endpoint rm"


def delete_network(draft: Draft, old: Fields) -> None:
    """A network must be unused; its tag goes with it."""
    key, name = str(old["key"]), old["networkName"]
    users = draft.world.users
    if groups := users("network", key, "endpointGroup", "networkName"):
        raise ConflictError(
            f"cannot delete {name} has {len(groups)} endpoint groups", "delete those first"
        )
    if services := users("network", key, "serviceLB", "networkName"):
        raise ConflictError(
            f"cannot delete {name} has {len(services)} services ", "delete those first"
        )
    if ports := users("network", key, "port", "networkName"):
        raise ConflictError(f"cannot delete {name} has port {ports[0]}", _PORTS)
    if draft.world.endpoints_of(network=key):
        raise ConflictError(
            "Error: Network has active endpoints", "stop its containers first: netctl endpoint ls"
        )
    draft.release(key)
    if old.get("tag"):
        draft.deletes.append(f"{ALLOC[cast(Tagged, old['encap'])]}/{old['tag']}")
