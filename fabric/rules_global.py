"""What settings of the whole fabric may be."""

from typing import cast

from netfabric.fabric.errors import ConflictError
from netfabric.fabric.rules_tenancy import tags_in_use
from netfabric.fabric.schema import Object
from netfabric.fabric.tags import Tagged, parse_range, runs
from netfabric.fabric.world import Draft, Fields, World

DEFAULTS: Fields = {
    "key": "global",
    "name": "global",
    "arpMode": "proxy",
    "fwdMode": "routing",
    "networkInfraType": "default",
    "pvtSubnet": "172.19.0.0/16",
    "vlans": "1-4094",
    "vxlans": "1-10000",
}
_RANGES = (("vlans", "vlan"), ("vxlans", "vxlan"))
_KEPT = ("arpMode", "fwdMode", "networkInfraType")


def create_global(draft: Draft, new: Object) -> None:
    """Check the ranges."""
    for field, encap in _RANGES:
        parse_range(new[field], cast(Tagged, encap))


def _existing(world: World) -> str:
    """Say how many networks there are, in Contiv's words; "" for none."""
    encaps = [network["encap"] for network in world.all("network")]
    vxlans = encaps.count("vxlan")
    counted = ((len(encaps) - vxlans, "vlans"), (vxlans, "vxlans"))
    return " and ".join(f"{count} {name}" for count, name in counted if count)


def update_global(draft: Draft, old: Fields, new: Object) -> None:
    """Modes stay while networks exist; ranges must keep covering what is in use."""
    for field in _KEPT:
        if not new.get(field) and old.get(field):
            new[field] = old[field]
    existing = _existing(draft.world)
    if new.get("fwdMode") != old.get("fwdMode"):
        if existing:
            raise ConflictError(
                f"Unable to update forwarding mode due to existing {existing}",
                "delete the networks first",
            )
        if old.get("fwdMode") == "routing" and any(True for _ in draft.world.all("Bgp")):
            raise ConflictError("please delete existing Bgp configs", "netctl bgp ls names them")
    if new.get("pvtSubnet") != old.get("pvtSubnet") and existing:
        raise ConflictError(
            f"Unable to update private subnet due to existing {existing}",
            "delete the networks first",
        )
    for field, name in _RANGES:
        encap = cast(Tagged, name)
        allowed = parse_range(new[field], encap)
        lost = [tag for tag in tags_in_use(draft.world, encap) if tag not in allowed]
        if lost:
            raise ConflictError(
                f"cannot update the {encap} range due to existing {field} {runs(lost)}",
                "keep those in the range",
            )


def delete_global(draft: Draft, old: Fields) -> None:
    """The settings may go, as in Contiv: no network can be made until they are back."""
