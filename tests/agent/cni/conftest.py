"""An agent that answers CNI without a kernel, and the two shims that call it."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from typing import Any

import pytest

from netfabric.agent.cni import build
from netfabric.agent.cni.server import CniServer
from netfabric.fabric.attachment import endpoint_of
from netfabric.fabric.endpoint import AttachRequest, Endpoint, EndpointKey
from netfabric.fabric.errors import ConflictError, FabricError, NotFoundError
from netfabric.fabric.network import Network, whole_range
from netfabric.fabric.prefix import Address

DUAL = Network(
    "default",
    "default-net",
    "routed",
    (whole_range(ip_network("10.1.0.0/24")), whole_range(ip_network("fd00:1::/64"))),
)
BLUE = Network("acme", "blue", "routed", (whole_range(ip_network("10.2.0.0/24")),))


@dataclass
class Ledger:
    """Implements `Requests` by executing it on dicts: one owner an address, one attachment a key."""

    networks: dict[str, Network] = field(
        default_factory=lambda: {network.key: network for network in (DUAL, BLUE)}
    )
    up: dict[EndpointKey, Endpoint] = field(default_factory=dict)
    building: dict[EndpointKey, "asyncio.Future[Endpoint]"] = field(default_factory=dict)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is not set, an ADD takes forever."""
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """An ADD has begun."""
    problems: tuple[str, ...] = ()
    reason: str = ""
    broken: Exception | None = None
    given: int = 0
    seen: list[AttachRequest] = field(default_factory=list)

    async def attach(self, request: AttachRequest) -> Endpoint:
        self.seen.append(request)
        if self.broken:
            raise self.broken
        if request.key in self.up:
            return self.up[request.key]
        if request.key not in self.building:
            self.building[request.key] = asyncio.get_running_loop().create_future()
            self.asked.set()
            asyncio.get_running_loop().call_soon(self._begin, request)
        return await asyncio.shield(self.building[request.key])

    def _begin(self, request: AttachRequest) -> None:
        if not self.gate.is_set():
            asyncio.get_running_loop().call_later(0.005, self._begin, request)
            return
        future = self.building.pop(request.key, None)
        if future is None or future.done():
            return
        try:
            endpoint = endpoint_of(request, "host-1", self._addresses(request))
            self.up[request.key] = endpoint
            future.set_result(endpoint)
        except FabricError as error:
            future.set_exception(error)

    def _addresses(self, request: AttachRequest) -> tuple[Address, ...]:
        network = self.network(f"{request.tenant}:{request.network}")
        if network is None:
            raise NotFoundError(f"network {request.tenant}:{request.network}: not known", "make it")
        self.given += 1
        found: list[Address] = []
        for one in network.ranges:
            kind = IPv6Address if isinstance(one.subnet, IPv6Network) else IPv4Address
            wanted = [a for a in request.addresses if isinstance(a, kind)]
            address = wanted[0] if wanted else kind(int(one.first) + self.given)
            if any(address in endpoint.addresses for endpoint in self.up.values()):
                raise ConflictError(f"address {address}: in use", "ask for another")
            found.append(address)
        return tuple(found)

    async def detach(self, key: EndpointKey) -> None:
        if self.broken:
            raise self.broken
        if future := self.building.pop(key, None):
            future.set_exception(ConflictError(f"endpoint {key} is being removed", "try again"))
            future.exception()
        await asyncio.sleep(0)
        self.up.pop(key, None)

    async def collect(self, valid: frozenset[EndpointKey]) -> None:
        raise AssertionError("a CNI GC is of one network")

    async def check(self, key: EndpointKey) -> tuple[str, ...]:
        if self.broken:
            raise self.broken
        if key not in self.up:
            raise NotFoundError(f"endpoint {key}: not known here", "ADD it")
        return self.problems

    def unready(self) -> str:
        return self.reason

    def endpoints(self) -> Iterable[Endpoint]:
        return self.up.values()

    def network(self, key: str) -> Network | None:
        return self.networks.get(key)


@dataclass(frozen=True)
class Ran:
    """What a run of the plugin left behind."""

    status: int
    out: str
    error: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Shim:
    """One of the two plugins."""

    command: tuple[str, ...]

    def run(self, environment: Mapping[str, str], stdin: bytes = b"") -> Ran:
        """Run it without an agent of this process."""
        done = subprocess.run(
            self.command, input=stdin, env=environment, capture_output=True, check=False, timeout=30
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    async def call(self, environment: Mapping[str, str], stdin: bytes = b"") -> Ran:
        """Run it while this process goes on."""
        process = await asyncio.create_subprocess_exec(
            *self.command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        async with asyncio.timeout(30):
            out, error = await process.communicate(stdin)
        assert process.returncode is not None
        return Ran(process.returncode, out.decode(), error.decode())


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    ledger.gate.set()
    return ledger


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A directory whose name leaves room for a socket's path."""
    with tempfile.TemporaryDirectory(prefix="nfcn-") as name:
        yield Path(name)


Agent = Callable[[Ledger], AbstractAsyncContextManager[Path]]


@pytest.fixture
def agent(run_dir: Path) -> Agent:
    """Runs the server on a ledger; what it gives is the socket."""

    @asynccontextmanager
    async def running(ledger: Ledger) -> AsyncIterator[Path]:
        server = CniServer(ledger, run_dir / "cni.sock")
        async with asyncio.TaskGroup() as group:
            task = group.create_task(server.run())
            await server.listening.wait()
            try:
                yield run_dir / "cni.sock"
            finally:
                task.cancel()

    return running


@pytest.fixture(scope="session")
def both() -> Iterator[dict[str, Shim]]:
    with tempfile.TemporaryDirectory(prefix="nfcn-") as name:
        built = build.build(Path(name))
        assert built.how.startswith("C ("), built.how
        source = Path(build.__file__).with_name("shim.py")
        python = os.environ.get("NETFABRIC_TEST_PYTHON", "/usr/bin/python3")
        if not os.access(python, os.X_OK):
            python = sys.executable
        yield {"c": Shim((str(built.path),)), "python": Shim((python, "-ISE", str(source)))}


@pytest.fixture(params=["c", "python"])
def shim(request: pytest.FixtureRequest, both: dict[str, Shim]) -> Shim:
    return both[request.param]


def variables(command: str, **changes: str) -> dict[str, str]:
    """Return what an engine puts into the environment; a change to "-" takes a variable away."""
    found = {
        "PATH": "/usr/bin:/bin",
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "c0ffee",
        "CNI_NETNS": "/run/netns/blue",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/opt/cni/bin",
        **changes,
    }
    return {name: value for name, value in found.items() if value != "-"}


def configuration(version: str = "1.0.0", **changes: Any) -> bytes:
    """Return a network configuration as it comes on standard input."""
    base = {"cniVersion": version, "name": "netfabric", "type": "netfabric"}
    return json.dumps({**base, **changes}).encode()
