"""VLANs with real agents: intent by REST, containers by CNI, one trunk between two hosts of a lab."""

import os
from collections.abc import Iterator

import pytest

from netfabric.agent.datapath import feature
from netfabric.fabric.vlans import FEATURES
from netfabric.lab.errors import LabError
from netfabric.lab.kernel_watch import KernelWatch
from netfabric.lab.lab import DEFAULT_NETWORK, Lab
from netfabric.lab.namespace import wire
from netfabric.lab.settings import Settings
from netfabric.lab.traffic import Stream
from tests.netns.vlan.site import TRUNK, Tags, wait, wait_until

pytestmark = [pytest.mark.netns, pytest.mark.vlan]
TAG = 100


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    features = feature.probe()
    if "nftables" not in features or not any(name in features for name in FEATURES):
        pytest.skip("this kernel lacks nftables or VLANs")
    settings = Settings(
        name=f"nfvl{os.getpid() % 100000:05d}",
        racks=1,
        tors=1,
        spines=1,
        containers=0,
        store="sqlite",
        vteps="ipv4",
    )
    with Lab(settings) as made:
        one, two = (made.namespace(host) for host in made.machines)
        wire((one, TRUNK), (two, TRUNK))
        for encap, subnet, tag in (("vlan", "10.5.0.0/24", TAG), ("vxlan", "10.7.0.0/24", 0)):
            body: dict[str, object] = {
                "tenantName": "default",
                "networkName": encap,
                "encap": encap,
            }
            body |= {"subnet": subnet, "pktTag": tag}
            key = f"default:{encap}"
            made.controller.ask(lambda master, k=key, b=body: master.put("networks", k, b))  # type: ignore[misc]
        yield made


def test_a_host_without_a_trunk_says_so(lab: Lab) -> None:
    with pytest.raises(LabError, match="--vlan-uplink"):
        lab.attach("host1", "early", "default:vlan")


def test_vlan_routed_and_vxlan_on_the_same_hosts(lab: Lab) -> None:
    for host, machine in lab.machines.items():
        machine.more["vlan_uplink"] = TRUNK
        lab.kill(host, "netplugin")
        lab.restart(host, "netplugin")
    tagged = [lab.attach(host, "tagged", "default:vlan") for host in lab.machines]
    for network in (DEFAULT_NETWORK, "default:vxlan"):
        name = network.partition(":")[2]
        made = [lab.attach(host, name, network) for host in lab.machines]
        assert wait(lambda made=made: None not in lab.ping(made, made).values(), 10.0)  # type: ignore[misc]
    # Across hosts, the VLAN's and the overlay's endpoints reach each other by the overlay.
    assert wait(lambda: None not in lab.ping(made, tagged).values(), 10.0)
    assert None not in lab.ping(tagged, made).values()
    with Tags(lab.namespace("host2"), TRUNK) as tags:
        assert None not in lab.ping(tagged, tagged).values()
        address = str(tagged[0].addresses[0])
        wait_until(lambda: tags.of(address) == {TAG}, "tagged frames")


def test_a_restart_loses_no_packet_and_changes_nothing(lab: Lab) -> None:
    one, two = lab.container("host1/tagged"), lab.container("host2/tagged")
    stream = Stream(one.namespace, two.addresses[0])
    with KernelWatch(lab.namespace("host1")) as watch, stream:
        stream.wait(10)
        lab.kill("host1", "netplugin")
        stream.wait(20)
        lab.restart("host1", "netplugin")
        stream.wait(50)
    assert stream.lost() == []
    ours = [c for c in watch.changes if c.link and (c.link.ours or c.link.vlan)]
    assert ours == []
