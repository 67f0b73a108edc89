"""Invariants of networks: tags and subnets given once, and groups, pools and services that fit into them."""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, ip_address
from itertools import combinations
from typing import Any, cast

from netfabric.fabric.errors import InvalidError
from netfabric.fabric.prefix import FAMILIES
from netfabric.fabric.rules_groups import pool_of
from netfabric.fabric.spans import Span, overlaps
from netfabric.fabric.subnets import FIELDS, spaces_of, span_of
from netfabric.fabric.tags import POOL, Tagged, parse_range
from netfabric.fabric.view import View
from netfabric.fabric.violation import Violation

Fields = Mapping[str, Any]
_AGAIN = "delete one of them and create it again"


def check_networks(view: View) -> Iterator[Violation]:
    """Yield what is wrong with networks and with what is made of them."""
    networks = _values(view, "network")
    yield from _check_allocations(view)
    allocated = _allocated(view)
    for encap, kind in POOL.items():
        yield from _check_tags(view, allocated, encap, kind)
    yield from _check_subnets(networks)
    yield from _check_names(view)
    groups, services = _by_network(view, "endpointGroup"), _by_network(view, "serviceLB")
    for key, network in networks.items():
        yield from _check_pools(view, key, groups.get(key, {}))
        yield from _check_services(view, key, network, services.get(key, {}))


def _values(view: View, type_: str) -> dict[str, Fields]:
    return {key: stored.value for key, stored in view.objects.get(type_, {}).items()}


def _by_network(view: View, type_: str) -> dict[str, dict[str, Fields]]:
    """Objects of a type by the networks that they are in."""
    found: dict[str, dict[str, Fields]] = {}
    for key, obj in _values(view, type_).items():
        network = f"{obj.get('tenantName')}:{obj.get('networkName')}"
        found.setdefault(network, {})[key] = obj
    return found


def _allocated(view: View) -> dict[tuple[str, int], str]:
    found = {}
    for name, owner in view.owners.items():
        kind, _, number = name.partition("/")
        if number.isascii() and number.isdecimal():
            found[kind, int(number)] = owner
    return found


def _check_allocations(view: View) -> Iterator[Violation]:
    for name in view.owners:
        kind, _, number = name.partition("/")
        if kind not in POOL.values() or not (number.isascii() and number.isdecimal()):
            yield Violation("tag", f"alloc/{name}", "is of no kind that is known", "delete the key")


def _check_tags(
    view: View, allocated: Mapping[tuple[str, int], str], encap: Tagged, kind: str
) -> Iterator[Violation]:
    """Each network of the encap has a tag of its own, allocated in its name; no other is allocated."""
    having: dict[int, list[str]] = {}
    for key, network in _values(view, "network").items():
        tag = network.get("tag")
        if network.get("encap") != encap:
            continue
        if not isinstance(tag, int) or tag < 1:
            yield Violation("tag", f"network {key}", f"has no {kind}", "delete it, create it again")
        else:
            having.setdefault(tag, []).append(key)
    owners = {tag: owner for (of, tag), owner in allocated.items() if of == kind}
    for tag, keys in having.items():
        if len(keys) > 1:
            yield Violation("tag", f"{kind} {tag}", f"is given to {_listed(keys)}", _AGAIN)
        if tag not in owners:
            said = f"is {keys[0]}'s, and not allocated: another network may be given it"
            yield Violation("tag", f"{kind} {tag}", said, f"put alloc/{kind}/{tag} back")
    for tag, owner in owners.items():
        if owner not in having.get(tag, ()):
            said = f"is allocated to {owner or 'nobody'}, which does not have it"
            yield Violation("tag", f"{kind} {tag}", said, f"delete alloc/{kind}/{tag}")
    yield from _check_range(view, encap, having)


def _check_range(view: View, encap: Tagged, tags: Iterable[int]) -> Iterator[Violation]:
    settings = _values(view, "global").get("global")
    if settings is None:  # they may be deleted
        return
    field = "vlans" if encap == "vlan" else "vxlans"
    try:
        allowed = parse_range(str(settings.get(field)), encap)
    except InvalidError as error:
        yield Violation("settings", "global", f"{field}: {error.what}", error.remedy)
        return
    for tag in tags:
        if tag not in allowed:
            said = f"is in use outside the range {settings[field]} of {field}"
            yield Violation("tag", f"{POOL[encap]} {tag}", said, "widen it: netctl global set")


def _listed(keys: Iterable[str]) -> str:
    return " and ".join(sorted(keys))


def _check_subnets(networks: Mapping[str, Fields]) -> Iterator[Violation]:
    """No overlap in a tenant, nor of routed networks of any tenants."""
    for family in FAMILIES:
        spaces: dict[str, list[tuple[Span, str]]] = {}
        for key, network in networks.items():
            try:
                span = span_of(network, family)
            except ValueError:  # the view said so
                continue
            for space in spaces_of(network) if span else ():
                spaces.setdefault(space, []).append((cast(Span, span), key))
        for spans in spaces.values():
            for one, other in overlaps(spans):
                texts = [f"{key} ({networks[key][FIELDS[family]]})" for key in sorted((one, other))]
                yield Violation(
                    "subnet", f"network {texts[0]}", f"overlaps with {texts[1]}", _AGAIN
                )


def _check_names(view: View) -> Iterator[Violation]:
    for key in _values(view, "network").keys() & _values(view, "endpointGroup").keys():
        said = "is the name of a network and of a group"
        yield Violation("name", key, said, "delete one: they share one name space")


def _check_pools(view: View, key: str, groups: Mapping[str, Fields]) -> Iterator[Violation]:
    """Pools lie in the network's subnet, without its gateway, and apart."""
    read = view.networks.get(key)
    range_ = read.range_of(4) if read else None
    pools: list[tuple[Span, str]] = []
    for name, group in groups.items():
        about = f"endpointGroup {name}"
        try:
            pool = pool_of(group)
        except (InvalidError, ValueError) as error:
            yield Violation("pool", about, str(error), "delete the group, create it again")
            continue
        if pool is None:
            continue
        first, last = pool
        text = f"pool {first}-{last}"
        if range_ is None or first not in range_.subnet or last not in range_.subnet:
            subnet = range_.subnet if range_ else "no IPv4 subnet"
            said = f"{text} is not inside network {key} ({subnet})"
            yield Violation("pool", about, said, "delete the group, create it again")
        elif range_.gateway is not None and first <= cast(IPv4Address, range_.gateway) <= last:
            said = f"{text} has the gateway {range_.gateway} of network {key}"
            yield Violation("pool", about, said, "delete the group, create it again")
        pools.append(((int(first), int(last)), name))
    for one, other in overlaps(pools):
        names = sorted((one, other))
        yield Violation(
            "pool", f"endpointGroup {names[0]}", f"its pool overlaps {names[1]}'s", _AGAIN
        )


def _check_services(
    view: View, key: str, network: Fields, services: Mapping[str, Fields]
) -> Iterator[Violation]:
    """Every service has an address, reserved in its network; no other is reserved, and none twice."""
    vips = {name: str(service.get("vip") or "") for name, service in services.items()}
    for (one, vip), (other, another) in combinations(sorted(vips.items()), 2):
        if vip and vip == another:
            yield Violation("address", vip, f"is that of services {one} and {other}", _AGAIN)
    reserved = [str(vip) for vip in network.get("vips") or ()]
    for name, vip in vips.items():
        if vip not in reserved:
            said = f"its address {vip or '(none)'} is not reserved in network {key}"
            yield Violation("address", f"serviceLB {name}", said, "delete it, create it again")
        elif not _fits(view, key, vip):
            said = f"its address {vip} is not one of network {key}, or its gateway"
            yield Violation("address", f"serviceLB {name}", said, "delete it, create it again")
    for vip in reserved:
        if vip not in vips.values():
            said = f"{vip} is reserved for a service that does not exist"
            yield Violation("address", f"network {key}", said, f"take {vip} out of its vips")


def _fits(view: View, key: str, vip: str) -> bool:
    read = view.networks.get(key)
    range_ = read.range_of(4) if read else None
    return range_ is None or (
        int(range_.first) <= int(ip_address(vip)) <= int(range_.last) and str(range_.gateway) != vip
    )
