"""A host in a namespace: the real `netplugin`, a netmaster beside it, containers attached over the CNI socket."""

import asyncio
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from netfabric.fabric.network import Network, whole_range
from netfabric.lab.namespace import Namespace, wire
from tests.agent.small_netmaster import SmallNetmaster

NETPLUGIN = str(Path(sys.executable).parent / "netplugin")
BLUE = Network(
    "default",
    "blue",
    "routed",
    (whole_range(ip_network("10.77.0.0/16")), whole_range(ip_network("fd77::/64"))),
)
PATIENCE = 15.0


@dataclass
class Machine:
    """A host and its agent."""

    namespace: Namespace
    tor: Namespace
    directory: Path
    words: tuple[str, ...] = ()
    containers: dict[str, Namespace] = field(default_factory=dict)
    agent: "subprocess.Popen[bytes] | None" = None

    @property
    def log(self) -> Path:
        return self.directory / "netplugin.log"

    def start(self, netmaster: str, *more: str) -> "subprocess.Popen[bytes]":
        """Start the agent, in the host's namespace unless it is told to go there."""
        words = (
            *(NETPLUGIN, "--host", "h1", "--netmaster", netmaster),
            *(
                "--run-dir",
                str(self.directory / "run"),
                "--state-dir",
                str(self.directory / "state"),
            ),
            *more,
        )
        with self.log.open("ab") as log:
            self.agent = subprocess.Popen(
                words if "--namespace" in more else self.namespace.command(*words),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        return self.agent

    def kill(self, number: int = signal.SIGKILL) -> int:
        """End the agent; return its exit status."""
        assert self.agent
        self.agent.send_signal(number)
        return self.agent.wait(PATIENCE)

    def status(self) -> dict[str, Any]:
        """Return what the agent says of itself; nothing where none answers."""
        with suppress(OSError, ValueError), socket.socket(socket.AF_UNIX) as asker:
            asker.settimeout(5)
            asker.connect(str(self.directory / "run" / "status.sock"))
            said = b""
            while data := asker.recv(1 << 16):
                said += data
            found = json.loads(said)
            assert isinstance(found, dict)
            return found
        return {}

    async def until(
        self, holds: Callable[[], object], what: str, patience: float = PATIENCE
    ) -> None:
        """Wait for a condition."""
        end = time.monotonic() + patience
        while not holds():
            if self.agent and self.agent.poll() is not None:
                pytest.fail(f"netplugin ended: {self.log.read_text()[-2000:]}")
            if time.monotonic() > end:
                pytest.fail(f"{what} within {patience} s: {self.log.read_text()[-3000:]}")
            await asyncio.sleep(0.02)

    async def serving(self, netmaster: str = "") -> None:
        """Wait until an ADD would be served (and, where named, a netmaster is followed)."""
        await self.until(
            lambda: (
                (s := self.status())
                and not s["unready"]
                and (not netmaster or s["netmaster"] == netmaster)
            ),
            "the agent serves",
        )

    def container(self, name: str) -> Namespace:
        """Return a container's namespace, made if it is not there."""
        if name not in self.containers:
            found = Namespace(f"{self.namespace.name}c{name}")
            found.create()
            self.containers[name] = found
        return self.containers[name]

    async def cni(self, command: str, name: str, **more: str) -> dict[str, Any]:
        """Call the agent's CNI socket as the plugin does; return the answer, an error too."""
        return await asyncio.to_thread(self._cni, command, name, more)

    def _cni(self, command: str, name: str, more: dict[str, str]) -> dict[str, Any]:
        variables = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": f"id-{name}",
            "CNI_IFNAME": "eth0",
            "CNI_NETNS": str(self.containers[name].path) if name in self.containers else "",
            "CNI_PATH": "/opt/cni/bin",
            **more,
        }
        environment = b"".join(f"{n}={v}\0".encode() for n, v in variables.items())
        configuration = json.dumps(
            {"cniVersion": "1.1.0", "name": "n", "type": "netfabric", "network": "blue"}
        ).encode()
        header = struct.pack("!4sII", b"NFC1", len(environment), len(configuration))
        with socket.socket(socket.AF_UNIX) as asker:
            asker.settimeout(PATIENCE)
            asker.connect(str(self.directory / "run" / "cni.sock"))
            asker.sendall(header + environment + configuration)
            said = b""
            while data := asker.recv(1 << 16):
                said += data
        text = said[12:]
        return json.loads(text) if text.strip() else {}

    async def add(self, name: str) -> list[str]:
        """Attach a container, once a DEL of it that a restart resumes has ended; return its addresses."""
        self.container(name)
        end = time.monotonic() + PATIENCE
        while "being removed" in (answer := await self.cni("ADD", name)).get("msg", ""):
            if time.monotonic() > end:
                break
            await asyncio.sleep(0.02)
        assert "ips" in answer, answer
        return [ip["address"].partition("/")[0] for ip in answer["ips"]]

    def pings(self, name: str, address: str) -> bool:
        """Return whether a container reaches an address."""
        words = self.containers[name].command("ping", "-c", "1", "-W", "1", address)
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    def clear(self) -> None:
        """End and remove everything."""
        if self.agent and self.agent.poll() is None:
            self.kill()
        with suppress(OSError, ValueError):
            pid = int((self.directory / "run" / "exabgp" / "exabgp.pid").read_text())
            if str(self.directory).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        for namespace in (*self.containers.values(), self.namespace, self.tor):
            namespace.delete()


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that ExaBGP's unprivileged user may enter."""
    with TemporaryDirectory(prefix="nfag") as made:
        path = Path(made)
        path.chmod(0o755)
        yield path


@pytest.fixture
def machine(directory: Path) -> Iterator[Machine]:
    """A host wired to one switch's namespace, over IPv4 and IPv6."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    name = f"nfag{os.getpid() % 100000}{worker}"
    host, tor = Namespace(f"{name}h"), Namespace(f"{name}t")
    made = Machine(host, tor, directory)
    with ExitStack() as stack:
        stack.callback(made.clear)
        for namespace in (host, tor):
            namespace.create()
        wire((host, "up0"), (tor, "down0"))
        for namespace, link, last in ((host, "up0", 1), (tor, "down0", 0)):
            namespace.run("ip", "address", "add", f"10.90.0.{last}/31", "dev", link)
            namespace.run("ip", "address", "add", f"fd90::{last}/127", "dev", link, "nodad")
        yield made


@pytest.fixture
async def netmaster(machine: Machine) -> AsyncIterator[SmallNetmaster]:
    """A netmaster in the host's own namespace, with a network and nothing else."""
    made = SmallNetmaster(networks=(BLUE,))
    async with made.serving(machine.namespace.entered()):
        yield made
