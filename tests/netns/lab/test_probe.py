"""Pings from inside namespaces: who answers, who does not, and when a first answer comes."""

import os
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from netfabric.lab import wiring
from netfabric.lab.lab import Lab
from netfabric.lab.probe import Pair, first_answers, ping
from netfabric.lab.settings import Settings

pytestmark = pytest.mark.netns
TOR, HOST = ("172.16.0.0", "fd16::"), ("172.16.0.1", "fd16::1")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Wires only: a host reaches its ToR, and nothing beyond."""
    made = Lab(Settings(name=f"p{os.getpid()}", racks=1, hosts=1, tors=1, containers=0))
    wiring.build(made.plan)
    yield made
    made.down()


def test_pairs_that_reach_each_other_and_one_that_does_not(lab: Lab) -> None:
    sources = {name: lab.namespace(name) for name in ("tor1a", "host1")}
    targets = {
        "tor1a": [ip_address(a) for a in TOR],
        "host1": [ip_address(a) for a in HOST],
        "nobody": [ip_address("172.16.9.9")],
    }
    matrix = ping(sources, targets, timeout=1.0)
    silent = {pair for pair, trip in matrix.items() if trip is None}
    assert silent == {Pair("tor1a", "nobody", 4), Pair("host1", "nobody", 4)}
    assert set(matrix) - silent == {
        Pair(source, target, family)
        for source, target in (("tor1a", "host1"), ("host1", "tor1a"))
        for family in (4, 6)
    }
    assert all(trip is None or 0 < trip < 1 for trip in matrix.values())


def test_a_first_answer_has_its_time(lab: Lab) -> None:
    begun = time.monotonic()
    targets = [ip_address(a) for a in TOR]
    answers = first_answers(lab.namespace("host1"), targets, timeout=5.0)
    assert set(answers) == set(targets)
    assert all(begun < moment <= time.monotonic() for moment in answers.values())


def test_no_first_answer_names_who_is_silent(lab: Lab) -> None:
    targets = [ip_address(TOR[0]), ip_address("172.16.9.9")]
    with pytest.raises(TimeoutError, match=r"host1 from 172\.16\.9\.9$"):
        first_answers(lab.namespace("host1"), targets, timeout=0.3)
