"""Pods on a host: attached where netmaster says they belong, and guarded by what selects them, as that changes."""

from dataclasses import replace

import pytest

from netfabric.fabric.effects import AttachAnswer, Filter, Record, Refuse
from netfabric.fabric.endpoint import AttachRequest
from netfabric.fabric.events import AttachRequested, JournalState, Started
from netfabric.fabric.filter import FilterRule, GroupFilter
from netfabric.fabric.guard import FEATURE
from netfabric.fabric.kernel import KernelState
from netfabric.fabric.placement import NAMESPACE_LABEL, UID_LABEL, Placement
from netfabric.fabric.ruleset import Chain, Goto
from netfabric.fabric.ruleset_group import chain_name
from netfabric.fabric.ruleset_plan import transaction
from netfabric.fabric.ruleset_ways import links_set
from netfabric.fabric.session import PlacementsChanged
from tests.fabric.fake_table import FakeTable, same
from tests.fabric.script import BLUE, BLUE_BLOCK, SETTINGS, Script, intent, of, request

DENY = FilterRule("isolated", "kubernetes:", "in", "deny")
CLOSED = GroupFilter("default:pods/closed", rules=(DENY,))
ALLOW = FilterRule("ingress.0.0", "kubernetes:a/p", "in", "allow", 2)
OPEN = GroupFilter("default:pods/open")
WEB = Placement("shop/web", "h1", "u1", network="blue", filter=CLOSED.group)


def wanted(placed: bool = True, uid: str = "u1") -> AttachRequest:
    labels = ((NAMESPACE_LABEL, "shop"), (UID_LABEL, uid))
    base = replace(request("c1"), name="web", labels=labels)
    return replace(base, network="", placed=True) if placed else base


@pytest.fixture
def script() -> Script:
    made = Script(replace(SETTINGS, features=(FEATURE,)))
    made.ready(BLUE, blocks=(BLUE_BLOCK,))
    made.says(intent(BLUE, full=False, filters=(CLOSED, OPEN)))
    return made


def guarding(script: Script) -> set[str]:
    """Return the filters that have an endpoint here."""
    wanted = script.host.guard.desired.objects
    known = {links_set(f.group).name: f.group for f in (CLOSED, OPEN)}
    return {known[key[1]] for key in wanted if len(key) > 1 and key[1] in known}


def test_an_add_waits_for_where_its_pod_belongs(script: Script) -> None:
    effects = script.add(wanted())
    assert not of(effects, Record)
    effects = script.says(PlacementsChanged(False, (WEB,)))
    (record,) = of(effects, Record)
    endpoint = record.change.endpoint
    assert endpoint is not None
    assert (endpoint.network, endpoint.filter) == ("blue", CLOSED.group)
    answers = [*script.recorded(effects), *script.attached("c1")]
    assert of(answers, AttachAnswer)[0].endpoint == endpoint


def test_what_never_comes_is_named(script: Script) -> None:
    script.add(wanted())
    (refused,) = of(script.later(SETTINGS.block_timeout + 0.1), Refuse)
    assert "pod shop/web" in str(refused.error)
    assert "--kubernetes" in str(refused.error)


def test_a_pod_of_the_same_name_before_is_another(script: Script) -> None:
    script.says(PlacementsChanged(True, (WEB,)))
    assert not of(script.add(wanted(uid="u2")), Record)
    assert of(script.says(PlacementsChanged(False, (replace(WEB, uid="u2"),))), Record)


def test_a_running_pod_follows_what_selects_it(script: Script) -> None:
    script.up(wanted(placed=False))
    effects = script.says(PlacementsChanged(True, (WEB,)))
    assert [r.change.endpoint.filter for r in of(effects, Record) if r.change.endpoint] == [
        CLOSED.group
    ]
    assert len(of(effects, Filter)) == 1
    assert guarding(script) == {CLOSED.group}
    script.says(PlacementsChanged(False, (replace(WEB, filter=OPEN.group),)))
    assert guarding(script) == {OPEN.group}
    script.says(PlacementsChanged(False, (replace(WEB, filter=""),)))
    assert guarding(script) == set()


def test_the_same_again_changes_nothing(script: Script) -> None:
    script.says(PlacementsChanged(True, (WEB,)))
    script.up(wanted())
    effects = script.says(PlacementsChanged(True, (WEB,)))
    assert not of(effects, Record)
    assert not of(effects, Filter)


def test_a_filter_that_goes_is_in_force_until_its_pods_have_another(script: Script) -> None:
    script.says(PlacementsChanged(True, (WEB,)))
    script.up(wanted())
    gone = intent(BLUE, full=False, filters_gone=(CLOSED.group,))
    assert not of(script.says(gone), Filter)
    script.says(PlacementsChanged(False, (replace(WEB, filter=OPEN.group),)))
    assert guarding(script) == {OPEN.group}


def test_a_pod_that_is_gone_stays_guarded_until_its_del(script: Script) -> None:
    script.says(PlacementsChanged(True, (WEB,)))
    script.up(wanted())
    script.says(PlacementsChanged(False, gone=("shop/web",)))
    assert guarding(script) == {CLOSED.group}


def test_a_restart_guards_as_before_without_any_netmaster(script: Script) -> None:
    script.says(PlacementsChanged(True, (WEB,)))
    endpoint = script.up(wanted())
    again = Script(replace(SETTINGS, features=(FEATURE,)))
    whole = intent(BLUE, filters=(CLOSED, OPEN))
    journal = JournalState(endpoints=(endpoint,), blocks=(BLUE_BLOCK,), intent=whole)
    again(Started(journal, KernelState({}), ()))
    assert guarding(again) == {CLOSED.group}


def test_another_tenants_pod_is_said_aloud(script: Script) -> None:
    script.up(wanted(placed=False))
    red = replace(WEB, tenant="red", filter="red:pods/closed")
    effects = script.says(PlacementsChanged(True, (red,)))
    assert any("not in force" in getattr(effect, "text", "") for effect in effects)


def test_without_kubernetes_nothing_waits(script: Script) -> None:
    assert of(script(AttachRequested(9, request("plain"))), Record)


def test_the_rules_of_a_pods_group_hold_as_well(script: Script) -> None:
    """What the policies let pass goes on to the group's chain, in step with the kernel's own strictness."""
    web = GroupFilter("default:web", rules=(DENY,), network="default:blue")
    both = GroupFilter("default:pods/both", rules=(ALLOW,), also=web.group)
    script.says(intent(BLUE, full=False, filters=(web, both)))
    table = FakeTable()
    placed = replace(WEB, group="web", filter=both.group)
    for message in (
        PlacementsChanged(True, (placed,)),
        PlacementsChanged(False, (replace(placed, filter=web.group),)),
        PlacementsChanged(False, (placed,)),
        PlacementsChanged(False, (replace(placed, filter=""),)),
        PlacementsChanged(False, (placed,)),
    ):
        script.says(message)
        if not script.host.attachments.known:
            script.up(wanted())
        table.apply(transaction(script.host.guard.desired.objects, table.objects))
        assert same(table.objects, script.host.guard.desired.objects)
    chain = script.host.guard.desired.objects["chain", chain_name("in", both.group), ""]
    assert isinstance(chain, Chain)
    on = Goto(chain_name("in", web.group))
    assert [one.verdict for one in chain.rules][-2:] == [on, on]
    script.gone("c1")
    table.apply(transaction(script.host.guard.desired.objects, table.objects))
    assert not [key for key in table.objects if "both" in key[1] or "web" in key[1]]


def test_a_kernel_that_cannot_enforce_refuses_a_pod_that_policies_select() -> None:
    bare = Script()
    bare.ready(BLUE, blocks=(BLUE_BLOCK,))
    bare.says(PlacementsChanged(True, (WEB,)))
    (refused,) = of(bare.add(wanted()), Refuse)
    assert "nftables" in str(refused.error)
    bare.says(PlacementsChanged(True, (replace(WEB, filter=""),)))
    assert of(bare.add(wanted()), Record)
