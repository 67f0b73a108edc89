"""What policies, rules and netprofiles may be made, changed and removed."""

from netfabric.fabric.errors import ConflictError, InvalidError
from netfabric.fabric.rule_reading import (
    WITH_PORTS,
    WITH_TYPES,
    addresses,
    ports_of,
    protocol_of,
)
from netfabric.fabric.rules_tenancy import require_tenant
from netfabric.fabric.schema import Object, in_tenant
from netfabric.fabric.world import Draft, Fields, World


def create_policy(draft: Draft, new: Object) -> None:
    """A policy needs its tenant only."""
    require_tenant(draft, new)


def update_policy(draft: Draft, old: Fields, new: Object) -> None:
    """A policy has nothing that could change."""


def delete_policy(draft: Draft, old: Fields) -> None:
    """A policy must be unused; its rules go with it."""
    if users := draft.world.users("policy", old["key"], "endpointGroup", "policies"):
        raise ConflictError("Policy is being used", f"take it out of {', '.join(users)} first")
    for rule in draft.world.users("policy", old["key"], "rule", "policyName"):
        draft.delete("rule", rule)


_ONE_WAY = {
    "in": (
        ("toNetwork", "toEndpointGroup"),
        "can not specify 'to' parameters in incoming rule",
        ("fromNetwork", "fromIpAddress", "can not specify both from network and from ip address"),
        (
            "fromNetwork",
            "fromEndpointGroup",
            "can not specify both from network and from EndpointGroup",
        ),
    ),
    "out": (
        ("fromNetwork", "fromEndpointGroup"),
        "can not specify 'from' parameters in outgoing rule",
        ("toNetwork", "toIpAddress", "can not specify both to-network and to-ip address"),
        ("toNetwork", "toEndpointGroup", "can not specify both to-network and to-EndpointGroup"),
    ),
}


def create_rule(draft: Draft, new: Object) -> None:
    """Check a rule's direction, and that everything it names exists."""
    wrong, text, *pairs = _ONE_WAY[new["direction"]]
    if any(new.get(field) for field in wrong):
        raise InvalidError(str(text), f"leave {' and '.join(wrong)} out, or turn the direction")
    for one, other, refusal in pairs:
        if new.get(one) and new.get(other):
            raise InvalidError(refusal, f"give {one} or {other}")
    _check_matches(new)
    _require_named(draft.world, new)
    if new["direction"] == "in" and new.get("toIpAddress"):
        _check_target(draft.world, new)


def _check_matches(new: Fields) -> None:
    """Addresses, protocol, ports and ICMP types must be such as can be; raise InvalidError."""
    for side in ("fromIpAddress", "toIpAddress"):
        if new.get(side):
            addresses(new[side])
    protocol = protocol_of(new)
    for field, known in (("ports", WITH_PORTS), ("icmpTypes", WITH_TYPES)):
        if new.get(field) and protocol not in known:
            raise InvalidError(
                f"{field} without a protocol that has them",
                f"set protocol to one of {', '.join(known)}",
            )
    if new.get("ports") and new.get("port"):
        raise InvalidError("can not specify both port and ports", "put the port among the ports")
    ports_of(new)


_NAMES = (
    ("endpointGroup", "fromEndpointGroup", "endpoint group not found"),
    ("endpointGroup", "toEndpointGroup", "endpoint group not found"),
    ("network", "fromNetwork", "from Network not found"),
    ("network", "toNetwork", "to Network not found"),
    ("policy", "policyName", "Policy not found"),
)


def _require_named(world: World, new: Fields) -> None:
    for type_, field, refusal in _NAMES:
        name = new.get(field)
        if name and world.get(type_, in_tenant(new, name)) is None:
            where = "" if ":" in name else ", in the same tenant"
            raise InvalidError(refusal, f"{field} {name}: create it first{where}")


def _check_target(world: World, new: Fields) -> None:
    """An incoming rule for one address: that of an endpoint of the policy's only group."""
    policy = f"{new['tenantName']}:{new['policyName']}"
    groups = world.users("policy", policy, "endpointGroup", "policies")
    if len(groups) != 1:
        raise ConflictError(
            f"failed to configure IP, {len(groups)} endpoint groups linked to policy"
            f" {new['policyName']} ",
            "toIpAddress in an incoming rule needs a policy that exactly one group uses",
        )
    addresses = {str(a) for e in world.endpoints_of(group=groups[0]) for a in e.addresses}
    if new["toIpAddress"].partition("/")[0] not in addresses:
        raise ConflictError(
            f"failed to configure IP, ip address is not in epg {groups[0].partition(':')[2]}",
            "give the address of one of the group's endpoints",
        )


def update_rule(draft: Draft, old: Fields, new: Object) -> None:
    """Only /api/v2 may change a rule."""
    if draft.dialect == "v1":
        raise ConflictError(
            "can not update a rule after its created", "delete it and create it again"
        )
    create_rule(draft, new)


def delete_rule(draft: Draft, old: Fields) -> None:
    """A rule may always go."""


def create_netprofile(draft: Draft, new: Object) -> None:
    """Check a profile's tenant and burst size."""
    require_tenant(draft, new)
    _check_burst(new, "Invalid Burst size. burst size > 1500 bytes")


def update_netprofile(draft: Draft, old: Fields, new: Object) -> None:
    """Everything of a profile may change."""
    _check_burst(new, "Invalid Burst size. burst size must be > 1500 bytes")


def _check_burst(new: Fields, refusal: str) -> None:
    if new.get("burst") == 1:
        raise InvalidError(refusal, "burst is in kilobytes: choose 2 or more, or 0 for none")


def delete_netprofile(draft: Draft, old: Fields) -> None:
    """A profile must be unused."""
    if users := draft.world.users("netprofile", old["key"], "endpointGroup", "netProfile"):
        raise ConflictError("NetProfile is being used", f"take it out of {', '.join(users)} first")
