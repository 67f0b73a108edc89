"""How packets of overlays are told apart: by their tenant's mark, and in its zone of connection tracking.

A packet passes one look-up a tenant that has an overlay here, and only if it comes in by a link of ours.
"""

from collections.abc import Iterable, Sequence

from netfabric.fabric.prefix import Prefix
from netfabric.fabric.ruleset import (
    Chain,
    Element,
    In,
    NamedSet,
    Rule,
    RulesetObject,
    SetMark,
    rule,
)
from netfabric.fabric.ruleset_base import IPV4, IPV6, MARKING, family_is
from netfabric.fabric.vrf import MARK_MASK, Vrf


def links_of(vrf: Vrf, *, whole: bool = True) -> NamedSet:
    """Return the set of links that belong to a VRF; or of its tenant's routed endpoints."""
    return NamedSet(f"{'vrf' if whole else 'beside'}_{vrf.table}", "links")


def sets_of(vrf: Vrf, subnets: Sequence[Prefix]) -> list[RulesetObject]:
    """Return what a VRF's rules look into: its overlay's subnets, and the sets of links."""
    found: list[RulesetObject] = [links_of(vrf), links_of(vrf, whole=False)]
    for four in (True, False):
        named = _subnets(vrf, four=four)
        found.append(named)
        found += [Element(named.name, p) for p in subnets if (p.version == 4) == four]
    return found


def _subnets(vrf: Vrf, *, four: bool) -> NamedSet:
    return NamedSet(f"overlay{'' if four else 6}_{vrf.table}", "subnet" if four else "subnet6")


def marking(vrfs: Iterable[Vrf]) -> Chain:
    """Return the chain that marks packets, with these tenants' rules."""
    return Chain(MARKING, tuple(r for v in sorted(vrfs, key=lambda v: v.table) for r in _rules(v)))


def _rules(vrf: Vrf) -> list[Rule]:
    verdict = SetMark(vrf.mark, MARK_MASK, vrf.slot)
    beside = In(("iif name",), links_of(vrf, whole=False).name)
    to_four = In(("ip destination",), _subnets(vrf, four=True).name)
    to_six = In(("ip6 destination",), _subnets(vrf, four=False).name)
    return [
        rule(f"vrf {vrf.table}", (In(("iif name",), links_of(vrf).name),), verdict),
        rule(f"beside {vrf.table}", (beside, family_is(IPV4), to_four), verdict),
        rule(f"beside6 {vrf.table}", (beside, family_is(IPV6), to_six), verdict),
    ]
