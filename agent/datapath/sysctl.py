"""What a host's kernel must be set to, and what it can do."""

import errno
import struct
from pathlib import Path

from netfabric.agent.datapath import message as nl
from netfabric.agent.datapath.netlink import Netlink
from netfabric.fabric.errors import KernelError

WANTED = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    # a notification for every route under a changed nexthop: 62 ms for 100,000 of them
    "net/ipv4/nexthop_compat_mode": "0",
    # flows, not pairs of hosts, are spread over the ToRs
    "net/ipv4/fib_multipath_hash_policy": "1",
    "net/ipv6/fib_multipath_hash_policy": "1",
}
_KINDS = {"vxlan": "vxlan", "8021q": "vlan", "vrf": "vrf", "bridge": "bridge"}


def prepare() -> tuple[str, ...]:
    """Set what forwarding needs in the calling thread's namespace; return what was changed."""
    changed = []
    for name, value in WANTED.items():
        path = Path("/proc/sys") / name
        if not path.exists():
            if "nexthop" in name:
                raise KernelError("this kernel lacks nexthop objects", "use Linux 5.3 or newer")
            continue
        if (before := path.read_text().strip()) != value:
            _write(path, value)
            changed.append(f"{name.replace('/', '.')}: {before} -> {value}")
    return tuple(changed)


def _write(path: Path, value: str) -> None:
    try:
        path.write_text(value)
    except OSError as error:
        raise KernelError(
            f"{path}: {error.strerror}", "run netplugin as root, with /proc/sys writable"
        ) from None


def probe(netlink: Netlink) -> tuple[str, ...]:
    """Return the features present, found by asking for a link that cannot be made.

    An unknown kind is refused as "operation not supported" before its missing settings are.
    """
    found = ["nexthop"] if Path("/proc/sys/net/ipv4/nexthop_compat_mode").exists() else []
    for feature, kind in _KINDS.items():
        info = nl.nested(nl.IFLA_LINKINFO, nl.text(nl.IFLA_INFO_KIND, kind))
        name = nl.text(nl.IFLA_IFNAME, "an/invalid/name")
        body = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + name + info
        request = nl.Message(nl.RTM_NEWLINK, nl.CREATE | nl.EXCLUSIVE, body)
        refusal = netlink.send([request]).get(0, (0, ""))[0]
        if refusal != errno.EOPNOTSUPP:
            found.append(feature)
    return tuple(found)
