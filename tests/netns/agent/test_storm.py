"""Engines at their worst: a hundred interfaces added and deleted at once, with repeats; shims killed at any point, and the agent."""

import asyncio
import json
import os
import random
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from netfabric.agent.cni import build
from netfabric.fabric.attachment import link_name
from netfabric.fabric.endpoint import EndpointKey
from netfabric.lab.namespace import Namespace
from tests.agent.small_netmaster import SmallNetmaster
from tests.netns.agent.conftest import Machine

pytestmark = [pytest.mark.netns, pytest.mark.slow]
CONTAINERS, INTERFACES = 50, ("eth0", "net1")
BUSY = (11, 101)
"""Codes after which an engine may try again: no answer in time, and a DEL of a killed shim still under way."""


@dataclass
class Engine:
    """What container engines do, to one host at a time."""

    machine: Machine
    shim: Path
    chance: random.Random
    threads: ThreadPoolExecutor
    answers: dict[EndpointKey, Any] = field(default_factory=dict)
    """Results of what is alive: of the last ADD, and of no DEL since."""
    calls: int = 0
    killed: int = 0

    async def live(self, key: EndpointKey) -> None:
        """Take one interface through some ADDs and DELs, and end with one of them done."""
        for _ in range(self.chance.randint(0, 3)):
            await self._together(self.chance.choice(("ADD", "ADD", "DEL")), key)
        await self.finish(self.chance.choice(("ADD", "DEL")), key)

    async def _together(self, command: str, key: EndpointKey) -> None:
        """Run the same call up to three times at once, and kill some of them."""
        times = self.chance.choice((1, 1, 2, 3))
        ends = [self.chance.choice((None, self.chance.expovariate(100))) for _ in range(times)]
        await asyncio.gather(*(self.call(command, key, end) for end in ends))

    async def finish(self, command: str, key: EndpointKey) -> None:
        """Run a call until it is done, as engines do."""
        async with asyncio.timeout(90):
            while True:
                status, said = await self.call(command, key)
                if status == 0:
                    break
                assert said["code"] in (BUSY if command == "ADD" else BUSY[:1]), said
                await asyncio.sleep(0.02)  # as an engine waits before it tries again
        self.answers.pop(key, None)
        if command == "ADD":
            self.answers[key] = said

    async def call(
        self, command: str, key: EndpointKey, kill_after: float | None = None, **more: Any
    ) -> tuple[int, Any]:
        """Run the plugin; kill it after some seconds, if it still runs then."""
        self.calls += 1
        namespace = self.machine.containers[key.container].path
        variables = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": key.container,
            "CNI_IFNAME": key.interface,
            "CNI_NETNS": str(namespace) if command != "DEL" or self.calls % 3 else "",
            "CNI_PATH": "/opt/cni/bin",
            "NETFABRIC_CNI_SOCKET": str(self.machine.directory / "run" / "cni.sock"),
        }
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, self._run, variables, kill_after, more)

    def _run(
        self, variables: dict[str, str], kill_after: float | None, more: dict[str, Any]
    ) -> tuple[int, Any]:
        stdin = {"cniVersion": "1.0.0", "name": "n", "type": "netfabric", "network": "blue", **more}
        with subprocess.Popen(
            self.shim, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            try:
                out, _ = process.communicate(json.dumps(stdin).encode(), kill_after or 60)
            except subprocess.TimeoutExpired:
                assert kill_after is not None, "a call is answered"
                self.killed += 1
                process.kill()
                out, _ = process.communicate()
        return process.returncode, json.loads(out) if out else None


@pytest.fixture
async def engine(machine: Machine, netmaster: SmallNetmaster) -> AsyncIterator[Engine]:
    seed = int(os.environ.get("NETFABRIC_SEED", random.randrange(1 << 32)))
    print(f"NETFABRIC_SEED={seed}")  # noqa: T201  pytest shows it where the test fails
    machine.start(netmaster.address, "--cool-down", "1")
    await machine.serving(netmaster.address)
    shim = build.build(machine.directory / "bin").path
    with ThreadPoolExecutor(2 * CONTAINERS * len(INTERFACES)) as threads:
        yield Engine(machine, shim, random.Random(seed), threads)


async def test_what_is_there_is_what_is_alive(engine: Engine, netmaster: SmallNetmaster) -> None:
    keys = [EndpointKey(f"c{n}", name) for n in range(CONTAINERS) for name in INTERFACES]
    for key in keys[:: len(INTERFACES)]:
        engine.machine.container(key.container)
    await asyncio.gather(*(engine.finish("ADD", key) for key in keys))
    await _settled(engine, netmaster, keys)
    async with asyncio.TaskGroup() as group:
        lives = [group.create_task(engine.live(key)) for key in keys]
        await asyncio.sleep(engine.chance.uniform(0, 0.5))  # the moment itself is what is tried
        engine.machine.kill()
        assert not all(life.done() for life in lives), "the agent died in the storm"
        engine.machine.start(netmaster.address, "--cool-down", "1")
    await engine.machine.serving(netmaster.address)
    await _settled(engine, netmaster, keys)
    assert engine.killed > len(keys) / 10, "the storm was one"
    await asyncio.gather(*(engine.finish("DEL", key) for key in keys))
    await _settled(engine, netmaster, keys)
    await engine.machine.until(lambda: _cooling(engine.machine) == 0, "every address is free again")


async def test_check_sees_what_others_did_to_the_packet_filter(engine: Engine) -> None:
    """SPEC 1.1.0, "CHECK": a plugin says so where firewall rules are missing."""
    key, host = EndpointKey("c0", "eth0"), engine.machine.namespace
    engine.machine.container(key.container)
    await engine.finish("ADD", key)
    check = partial(engine.call, "CHECK", key, prevResult=engine.answers[key])
    assert await check() == (0, None)
    for damage, words in (
        ("flush set inet netfabric sources", "its set sources"),
        ("flush set inet netfabric sources6", "its set sources6"),
        ("delete table inet netfabric", "its set sources"),
    ):
        host.run("nft", damage)
        status, said = await check()
        assert (status, said["code"], words in said["msg"]) == (1, 104, True), said


async def _settled(engine: Engine, netmaster: SmallNetmaster, keys: list[EndpointKey]) -> None:
    """Wait until what a killed shim began has ended; then everyone knows the same."""
    machine, alive = engine.machine, engine.answers
    links = {link_name(key) for key in alive}
    await machine.until(lambda: not machine.status()["waiting"], "nobody waits")
    await machine.until(lambda: _links(machine.namespace, "nf") == links, "links are the alive's")
    await machine.until(lambda: netmaster.endpoints.keys() == alive.keys(), "netmaster knows")
    assert _journalled(machine) == {(str(key), 0) for key in alive}
    given = {key: _addresses(answer) for key, answer in alive.items()}
    every = [address for addresses in given.values() for address in addresses]
    assert len(every) == len(set(every)) == 2 * len(alive)
    assert _routed(machine) == set(every)
    assert _filtered(machine) == {
        (link_name(key), address) for key, addresses in given.items() for address in addresses
    }
    for key, endpoint in netmaster.endpoints.items():
        assert [str(address) for address in endpoint.addresses] == given[key]
    for container in {key.container for key in keys}:
        namespace = machine.containers[container]
        here = {key.interface for key in alive if key.container == container}
        assert _links(namespace, INTERFACES) == here
        assert _own(namespace) == {a for i in here for a in given[EndpointKey(container, i)]}


def _addresses(answer: dict[str, Any]) -> list[str]:
    return [ip["address"].partition("/")[0] for ip in answer["ips"]]


def _links(namespace: Namespace, prefix: str | tuple[str, ...]) -> set[str]:
    shown = json.loads(namespace.run("ip", "-j", "link") or "[]")
    return {one["ifname"] for one in shown if one["ifname"].startswith(prefix)}


def _own(namespace: Namespace) -> set[str]:
    """Return a container's addresses that its host gave it."""
    shown = json.loads(namespace.run("ip", "-j", "address", "show", "scope", "global") or "[]")
    return {found["local"] for one in shown for found in one.get("addr_info", ())}


def _routed(machine: Machine) -> set[str]:
    """Return the addresses that have a route of ours to a link of ours."""
    shown: list[dict[str, Any]] = []
    for family in ("-4", "-6"):
        words = ("ip", "-j", family, "route", "show", "proto", "200")
        shown += json.loads(machine.namespace.run(*words) or "[]")
    return {one["dst"] for one in shown if one["dev"].startswith("nf")}


def _filtered(machine: Machine) -> set[tuple[str, str]]:
    """Return links and the addresses that may be sent from on them."""
    return {
        (link, address)
        for name in ("sources", "sources6")
        for link, _, address in _elements(machine, name)
    }


def _elements(machine: Machine, name: str) -> Iterable[list[str]]:
    said = machine.namespace.run("nft", "-j", "list", "set", "inet", "netfabric", name)
    (found,) = (one["set"] for one in json.loads(said)["nftables"] if "set" in one)
    return [element["concat"] for element in found.get("elem", ())]


def _journalled(machine: Machine) -> set[tuple[str, int]]:
    return set(_ask(machine, "SELECT key, detaching FROM endpoint"))


def _cooling(machine: Machine) -> int:
    ((count,),) = _ask(machine, "SELECT COUNT(*) FROM cool")
    return int(count)


def _ask(machine: Machine, question: str) -> list[Any]:
    database = sqlite3.connect(machine.directory / "state" / "journal.db")
    try:
        return database.execute(question).fetchall()
    finally:
        database.close()
