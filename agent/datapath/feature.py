"""What this kernel can do, found by doing it in an empty namespace of our own."""

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from struct import pack

from netfabric.agent.datapath import link, nexthop
from netfabric.agent.datapath.message import Message, attribute, number
from netfabric.agent.datapath.namespace import in_scratch_namespace
from netfabric.agent.datapath.netlink import Netlink
from netfabric.fabric.errors import KernelError
from netfabric.fabric.kernel import NEXTHOP_BASE

_VXLAN_COLLECT_METADATA, _VLAN_ID, _VRF_TABLE, _BRIDGE_VLAN_FILTERING = 25, 1, 1, 7
_VXLAN_PORT = attribute(15, pack(">H", 4789))
NEEDED = ("nexthop", "veth")


def _nexthop() -> Message:
    return nexthop.put(NEXTHOP_BASE, ip_address("192.0.2.1"), link.LOOPBACK_INDEX)


PROBES: Mapping[str, Callable[[int], Message]] = {
    "veth": lambda below: link.create("veth", "probe1"),
    "nexthop": lambda below: _nexthop(),
    "vxlan": lambda below: link.create(
        "vxlan", "probe2", attribute(_VXLAN_COLLECT_METADATA, b"\1") + _VXLAN_PORT
    ),
    "8021q": lambda below: link.create(
        "vlan", "probe3", attribute(_VLAN_ID, pack("=H", 2)), link.parent(below)
    ),
    "vrf": lambda below: link.create("vrf", "probe4", number(_VRF_TABLE, 100)),
    "bridge": lambda below: link.create("bridge", "probe5"),
    "vlan-filtering": lambda below: link.create(
        "bridge", "probe6", attribute(_BRIDGE_VLAN_FILTERING, b"\1")
    ),
    "dummy": lambda below: link.create("dummy", "probe7"),
    "macvlan": lambda below: link.create("macvlan", "probe8", b"", link.parent(below)),
    "ipvlan": lambda below: link.create("ipvlan", "probe9", b"", link.parent(below)),
    "wireguard": lambda below: link.create("wireguard", "probe10"),
}
"""Each makes a request out of the index of a link to build upon."""


def probe() -> tuple[str, ...]:
    """Return the names of what works, sorted; some 30 ms. Raise KernelError where NEEDED is missing."""
    netlink = in_scratch_namespace(Netlink)
    try:
        found = _probe_all(netlink)
    finally:
        netlink.close()
    for name in NEEDED:
        if name not in found:
            raise KernelError(
                f"this kernel lacks {name}", f"load its module ({name}) or use Linux 5.8 or newer"
            )
    return tuple(sorted(found))


def _probe_all(netlink: Netlink) -> set[str]:
    netlink.send([link.set_up(link.LOOPBACK_INDEX), link.create("veth", "below")])
    below = netlink.ask(link.get("below"))
    index = link.parse(below).index if isinstance(below, bytes) else 0
    return {name for name, make in PROBES.items() if not netlink.send([make(index)])}
