"""Where a lab keeps its files: sockets and logs under /run, what must survive a reboot's worth under /var/tmp."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from netfabric.fabric.errors import ConflictError, NotFoundError
from netfabric.lab.settings import Settings

RUN, STATE = Path("/run/netfabric-lab"), Path("/var/tmp/netfabric-lab")


@dataclass(frozen=True, slots=True)
class Files:
    """The directories and files of the lab of a name."""

    lab: str

    @property
    def run(self) -> Path:
        """Return the directory of sockets, pidfiles and logs."""
        return RUN / self.lab

    @property
    def state(self) -> Path:
        """Return the directory of databases: on a disk, so that a durable write costs what it costs."""
        return STATE / self.lab

    def node(self, name: str) -> Path:
        """Return a node's directory under `run`, made if need be."""
        return _made(self.run / name)

    def node_state(self, name: str) -> Path:
        """Return a node's directory under `state`, made if need be."""
        return _made(self.state / name)

    @property
    def _settings(self) -> Path:
        return self.run / "settings.json"

    @property
    def _lock(self) -> Path:
        return RUN / f"{self.lab}.lock"

    def write(self, settings: Settings) -> None:
        """Keep what the lab is, for the commands that come later."""
        _made(self.run)
        self._settings.write_text(json.dumps(asdict(settings)))

    def settings(self) -> Settings:
        """Return what the lab is; raise NotFoundError where there is none."""
        try:
            return Settings(**json.loads(self._settings.read_text()))
        except FileNotFoundError:
            labs = sorted(path.parent.name for path in RUN.glob("*/settings.json"))
            there = f"there is {', '.join(labs)} (--name)" if labs else "netlab up makes one"
            raise NotFoundError(f"lab {self.lab}: not up", there) from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one who builds or removes this lab; raise ConflictError where another does.

        The kernel lets go of the lock when its holder dies, however it dies.
        """
        _made(RUN)
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._take(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _take(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode().strip()
            raise ConflictError(
                f"lab {self.lab}: process {holder} is building or removing it now",
                f"wait until it is done, or end it: kill {holder}",
            ) from None
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)

    def forget_lock(self) -> None:
        """Remove the lock's file, and the directories of all labs if this was the last."""
        self._lock.unlink(missing_ok=True)
        for directory in (RUN, STATE):
            if directory.exists() and not any(directory.iterdir()):
                directory.rmdir()


def _made(directory: Path) -> Path:
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    return directory
