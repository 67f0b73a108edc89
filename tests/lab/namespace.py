"""Network namespaces: made, wired, entered and removed; commands run inside them."""

import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NETNS_DIR = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def setns(descriptor: int) -> None:
    """Move the calling thread into the network namespace of an open file; raise OSError."""
    if _libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@dataclass(frozen=True, slots=True)
class Namespace:
    """A named network namespace (`ip netns`), by name."""

    name: str

    @property
    def path(self) -> Path:
        """Return the file that keeps the namespace alive."""
        return NETNS_DIR / self.name

    def create(self) -> None:
        """Make the namespace, with its loopback up."""
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.run("ip", "link", "set", "lo", "up")

    def delete(self) -> None:
        """Remove the namespace; one that is gone already is fine."""
        if self.path.exists():
            subprocess.run(["ip", "netns", "delete", self.name], check=True)

    def command(self, *words: str) -> list[str]:
        """Return the command line that runs `words` inside (mounts stay those of the caller)."""
        return ["nsenter", f"--net={self.path}", "--", *words]

    def run(self, *words: str, check: bool = True, stdin: str | None = None) -> str:
        """Run a command inside and return what it printed; raise CalledProcessError with its stderr."""
        done = subprocess.run(
            self.command(*words), input=stdin, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise subprocess.CalledProcessError(
                done.returncode, done.args, done.stdout, done.stderr
            ) from RuntimeError(done.stderr.strip())
        return done.stdout

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be inside with the calling thread; sockets opened meanwhile stay inside."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            inside = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                setns(inside)
            finally:
                os.close(inside)
            try:
                yield
            finally:
                setns(home)
        finally:
            os.close(home)


def wire(left: tuple[Namespace, str], right: tuple[Namespace, str], mtu: int = 1500) -> None:
    """Join two namespaces with a veth pair, both ends up: ((namespace, link), (namespace, link))."""
    (one, one_link), (two, two_link) = left, right
    words: Sequence[str] = (
        f"ip link add {one_link} mtu {mtu} netns {one.name} "
        f"type veth peer name {two_link} mtu {mtu} netns {two.name}"
    ).split()
    subprocess.run(words, check=True)
    one.run("ip", "link", "set", one_link, "up")
    two.run("ip", "link", "set", two_link, "up")
