"""A real dockerd on one of the lab's hosts, in mount and PID namespaces of its own; and an image made on the spot."""

import io
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netfabric.lab.machines import Machine

PATIENCE = 20.0
BOX = "box"
"""The image's name: busybox and nothing else."""
_BUSYBOX, _APPLETS = Path("/bin/busybox"), ("sh", "ping", "ip", "sleep")
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""Debian's own Docker, whatever else a machine has."""
_FIRST = """
set -e
mkdir -p "$2/agent"
mount --make-rprivate /
mount --bind "$1" "$2/agent"
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir -p /run/docker/plugins
ln -s "$2/agent/cnm.sock" /run/docker/plugins/netfabric.sock
touch "$2/ready"
exec docker-init -- sleep infinity
"""
_FLAGS = (
    *("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"),
    *("--ip-masq=false", "--userland-proxy=false", "--storage-driver=overlay2"),
    *("--exec-opt", "native.cgroupdriver=cgroupfs"),
)


def missing() -> str:
    """Return in words what of Docker is not installed here, "" if nothing."""
    lacking = [name for name in ("dockerd", "docker", "docker-init") if not _program(name)]
    if not _BUSYBOX.exists():
        lacking.append("busybox")
    return f"no {' and no '.join(lacking)}: make install-engines" if lacking else ""


def _program(name: str) -> str:
    return shutil.which(name, path=_PATH) or ""


def image() -> bytes:
    """Return a root file system with busybox in it, as `docker import` reads it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(_BUSYBOX, "bin/busybox")
        for applet in _APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return packed.getvalue()


class Dockerd:
    """One host's."""

    def __init__(self, machine: Machine, directory: Path) -> None:
        """`directory` is empty, and on a file system that overlayfs can write on."""
        self.machine = machine
        self.directory = directory
        self.log = directory / "dockerd.log"
        self.agent = directory / "agent"
        """The agent's run directory, as seen from here."""
        self._socket = directory / "docker.sock"
        self._first: subprocess.Popen[bytes] | None = None
        self._daemon: subprocess.Popen[bytes] | None = None
        self._cgroup = f"netfabric-{os.getpid()}-{machine.node.name}"

    @contextmanager
    def running(self) -> Iterator["Dockerd"]:
        """Be there, with the image; leave nothing behind."""
        self.directory.mkdir()
        self._begin()
        try:
            self.start()
            subprocess.run(self._words("import", "-", BOX), input=image(), check=True, timeout=60)
            yield self
        finally:
            self._end()

    def _begin(self) -> None:
        words = ("unshare", "-m", "-p", "-f", "--kill-child", "sh", "-c", _FIRST, "sh")
        command = self.machine.namespace.command(
            *words, str(self.machine.directory), str(self.directory)
        )
        self._first = subprocess.Popen(command)
        self.until((self.directory / "ready").exists, "namespaces are made")

    def _inside(self, *words: str) -> list[str]:
        assert self._first
        children = Path(f"/proc/{self._first.pid}/task/{self._first.pid}/children").read_text()
        return ["nsenter", "-t", children.split()[0], "-m", "-p", "-n", "--", *words]

    def start(self) -> None:
        """Start the daemon, and wait until it answers."""
        flags = (
            *("--data-root", str(self.directory / "data"), "--exec-root", "/run/docker-exec"),
            *("--pidfile", f"/run/docker-{time.monotonic_ns()}.pid"),
            *("--cgroup-parent", self._cgroup, "-H", f"unix://{self._socket}"),
        )
        environment = {"PATH": _PATH, "HOME": str(self.directory)}
        with self.log.open("ab") as log:
            self._daemon = subprocess.Popen(
                self._inside(_program("dockerd"), *flags, *_FLAGS),
                stdout=log,
                stderr=log,
                env=environment,
            )
        self.until(lambda: not self.tries("version"), "dockerd answers")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the daemon; containers go on until the next one."""
        assert self._daemon
        pid = int(
            Path(f"/proc/{self._daemon.pid}/task/{self._daemon.pid}/children")
            .read_text()
            .split()[0]
        )
        os.kill(pid, number)
        self._daemon.wait(PATIENCE)

    def _end(self) -> None:
        if self._daemon and self._daemon.poll() is None:
            for words in (("swarm", "leave", "-f"), ("rm", "-f", *self.ids())):
                self.tries(*words)
        assert self._first
        if self._first.poll() is None:
            os.kill(int(self._inside()[2]), signal.SIGKILL)  # and with it all in its namespace
        self._first.wait(PATIENCE)
        if self._daemon:
            self._daemon.wait(PATIENCE)
        for found in Path("/sys/fs/cgroup").glob(f"*/{self._cgroup}"):
            for directory, _, _ in os.walk(found, topdown=False):
                Path(directory).rmdir()

    # the command line

    def _words(self, *words: str) -> list[str]:
        return [_program("docker"), "-H", f"unix://{self._socket}", *words]

    def tries(self, *words: str) -> str:
        """Run a command; return why it failed, "" where it did not."""
        done = subprocess.run(
            self._words(*words), capture_output=True, text=True, check=False, timeout=60
        )
        return (done.stderr.strip() or "it failed") if done.returncode else ""

    def __call__(self, *words: str) -> str:
        """Run a command; return what it printed."""
        done = subprocess.run(
            self._words(*words), capture_output=True, text=True, check=False, timeout=60
        )
        if done.returncode:
            pytest.fail(f"docker {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def run(self, name: str, *more: str) -> None:
        """Start a container that sleeps."""
        self("run", "-d", "--stop-signal", "KILL", "--name", name, *more, BOX, "/bin/sleep", "9999")

    def ids(self) -> list[str]:
        """Return every container's id."""
        return self("ps", "-aq").split()

    def address(self, container: str, network: str, family: int = 4) -> str:
        """Return a container's address on a Docker network."""
        key = "IPAddress" if family == 4 else "GlobalIPv6Address"
        form = f'{{{{(index .NetworkSettings.Networks "{network}").{key}}}}}'
        return self("inspect", "-f", form, container)

    def reaches(self, container: str, address: str) -> None:
        """Wait until a container reaches an address."""
        words = ("exec", container, "/bin/ping", "-c1", "-W1", address)
        self.until(lambda: not self.tries(*words), f"{container} reaches {address}")

    def until(self, holds: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
        """Wait for a condition."""
        end = time.monotonic() + patience
        while not holds():
            if time.monotonic() > end:
                pytest.fail(f"{what} within {patience} s: {self._said()}")
            time.sleep(0.05)

    def empties(self) -> None:
        """Wait until nothing of containers is in the host's namespace."""
        self.until(lambda: not self.left(), "nothing is left")

    def _said(self) -> str:
        return self.log.read_text()[-2000:] if self.log.exists() else ""

    def left(self) -> list[str]:
        """Return what of containers is in the host's namespace."""
        run = self.machine.namespace.run
        links = run("ip", "-br", "link").splitlines()
        words = [line for line in links if line.startswith(("nf", "nd", "veth"))]
        for family in ("-4", "-6"):
            routes = run("ip", family, "route", "show", "proto", "200").splitlines()
            words += [line for line in routes if "nhid" not in line]
            words += run("ip", family, "neigh", "show", "nud", "permanent").splitlines()
        return words
