"""Limits on a link that others have their own traffic control on: theirs stays as it is."""

from dataclasses import replace

import pytest

from netfabric.fabric.profile import Bandwidth, Limit
from tests.netns.datapath.bench import RealBench

pytestmark = pytest.mark.netns
LIMITS = Bandwidth(send=Limit(10_000_000))
FOREIGN = "protocol ip pref 7 u32 match ip dst 203.0.113.9/32 flowid 1:1"


def filters(real: RealBench, link: str, pref: int) -> list[str]:
    """Return the lines about filters of a priority on what comes in by a link."""
    shown = real.host.run("tc", "filter", "show", "dev", link, "ingress")
    return [line for line in shown.splitlines() if f" pref {pref} " in line]


@pytest.mark.parametrize("kind", ["ingress", "clsact"])
def test_filters_of_others_outlive_limits_that_come_and_go(real: RealBench, kind: str) -> None:
    one = real.container(1)
    real.datapath.attach(one)
    real.host.run("tc", "qdisc", "add", "dev", one.link, kind)
    real.host.run(*f"tc filter add dev {one.link} ingress {FOREIGN}".split())
    theirs = filters(real, one.link, 7)
    assert theirs
    for limited in (one, replace(one, bandwidth=LIMITS), replace(one, bandwidth=LIMITS), one):
        real.datapath.attach(limited)
        assert filters(real, one.link, 7) == theirs
        assert real.datapath.check(limited) == ()
        assert bool(filters(real, one.link, 0x4E46)) == bool(limited.bandwidth)
    assert f"qdisc {kind} " in real.host.run("tc", "qdisc", "show", "dev", one.link)


def test_a_filter_that_leads_nowhere_is_replaced(real: RealBench) -> None:
    one = replace(real.container(1), bandwidth=LIMITS)
    real.datapath.attach(one)
    real.host.run("ip", "link", "delete", f"nfs{one.link[3:]}")
    assert real.datapath.check(one)
    real.datapath.attach(one)
    assert real.datapath.check(one) == ()
    assert len([line for line in filters(real, one.link, 0x4E46) if "flowid" in line]) == 1


def test_without_limits_there_is_no_hook_of_ours(real: RealBench) -> None:
    one = real.container(1)
    real.datapath.attach(replace(one, bandwidth=LIMITS))
    real.datapath.attach(one)
    assert "ingress" not in real.host.run("tc", "qdisc", "show", "dev", one.link)
