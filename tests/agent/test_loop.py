"""The loop: effects carried out beside it, outcomes back in order, callers answered, whatever fails or goes away."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from netfabric.agent import datapath_thread, kernel_watch
from netfabric.agent import loop as loop_module
from netfabric.agent.datapath_thread import DatapathThread
from netfabric.agent.kernel_watch import KernelWatch
from netfabric.agent.loop import TICK
from netfabric.fabric.attachment import endpoint_of
from netfabric.fabric.effects import Attach, Detach
from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.errors import (
    ConflictError,
    KernelError,
    NamespaceGoneError,
    NotFoundError,
    UnavailableError,
)
from netfabric.fabric.events import PathsReceived, PeerDown, PeerUp
from netfabric.fabric.kernel import MAIN_TABLE, KernelRoute, KernelState, NexthopGroup, Uplink
from netfabric.fabric.prefix import Address
from netfabric.fabric.route import PathAttributes
from netfabric.fabric.session import EndpointsChanged, Hello, RoutesLearned
from tests.agent.rig import kernel_with, running
from tests.agent.test_journal import refuse_endpoints
from tests.fabric.fake_kernel import FakeKernel, HostLink
from tests.fabric.script import BLUE, DUAL, PEERS, UPLINKS, intent, key, request

DEFAULT = ip_network("0.0.0.0/0")
FIRST = (ip_address("10.1.0.1"),)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def _journalled(path: Path) -> set[str]:
    """Return the keys of endpoints that are durable."""
    database = sqlite3.connect(path)
    try:
        return {row[0] for row in database.execute("SELECT key FROM endpoint")}
    finally:
        database.close()


async def _until(holds: Callable[[], object], patience: float = 10.0) -> None:
    async with asyncio.timeout(patience):
        while not holds():  # noqa: ASYNC110  what is looked at tells nobody
            await asyncio.sleep(0.005)


async def test_an_add_is_durable_and_built_when_it_is_answered(path: Path) -> None:
    kernel = kernel_with("c1")
    async with running(path, kernel) as rig:
        endpoint = await rig.callers.attach(request("c1"))
        assert endpoint.addresses == FIRST
        assert _journalled(path) == {"c1/eth0"}
        assert kernel.links[endpoint.link].namespace == "/run/netns/c1"
        assert rig.said(Hello)[0].fresh
        assert list(rig.callers.endpoints()) == [endpoint]
        await _until(lambda: rig.said(EndpointsChanged) == [EndpointsChanged(up=(endpoint,))])
        assert await rig.callers.check(endpoint.key) == ()
        await rig.callers.detach(endpoint.key)
        assert _journalled(path) == set()
        assert kernel.links == {}


async def test_the_next_loop_goes_on_where_this_one_ended(path: Path) -> None:
    kernel = kernel_with("c1", "c2")
    async with running(path, kernel) as rig:
        endpoint = await rig.callers.attach(request("c1"))
    before = kernel.operations
    async with running(path, kernel, welcome=False) as rig:
        await _until(lambda: list(rig.callers.endpoints()) == [endpoint])
        assert rig.callers.unready() == ""
        assert await rig.callers.attach(request("c1")) == endpoint
        assert kernel.operations == before
        assert (await rig.callers.attach(request("c2"))).addresses != endpoint.addresses


async def test_a_failed_attach_leaves_nothing(path: Path) -> None:
    kernel = kernel_with("c1")
    async with running(path, kernel) as rig:
        with pytest.raises(NamespaceGoneError):
            await rig.callers.attach(request("c2"))
        kernel.fail_next()
        with pytest.raises(KernelError):
            await rig.callers.attach(request("c1"))
        await _until(lambda: not _journalled(path))
        assert kernel.links == {}
        assert (await rig.callers.attach(request("c1"))).addresses == FIRST


async def test_a_full_disk_refuses_an_add_and_unbuilds_it(path: Path) -> None:
    kernel = kernel_with("c1")
    async with running(path, kernel) as rig:
        await _until(lambda: not rig.callers.unready())
        refuse_endpoints(path)
        with pytest.raises(KernelError, match="disk is full"):
            await rig.callers.attach(request("c1"))
        await _until(lambda: not kernel.links)


class Defective(FakeKernel):
    """A datapath with a defect."""

    def attach(self, endpoint: Endpoint) -> None:
        raise ZeroDivisionError("nobody thought of this")

    def observe(self) -> KernelState:
        if threading.current_thread() is not threading.main_thread():
            raise ZeroDivisionError("nor of that")
        return FakeKernel.observe(self)


async def test_a_defect_of_the_datapath_is_an_outcome_too(path: Path) -> None:
    async with running(path, Defective(), audit_interval=0.05) as rig:
        with pytest.raises(KernelError, match="nobody thought of this"):
            await rig.callers.attach(request("c1"))
        await _until(lambda: "nor of that" in rig.warnings.all().get("audit", ""))
        with pytest.raises(NotFoundError):
            await rig.callers.attach(request("c1", DUAL))


class Gated(FakeKernel):
    """A kernel that stops in the middle of an attach."""

    def attach(self, endpoint: Endpoint) -> None:
        self.entered.set()
        assert self.gate.wait(10)
        FakeKernel.attach(self, endpoint)

    entered: threading.Event
    gate: threading.Event


@pytest.fixture
def gated() -> Iterator[Gated]:
    kernel = Gated(namespaces={f"/run/netns/c{n}": {} for n in range(10)})
    object.__setattr__(kernel, "gate", threading.Event())
    object.__setattr__(kernel, "entered", threading.Event())
    yield kernel
    kernel.gate.set()


async def test_a_kernel_that_is_slow_stops_nobody_else(path: Path, gated: Gated) -> None:
    async with running(path, gated) as rig:
        adding = asyncio.ensure_future(rig.callers.attach(request("c1")))
        await _until(gated.entered.is_set)
        with pytest.raises(NotFoundError):
            await rig.callers.attach(request("c2", DUAL))
        await rig.callers.detach(key("unknown"))
        assert not adding.done()
        gated.gate.set()
        assert (await adding).addresses == FIRST


async def test_the_order_of_an_endpoints_effects_is_kept(path: Path, gated: Gated) -> None:
    """DEL comes while ADD is being built: in the end nothing is there, and ADD was refused."""
    async with running(path, gated) as rig:
        adding = asyncio.ensure_future(rig.callers.attach(request("c1")))
        await _until(gated.entered.is_set)
        removing = asyncio.ensure_future(rig.callers.detach(key("c1")))
        with pytest.raises(ConflictError, match="being removed"):
            await adding
        gated.gate.set()
        await removing
        assert gated.links == {}
        assert _journalled(path) == set()


async def test_a_caller_that_goes_away_breaks_nothing(path: Path, gated: Gated) -> None:
    async with running(path, gated) as rig:
        adding = asyncio.ensure_future(rig.callers.attach(request("c1")))
        await _until(gated.entered.is_set)
        adding.cancel()
        gated.gate.set()
        assert (await rig.callers.attach(request("c1"))).addresses == FIRST
        removing = asyncio.ensure_future(rig.callers.detach(key("c1")))
        await asyncio.sleep(0)
        removing.cancel()
        await _until(lambda: not gated.links and not list(rig.callers.endpoints()))
        assert rig.callers.waiting == 0
        assert (await rig.callers.attach(request("c2"))).addresses


async def test_many_at_once(path: Path) -> None:
    kernel = kernel_with(*(f"c{n}" for n in range(50)))
    async with running(path, kernel) as rig:
        made = await asyncio.gather(*(rig.callers.attach(request(f"c{n}")) for n in range(50)))
        assert len({endpoint.addresses for endpoint in made}) == 50
        assert len(_journalled(path)) == 50
        await rig.callers.collect(frozenset(key(f"c{n}") for n in range(10)))
        assert len(kernel.links) == 10
        await rig.callers.detach(EndpointKey("c1", ""))
        assert len(kernel.links) == 9


async def test_without_netmaster_an_add_is_refused_in_time(path: Path) -> None:
    async with running(path, kernel_with("c1"), welcome=False, block_timeout=0.1) as rig:
        assert "netmaster" in rig.callers.unready()
        async with asyncio.timeout(TICK / 2):
            with pytest.raises(UnavailableError):
                await rig.callers.attach(request("c1"))


async def test_check_says_what_is_wrong(path: Path) -> None:
    kernel = kernel_with("c1")
    async with running(path, kernel) as rig:
        endpoint = await rig.callers.attach(request("c1"))
        del kernel.endpoint_routes[MAIN_TABLE, FIRST[0]]
        assert await rig.callers.check(endpoint.key)
        with pytest.raises(NotFoundError, match="c2/eth0"):
            await rig.callers.check(key("c2"))


async def test_an_audit_mends(path: Path) -> None:
    kernel = kernel_with("c1")
    async with running(path, kernel, audit_interval=0.05) as rig:
        endpoint = await rig.callers.attach(request("c1"))
        del kernel.links[endpoint.link]
        await _until(lambda: endpoint.link in kernel.links)
        assert rig.thread.audits


async def test_a_switchs_route_is_programmed(path: Path) -> None:
    kernel = kernel_with()
    kernel.links |= {uplink.link: HostLink(addresses=(uplink,)) for uplink in UPLINKS}
    async with running(path, kernel) as rig:
        rig.hear(intent(BLUE))
        for number, peer in enumerate(PEERS):
            hop = PathAttributes(peer.address, (peer.asn,))
            rig.inbox.post(PeerUp(peer.key))
            rig.inbox.post(PathsReceived(peer.key, hop, (DEFAULT,)))
            await _until(partial(_has_hops, kernel, number + 1), 3.0)
        rig.inbox.post(PeerDown(PEERS[0].key, "gone"))
        await _until(lambda: _hops(kernel) == {PEERS[1].address})
        rig.inbox.post(PathsReceived(PEERS[1].key, None, (), (DEFAULT,)))
        await _until(lambda: not kernel.routes and not kernel.nexthops)
        assert len(rig.said(RoutesLearned)) >= 4


def _has_hops(kernel: FakeKernel, number: int) -> bool:
    return len(_hops(kernel)) == number


def _hops(kernel: FakeKernel) -> set[Address]:
    """Return the gateways of the default route."""
    route = next((route for route, _ in kernel.routes.values()), None)
    if not isinstance(route, KernelRoute):
        return set()
    found, _ = kernel.nexthops[route.nexthop]
    members = found.members if isinstance(found, NexthopGroup) else (found.id,)
    return {kernel.nexthops[m][0].gateway for m in members}  # type: ignore[union-attr]


async def test_kernel_work_is_done_in_its_order(gated: Gated) -> None:
    done: list[str] = []
    thread = DatapathThread(gated, lambda event: done.append(type(event).__name__), _quiet)
    endpoint = endpoint_of(request("c1"), "h1", FIRST)
    thread.perform(Attach(endpoint))
    thread.perform(Detach(endpoint))
    asked = asyncio.ensure_future(thread.ask(gated.check, endpoint))
    await _until(gated.entered.is_set)
    gated.gate.set()
    assert await asked == (f"link {endpoint.link} is gone",)
    await _until(lambda: done == ["Attached", "Detached"])
    assert gated.links == {}
    thread.close()


def _quiet(subject: str, text: str) -> None:
    """Take a complaint."""


class Deaf(FakeKernel):
    """A kernel that does not answer at first."""

    def uplinks(self) -> tuple[Uplink, ...]:
        if threading.current_thread() is not threading.main_thread() and self.failures:
            raise self.failures.pop()
        return UPLINKS

    def local_address_for(self, peer: Address) -> Address | None:
        if self.failures:
            raise self.failures.pop()
        return UPLINKS[0].address


async def test_a_kernel_that_does_not_answer_is_asked_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "AGAIN", 0.01)
    monkeypatch.setattr(datapath_thread, "AGAIN", 0.01)
    kernel = Deaf()
    async with running(path, kernel) as rig:
        far = replace(PEERS[0], address=ip_address("192.0.2.1"), multihop=3)
        kernel.fail_next(*[KernelError("netlink: no answer")] * 2)
        rig.hear(intent(BLUE, peers=(far,)))
        await _until(lambda: rig.bgp.told and rig.bgp.sources == {"tor0": "10.90.0.1"})
        await _until(lambda: not rig.warnings.all())
        kernel.fail_next(*[KernelError("netlink: no answer")] * 2)
        rig.thread.read_uplinks()
        await _until(lambda: "uplinks" in rig.warnings.all())
        await _until(lambda: not rig.warnings.all() and not kernel.failures)


class Bell:
    """A monitor that rings when told to, or breaks."""

    def __init__(self, on_uplinks: Callable[[], None], on_touched: Callable[[], None]) -> None:
        self.on_uplinks, self.on_touched = on_uplinks, on_touched
        self.broken = asyncio.Event()

    async def run(self) -> None:
        await self.broken.wait()
        raise KernelError("the monitor broke", "")


async def test_touches_are_audited_and_not_too_often(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_watch, "PAUSE", 0.2)
    made: list[Bell] = []

    def make(on_uplinks: Callable[[], None], on_touched: Callable[[], None]) -> Bell:
        made.append(Bell(on_uplinks, on_touched))
        return made[-1]

    async with running(path, kernel_with(), welcome=False, audit_interval=1000.0) as rig:
        watch = KernelWatch(make, rig.thread)
        began = asyncio.get_running_loop().time()
        while rig.thread.audits < 3:
            made[0].on_touched()
            await asyncio.sleep(0.001)
        assert asyncio.get_running_loop().time() - began >= 0.4
        made[0].on_touched()
        before = rig.thread.audits
        await _until(lambda: rig.thread.audits > before)
        made[0].broken.set()
        with pytest.raises(KernelError):
            await watch.run()
        before = rig.thread.audits
        running_again = asyncio.ensure_future(watch.run())
        await _until(lambda: rig.thread.audits > before)
        assert len(made) == 2
        running_again.cancel()
