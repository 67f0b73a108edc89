"""Runs a list of plugins as an engine does: the standard ones of the distribution, and netfabric among them."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.netns.cni.conftest import Host

STANDARD = Path("/usr/lib/cni")
"""Debian's containernetworking-plugins."""


@dataclass
class Chain:
    """A network configuration list, run by the rules of SPEC 1.1.0, section 3."""

    host: Host
    version: str
    plugins: list[dict[str, Any]]
    runtime: dict[str, Any]
    """What the engine would hand over, by capability."""
    result: dict[str, Any] | None = None
    """Of the last ADD, kept as engines keep it."""

    async def add(self, container: str, namespace: Path) -> dict[str, Any]:
        """Run every plugin in order, each with the result of the one before."""
        self.result = None
        for plugin in self.plugins:
            status, self.result = await self._run("ADD", plugin, container, str(namespace))
            assert status == 0, (plugin["type"], self.result)
        assert self.result is not None
        return self.result

    async def check(self, container: str, namespace: Path) -> list[tuple[str, Any]]:
        """Run every plugin in order; return the names and words of those that find something wrong."""
        found = []
        for plugin in self.plugins:
            status, said = await self._run("CHECK", plugin, container, str(namespace))
            if status:
                found.append((plugin["type"], said))
        return found

    async def remove(self, container: str, namespace: Path | str) -> None:
        """Run every plugin in reverse order."""
        for plugin in reversed(self.plugins):
            status, said = await self._run("DEL", plugin, container, str(namespace))
            assert status == 0, (plugin["type"], said)

    async def _run(
        self, command: str, plugin: dict[str, Any], container: str, namespace: str
    ) -> tuple[int, Any]:
        named = [name for name, on in plugin.get("capabilities", {}).items() if on]
        given = {name: self.runtime[name] for name in named if name in self.runtime}
        configuration = {**plugin, "name": "chain", "cniVersion": self.version}
        configuration.pop("capabilities", None)
        if given:
            configuration["runtimeConfig"] = given
        if self.result is not None:
            configuration["prevResult"] = self.result
        own = plugin["type"] == "netfabric"
        if own:
            configuration["socket"] = str(self.host.socket)
        words = self.host.command if own else (str(STANDARD / plugin["type"]),)
        process = await asyncio.create_subprocess_exec(
            *self.host.namespace.command(*words),
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "CNI_COMMAND": command,
                "CNI_CONTAINERID": container,
                "CNI_NETNS": namespace,
                "CNI_IFNAME": "eth0",
                "CNI_PATH": str(STANDARD),
            },
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(30):
            out, _ = await process.communicate(json.dumps(configuration).encode())
        assert process.returncode is not None
        return process.returncode, json.loads(out) if out.strip() else None
