"""Several objects as one change: their order, what each sees of the others, and that the view stays as it was."""

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest

from netfabric.fabric.errors import ConflictError, InvalidError, OperatorError
from netfabric.fabric.kinds import KINDS
from netfabric.fabric.references import REFERENCES
from netfabric.fabric.rules_global import DEFAULTS
from netfabric.fabric.several import ORDER, Wish, decide_several
from netfabric.fabric.trial import NOT_YET
from netfabric.fabric.view import ROOT, View
from netfabric.fabric.world import Write, world_of


def wish(type_: str, **obj: Any) -> Wish:
    kind = KINDS[type_]
    return Wish(kind, {**obj, "key": kind.key_of(obj)})


def keeping(wanted: Wish, *secrets: str) -> Wish:
    return replace(wanted, keeps=secrets)


GLOBAL = wish("global", **{k: v for k, v in DEFAULTS.items() if k != "key"})
TENANT = wish("tenant", tenantName="blue")


def network(name: str, subnet: str, **fields: Any) -> Wish:
    return wish("network", tenantName="blue", networkName=name, subnet=subnet, **fields)


def group(name: str, net: str, **fields: Any) -> Wish:
    return wish("endpointGroup", tenantName="blue", groupName=name, networkName=net, **fields)


def policy(name: str) -> Wish:
    return wish("policy", tenantName="blue", policyName=name)


def rule(**fields: Any) -> Wish:
    base: dict[str, Any] = {"tenantName": "blue", "policyName": "p", "ruleId": "1"}
    return wish("rule", **base, action="allow", direction="in", **fields)


def decide(view: View, *wishes: Wish) -> Write:
    return decide_several(view, world_of(view), wishes)[0]


def commit(view: View, write: Write) -> None:
    at = view.revision + 1
    puts = [(ROOT + key, json.dumps(value).encode(), at) for key, value in write.puts.items()]
    view.apply(puts, [ROOT + key for key in write.deletes], at)


def shown(view: View) -> Any:
    objects = {
        t: {k: (s.value, s.revision) for k, s in of.items()} for t, of in view.objects.items()
    }
    return {t: of for t, of in objects.items() if of}, dict(view.tags)


def test_every_type_comes_after_what_it_refers_to() -> None:
    assert min(ORDER, key=lambda type_: ORDER[type_]) == "global"
    for user, fields in REFERENCES.items():
        for named in fields.values():
            assert named.type == user or ORDER[named.type] < ORDER[user], (user, named)


def test_any_order_of_the_wishes_makes_the_same_write() -> None:
    wishes = (
        GLOBAL,
        TENANT,
        network("n", "10.1.0.0/16", encap="vlan"),
        policy("p"),
        group("g", "n", policies=["p"]),
        rule(fromEndpointGroup="g"),
    )
    found = [decide(View(), *order) for order in itertools.permutations(wishes)]
    assert all(write.puts == found[0].puts for write in found)
    assert set(found[0].puts) == {
        "intent/global/global",
        "intent/tenant/blue",
        "intent/network/blue:n",
        "intent/policy/blue:p",
        "intent/endpointGroup/blue:g",
        "intent/rule/blue:p:1",
        "alloc/vlan/1",
    }
    assert all(write.unchanged == {"alloc/vlan/1": 0} for write in found)


def test_what_becomes_of_each_in_the_order_of_the_wishes() -> None:
    view = View()
    commit(view, decide(view, GLOBAL, TENANT, network("n", "10.1.0.0/16")))
    wishes = [group("g", "n"), network("n", "10.1.0.0/16", announce="blocks"), TENANT]
    _, became = decide_several(view, world_of(view), wishes)
    assert [one.outcome for one in became] == ["created", "changed", "unchanged"]
    assert [one.revision for one in became] == [NOT_YET, NOT_YET, 1]
    assert [one.at(9) for one in became] == [9, 9, 1]
    assert became[1].obj["announce"] == "blocks"


@pytest.mark.parametrize(
    ("bad", "error", "what"),
    [
        (network("m", "10.1.3.0/24"), ConflictError, "network blue:m: network n conflicts"),
        (group("g", "none"), InvalidError, "endpointGroup blue:g"),
        (network("n", "10.9.0.0/16"), InvalidError, "network blue:n comes twice"),
        (network("m", "nonsense"), InvalidError, "network blue:m: subnet"),
        (
            keeping(wish("peer", hostname="h", peerName="p"), "password"),
            InvalidError,
            "peer h:p: passwordSet",
        ),
    ],
)
def test_a_refusal_names_the_object_and_leaves_the_view_alone(
    bad: Wish, error: type[OperatorError], what: str
) -> None:
    view = View()
    commit(view, decide(view, GLOBAL, TENANT))
    before = shown(view)
    good = network("n", "10.1.0.0/16")
    with pytest.raises(error) as refused:
        decide(view, good, bad)
    assert refused.value.what.startswith(what)
    assert shown(view) == before
    with pytest.raises(error):  # of two that exclude each other the later one is refused
        decide(view, bad, good)
    assert shown(view) == before


def test_the_view_is_as_it_was_and_wishes_can_be_decided_again() -> None:
    view = View()
    commit(view, decide(view, GLOBAL, TENANT))
    before = shown(view)
    wishes = [network("n", "10.1.0.0/16", encap="vxlan"), group("g", "n")]
    assert decide(view, *wishes) == decide(view, *wishes)
    assert shown(view) == before


def test_two_services_share_a_network_and_no_address() -> None:
    view = View()
    commit(view, decide(view, GLOBAL, TENANT))
    services = [
        wish(
            "serviceLB",
            tenantName="blue",
            serviceName=name,
            networkName="n",
            ports=["80:80:TCP"],
            selectors=["a=b"],
        )
        for name in "xy"
    ]
    write = decide(view, *services, network("n", "10.1.0.0/24"))
    vips = [write.puts[f"intent/serviceLB/blue:{name}"]["vip"] for name in "xy"]
    assert write.puts["intent/network/blue:n"]["vips"] == sorted(vips)
    assert len(set(vips)) == 2


def test_nothing_to_change_is_no_write() -> None:
    view = View()
    wishes = [GLOBAL, TENANT, network("n", "10.1.0.0/16")]
    commit(view, decide(view, *wishes))
    assert not decide(view, *wishes)
    assert not decide(view)


def test_a_secret_stays_where_the_wish_keeps_it() -> None:
    view = View()
    speaker = wish("Bgp", hostname="h", routerip="10.9.0.0/31", **{"as": "65001"})
    peer: dict[str, Any] = {"hostname": "h", "peerName": "p", "address": "10.9.0.1", "as": 65002}
    commit(view, decide(view, GLOBAL, speaker, wish("peer", **peer, password="s3cret")))
    kept = decide(view, keeping(wish("peer", **peer, holdTime=30), "password"))
    assert kept.puts["intent/peer/h:p"]["password"] == "s3cret"
    assert "password" not in decide(view, wish("peer", **peer)).puts["intent/peer/h:p"]
