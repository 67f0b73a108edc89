"""Filters and members follow the view: step by step they are what one look at the end would make them."""

import json
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from netfabric.fabric.controller_intent import Intents
from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.filter import FilterRule, GroupFilter, Members, PeerMatch, PortRange
from netfabric.fabric.host import merge
from netfabric.fabric.membership import Membership
from netfabric.fabric.policies import Policies
from netfabric.fabric.session import MembersChanged
from netfabric.fabric.stored import plain
from netfabric.fabric.view import ROOT, View
from tests.fabric.test_cost import counted

Change = tuple[str, dict[str, Any] | None]


def network(subnet: str = "10.1.0.0/16") -> Change:
    obj = {"tenantName": "t", "networkName": "n", "encap": "routed", "subnet": subnet}
    return "intent/network/t:n", obj | {"key": "t:n"}


def group(name: str, *policies: str, **more: Any) -> Change:
    obj = {"tenantName": "t", "groupName": name, "networkName": "n", "policies": list(policies)}
    return f"intent/endpointGroup/t:{name}", obj | {"key": f"t:{name}"} | more


def rule(policy: str, name: str, **more: Any) -> Change:
    obj = {"tenantName": "t", "policyName": policy, "ruleId": name}
    obj |= {"direction": "in", "action": "allow", "key": f"t:{policy}:{name}"} | more
    return f"intent/rule/t:{policy}:{name}", obj


def endpoint(host: str, name: str, in_group: str, number: int) -> Change:
    key = EndpointKey(name, "eth0")
    address = ip_address(f"10.1.0.{number}")
    made = Endpoint(key, host, "t", "n", in_group, "/ns", "nf1", "02:02:00:00:00:01", (address,))
    return f"endpoint/{host}/{name}/eth0", plain(made)


class Store:
    """A view, its intents, and a host that follows them."""

    def __init__(self) -> None:
        self.view = View()
        self.intents = Intents(self.view)
        self.intents.begin("e")
        self.seen = self.intents.full("h1")
        self.told = Membership()
        self.serial = self.intents.policies.serial

    def apply(self, *changes: Change) -> None:
        puts = [
            (ROOT + key, json.dumps(value).encode(), self.view.revision + 1)
            for key, value in changes
            if value is not None
        ]
        gone = [ROOT + key for key, value in changes if value is None]
        self.intents.follow(self.view.apply(puts, gone, self.view.revision + 1))
        assert not self.view.broken

    def tell(self) -> None:
        self.seen = merge(self.seen, self.intents.delta("h1", self.seen.version.revision))
        self.told.take(self.intents.policies.since(self.serial))
        self.serial = self.intents.policies.serial

    def filter(self, name: str) -> GroupFilter:
        return self.intents.policies.filters[f"t:{name}"]


def test_a_group_has_the_rules_of_its_policies_in_the_order_in_which_they_decide() -> None:
    store = Store()
    store.apply(
        network(),
        group("web", "p", "q", defaultAction="deny"),
        rule("p", "b", priority=1, fromNetwork="n"),
        rule("p", "a", priority=1, fromIpAddress="10.9.0.8-11", protocol="tcp", port=80),
        rule("q", "c", priority=9, action="deny", fromEndpointGroup="db", toIpAddress="10.1.0.5"),
        rule("other", "d"),
    )
    assert store.filter("web") == GroupFilter(
        "t:web",
        "deny",
        (
            FilterRule(
                "c",
                "t:q",
                "in",
                "deny",
                9,
                peer=PeerMatch("t:db"),
                own=(ip_network("10.1.0.5/32"),),
            ),
            FilterRule(
                "a",
                "t:p",
                "in",
                "allow",
                protocol="tcp",
                ports=(PortRange(80, 80),),
                peer=PeerMatch(prefixes=(ip_network("10.9.0.8/30"),)),
            ),
            FilterRule(
                "b", "t:p", "in", "allow", peer=PeerMatch(prefixes=(ip_network("10.1.0.0/16"),))
            ),
        ),
        "t:n",
    )


def test_a_rule_whose_network_is_gone_matches_nothing_and_follows_its_subnet() -> None:
    store = Store()
    store.apply(group("web", "p"), rule("p", "a", fromNetwork="n"))
    assert store.filter("web").rules == ()
    store.apply(network("10.7.0.0/24"))
    assert store.filter("web").rules[0].peer.prefixes == (ip_network("10.7.0.0/24"),)


def test_members_are_told_of_named_groups_only() -> None:
    store = Store()
    store.apply(network(), group("web", "p"), group("db"), endpoint("h1", "c1", "db", 1))
    policies = store.intents.policies
    assert policies.members().added == ()
    store.apply(rule("p", "a", fromEndpointGroup="db"))
    one = Members("t:db", frozenset({ip_address("10.1.0.1")}))
    assert policies.since(0) == MembersChanged(False, (one,))
    at = policies.serial
    store.apply(endpoint("h2", "c2", "web", 2))
    assert policies.serial == at
    store.apply(("endpoint/h1/c1/eth0", None))
    assert policies.since(at) == MembersChanged(False, removed=(one,))
    assert policies.since(0) == MembersChanged(False, removed=(one,))


def test_an_address_that_moves_in_one_step_stays_a_member() -> None:
    store = Store()
    store.apply(network(), group("web", "p"), rule("p", "a", fromEndpointGroup="web"))
    store.apply(endpoint("h1", "c1", "web", 1))
    at = store.intents.policies.serial
    store.apply(("endpoint/h1/c1/eth0", None), endpoint("h2", "c2", "web", 1))
    change = store.intents.policies.since(at)
    assert not change.removed


names = st.sampled_from("abc")
changes = st.one_of(
    st.sampled_from([network(), network("10.2.0.0/16"), ("intent/network/t:n", None)]),
    st.builds(
        lambda name, policies, deny: group(name, *policies, defaultAction=deny),
        names,
        st.lists(names, max_size=2, unique=True),
        st.sampled_from(["allow", "deny"]),
    ),
    names.map(lambda name: (f"intent/endpointGroup/t:{name}", None)),
    st.builds(
        lambda policy, name, peer, network: rule(
            policy, name, fromEndpointGroup=peer, fromNetwork=network
        ),
        names,
        names,
        st.sampled_from(["", "a", "b", "c"]),
        st.sampled_from(["", "n"]),
    ),
    st.builds(lambda policy, name: (f"intent/rule/t:{policy}:{name}", None), names, names),
    st.builds(
        endpoint, st.sampled_from(["h1", "h2"]), names, st.sampled_from("abc"), st.integers(1, 3)
    ),
    st.builds(
        lambda host, name: (f"endpoint/{host}/{name}/eth0", None),
        st.sampled_from(["h1", "h2"]),
        names,
    ),
)
batches = st.lists(changes, min_size=1, max_size=3, unique_by=lambda change: change[0])


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(batches, st.booleans()), max_size=12))
def test_any_changes_lead_to_what_the_end_would_make(
    steps: list[tuple[list[Change], bool]],
) -> None:
    store = Store()
    for batch, tell in steps:
        store.apply(*batch)
        if tell:
            store.tell()
    store.tell()
    scratch = Policies(store.view)
    scratch.begin()
    assert store.intents.policies.filters == scratch.filters
    assert {f.group: f for f in store.seen.filters} == scratch.filters
    assert replace(store.intents.policies.members()) == scratch.members()
    assert store.told.all() == scratch.members().added


def test_one_change_costs_one_change() -> None:
    """A rule, a member and a group cost as much beside ten groups as beside two hundred."""

    def costs(groups: int) -> list[int]:
        store = Store()
        store.apply(network(), *(group(f"g{n}", f"p{n}") for n in range(groups)))
        store.apply(*(rule(f"p{n}", "r", fromEndpointGroup=f"g{n}") for n in range(groups)))
        store.apply(*(endpoint("h1", f"c{n}", f"g{n}", n % 250) for n in range(groups)))
        found = []
        for change in (
            rule("p3", "x", fromEndpointGroup="g4"),
            endpoint("h2", "new", "g5", 251),
            group("g6", "p6", "p7"),
        ):
            serial = store.intents.policies.serial
            with counted() as calls:
                store.apply(change)
                store.intents.delta("h1", store.view.revision - 1)
                store.intents.policies.since(serial)
                found.append(calls())
        return found

    assert costs(200) == costs(10)


def test_a_replaced_store_is_all_that_is_known() -> None:
    store = Store()
    store.apply(
        network(), group("old", "p"), rule("p", "1", fromEndpointGroup="peer"), group("peer")
    )
    store.apply(endpoint("h1", "c1", "peer", 5))
    assert store.intents.policies.members().added
    serial = store.intents.policies.serial
    store.view.clear()
    store.view.apply((), (), 1)
    store.intents.begin("another")
    assert not store.intents.policies.filters
    assert not store.intents.policies.members().added
    assert store.intents.policies.serial > serial
