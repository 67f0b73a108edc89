"""Link messages: veth pairs, what is set on a link, and links as the kernel describes them."""

import struct
from dataclasses import dataclass

from netfabric.agent.datapath.message import (
    AF_INET,
    AF_INET6,
    AF_UNSPEC,
    CREATE,
    EXCLUSIVE,
    RTM_DELLINK,
    RTM_GETLINK,
    RTM_NEWLINK,
    Message,
    attribute,
    attributes,
    integer,
    mac_bytes,
    mac_text,
    nested,
    number,
    text,
)
from netfabric.fabric.kernel import (
    LINK_GROUP,
    LINK_PREFIX,
    OVERLAY_GROUP,
    SHAPER_GROUP,
    VLAN_GROUP,
)

GROUP = LINK_GROUP
GRAVES = range(0x4E470000, 0x4E470100)
"""Groups of links that are detached and wait for removal."""

IFF_UP, IFF_LOOPBACK, IFF_RUNNING, IFF_LOWER_UP = 0x1, 0x8, 0x40, 0x10000
LOOPBACK_INDEX = 1
IPV6_MINIMUM_MTU = 1280

_ADDRESS, _NAME, _MTU, _LINK, _INFO, _ALIAS, _AF_SPEC, _GROUP, _NS_FD = (
    1,
    3,
    4,
    5,
    18,
    20,
    26,
    27,
    28,
)
_MASTER = 10
_QUEUE_LENGTH, _OPERSTATE, _EXT_MASK, _NS_ID, _SKIP_STATS = 13, 16, 29, 37, 8
_OPER_UP = b"\x06"
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_INET_CONF, _INET6_ADDR_GEN_MODE, _ADDR_GEN_NONE = 1, 8, 1
_CONF_FORWARDING, _CONF_PROXY_ARP, _CONF_RP_FILTER, _CONF_SRC_VMARK, _RP_LOOSE = 1, 3, 8, 24, 2
_FIXED = struct.Struct("=BxHiII")


@dataclass(frozen=True, slots=True)
class Link:
    """A link as the kernel describes it."""

    index: int
    name: str
    flags: int
    group: int
    mtu: int
    mac: str
    alias: str
    peer: int
    """The other end's index in its own namespace; 0 without one."""
    master: int = 0
    """The bridge, bond or VRF that it is in; 0 if in none."""
    data: bytes = b""
    """What its kind keeps for itself (IFLA_INFO_DATA), unread."""

    @property
    def up(self) -> bool:
        """Return whether it is administratively up."""
        return bool(self.flags & IFF_UP)

    @property
    def carrying(self) -> bool:
        """Return whether it is up and has a carrier: the kernel keeps nexthops on no other link."""
        return self.up and bool(self.flags & (IFF_RUNNING | IFF_LOWER_UP))

    @property
    def ours(self) -> bool:
        """Return whether it is an endpoint's, by its marks."""
        return self.group == GROUP and self.name.startswith(LINK_PREFIX)

    @property
    def port(self) -> bool:
        """Return whether it is somebody's link that is an endpoint, by its mark."""
        return self.group == GROUP and not self.name.startswith(LINK_PREFIX)

    @property
    def overlay(self) -> bool:
        """Return whether it is a VXLAN device of ours, by its marks."""
        return self.group == OVERLAY_GROUP and self.name.startswith(LINK_PREFIX)

    @property
    def vlan(self) -> bool:
        """Return whether it is a VLAN link of ours, by its marks."""
        return self.group == VLAN_GROUP and self.name.startswith(f"{LINK_PREFIX}q")

    @property
    def shaper(self) -> bool:
        """Return whether an endpoint sends through it to keep its bandwidth."""
        return self.group == SHAPER_GROUP and self.name.startswith(LINK_PREFIX)

    @property
    def buried(self) -> bool:
        """Return whether it was ours and waits for removal."""
        return self.group in GRAVES and self.name.startswith(LINK_PREFIX)


def transmits(body: bytes) -> bool:
    """Return whether a link does not drop what is sent on it: its operational state is up (RFC 2863).

    The kernel says so after its deferred work on a new carrier; until then a link that is up has no queue.
    """
    return attributes(body, _FIXED.size).get(_OPERSTATE) == _OPER_UP


def veth(
    name: str, index: int, mac: str, peer_name: str, peer_mac: str, namespace: int, mtu: int
) -> Message:
    """Return the request for a veth pair, peer index `index + 1`, the peer born in another namespace.

    `namespace` is an open file. Neither end may be up yet: the peer cannot be (ENOTCONN).
    """
    peer = (
        _FIXED.pack(AF_UNSPEC, 0, index + 1, 0, 0)
        + text(_NAME, peer_name)
        + number(_MTU, mtu)
        + attribute(_ADDRESS, mac_bytes(peer_mac))
        + number(_NS_FD, namespace)
    )
    body = (
        _FIXED.pack(AF_UNSPEC, 0, index, 0, 0)
        + text(_NAME, name)
        + number(_MTU, mtu)
        + attribute(_ADDRESS, mac_bytes(mac))
        + number(_GROUP, GROUP)
        + nested(_INFO, text(_INFO_KIND, "veth"), nested(_INFO_DATA, attribute(_VETH_PEER, peer)))
    )
    return Message(RTM_NEWLINK, CREATE | EXCLUSIVE, body)


def create(kind: str, name: str, data: bytes = b"", *more: bytes) -> Message:
    """Return the request for a link of any kind, with its IFLA_INFO_DATA."""
    info = nested(_INFO, text(_INFO_KIND, kind), nested(_INFO_DATA, data))
    body = _FIXED.pack(AF_UNSPEC, 0, 0, 0, 0) + text(_NAME, name) + b"".join(more) + info
    return Message(RTM_NEWLINK, CREATE | EXCLUSIVE, body)


def parent(index: int) -> bytes:
    """Return the attribute that names the link below."""
    return number(_LINK, index)


def change(index: int, *inner: bytes) -> Message:
    """Return the request that changes attributes of a link."""
    return Message(RTM_NEWLINK, 0, _FIXED.pack(AF_UNSPEC, 0, index, 0, 0) + b"".join(inner))


def set_up(index: int) -> Message:
    """Return the request that sets a link up."""
    return Message(RTM_NEWLINK, 0, _FIXED.pack(AF_UNSPEC, 0, index, IFF_UP, IFF_UP))


def set_down(index: int) -> Message:
    """Return the request that sets a link down; its routes and neighbours go."""
    return Message(RTM_NEWLINK, 0, _FIXED.pack(AF_UNSPEC, 0, index, 0, IFF_UP))


def renamed(name: str) -> bytes:
    """Return the attribute that renames."""
    return text(_NAME, name)


def queueing(packets: int) -> bytes:
    """Return the attribute of how many packets a link takes before it asks for a pause."""
    return number(_QUEUE_LENGTH, packets)


def grouped(group: int) -> bytes:
    """Return the attribute that moves a link to a group."""
    return number(_GROUP, group)


def aliased(alias: str) -> bytes:
    """Return the attribute with words about a link, 255 octets at most."""
    return text(_ALIAS, alias)


def shaped(mac: str, mtu: int) -> bytes:
    """Return the attributes of a link's own MAC and MTU."""
    return attribute(_ADDRESS, mac_bytes(mac)) + number(_MTU, mtu)


def quiet(ipv6: bool) -> bytes:
    """Return the attribute that stops a link from giving itself an IPv6 link-local address.

    Without one it neither probes for duplicates nor solicits routers (RFC 4862, section 5.4).
    A link without IPv6 (an MTU under 1280, or a kernel without) refuses the attribute.
    """
    if not ipv6:
        return b""
    mode = attribute(_INET6_ADDR_GEN_MODE, bytes([_ADDR_GEN_NONE]))
    return nested(_AF_SPEC, nested(AF_INET6, mode))


def forwarding(ipv6: bool) -> bytes:
    """Return the attribute for a host's end: quiet, forwarding, reverse path loose and by the packet's mark.

    Loose wins over a strict `all.rp_filter` (the kernel takes the larger): a container with two
    interfaces may answer through the other one.
    """
    conf = nested(
        _INET_CONF,
        number(_CONF_FORWARDING, 1),
        number(_CONF_RP_FILTER, _RP_LOOSE),
        number(_CONF_SRC_VMARK, 1),
    )
    inner = nested(AF_INET, conf)
    if ipv6:
        inner += nested(AF_INET6, attribute(_INET6_ADDR_GEN_MODE, bytes([_ADDR_GEN_NONE])))
    return nested(_AF_SPEC, inner)


def proxying(on: bool) -> bytes:
    """Return the attribute that has a link answer ARP for whatever is routed elsewhere, or not."""
    conf = nested(_INET_CONF, number(_CONF_PROXY_ARP, int(on)))
    return nested(_AF_SPEC, nested(AF_INET, conf))


def delete(index: int) -> Message:
    """Return the request that removes a link. The kernel takes some 16 ms for it."""
    return Message(RTM_DELLINK, 0, _FIXED.pack(AF_UNSPEC, 0, index, 0, 0))


def delete_group(group: int) -> Message:
    """Return the request that removes every link of a group, for little more than one of them."""
    return Message(RTM_DELLINK, 0, _FIXED.pack(AF_UNSPEC, 0, 0, 0, 0) + number(_GROUP, group))


def get(name: str) -> Message:
    """Return the request for one link, by name."""
    body = _FIXED.pack(AF_UNSPEC, 0, 0, 0, 0) + text(_NAME, name) + number(_EXT_MASK, _SKIP_STATS)
    return Message(RTM_GETLINK, 0, body)


def get_index(index: int) -> Message:
    """Return the request for one link, by index."""
    body = _FIXED.pack(AF_UNSPEC, 0, index, 0, 0) + number(_EXT_MASK, _SKIP_STATS)
    return Message(RTM_GETLINK, 0, body)


def get_all() -> Message:
    """Return the dump request for all links."""
    body = _FIXED.pack(AF_UNSPEC, 0, 0, 0, 0) + number(_EXT_MASK, _SKIP_STATS)
    return Message(RTM_GETLINK, 0, body)


def parse(body: bytes) -> Link:
    """Return the link that a message describes."""
    _, _, index, flags, _ = _FIXED.unpack_from(body)
    found = attributes(body, 16)
    return Link(
        index=index,
        name=_string(found.get(_NAME)),
        flags=flags,
        group=integer(found.get(_GROUP)),
        mtu=integer(found.get(_MTU)),
        mac=mac_text(found.get(_ADDRESS, b"")),
        alias=_string(found.get(_ALIAS)),
        peer=integer(found.get(_LINK)),
        data=attributes(found.get(_INFO, b"")).get(_INFO_DATA, b""),
        master=integer(found.get(_MASTER)),
    )


def changed_flags(body: bytes) -> int:
    """Return which flags a notification says have changed; all of them for a new link."""
    return int(_FIXED.unpack_from(body)[4])


def _string(value: bytes | None) -> str:
    return value.rstrip(b"\0").decode(errors="replace") if value else ""
