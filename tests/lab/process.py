"""A program that runs in a node's namespace: started, found again, killed."""

import os
import select
import signal
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from netfabric.lab.errors import LabError, last_words
from netfabric.lab.namespace import Namespace


@dataclass(frozen=True, slots=True)
class Process:
    """One program of a node; its pidfile and log are in `directory`."""

    node: str
    name: str
    namespace: Namespace
    directory: Path

    @property
    def log(self) -> Path:
        """Return the file that has all its output."""
        return self.directory / f"{self.name}.log"

    @property
    def pidfile(self) -> Path:
        """Return the file with its process id."""
        return self.directory / f"{self.name}.pid"

    def start(self, *words: str, environment: Mapping[str, str] | None = None) -> int:
        """Start it (the first word is a path); it outlives us. Return its pid."""
        with self.log.open("ab") as sink, open(os.devnull, "rb") as nothing:
            actions = [
                (os.POSIX_SPAWN_DUP2, nothing.fileno(), 0),
                (os.POSIX_SPAWN_DUP2, sink.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, sink.fileno(), 2),
            ]
            with self.namespace.entered():  # a child is born in its parent thread's namespace
                pid = os.posix_spawn(
                    words[0],
                    words,
                    dict(os.environ if environment is None else environment),
                    file_actions=actions,
                    setsid=True,
                )
        self.pidfile.write_text(f"{pid}\n")
        return pid

    def pid(self) -> int:
        """Return its pid, or 0 where it does not run. A pid that now is somebody else's is none."""
        with suppress(OSError, ValueError):
            pid = int(self.pidfile.read_text())
            if lives(pid) and self._inhabits(pid):
                return pid
        return 0

    def _inhabits(self, pid: int) -> bool:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino == self.namespace.path.stat().st_ino

    def check(self) -> None:
        """Raise LabError, with the last words of its log, where it does not run."""
        if not self.pid():
            said = last_words(self.log)
            raise LabError(self.node, f"{self.name} ended{f' ({said})' if said else ''}", self.log)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it with a signal, and wait until it is gone."""
        if pid := self.pid():
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            if not gone([pid], 10.0):
                raise LabError(self.node, f"{self.name} (pid {pid}) does not end", self.log)


def lives(pid: int) -> bool:
    """Return whether a process runs; an ended child of ours is taken care of."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def gone(pids: Iterable[int], timeout: float) -> bool:
    """Wait until processes have ended, at most `timeout` seconds; return whether all have."""
    end = time.monotonic() + timeout
    for pid in pids:
        if lives(pid) and not _ended(pid, end - time.monotonic()):
            return False
        lives(pid)
    return True


def _ended(pid: int, timeout: float) -> bool:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], max(0.0, timeout))[0])
    finally:
        os.close(descriptor)
