"""VLAN links in the kernel (IEEE 802.1Q), and the neighbours for whom they answer."""

import struct
from collections.abc import Sequence
from errno import ENODEV, ENOENT, EOPNOTSUPP, ESRCH

from netfabric.agent.datapath import (
    address,
    container,
    gratuitous,
    host_end,
    link,
    neighbour,
    sysctl,
    vlan_bpf,
)
from netfabric.agent.datapath.link import Link
from netfabric.agent.datapath.message import Message, attribute, attributes
from netfabric.agent.datapath.netlink import Netlink
from netfabric.fabric.errors import ConflictError, KernelError
from netfabric.fabric.kernel import VLAN_GROUP, KernelObject, ProxyNeighbour, VlanLink, key_of

_ID = 1
_GONE = (ENOENT, ESRCH, ENODEV)


def create(wanted: VlanLink, below: int) -> Message:
    """Return the request for a link with a tag, given the trunk's index; MAC and MTU are the trunk's."""
    tag = attribute(_ID, struct.pack("=H", wanted.tag))
    return link.create("vlan", wanted.name, tag, link.parent(below), link.grouped(VLAN_GROUP))


def observed(netlink: Netlink, found: Link, links: dict[int, Link]) -> VlanLink:
    """Return the link that is really there; one that is down has no tag."""
    if not found.data:
        return vlan_bpf.observed(netlink, found, links)
    parent = links[found.peer].name if found.peer in links else ""
    raw = attributes(found.data).get(_ID, b"\0\0")
    return VlanLink(found.name, parent, struct.unpack("=H", raw)[0] if found.up else 0)


def put(netlink: Netlink, thing: VlanLink | ProxyNeighbour) -> None:
    """Make or replace a thing, in the host's namespace; raise ConflictError or KernelError."""
    if isinstance(thing, VlanLink):
        return _put_link(netlink, thing)
    found = _find(netlink, thing.link)
    _send(netlink, [neighbour.put_proxy(found.index, thing.address)], thing)
    gratuitous.announce(found.name, found.mac, thing.address)


def _find(netlink: Netlink, name: str) -> Link:
    found = container.find(netlink, name)
    if found is None or not found.vlan:
        raise KernelError(f"vlan {name}: the link is gone", "it is being made anew")
    return found


def _put_link(netlink: Netlink, wanted: VlanLink) -> None:
    below = container.find(netlink, wanted.parent)
    if below is None:
        raise KernelError(
            f"vlan {wanted.name}: there is no link {wanted.parent} to carry it",
            "name the trunk's link with netplugin --vlan-uplink",
        )
    found = container.find(netlink, wanted.name)
    if found is not None and not found.vlan:
        raise ConflictError(
            f"vlan {wanted.name}: that link is not ours", f"ip link delete {wanted.name}"
        )
    if found is not None and not _alike(found, wanted, below):
        _send(netlink, [link.delete(found.index)], wanted)
        found = None
    if found is None:
        _create(netlink, wanted, below)
    found = _find(netlink, wanted.name)
    prepare(wanted.name)
    if not found.data:
        vlan_bpf.join(netlink, wanted, below)
    if _loosened(wanted.name):
        _send(netlink, [address.put_gateway(found.index, host_end.GATEWAYS[0])], wanted)
    _send(netlink, [link.set_up(found.index)], wanted)


def _alike(found: Link, wanted: VlanLink, below: Link) -> bool:
    """Return whether what cannot be changed is right."""
    if not found.data:
        return (found.mac, found.mtu) == (below.mac, below.mtu)
    raw = attributes(found.data).get(_ID, b"\0\0")
    return found.peer == below.index and struct.unpack("=H", raw)[0] == wanted.tag


def _create(netlink: Netlink, wanted: VlanLink, below: Link) -> None:
    refusal = netlink.send([create(wanted, below.index)]).get(0)
    if refusal is None:
        return
    if refusal.number != EOPNOTSUPP:
        raise refusal.error(f"vlan {wanted.name}")
    vlan_bpf.create(netlink, wanted, below)


def prepare(name: str) -> None:
    """Have a link forward, and answer at once for its proxied neighbours alone.

    The reverse path is not checked: ARP knows no mark, so that its sender is looked for in the main table.
    """
    sysctl.put(f"net/ipv4/conf/{name}/forwarding", "1")
    sysctl.put(f"net/ipv4/conf/{name}/rp_filter", "0")
    sysctl.put(f"net/ipv4/conf/{name}/send_redirects", "0")
    sysctl.put(f"net/ipv4/neigh/{name}/proxy_delay", "0")
    if not sysctl.has_ipv6():
        return
    for setting, value in (
        ("forwarding", 1),
        ("accept_ra", 0),
        ("accept_dad", 0),
        ("proxy_ndp", 1),
    ):
        sysctl.put(f"net/ipv6/conf/{name}/{setting}", str(value))
    sysctl.put(f"net/ipv6/neigh/{name}/proxy_delay", "0")


def _loosened(name: str) -> bool:
    """Where the host checks the reverse path of all links, make the check pass; return whether it does.

    The kernel takes the larger of all's setting and the link's. Packets are then looked for by their mark, and
    loose lets ARP pass whose sender the main table has, but only on a link with an address: it gets one that
    nothing is sent from, and that ARP does not answer for.
    """
    if sysctl.get("net/ipv4/conf/all/rp_filter") == "0":
        return False
    sysctl.put(f"net/ipv4/conf/{name}/rp_filter", "2")
    sysctl.put(f"net/ipv4/conf/{name}/src_valid_mark", "1")
    sysctl.put(f"net/ipv4/conf/{name}/arp_ignore", "3")
    return True


def remove(netlink: Netlink, thing: VlanLink | ProxyNeighbour) -> None:
    """Remove a thing; what is gone already is success. Raise KernelError."""
    found = container.find(netlink, thing.name if isinstance(thing, VlanLink) else thing.link)
    if isinstance(thing, VlanLink) and not (found and found.data):
        vlan_bpf.part(netlink, thing)
    if found is None or not found.vlan:
        return
    if isinstance(thing, VlanLink):
        request = link.delete(found.index)
    else:
        request = neighbour.remove_proxy(found.index, thing.address)
    for refusal in netlink.send([request]).values():
        if refusal.number not in _GONE:
            raise refusal.error(" ".join(key_of(thing)))


def _send(netlink: Netlink, requests: Sequence[Message], thing: VlanLink | ProxyNeighbour) -> None:
    for _, refusal in sorted(netlink.send(requests).items()):
        raise refusal.error(" ".join(key_of(thing)))


def observe(netlink: Netlink, links: Sequence[Link]) -> list[KernelObject]:
    """Return every VLAN link of ours and the neighbours that it answers for, given all links of the host."""
    every = {found.index: found for found in links}
    ours = {found.index: found for found in links if found.vlan}
    things: list[KernelObject] = [observed(netlink, f, every) for f in ours.values()]
    if ours:
        found = map(neighbour.parse_proxy, netlink.dump(neighbour.get_proxies()))
        things += [ProxyNeighbour(ours[p[0]].name, p[1]) for p in found if p and p[0] in ours]
    return things
