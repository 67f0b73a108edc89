"""The host's own addresses, as next hops and sessions need them."""

from netfabric.agent.datapath import address, link
from netfabric.agent.datapath.netlink import Netlink
from netfabric.fabric.kernel import Uplink
from netfabric.fabric.prefix import Address


def uplinks(netlink: Netlink) -> tuple[Uplink, ...]:
    """Return every address on links that are up, not ours and no loopback; IPv4 first in each link.

    fe80::/10 is left out: it is on every link, so it says nothing of where a next hop is.
    """
    usable = {
        found.index: found
        for found in map(link.parse, netlink.dump(link.get_all()))
        if found.carrying
        and not found.flags & link.IFF_LOOPBACK
        and not found.ours
        and not found.port
        and not found.vlan
        and not found.buried
    }
    addresses = map(address.parse, netlink.dump(address.get_all()))
    return tuple(
        sorted(
            (
                Uplink(usable[a.index].name, a.address, a.subnet, usable[a.index].mtu)
                for a in addresses
                if a.index in usable and not a.failed and not _everywhere(a.address)
            ),
            key=lambda uplink: (uplink.link, uplink.address.version, int(uplink.address)),
        )
    )


def _everywhere(value: Address) -> bool:
    return value.version == 6 and value.is_link_local
