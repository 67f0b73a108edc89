"""What Docker told once and never says again: networks and endpoints, in a small file written whole."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from netfabric.agent.cnm.network import DockerNetwork
from netfabric.fabric.errors import FabricError, KernelError
from netfabric.fabric.prefix import Address
from netfabric.fabric.stored import dump, load

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DockerEndpoint:
    """An endpoint that Docker created, joined to a container or not yet."""

    id: str
    network: str
    """The Docker network's id."""
    addresses: tuple[Address, ...]
    mac: str
    group: str = ""


@dataclass(frozen=True, slots=True)
class _Content:
    networks: tuple[DockerNetwork, ...] = ()
    endpoints: tuple[DockerEndpoint, ...] = ()


@dataclass(slots=True)
class Memory:
    """Networks and endpoints by id. A change is durable when its call returns: dockerd replays none."""

    path: Path
    networks: dict[str, DockerNetwork] = field(default_factory=dict)
    endpoints: dict[str, DockerEndpoint] = field(default_factory=dict)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def read(self) -> None:
        """Take what the file holds; one that cannot be read is set aside. Raise KernelError."""
        try:
            content = load(_Content, self.path.read_text())
        except FileNotFoundError:
            return
        except OSError as error:
            raise KernelError(f"{self.path}: {error.strerror}", "make it readable") from None
        except (FabricError, ValueError, KeyError) as error:
            aside = self.path.with_suffix(".bad")
            self.path.replace(aside)
            log.warning(
                "Docker's networks are unreadable; create them again",
                kept=str(aside),
                error=str(error),
            )
            return
        self.networks = {one.id: one for one in content.networks}
        self.endpoints = {one.id: one for one in content.endpoints}

    async def change(self, change: Callable[[], Any]) -> None:
        """Apply a change to the dictionaries and write them; raise KernelError, with nothing changed."""
        async with self._writing:
            before = dict(self.networks), dict(self.endpoints)
            change()
            text = dump(_Content(tuple(self.networks.values()), tuple(self.endpoints.values())))
            try:
                await asyncio.to_thread(_write, self.path, text)
            except OSError as error:
                self.networks, self.endpoints = before
                raise KernelError(f"{self.path}: {error.strerror}", "free space there") from None


def _write(path: Path, text: str) -> None:
    """Replace a file by another, durably."""
    fresh = path.with_name(path.name + ".new")
    with open(fresh, "w", opener=_private) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
