"""The machines of a lab that run netfabric: the controller with its store, and the hosts with their agents."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from netfabric.api.netctl.client import Netmaster
from netfabric.fabric.errors import FabricError, NotFoundError
from netfabric.lab.container import Engine
from netfabric.lab.files import Files
from netfabric.lab.namespace import Namespace
from netfabric.lab.plan import NETMASTER_ADDRESS, Node
from netfabric.lab.process import Process
from netfabric.lab.settings import StoreKind

COMMANDS = Path(sys.executable).parent
REST_PORT, GRPC_PORT = 9999, 50051
URL = f"http://127.0.0.1:{REST_PORT}"
Answer = TypeVar("Answer")


class Controller:
    """netmaster and its store, in one namespace."""

    def __init__(self, files: Files, node: Node, store: StoreKind) -> None:
        self.namespace = Namespace(node.namespace)
        directory = files.node(node.name)
        self.netmaster = Process(node.name, "netmaster", self.namespace, directory)
        self._state = files.node_state(node.name)
        self._store = store

    @property
    def processes(self) -> tuple[Process, ...]:
        """Return what runs here."""
        return (self.netmaster,)

    def start(self) -> None:
        """Start the store and netmaster."""
        self._start_netmaster()

    def restart(self, process: str) -> None:
        """Start one of the processes again; raise NotFoundError for one that is not here."""
        if process != self.netmaster.name:
            raise NotFoundError(f"{self.netmaster.node}: no process {process!r}", "say netmaster")
        self._start_netmaster()

    def _start_netmaster(self) -> None:
        self.netmaster.start(
            str(COMMANDS / "netmaster"),
            *("--store", self._store_url()),
            *("--rest", f"0.0.0.0:{REST_PORT}"),
            *("--grpc", f"0.0.0.0:{GRPC_PORT}"),
        )

    def _store_url(self) -> str:
        return f"sqlite:{self._state / 'store.db'}"

    def ask(self, question: Callable[[Netmaster], Answer]) -> Answer:
        """Let `question` speak to netmaster's REST interface, from inside its namespace."""
        with self.namespace.entered():
            return question(Netmaster(URL))

    def answers(self) -> bool:
        """Return whether netmaster serves; raise LabError where it has ended."""
        self.netmaster.check()
        try:
            self.ask(lambda netmaster: netmaster.items("globals"))
        except FabricError:
            return False
        return True

    def netctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run netctl beside netmaster."""
        command = self.namespace.command(str(COMMANDS / "netctl"), "--netmaster", URL, *words)
        return subprocess.run(command, capture_output=True, text=True, check=False)


class Machine:
    """A host: its agent, and the engine that attaches containers through it."""

    def __init__(self, files: Files, node: Node, plugin: Path) -> None:
        self.node = node
        self.namespace = Namespace(node.namespace)
        self.directory = files.node(node.name)
        self._state = files.node_state(node.name)
        self.netplugin = Process(node.name, "netplugin", self.namespace, self.directory)
        self.exabgp = Process(node.name, "exabgp", self.namespace, self.directory / "exabgp")
        self.engine = Engine(
            host=node.name,
            namespace=self.namespace,
            plugin=plugin,
            socket=self.directory / "cni.sock",
            cache=self.directory / "containers",
            log=self.netplugin.log,
        )

    @property
    def processes(self) -> tuple[Process, ...]:
        """Return what runs here; ExaBGP is the agent's to start."""
        return self.netplugin, self.exabgp

    def start(self) -> None:
        """Start the agent."""
        self.netplugin.start(
            str(COMMANDS / "netplugin"),
            *("--host", self.node.name),
            *("--netmaster", f"{NETMASTER_ADDRESS}:{GRPC_PORT}"),
            *("--run-dir", str(self.directory)),
            *("--state-dir", str(self._state)),
        )

    def answers(self) -> bool:
        """Return whether the agent's CNI socket is there; raise LabError where it has ended."""
        self.netplugin.check()
        return self.engine.socket.exists()
