"""Overlays in the kernel: VXLAN devices, what is behind them, and the rules that lead to tenants' tables."""

from collections.abc import Sequence
from errno import EEXIST, ENODEV, ENOENT, ESRCH
from typing import TypeAlias

from netfabric.agent.datapath import link, neighbour, table_rule, vxlan
from netfabric.agent.datapath.link import Link
from netfabric.agent.datapath.message import (
    RTM_DELLINK,
    RTM_DELNEIGH,
    RTM_DELRULE,
    Message,
)
from netfabric.agent.datapath.netlink import Netlink
from netfabric.fabric.errors import ConflictError, KernelError
from netfabric.fabric.kernel import (
    ForwardingEntry,
    KernelObject,
    Neighbour,
    TableRule,
    VxlanLink,
    key_of,
)
from netfabric.fabric.prefix import FAMILIES

Thing: TypeAlias = VxlanLink | ForwardingEntry | Neighbour | TableRule
_GONE = (ENOENT, ESRCH, ENODEV)
_REMOVALS = (RTM_DELLINK, RTM_DELNEIGH, RTM_DELRULE)


def find(netlink: Netlink, name: str) -> Link | None:
    """Return the host's link of that name."""
    body = netlink.ask(link.get(name))
    return link.parse(body) if isinstance(body, bytes) else None


def put(netlink: Netlink, thing: Thing, ipv6: bool) -> None:
    """Make or replace a thing; raise ConflictError or KernelError."""
    if isinstance(thing, VxlanLink):
        return _put_device(netlink, thing, ipv6)
    if isinstance(thing, TableRule):
        return _put_rule(netlink, thing)
    found = find(netlink, thing.link)
    if found is None or not found.overlay:
        raise KernelError(f"{_words(thing)}: link {thing.link} is gone", "it is being made anew")
    _send(netlink, [_put_entry(found.index, thing)], thing)


def _put_entry(index: int, thing: ForwardingEntry | Neighbour) -> Message:
    if isinstance(thing, Neighbour):
        return neighbour.put(index, thing.address, thing.mac)
    return vxlan.put_entry(index, thing.mac, thing.vtep)


def _put_device(netlink: Netlink, wanted: VxlanLink, ipv6: bool) -> None:
    found = find(netlink, wanted.name)
    if found is not None and not found.overlay:
        raise ConflictError(
            f"vxlan {wanted.name}: that link is not ours", f"ip link delete {wanted.name}"
        )
    if found is not None and not _alike(vxlan.observed(found), wanted):
        _send(netlink, [link.delete(found.index)], wanted)
        found = None
    if found is None:
        _send(netlink, [vxlan.create(wanted)], wanted)
        found = find(netlink, wanted.name)
    if found is None:
        raise KernelError(f"vxlan {wanted.name}: gone as soon as it was made")
    shape = link.change(found.index, vxlan.shape(found, wanted), link.forwarding(ipv6))
    _send(netlink, [shape, link.set_up(found.index)], wanted)


def _alike(found: VxlanLink, wanted: VxlanLink) -> bool:
    """Return whether what cannot be changed is right: the kernel makes a device anew for the rest."""
    return (found.vni, found.local, found.port) == (wanted.vni, wanted.local, wanted.port)


def _put_rule(netlink: Netlink, wanted: TableRule) -> None:
    """A rule of ours with the same priority and other words goes once the new one is there."""
    others = [rule for rule in _rules(netlink, wanted) if rule != wanted]
    refused = netlink.send([table_rule.put(wanted)]).get(0)
    if refused is not None and refused.number != EEXIST:
        raise refused.error(_words(wanted))
    netlink.send([table_rule.remove(rule) for rule in others])


def _rules(netlink: Netlink, like: TableRule) -> list[TableRule]:
    found = map(table_rule.parse, netlink.dump(table_rule.get_all(like.family)))
    return [rule for rule in found if rule is not None and key_of(rule) == key_of(like)]


def remove(netlink: Netlink, thing: Thing) -> None:
    """Remove a thing; what is gone already is success. Raise KernelError."""
    if isinstance(thing, TableRule):
        return _send(netlink, [table_rule.remove(thing)], thing)
    found = find(netlink, thing.name if isinstance(thing, VxlanLink) else thing.link)
    if found is not None and found.overlay:
        _send(netlink, [_removal(found.index, thing)], thing)


def _removal(index: int, thing: VxlanLink | ForwardingEntry | Neighbour) -> Message:
    match thing:
        case VxlanLink():
            return link.delete(index)
        case ForwardingEntry():
            return vxlan.remove_entry(index, thing.mac)
        case Neighbour():
            return neighbour.remove(index, thing.address)


def _send(netlink: Netlink, requests: Sequence[Message], thing: Thing) -> None:
    removing = requests[0].kind in _REMOVALS
    for _, refusal in sorted(netlink.send(requests).items()):
        if not (removing and refusal.number in _GONE):
            raise refusal.error(_words(thing))


def _words(thing: Thing) -> str:
    return " ".join(key_of(thing))


def observe(netlink: Netlink, links: Sequence[Link], ipv6: bool) -> list[KernelObject]:
    """Return everything of overlays that is there, given all links of the host."""
    devices = {found.index: found for found in links if found.overlay}
    things: list[KernelObject] = [vxlan.observed(found) for found in devices.values()]
    if devices:
        names = {index: found.name for index, found in devices.items()}
        entries = (vxlan.parse_entry(b, names) for b in netlink.dump(vxlan.get_entries()))
        things += [entry for entry in entries if entry is not None]
        things += _neighbours(netlink, names)
    for family in FAMILIES if ipv6 else FAMILIES[:1]:
        rules = map(table_rule.parse, netlink.dump(table_rule.get_all(family)))
        things += [rule for rule in rules if rule is not None]
    return things


def _neighbours(netlink: Netlink, names: dict[int, str]) -> list[KernelObject]:
    found = map(neighbour.parse, netlink.dump(neighbour.get_all()))
    return [
        Neighbour(names[one.index], one.address, one.mac)
        for one in found
        if one is not None and one.index in names
    ]
