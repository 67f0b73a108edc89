"""One change costs one change (law 7): counted in function calls, which no load disturbs."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from netfabric.fabric.events import Advertised, PathsReceived, Tick
from netfabric.fabric.network import AnnounceMode
from netfabric.fabric.peer import ImportFilter
from netfabric.fabric.route import PathAttributes
from tests.fabric.script import BLUE, PEERS, SETTINGS, TORS, Script, block, request

WIDE = ImportFilter(within=((ip_network("100.64.0.0/10"), 32),))
PATH = PathAttributes(ip_address("10.90.0.0"), as_path=(65_000,))


@contextmanager
def counted() -> Iterator[Callable[[], int]]:
    calls = 0

    def count(_: Any, event: str, __: Any) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        yield lambda: calls
    finally:
        sys.setprofile(None)


def busy(endpoints: int, routes: int, announce: AnnounceMode) -> Script:
    network = replace(BLUE, announce=announce)
    script = Script(replace(SETTINGS, low_water=8))
    blocks = [block(BLUE, f"10.1.{n // 4}.{n % 4 * 64}/26") for n in range(endpoints // 60 + 2)]
    script.ready(network, blocks=blocks, peers=[replace(p, imports=WIDE) for p in PEERS])
    base = int(ip_address("100.64.0.0"))
    script(PathsReceived(TORS[0], PATH, tuple(ip_network(base + n) for n in range(routes))))
    for number in range(endpoints):
        script.up(request(f"c{number}"))
    script.later(2)
    return script


def add_and_delete(script: Script) -> None:
    script.up(request("one-more"))
    script.gone("one-more")


def learn(script: Script) -> None:
    prefix = (ip_network("100.127.0.0/16"),)
    script(PathsReceived(TORS[0], PATH, prefix))
    script(PathsReceived(TORS[0], None, (), prefix))


def hear(script: Script) -> None:
    script(Advertised(TORS[0], (ip_network("10.1.0.1/32"),)))
    script(Tick())


@pytest.mark.parametrize("announce", ["host-routes", "blocks"])
@pytest.mark.parametrize("act", [add_and_delete, learn, hear])
def test_it_costs_the_same_on_a_busy_host(
    act: Callable[[Script], None], announce: AnnounceMode
) -> None:
    costs = []
    for script in (busy(5, 5, announce), busy(300, 1500, announce)):
        act(script)
        with counted() as calls:
            act(script)
            costs.append(calls())
    # a few blocks more are looked at, and a heap of cooling addresses is deeper
    assert costs[1] <= costs[0] * 1.2 + 40, costs
