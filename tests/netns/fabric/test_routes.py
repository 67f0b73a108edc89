"""What the switches know of a container, from ADD to DEL, read by their own command lines."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address

import pytest

from netfabric.fabric.prefix import Address, Prefix, host_prefix
from netfabric.lab.container import Container
from netfabric.lab.kernel_watch import KernelWatch
from netfabric.lab.lab import Lab
from netfabric.lab.namespace import Namespace

pytestmark = pytest.mark.netns


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """Two racks of one host, three ToRs a rack: an FRR, a BIRD and a GoBGP in each."""
    return make_lab(racks=2, hosts=1, tors=3, spines=1, tor="mixed", containers=1)


@pytest.fixture
def container(lab: Lab) -> Iterator[Container]:
    attached = lab.attach("host1", "subject")
    try:
        lab.wait_for_routes([attached])
        yield attached
    finally:
        if any(c.title == attached.title for c in lab.containers()):
            lab.detach("host1", "subject")


def test_every_kind_of_switch_is_there(lab: Lab) -> None:
    assert {node.kind for node in lab.plan.tors} == {"frr", "bird", "gobgp"}


def test_all_containers_reach_each_other_over_both_families(lab: Lab, container: Container) -> None:
    matrix = lab.ping()
    assert len(matrix) == 2 * 3 * 2
    assert [pair for pair, trip in matrix.items() if trip is None] == []


def test_its_own_tors_have_the_host_as_next_hop(lab: Lab, container: Container) -> None:
    """In the RIB beside longer ways round, in the FIB alone."""
    for own, tor in lab.plan.peerings("host1"):
        rib = lab.switch(tor.node).rib()
        for address in container.addresses:
            end = own.v4 if address.version == 4 else own.v6
            assert end is not None
            assert end.ip in rib[host_prefix(address)], f"{tor.node}: {address}"
            assert _forwarded_to(lab, tor.node, address) == end.ip, f"{tor.node}: {address}"


def _forwarded_to(lab: Lab, node: str, address: Address) -> Address:
    """Return where a node's kernel sends packets for an address."""
    shown = json.loads(lab.namespace(node).run("ip", "-json", "route", "get", str(address)))
    return ip_address(shown[0]["gateway"])


def test_spine_and_far_tors_have_a_next_hop_towards_its_rack(
    lab: Lab, container: Container
) -> None:
    ends = {
        end.ip: other.node
        for node in lab.plan.nodes
        for _, other in lab.plan.peerings(node.name)
        for end in other.addresses
    }
    for node in lab.plan.switches:
        if node.rack == 1:
            continue
        rib = lab.switch(node.name).rib()
        for address in container.addresses:
            via = {ends[hop] for hop in rib[host_prefix(address)]}
            nearer = {"tor1a", "tor1b", "tor1c"} if node.role == "spine" else {"spine1"}
            assert via <= nearer and via, f"{node.name}: {address} via {via}"


def test_after_del_the_route_is_gone_everywhere_before_the_datapath(
    lab: Lab, container: Container
) -> None:
    """Times are the kernels' own notifications: the last FIB that loses the route, and the link going down."""
    prefixes: list[Prefix] = [host_prefix(a) for a in container.addresses]
    with ExitStack() as stack:
        host = stack.enter_context(KernelWatch(lab.namespace("host1")))
        switches = {
            node.name: stack.enter_context(KernelWatch(Namespace(node.namespace)))
            for node in lab.plan.switches
        }
        lab.detach("host1", "subject")
        lab.wait_for_routes([container], present=False)
        withdrawn = {
            (name, prefix): watch.wait(prefix, gone=True)
            for name, watch in switches.items()
            for prefix in prefixes
        }
        broken = min(host.wait(prefix, gone=True) for prefix in prefixes)
    late = {where: round(when - broken, 3) for where, when in withdrawn.items() if when > broken}
    assert late == {}


def test_a_container_never_seen_is_deleted_without_complaint(lab: Lab) -> None:
    attached = lab.attach("host1", "twice")
    engine = lab.machine("host1").engine
    kept = engine.cache / "twice.json"
    text = kept.read_text()
    engine.delete("twice")
    kept.write_text(text)
    engine.delete("twice")
    attached.namespace.delete()
