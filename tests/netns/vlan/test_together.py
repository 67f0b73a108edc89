"""Policy on a VLAN; a routed, a vxlan and a vlan network on one host at the same time. Needs nftables."""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest

from netfabric.agent.datapath import feature
from netfabric.fabric.filter import FilterRule, GroupFilter
from netfabric.fabric.network import Network, whole_range
from netfabric.fabric.vlans import FEATURES
from tests.netns.vlan.site import FAR, Site

pytestmark = [pytest.mark.netns, pytest.mark.vlan]

VLAN = Network(
    "red",
    "vlan",
    "vlan",
    (whole_range(ip_network("10.5.0.0/24"), ip_address("10.5.0.254")),),
    tag=100,
)
ROUTED = Network("red", "routed", "routed", (whole_range(ip_network("10.6.0.0/24")),))
VXLAN = Network("red", "vxlan", "vxlan", (whole_range(ip_network("10.7.0.0/24")),), tag=300)
NO_PING = FilterRule("1", "red:quiet", "in", "deny", protocol="icmp")
QUIET = GroupFilter("red:quiet", "allow", (NO_PING,), network=VLAN.key)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    features = feature.probe()
    if "nftables" not in features or not any(name in features for name in FEATURES):
        pytest.skip("this kernel lacks nftables or VLANs")
    with Site((VLAN, ROUTED, VXLAN), (QUIET,)) as made:
        made.svi(VLAN)
        yield made


def test_a_groups_policy_is_in_force_on_the_vlan(site: Site) -> None:
    one, two = site.hosts
    client, server = one.add("p0", VLAN.key), two.add("p1", VLAN.key)
    quiet = two.add("p2", VLAN.key, "quiet")
    assert client.reaches(server.addresses[0])
    assert quiet.reaches(client.addresses[0], FAR[0])  # replies pass
    assert not client.pings(quiet.addresses[0])
    assert not server.pings(quiet.addresses[0])


def test_three_kinds_of_network_on_one_host(site: Site) -> None:
    host, other = site.hosts
    tagged, routed, overlay = (
        host.add(f"k{n}", network.key) for n, network in enumerate((VLAN, ROUTED, VXLAN))
    )
    assert tagged.reaches(other.add("k3", VLAN.key).addresses[0], FAR[0])
    second = host.add("k4", ROUTED.key)
    assert routed.reaches(second.addresses[0])
    assert overlay.reaches(host.add("k5", VXLAN.key).addresses[0])
    # Between the networks of a tenant: an overlay's by the host, routed and VLAN by the VLAN's gateway.
    assert overlay.reaches(routed.addresses[0], tagged.addresses[0])
    assert tagged.reaches(overlay.addresses[0])
    site.tor.run("ip", "route", "add", "10.6.0.0/24", "via", "172.31.0.1")
    assert tagged.reaches(routed.addresses[0])
    assert routed.reaches(tagged.addresses[0])
    assert not host.wrong
    assert not other.wrong
