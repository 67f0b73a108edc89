"""A host without fabric: the real datapath behind the real CNI server, in namespaces of its own."""

import asyncio
import itertools
import json
import os
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest

from netfabric.agent.cni import build
from netfabric.agent.cni.server import CniServer
from netfabric.agent.datapath.datapath import RoutedDatapath
from netfabric.fabric.attachment import endpoint_of
from netfabric.fabric.endpoint import AttachRequest, Endpoint, EndpointKey
from netfabric.fabric.errors import NotFoundError
from netfabric.fabric.network import Network
from netfabric.lab.namespace import Namespace

HOST_ADDRESSES = ("10.250.0.1", "fd00:250::1")
"""What containers ping."""
_serial = itertools.count()


@dataclass
class Direct:
    """Implements `Requests` with a datapath and nothing else: no journal, no announcement, no blocks."""

    datapath: RoutedDatapath
    up: dict[EndpointKey, Endpoint] = field(default_factory=dict)

    async def attach(self, request: AttachRequest) -> Endpoint:
        endpoint = self.up.get(request.key)
        if endpoint is None:
            number = len(self.up) + 2
            given = (IPv4Address(0x0A010000 + number), IPv6Address((0xFD000001 << 96) + number))
            endpoint = endpoint_of(request, "host-1", request.addresses or given)
        self.datapath.attach(endpoint)
        self.up[request.key] = endpoint
        return endpoint

    async def detach(self, key: EndpointKey) -> None:
        if endpoint := self.up.pop(key, None):
            self.datapath.detach(endpoint)

    async def collect(self, valid: frozenset[EndpointKey]) -> None:
        raise NotImplementedError

    async def check(self, key: EndpointKey) -> tuple[str, ...]:
        if key not in self.up:
            raise NotFoundError(f"endpoint {key}: not known here", "ADD it")
        return self.datapath.check(self.up[key])

    def unready(self) -> str:
        return ""

    def endpoints(self) -> Iterable[Endpoint]:
        return self.up.values()

    def network(self, key: str) -> Network | None:
        return None


@dataclass(frozen=True)
class Host:
    """A host's namespace with its agent's socket, and the plugin that an engine would run."""

    namespace: Namespace
    socket: Path
    command: tuple[str, ...]
    directory: Path

    async def call(
        self,
        command: str,
        container: str,
        namespace: str | Path,
        interface: str = "eth0",
        **changes: Any,
    ) -> tuple[int, Any]:
        """Run the plugin; return its status and what it printed, read as JSON."""
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": str(namespace),
            "CNI_IFNAME": interface,
        }
        stdin = {"cniVersion": "1.1.0", "name": "n", "type": "netfabric", **changes}
        process = await asyncio.create_subprocess_exec(
            *self.command,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        text = json.dumps({**stdin, "socket": str(self.socket)}).encode()
        async with asyncio.timeout(30):
            out, _ = await process.communicate(text)
        assert process.returncode is not None
        return process.returncode, json.loads(out) if out else None

    def ours(self) -> list[str]:
        """Return what of ours is in the host's namespace."""
        links = self.namespace.run("ip", "-br", "link").splitlines()
        words = [line for line in links if line.startswith("nf")]
        for family in ("-4", "-6"):
            words += self.namespace.run("ip", family, "route", "show", "proto", "200").splitlines()
            words += self.namespace.run(
                "ip", family, "neigh", "show", "nud", "permanent"
            ).splitlines()
        return words

    async def becomes_empty(self) -> None:
        """Wait until nothing of ours is left: links are removed a moment after they are detached."""
        async with asyncio.timeout(10):
            while self.ours():  # noqa: ASYNC110 the kernel sets no event
                await asyncio.sleep(0.02)


def own_name(kind: str) -> str:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    return f"nfcn{worker}-{os.getpid()}-{kind}{next(_serial)}"


@pytest.fixture(scope="session", params=["c", "python"])
def command(request: pytest.FixtureRequest) -> Iterator[tuple[str, ...]]:
    """Both shims: an engine sees no difference."""
    with tempfile.TemporaryDirectory(prefix="nfcn-") as name:
        compilers = ("cc", "gcc") if request.param == "c" else ()
        yield (str(build.build(Path(name), compilers).path),)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
async def host(stack: ExitStack, command: tuple[str, ...]) -> AsyncIterator[Host]:
    namespace = Namespace(own_name("h"))
    stack.callback(namespace.delete)
    namespace.create()
    for address in HOST_ADDRESSES:
        namespace.run("ip", "addr", "add", address, "dev", "lo")
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nfcn-")))
    datapath = RoutedDatapath(namespace.path)
    stack.callback(datapath.close)
    datapath.prepare()
    server = CniServer(Direct(datapath), directory / "cni.sock")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(server.run())
        await server.listening.wait()
        yield Host(namespace, directory / "cni.sock", command, directory)
        task.cancel()


@pytest.fixture
def container(stack: ExitStack) -> Namespace:
    namespace = Namespace(own_name("c"))
    stack.callback(namespace.delete)
    namespace.create()
    return namespace
