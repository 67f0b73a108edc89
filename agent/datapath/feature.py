"""What this kernel can do, found by doing it in an empty namespace of our own."""

from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network
from struct import pack

from netfabric.agent.datapath import link, nexthop, vlan_bpf
from netfabric.agent.datapath.message import Message, attribute, number
from netfabric.agent.datapath.namespace import in_scratch_namespace
from netfabric.agent.datapath.netlink import Netlink
from netfabric.agent.datapath.nftables import Nftables
from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.errors import KernelError
from netfabric.fabric.filter import FilterRule, GroupFilter, PeerMatch, PortRange
from netfabric.fabric.kernel import NEXTHOP_BASE, VlanLink
from netfabric.fabric.ruleset_desired import DesiredRuleset
from netfabric.fabric.ruleset_plan import transaction

_VXLAN_COLLECT_METADATA, _VLAN_ID, _VRF_TABLE, _BRIDGE_VLAN_FILTERING = 25, 1, 1, 7
_VXLAN_PORT = attribute(15, pack(">H", 4789))
NEEDED = ("nexthop", "veth")
NFTABLES = "nftables"

_PROBED = Endpoint(
    key=EndpointKey("probe", "eth0"),
    host="",
    tenant="probe",
    network="probe",
    group="probe",
    namespace="",
    link="nfprobe",
    mac="02:00:00:00:00:01",
    addresses=(ip_address("192.0.2.1"), ip_address("2001:db8::1")),
)


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
    if _probe_nftables():
        found.add(NFTABLES)
    for name in NEEDED:
        if name not in found:
            raise KernelError(
                f"this kernel lacks {name}", f"load its module ({name}) or use Linux 5.8 or newer"
            )
    return tuple(sorted(found))


def _probe_nftables() -> bool:
    """Return whether a table like ours can be made: every kind of set, chain, match and verdict."""
    try:
        nftables = in_scratch_namespace(Nftables)
    except KernelError:
        return False
    rule = FilterRule(
        "probe",
        "probe:probe",
        "in",
        "deny",
        protocol="tcp",
        ports=(PortRange(1, 2), PortRange(4, 5)),
        peer=PeerMatch(without=(ip_network("192.0.2.0/25"),)),
    )
    desired = DesiredRuleset()
    desired.set_filters({"probe:probe": GroupFilter("probe:probe", "deny", (rule,))})
    desired.put_endpoint(_PROBED)
    try:
        nftables.apply(transaction(desired.objects, {}))
    except KernelError:
        return False
    finally:
        nftables.close()
    return True


def _probe_all(netlink: Netlink) -> set[str]:
    netlink.send([link.set_up(link.LOOPBACK_INDEX), link.create("veth", "below")])
    below = netlink.ask(link.get("below"))
    index = link.parse(below).index if isinstance(below, bytes) else 0
    found = {name for name, make in PROBES.items() if not netlink.send([make(index)])}
    if "8021q" not in found and _probe_vlan_bpf(netlink):
        found.add("vlan-bpf")
    return found


def _probe_vlan_bpf(netlink: Netlink) -> bool:
    """Return whether tags can be pushed and popped by programs."""
    wanted = VlanLink("nfqprobe", "below", 2)
    body = netlink.ask(link.get(wanted.parent))
    try:
        if isinstance(body, bytes):
            vlan_bpf.create(netlink, wanted, link.parse(body))
            vlan_bpf.join(netlink, wanted, link.parse(body))
    except KernelError:
        return False
    return isinstance(body, bytes)
