"""A fabric of two hosts that are the nodes of a cluster, played by an API server beside netmaster."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_interface
from pathlib import Path
from typing import Any, TypeVar

import pytest

from netfabric.fabric.pod import Pod
from netfabric.lab.lab import Lab
from netfabric.lab.machines import COMMANDS
from netfabric.lab.namespace import Namespace
from netfabric.lab.settings import Settings
from tests.kubernetes_api import Api, kubeconfig
from tests.kubernetes_objects import Object, as_object, namespace
from tests.kubernetes_reference import World

Answer = TypeVar("Answer")
PREFIX = "nfk8"
BLUE = {
    "tenantName": "default",
    "networkName": "blue",
    "encap": "routed",
    "subnet": "10.2.0.0/24",
    "ipv6Subnet": "fd10:2::/64",
}
SPACES = {"default": {"io.contiv.network": "blue"}, "other": {"project": "myproject"}}
"""Pods of `other` are on `lab`, by their own label."""
PODS = {
    "default/db": {"role": "db"},
    "default/front": {"role": "frontend"},
    "default/back": {"role": "backend"},
    "other/client": {"role": "client", "io.contiv.network": "lab"},
}
WEB = {("web", "TCP"): 8080}
"""Every pod's named ports."""


class Server:
    """The API server, in a thread of its own, on a socket of netmaster's namespace."""

    def __init__(self, where: Namespace) -> None:
        self.api = Api()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        with where.entered():
            self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]

    @contextmanager
    def serving(self) -> Iterator["Server"]:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.api.start(self._listening), self._loop).result(10)
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(self.api.stop(), self._loop).result(10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def do(self, change: Callable[[Api], Answer]) -> Answer:
        """Change the cluster, in the server's thread."""

        async def work() -> Answer:
            return change(self.api)

        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(10)


@dataclass
class Attached:
    """A pod's sandbox as the engine has it."""

    namespace: Namespace
    addresses: dict[int, str]
    """By family."""


@dataclass
class Cluster:
    """Nodes, the API server, and pods that run."""

    lab: Lab
    server: Server
    running: dict[str, Attached] = field(default_factory=dict)

    @property
    def nodes(self) -> list[str]:
        return list(self.lab.machines)

    def put(self, raw: Object) -> None:
        self.server.do(lambda api: api.put(raw))

    def delete(self, resource: str, key: str) -> None:
        self.server.do(lambda api: api.delete(resource, key))

    def world(self) -> World:
        """Return the cluster as the reference evaluator knows it."""
        objects = self.server.api.objects
        spaces = objects["namespaces"].items()
        return World(
            {name: raw["metadata"]["labels"] for name, raw in spaces},
            dict(objects["pods"]),
            dict(objects.get("networkpolicies", {})),
        )

    def schedule(self, key: str, node: str, labels: dict[str, str]) -> None:
        """Let the scheduler put a pod on a node."""
        where, _, name = key.partition("/")
        self.put(as_object(Pod(where, name, node, f"u-{name}", labels, WEB), phase="Pending"))

    def run(self, key: str, node: str) -> Attached:
        """Do what kubelet's engine does: make the sandbox, and call the plugin."""
        where, _, name = key.partition("/")
        sandbox = Namespace(f"{self.lab.settings.name}-{where}-{name}")
        sandbox.create()
        result = self._call("ADD", key, node, sandbox)
        found = (ip_interface(entry["address"]).ip for entry in result["ips"])
        made = Attached(sandbox, {address.version: str(address) for address in found})
        self.running[key] = made
        return made

    def _call(self, command: str, key: str, node: str, sandbox: Namespace) -> dict[str, Any]:
        machine = self.lab.machines[node]
        where, _, name = key.partition("/")
        conf = json.loads((machine.directory / "k8s.d/10-netfabric.conflist").read_text())
        binary = machine.directory / "k8s/netfabric"
        arguments = (
            f"IgnoreUnknown=1;K8S_POD_NAMESPACE={where};K8S_POD_NAME={name};K8S_POD_UID=u-{name}"
        )
        done = subprocess.run(
            machine.namespace.command(str(binary)),
            input=json.dumps(conf["plugins"][0] | {n: conf[n] for n in ("name", "cniVersion")}),
            env=os.environ
            | {
                "CNI_COMMAND": command,
                "CNI_CONTAINERID": sandbox.name,
                "CNI_NETNS": str(sandbox.path),
                "CNI_IFNAME": "eth0",
                "CNI_PATH": str(binary.parent),
                "CNI_ARGS": arguments,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, (done.stdout, done.stderr)
        found: dict[str, Any] = json.loads(done.stdout or "{}")
        return found

    def stop(self, key: str, node: str) -> None:
        """Do what the engine does at a pod's end."""
        sandbox = self.running.pop(key).namespace
        self._call("DEL", key, node, sandbox)
        sandbox.delete()


def _install(lab: Lab) -> None:
    """Install the plugin on every node as the DaemonSet does."""
    for machine in lab.machines.values():
        done = subprocess.run(
            [
                str(COMMANDS / "netplugin"), "install-cni", "--kubernetes",
                "--bin-dir", str(machine.directory / "k8s"),
                "--conf-dir", str(machine.directory / "k8s.d"),
                "--socket", str(machine.engine.socket),
            ],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def _follow(lab: Lab, server: Server) -> None:
    """Have netmaster follow the cluster from here on."""
    directory: Path = lab.files.node("netmaster")
    config = directory / "kubeconfig"
    config.write_text(kubeconfig(server.port))
    with (directory / "netmaster.toml").open("a") as file:
        file.write(f"kubernetes = {json.dumps(str(config))}\n")
    lab.kill("netmaster", "netmaster", signal.SIGTERM)
    lab.restart("netmaster", "netmaster")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    name = f"{PREFIX}{os.getpid() % 100000:05d}"
    with Lab(Settings(name=name, racks=1, hosts=2, tors=1, containers=0, store="sqlite")) as lab:
        lab.controller.ask(lambda netmaster: netmaster.put("networks", "default:blue", BLUE))
        with Server(lab.controller.namespace).serving() as server:
            found = Cluster(lab, server)
            for space, labels in SPACES.items():
                found.put(namespace(space, labels))
            _follow(lab, server)
            _install(lab)
            try:
                yield found
            finally:
                for pod in found.running.values():
                    pod.namespace.delete()
