"""A tenant's overlay on a host: there with its first endpoint, gone with its last, one change at a time."""

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from netfabric.fabric.effects import Attach, Detach, Effect, Filter, Program, Refuse
from netfabric.fabric.events import Event, HostSettings, JournalState
from netfabric.fabric.kernel import (
    MAIN_TABLE,
    ForwardingEntry,
    KernelKey,
    KernelObject,
    KernelRoute,
    KernelState,
    Neighbour,
    TableRule,
    VxlanLink,
    key_of,
)
from netfabric.fabric.network import Network, Vni, whole_range
from netfabric.fabric.placement import NAMESPACE_LABEL, UID_LABEL, Placement
from netfabric.fabric.prefix import DEFAULT_ROUTES, host_prefix
from netfabric.fabric.session import (
    EndpointsAnswered,
    PlacementsChanged,
    Remote,
    RemotesChanged,
    StoredEndpoint,
)
from netfabric.fabric.upkeep import link_of
from tests.fabric.script import (
    SETTINGS,
    Effects,
    Script,
    announced,
    block,
    intent,
    key,
    of,
    request,
)

VTEP = ip_address("192.0.2.1")
OVERLAY: HostSettings = replace(
    SETTINGS, vtep=VTEP, features=("nexthop", "nftables", "veth", "vxlan")
)
RANGES = (whole_range(ip_network("10.5.0.0/16")), whole_range(ip_network("fd10:5::/64")))
RED = Network("red", "net", "vxlan", RANGES, tag=Vni(100))
BLUE = Network("blue", "net", "vxlan", RANGES, tag=Vni(101))
FLAT = Network("red", "flat", "routed", (whole_range(ip_network("10.6.0.0/24")),))
BLOCKS = [
    *(block(n, p) for n in (RED, BLUE) for p in ("10.5.0.0/26", "fd10:5::/122")),
    block(FLAT, "10.6.0.0/26"),
]


def remote(network: Network, address: str, host: int = 2, sequence: int = 1) -> Remote:
    vtep = ip_address(f"192.0.2.{host}")
    return Remote(network.key, ip_address(address), f"h{host}", vtep, sequence)


def added(*remotes: Remote, full: bool = False) -> RemotesChanged:
    return RemotesChanged(full, remotes)


class Kernel:
    """What a host has programmed."""

    def __init__(self) -> None:
        self.objects: dict[KernelKey, KernelObject] = {}

    def take(self, effects: Iterable[Effect]) -> int:
        """Carry out what programs ask for; return how many operations that were."""
        steps = [step for program in of(effects, Program) for step in program.operations]
        for step in steps:
            if step.action == "put":
                self.objects[key_of(step.thing)] = step.thing
            else:
                self.objects.pop(key_of(step.thing), None)
        return len(steps)

    def overlay(self) -> list[KernelObject]:
        kinds = (VxlanLink, ForwardingEntry, Neighbour, TableRule)
        return [t for t in self.objects.values() if isinstance(t, kinds) or _in_vrf(t)]

    def routes(self, table: int) -> dict[str, KernelRoute]:
        found = [t for t in self.objects.values() if isinstance(t, KernelRoute)]
        return {str(route.prefix): route for route in found if route.table == table}


def _in_vrf(thing: KernelObject) -> bool:
    return isinstance(thing, KernelRoute) and thing.table != MAIN_TABLE


class Host(Script):
    """A host with its kernel."""

    def __init__(self, settings: HostSettings = OVERLAY) -> None:
        super().__init__(settings)
        self.kernel = Kernel()

    def __call__(self, event: Event) -> Effects:
        effects = super().__call__(event)
        self.kernel.take(effects)
        return effects


@pytest.fixture
def host() -> Host:
    made = Host()
    made.ready(RED, BLUE, FLAT, blocks=BLOCKS)
    made.says(added(full=True))
    return made


def test_an_endpoint_stands_in_its_tenants_table_and_is_not_announced(host: Host) -> None:
    begun = host.add(request("one", RED))
    (attach,) = of(begun, Attach)
    endpoint = attach.endpoint
    assert endpoint.table != MAIN_TABLE
    assert endpoint.mtu == 1450
    rules = [t for t in host.kernel.objects.values() if isinstance(t, TableRule)]
    assert {(rule.family, rule.table) for rule in rules} == {
        (4, endpoint.table),
        (6, endpoint.table),
    }
    found = host.kernel.routes(endpoint.table)
    assert {str(p): "unreachable" for p in DEFAULT_ROUTES} == {p: r.kind for p, r in found.items()}
    stands = [*begun, *host.attached("one"), *host.recorded(begun)]
    assert announced(stands) == set()
    places = [type(effect) for effect in begun if isinstance(effect, Filter | Program | Attach)]
    assert places.index(Filter) < places.index(Program) < places.index(Attach)  # marked, then made


def test_tenants_with_the_same_addresses_have_nothing_in_common(host: Host) -> None:
    red, blue = host.up(request("one", RED)), host.up(request("two", BLUE))
    assert red.addresses == blue.addresses
    assert red.table != blue.table
    host.says(added(remote(RED, "10.5.1.1"), remote(BLUE, "10.5.1.1", host=3)))
    ways = {t: host.kernel.routes(t)["10.5.1.1/32"] for t in (red.table, blue.table)}
    assert ways[red.table].link != ways[blue.table].link
    assert [str(ways[t].gateway) for t in (red.table, blue.table)] == ["192.0.2.2", "192.0.2.3"]


def test_with_the_last_endpoint_of_a_tenant_everything_of_it_goes(host: Host) -> None:
    host.says(added(remote(RED, "10.5.1.1"), remote(RED, "fd10:5::1:1")))
    assert host.kernel.overlay() == []
    host.up(request("one", RED))
    host.up(request("two", RED))
    assert host.kernel.overlay()
    host.gone("one")
    assert host.kernel.overlay()
    host.gone("two")
    assert host.kernel.overlay() == []


@pytest.mark.parametrize("many", [10, 1000])
def test_one_changed_endpoint_costs_the_same_however_many_there_are(host: Host, many: int) -> None:
    host.up(request("one", RED))
    base = ip_address("10.5.128.0")
    host.says(added(*(remote(RED, str(base + n), 2 + n % 9) for n in range(many))))
    new = remote(RED, "10.5.1.1")
    assert host.kernel.take(host.says(added(new))) == 1
    assert host.kernel.take(host.says(added(remote(RED, "10.5.1.1", 3, 2)))) == 1  # moved
    assert host.kernel.take(host.says(RemotesChanged(False, (), (new.where,)))) == 1
    far = host.says(added(remote(RED, "10.5.1.2", 99)))
    assert host.kernel.take(far) == 4  # the first of its host: FDB entry, two neighbours, route


def test_a_restart_with_its_journal_changes_nothing(host: Host) -> None:
    endpoint = host.up(request("one", RED))
    known = (remote(RED, "10.5.1.1"), remote(RED, "fd10:5::1:1", 3))
    host.says(added(*known))
    objects = dict(host.kernel.objects)
    link = link_of(endpoint)
    again = Host()
    again.kernel.objects = dict(objects)
    journal = JournalState(
        (endpoint,), blocks=tuple(BLOCKS), intent=intent(RED, BLUE, FLAT), remotes=known
    )
    effects = again.start(journal, KernelState({**objects, key_of(link): link}))
    effects = [*effects, *again.connect(), *again.welcome(*BLOCKS, endpoints=[endpoint])]
    effects += again.says(added(*known, full=True))
    assert again.kernel.take(of(effects, Program)) == 0
    assert not of(effects, Detach)


def test_routed_and_overlay_endpoints_of_a_tenant_reach_each_other(host: Host) -> None:
    flat = host.up(request("flat", FLAT))
    red = host.up(request("one", RED))
    (address,) = flat.addresses
    assert host.kernel.routes(red.table)[str(host_prefix(address))].link == flat.link
    host.says(added(remote(FLAT, "10.6.0.70")))
    assert host.kernel.routes(red.table)["10.6.0.70/32"].link == "nfv64"
    host.gone("flat")
    assert str(host_prefix(address)) not in host.kernel.routes(red.table)


def test_an_endpoint_whose_filter_has_changed_leaves_its_address_to_others(host: Host) -> None:
    pod = replace(request("c1", RED), name="x", labels=((NAMESPACE_LABEL, "a"), (UID_LABEL, "u")))
    made = host.up(pod)
    placed = Placement("a/x", "h1", "u", "red", "net", filter="red:pods/1")
    host.says(PlacementsChanged(False, (placed,)))
    keeps = host.up(request("c2", RED))
    host.gone("c1")
    host.says(added(remote(RED, str(made.addresses[0]))))
    assert f"{made.addresses[0]}/32" in host.kernel.routes(keeps.table)


def test_an_endpoint_that_is_elsewhere_since_ends_here(host: Host) -> None:
    endpoint = host.up(request("one", RED))
    host.says(EndpointsAnswered((StoredEndpoint(key("one"), 3),)))
    address = str(endpoint.addresses[0])
    assert not of(host.says(added(remote(RED, address, sequence=2))), Detach)  # of before
    assert address + "/32" not in host.kernel.routes(endpoint.table)
    assert of(host.says(added(remote(RED, address, sequence=4))), Detach)
    assert host.kernel.routes(endpoint.table)[address + "/32"].gateway is not None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (replace(OVERLAY, features=("nftables",)), "lacks vxlan"),
        (replace(OVERLAY, features=("vxlan",)), "lacks nftables"),
        (replace(OVERLAY, vtep=None), "no VTEP"),
    ],
)
def test_a_host_that_cannot_says_what_it_lacks(settings: HostSettings, words: str) -> None:
    host = Host(settings)
    host.ready(RED, FLAT, blocks=BLOCKS)
    (refused,) = of(host.add(request("one", RED)), Refuse)
    assert words in str(refused.error)
    host.up(request("two", FLAT))  # the others work
    assert host.kernel.overlay() == []
