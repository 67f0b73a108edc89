"""A lab's topology: names, AS numbers, addresses; nothing is made here."""

from collections import Counter

import pytest

from netfabric.fabric.errors import InvalidError, NotFoundError
from netfabric.lab.plan import Plan, namespace_prefix, plan
from netfabric.lab.settings import Settings

LARGE = Settings(racks=64, hosts=8, tors=8, spines=8)


@pytest.fixture(params=[Settings(), Settings(racks=1, hosts=1, tors=1, containers=0), LARGE])
def topology(request: pytest.FixtureRequest) -> Plan:
    return plan(request.param)


def test_the_default_is_two_racks_dual_homed() -> None:
    made = plan(Settings())
    assert [node.name for node in made.switches] == ["spine1", "tor1a", "tor1b", "tor2a", "tor2b"]
    assert [(host.name, host.rack) for host in made.hosts] == [
        ("host1", 1),
        ("host2", 1),
        ("host3", 2),
        ("host4", 2),
    ]
    towards = {
        (end.node, other.node) for host in made.hosts for end, other in made.peerings(host.name)
    }
    assert towards == {
        (host, tor)
        for rack, hosts in ((1, ("host1", "host2")), (2, ("host3", "host4")))
        for host in hosts
        for tor in (f"tor{rack}a", f"tor{rack}b")
    }


def test_every_tor_is_wired_to_every_spine(topology: Plan) -> None:
    wired = {(wire.upper.node, wire.lower.node) for wire in topology.wires}
    spines = [node.name for node in topology.nodes if node.role == "spine"]
    assert {(spine, tor.name) for spine in spines for tor in topology.tors} <= wired


def test_as_numbers_follow_rfc_7938(topology: Plan) -> None:
    tors = [tor.asn for tor in topology.tors]
    hosts = [host.asn for host in topology.hosts]
    assert {node.asn for node in topology.nodes if node.role == "spine"} == {65000}
    assert tors == list(range(65101, 65101 + len(tors)))
    assert hosts == list(range(4200000001, 4200000001 + len(hosts)))


def test_no_address_and_no_router_id_is_given_twice(topology: Plan) -> None:
    addresses = Counter(
        address.ip
        for wire in topology.wires
        for end in (wire.upper, wire.lower)
        for address in end.addresses
    )
    router_ids = Counter(node.router_id for node in topology.nodes if node.router_id)
    assert {*addresses.values(), *router_ids.values()} == {1}


def test_both_ends_of_a_wire_share_their_subnet(topology: Plan) -> None:
    for wire in topology.wires:
        for upper, lower in zip(wire.upper.addresses, wire.lower.addresses, strict=False):
            assert upper.network == lower.network
            assert upper.network.num_addresses == 2


def test_link_names_are_unique_in_a_node_fit_the_kernel_and_are_not_the_agents(
    topology: Plan,
) -> None:
    links = Counter(
        (end.node, end.link) for wire in topology.wires for end in (wire.upper, wire.lower)
    )
    assert set(links.values()) == {1}
    assert all(len(link) <= 15 and not link.startswith("nf") for _, link in links)


def test_mixed_takes_turns() -> None:
    made = plan(Settings(tor="mixed"))
    assert [tor.kind for tor in made.tors] == ["frr", "bird", "gobgp", "frr"]


def test_a_lab_does_not_own_the_namespaces_of_one_whose_name_begins_like_its_own() -> None:
    assert not plan(Settings(name="lab2")).nodes[0].namespace.startswith(namespace_prefix("lab"))


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"name": "my-lab"}, "my-lab"),
        ({"name": ""}, "lab name"),
        ({"racks": 0}, "racks 0"),
        ({"hosts": 300}, "hosts 300"),
        ({"tors": 9}, "tors 9"),
        ({"containers": -1}, "containers -1"),
        ({"tor": "quagga"}, "quagga"),
    ],
)
def test_what_cannot_be_is_refused_with_a_remedy(wrong: dict[str, object], complaint: str) -> None:
    with pytest.raises(InvalidError, match=complaint) as caught:
        Settings(**wrong)  # type: ignore[arg-type]
    assert caught.value.remedy


def test_an_unknown_node_is_named_beside_those_that_exist() -> None:
    with pytest.raises(NotFoundError, match=r"tor9z.*spine1"):
        plan(Settings()).node("tor9z")
