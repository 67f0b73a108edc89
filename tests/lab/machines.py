"""The machines of a lab that run netfabric: the controller with its store, and the hosts with their agents."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from netfabric.api.netctl.client import Netmaster
from netfabric.fabric.errors import FabricError, NotFoundError
from netfabric.lab.container import Engine
from netfabric.lab.etcd import Etcd
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
        directory, state = files.node(node.name), files.node_state(node.name)
        self._conf = directory / "netmaster.toml"
        self.netmaster = Process(node.name, "netmaster", self.namespace, directory)
        self._etcd = (
            Etcd("etcd", state / "etcd", namespace=self.namespace) if store == "etcd" else None
        )
        self.store_url = self._etcd.url if self._etcd else f"sqlite:{state / 'store.db'}"

    @property
    def processes(self) -> tuple[Process, ...]:
        """Return what runs here."""
        if self._etcd is None:
            return (self.netmaster,)
        etcd = Process(self.netmaster.node, "etcd", self.namespace, self._etcd.data_dir)
        return self.netmaster, etcd

    def start(self) -> None:
        """Start netmaster and the store, and wait for the store."""
        text = _toml(store=self.store_url, rest=f"0.0.0.0:{REST_PORT}", grpc=f"0.0.0.0:{GRPC_PORT}")
        self._conf.write_text(text)
        for process in reversed(self.processes):
            self.restart(process.name)

    def restart(self, process: str) -> None:
        """Start one of the processes again; raise NotFoundError for one that is not here."""
        if process == "etcd" and self._etcd:
            self._etcd.start()
        elif process == "netmaster":
            command = str(COMMANDS / "netmaster"), "--config", str(self._conf)
            self.netmaster.start(*command, environment=_environment())
        else:
            names = ", ".join(process.name for process in self.processes)
            raise NotFoundError(
                f"{self.netmaster.node}: no process {process!r}", f"there are: {names}"
            )

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

    def __init__(self, files: Files, node: Node) -> None:
        self.node = node
        self.namespace = Namespace(node.namespace)
        self.directory = files.node(node.name)
        self._state = files.node_state(node.name)
        self.more: dict[str, str] = {}
        """Further settings of the agent, for its next start."""
        self.netplugin = Process(node.name, "netplugin", self.namespace, self.directory)
        self.exabgp = Process(node.name, "exabgp", self.namespace, self.directory / "exabgp")
        self.engine = Engine(
            host=node.name,
            namespace=self.namespace,
            plugin=self.directory / "cni/bin/netfabric",
            configurations=self.directory / "cni/net.d",
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
        conf = self.directory / "netplugin.toml"
        conf.write_text(
            _toml(
                host=self.node.name,
                netmaster=f"{NETMASTER_ADDRESS}:{GRPC_PORT}",
                run_dir=str(self.directory),
                state_dir=str(self._state),
                **({"vtep": str(self.node.vtep)} if self.node.vtep else {}),
                cnm_socket=str(self.directory / "cnm.sock"),
                **self.more,
            )
        )
        command = str(COMMANDS / "netplugin"), "--config", str(conf)
        self.netplugin.start(*command, environment=_environment())

    def answers(self) -> bool:
        """Return whether the agent's CNI socket is there; raise LabError where it has ended."""
        self.netplugin.check()
        return self.engine.socket.exists()


def _toml(**settings: str) -> str:
    lines = (f"{name.replace('_', '-')} = {json.dumps(value)}" for name, value in settings.items())
    return "\n".join(lines) + "\n"


def _environment() -> dict[str, str]:
    """Settings that the user has for a netfabric of their own are not for the lab's."""
    foreign = ("NETMASTER", "NETPLUGIN", "CONTIV")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
