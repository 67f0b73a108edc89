"""Containers: network namespaces that the real CNI plugin attaches, called as an engine calls it."""

import json
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from netfabric.agent.cni.build import plugin
from netfabric.agent.cni.install import Place, conflist
from netfabric.fabric.prefix import Address
from netfabric.lab.errors import LabError
from netfabric.lab.namespace import Namespace

INTERFACE = "eth0"
VERSION = "1.1.0"
"""Of the CNI specification."""
_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Container:
    """A container that is attached. `host/name` is what it is called on the command line."""

    host: str
    name: str
    namespace: Namespace
    addresses: tuple[Address, ...]
    network: str
    took: float = 0.0
    """Seconds that ADD took."""

    @property
    def title(self) -> str:
        """Return `host/name`."""
        return f"{self.host}/{self.name}"


@dataclass(frozen=True, slots=True)
class Engine:
    """The part of a container engine on one host that calls CNI, and keeps results as libcni does."""

    host: str
    namespace: Namespace
    plugin: Path
    """The binary, as installed on this host."""
    configurations: Path
    """The directory of its network configurations."""
    socket: Path
    cache: Path
    """A directory: one file for each attached container."""
    log: Path
    """The agent's, for error messages."""

    def conflist(self, network: str) -> dict[str, Any]:
        """Return the configuration list of a network (TENANT:NETWORK), written if it is not there yet."""
        tenant, _, name = network.partition(":")
        path = self.configurations / f"10-{tenant}-{name}.conflist"
        if not path.exists():
            made = conflist(f"{tenant}-{name}", VERSION, tenant, name, "", str(self.socket))
            Place(self.plugin, path).install(plugin().path, json.dumps(made, indent=2))
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def add(
        self,
        name: str,
        where: Namespace,
        network: str,
        addresses: tuple[Address, ...],
        group: str = "",
    ) -> Container:
        """Attach a namespace to a network; raise LabError with the plugin's own words."""
        wanted = {"IP": ",".join(map(str, addresses)), "GROUP": group}
        arguments = {"K8S_POD_NAME": name} | {key: value for key, value in wanted.items() if value}
        start = time.monotonic()
        result = self._call("ADD", name, where, network, arguments)
        took = time.monotonic() - start
        found = tuple(ip_interface(entry["address"]).ip for entry in result.get("ips", ()))
        container = Container(self.host, name, where, found, network, took)
        self.cache.mkdir(parents=True, exist_ok=True)
        kept = {"namespace": where.name, "network": network, "result": result, "took": took}
        self._cached(name).write_text(json.dumps(kept))
        return container

    def delete(self, name: str) -> None:
        """Detach a container; raise LabError."""
        kept = self._kept(name)
        where = Namespace(kept["namespace"])
        self._call("DEL", name, where, kept["network"], {}, kept["result"])
        self._cached(name).unlink()

    def check(self, name: str) -> None:
        """Ask the plugin whether the attachment is as it should be; raise LabError."""
        kept = self._kept(name)
        where = Namespace(kept["namespace"])
        self._call("CHECK", name, where, kept["network"], {}, kept["result"])

    def containers(self) -> list[Container]:
        """Return what is attached, by name."""
        return [self.container(path.stem) for path in sorted(self.cache.glob("*.json"))]

    def container(self, name: str) -> Container:
        """Return one that is attached; raise LabError."""
        kept = self._kept(name)
        addresses = tuple(ip_interface(e["address"]).ip for e in kept["result"].get("ips", ()))
        where = Namespace(kept["namespace"])
        return Container(self.host, name, where, addresses, kept["network"], kept["took"])

    def _kept(self, name: str) -> dict[str, Any]:
        try:
            kept: dict[str, Any] = json.loads(self._cached(name).read_text())
        except FileNotFoundError:
            there = ", ".join(path.stem for path in sorted(self.cache.glob("*.json")))
            raise LabError(self.host, f"no container {name!r} (there are: {there})") from None
        return kept

    def _cached(self, name: str) -> Path:
        return self.cache / f"{name}.json"

    def _call(
        self,
        command: str,
        name: str,
        where: Namespace,
        network: str,
        arguments: Mapping[str, str],
        previous: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        configurations = self.conflist(network)
        configuration = {
            "cniVersion": configurations["cniVersion"],
            "name": configurations["name"],
            **configurations["plugins"][0],
            **({"prevResult": previous} if previous else {}),
        }
        environment = {
            **os.environ,
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": where.name,
            "CNI_NETNS": str(where.path),
            "CNI_IFNAME": INTERFACE,
            "CNI_PATH": str(self.plugin.parent),
            "CNI_ARGS": ";".join(
                f"{k}={v}" for k, v in {"IgnoreUnknown": "1", **arguments}.items()
            ),
        }
        try:
            done = subprocess.run(
                self.namespace.command(str(self.plugin)),
                input=json.dumps(configuration),
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=_TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            raise LabError(
                self.host, f"CNI {command} of {name}: no answer in {_TIMEOUT:.0f} s", self.log
            ) from None
        if done.returncode:
            said = f"{_words(done.stdout)} {done.stderr}".strip()
            raise LabError(self.host, f"CNI {command} of {name}: {said}", self.log)
        result: dict[str, Any] = json.loads(done.stdout) if done.stdout.strip() else {}
        return result


def _words(text: str) -> str:
    """Return what a CNI error says: its message and details."""
    try:
        problem = json.loads(text)
        return ": ".join(str(problem[key]) for key in ("msg", "details") if problem.get(key))
    except (ValueError, AttributeError, TypeError):
        return text
