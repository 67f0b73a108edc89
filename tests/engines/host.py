"""A lab's host as engines find one: /run, /etc, /opt and /var/lib of its own, the agent's socket, the CNI plugin installed."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from netfabric.lab.machines import COMMANDS, Machine
from netfabric.lab.namespace import NETNS_DIR, Namespace
from netfabric.lab.plan import NETWORK

PATIENCE = 20.0
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""Debian's own engines, whatever else a machine has."""
# Containers' namespaces are the exception to what is private: the agent opens them by the path that the engine knows,
# so that /run/netns stays the one of the machine. The PIDs are the machine's, too: `ctr` names /proc/PID/ns/net.
_FIRST = """
set -e
for mounted in $(findmnt -rno TARGET); do
  case "$mounted" in /run/netns*) ;; *) mount --make-private "$mounted" 2>/dev/null || : ;; esac
done
mkdir -p "$2/agent" "$2/netns"
mount --bind "$1" "$2/agent"
mount --bind /run/netns "$2/netns"
mount -t tmpfs tmpfs /run
mkdir /run/netns /run/netfabric
mount --bind "$2/netns" /run/netns
mount --bind "$2/agent" /run/netfabric
for part in etc opt var/lib; do
  mkdir -p "$2/over/$part" "$2/work/$part"
  mount -t overlay overlay -o "lowerdir=/$part,upperdir=$2/over/$part,workdir=$2/work/$part" "/$part"
done
rm -rf /etc/cni
touch "$2/ready"
exec tini -s -- sleep infinity
"""


class Host:
    """One of them; what runs in it is known by its mount namespace."""

    def __init__(self, machine: Machine, directory: Path) -> None:
        """`directory` does not exist, on a file system that overlayfs can write on."""
        self.machine = machine
        self.directory = directory
        self._first: subprocess.Popen[bytes] | None = None
        self.cgroup = f"netfabric-{os.getpid()}-{machine.node.name}"
        self.environment = {"PATH": PATH, "HOME": str(directory)}

    @contextmanager
    def running(self) -> Iterator["Host"]:
        """Be there; leave no process, mount or cgroup behind."""
        self.directory.mkdir()
        words = ("unshare", "-m", "--propagation", "unchanged", "sh", "-c", _FIRST, "sh")
        places = (str(self.machine.directory), str(self.directory))
        self._first = subprocess.Popen(self.machine.namespace.command(*words, *places))
        try:
            until((self.directory / "ready").exists, "a host of its own")
            self.install("--network", NETWORK)
            self.run("cp", "/usr/lib/cni/loopback", "/opt/cni/bin/")  # containerd's CRI asks for it
            yield self
        finally:
            self._end()

    def install(self, *options: str) -> None:
        """Install the CNI plugin and a network."""
        self.run(str(COMMANDS / "netplugin"), "install-cni", *options)

    def command(self, *words: str) -> list[str]:
        """Return the command line that runs `words` in here."""
        assert self._first
        return ["nsenter", "-t", str(self._first.pid), "-m", "-n", "--", *words]

    def tries(self, *words: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        """Run a command, and return how it went."""
        return subprocess.run(
            self.command(*words),
            input=stdin,
            capture_output=True,
            check=False,
            timeout=60,
            env=self.environment,
        )

    def run(self, *words: str, stdin: bytes | None = None) -> str:
        """Run a command; return what it printed."""
        done = self.tries(*words, stdin=stdin)
        if done.returncode:
            pytest.fail(f"{' '.join(words)}: {done.stderr.decode().strip()[-1500:]}")
        return done.stdout.decode().strip()

    def _processes(self) -> set[int]:
        """Return those in this mount namespace: engines, shims, monitors."""
        assert self._first
        own = os.readlink(f"/proc/{self._first.pid}/ns/mnt")
        found = set()
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(place / "ns/mnt") == own:
                    found.add(int(place.name))
            except OSError:
                continue
        return found

    def _end(self) -> None:
        assert self._first
        containers = [pid for group in self._cgroups() for pid in _members(group)]
        networks = {inode for pid in containers if (inode := _network(pid))}
        if self._first.poll() is None:
            for pid in self._processes() - {self._first.pid}:
                _kill(pid)
            self._first.kill()
        self._first.wait(PATIENCE)
        for group in self._cgroups():
            for pid in _members(group):
                _kill(pid)
            until(lambda group=group: _removed(group), "no process is left")  # type: ignore[misc]
        _forget(networks)

    def _cgroups(self) -> list[Path]:
        """Return the containers' one of each hierarchy."""
        return list(Path("/sys/fs/cgroup").glob(f"*/{self.cgroup}"))

    def state(self) -> list[str]:
        """Return what netfabric has in the kernel of this host, in order."""
        run = self.machine.namespace.run
        lines = [line.split()[0] for line in run("ip", "-br", "link").splitlines()]
        for family in ("-4", "-6"):
            routes = run("ip", family, "route", "show", "proto", "200").splitlines()
            lines += [line for line in routes if "nhid" not in line]
            lines += run("ip", family, "neigh", "show", "nud", "permanent").splitlines()
        lines += run("nft", "-s", "list", "table", "inet", "netfabric", check=False).splitlines()
        return sorted(line.strip() for line in lines)


def _members(group: Path) -> list[int]:
    """Return the processes of a cgroup and of those in it."""
    return [int(pid) for found in group.rglob("cgroup.procs") for pid in found.read_text().split()]


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _network(pid: int) -> int:
    """Return the inode of a process's network namespace, 0 if the process is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    return 0


def _forget(networks: set[int]) -> None:
    """Remove what engines that were killed have left of their containers in /run/netns."""
    for path in NETNS_DIR.iterdir():
        with suppress(FileNotFoundError):
            if path.stat().st_ino in networks:
                Namespace(path.name).delete()


def _removed(group: Path) -> bool:
    for directory, _, _ in os.walk(group, topdown=False):
        try:
            Path(directory).rmdir()
        except OSError:
            return False
    return True


def until(holds: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Wait for a condition."""
    end = time.monotonic() + patience
    while not holds():
        if time.monotonic() > end:
            pytest.fail(f"not within {patience} s: {what}")
        time.sleep(0.05)


def missing(*programs: str) -> str:
    """Return in words which programs are not installed here, "" if none is missing."""
    lacking = [name for name in (*programs, "tini", "busybox") if not shutil.which(name, path=PATH)]
    return f"no {' and no '.join(lacking)}: make install-engines" if lacking else ""
