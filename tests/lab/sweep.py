"""Taking a lab down, whatever is left of it: found by its namespaces and pidfiles, never by a program's name."""

import os
import shutil
import signal
import subprocess
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from netfabric.lab.errors import LabError
from netfabric.lab.files import Files
from netfabric.lab.namespace import NETNS_DIR
from netfabric.lab.plan import namespace_prefix
from netfabric.lab.process import gone, lives

_ROUNDS = 5
"""A process may start another one while it ends."""
_FOREIGN_DIRECTORIES = ("/run/frr", "/var/tmp/frr")
"""FRR keeps a directory for each namespace here, wherever else it is told to write."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What was there, and is not any more."""

    processes: int
    namespaces: int
    directories: int

    def __bool__(self) -> bool:
        return any((self.processes, self.namespaces, self.directories))


def sweep(lab: str) -> Swept:
    """Remove every process, namespace and file of a lab; raise LabError for what does not go."""
    files = Files(lab)
    with files.locked():
        names = namespaces(lab)
        processes = _end_all(files, names)
        _delete(names)
        directories = [
            *(d for d in (files.run, files.state) if d.exists()),
            *_foreign(names),
        ]
        for directory in directories:
            shutil.rmtree(directory, ignore_errors=True)
        files.forget_lock()
    return Swept(processes, len(names), len(directories))


def _delete(names: Collection[str]) -> None:
    text = "".join(f"netns delete {name}\n" for name in names)
    done = subprocess.run(
        ["ip", "-force", "-batch", "-"], input=text, capture_output=True, text=True, check=False
    )
    left = [name for name in names if (NETNS_DIR / name).exists()]
    if left:
        raise LabError(left[0], f"the namespace does not go: {' '.join(done.stderr.split())}")


def namespaces(lab: str) -> list[str]:
    """Return the names of the namespaces that a lab has now, those of containers included."""
    with suppress(FileNotFoundError):
        return sorted(n for n in os.listdir(NETNS_DIR) if n.startswith(namespace_prefix(lab)))
    return []


def inhabitants(names: Collection[str]) -> dict[int, str]:
    """Return every process whose network namespace is one of these, but not us and our ancestors."""
    inodes = {}
    for name in names:
        with suppress(OSError):
            inodes[(NETNS_DIR / name).stat().st_ino] = name
    spared = set(_lineage())
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and int(entry) not in spared:
            with suppress(OSError):
                inode = os.stat(f"/proc/{entry}/ns/net").st_ino
                if inode in inodes:
                    found[int(entry)] = inodes[inode]
    return found


def _lineage() -> Iterator[int]:
    """A shell that was opened with `netlab exec` may be where `netlab down` is typed."""
    pid = os.getpid()
    while pid > 0:
        yield pid
        stat = Path(f"/proc/{pid}/stat").read_text()
        pid = int(stat.rpartition(")")[2].split()[1])


def _end_all(files: Files, names: Collection[str]) -> int:
    ended: set[int] = set()
    for number in (signal.SIGTERM, *[signal.SIGKILL] * _ROUNDS):
        left = set(inhabitants(names)) | set(_recorded(files))
        if not left:
            return len(ended)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        gone(left, 3.0)
        ended |= left
    left = set(inhabitants(names))
    if left:
        raise LabError(files.lab, f"processes {sorted(left)} do not end")
    return len(ended)


def _recorded(files: Files) -> Iterator[int]:
    """Yield what pidfiles name, where it still is what it was: its command line names our directory."""
    for directory in (files.run, files.state):
        for path in directory.rglob("*.pid"):
            with suppress(OSError, ValueError):
                pid = int(path.read_text())
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                if lives(pid) and str(directory).encode() + b"/" in command:
                    yield pid


def _foreign(names: Collection[str]) -> Iterator[Path]:
    for name in names:
        for parent in _FOREIGN_DIRECTORIES:
            directory = Path(parent) / name
            if directory.is_dir():
                yield directory
