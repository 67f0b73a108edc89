"""Routing daemons as processes: started inside a namespace, found again by their pidfiles, ended by pid."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from netfabric.fabric.errors import UnavailableError
from netfabric.lab.namespace import Namespace

PAUSE = 0.02
_FORWARDING = (
    "net.ipv4.ip_forward=1",
    "net.ipv6.conf.all.forwarding=1",
    "net.ipv4.fib_multipath_hash_policy=1",
    "net.ipv6.fib_multipath_hash_policy=1",
)


def forward(namespace: Namespace) -> None:
    """Make a namespace route, and spread flows over equal paths by addresses and ports."""
    namespace.run("sysctl", "-qw", *_FORWARDING)


def command(words: Sequence[str], what: str, timeout: float = 10.0) -> str:
    """Run a command and return its output; raise UnavailableError naming `what` with its words."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{what}: no answer to {' '.join(words)!r}") from None
    except FileNotFoundError:
        raise UnavailableError(
            f"{what}: {words[0]} is not installed", "install frr, bird2 and gobgpd"
        ) from None
    if done.returncode:
        said = f"{done.stderr.strip()} {done.stdout.strip()}".strip()  # vtysh complains on both
        raise UnavailableError(f"{what}: {' '.join(words)!r} failed: {said}")
    return done.stdout


def wait_for(condition: Callable[[], bool], what: str, patience: float = 10.0) -> None:
    """Wait until something holds; raise UnavailableError saying what did not."""
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            raise UnavailableError(f"{what} within {patience:g} s")
        time.sleep(PAUSE)


def spawn(words: list[str], log: Path, pidfile: Path) -> None:
    """Start a process that does not put itself into the background, and that outlives us."""
    with log.open("ab") as sink, open(os.devnull, "rb") as nothing:
        actions = [
            (os.POSIX_SPAWN_DUP2, nothing.fileno(), 0),
            (os.POSIX_SPAWN_DUP2, sink.fileno(), 1),
            (os.POSIX_SPAWN_DUP2, sink.fileno(), 2),
        ]
        pid = os.posix_spawnp(words[0], words, os.environ, file_actions=actions, setsid=True)
    pidfile.write_text(f"{pid}\n")


def running(pidfile: Path) -> int:
    """Return the pid in a file if that process runs and was started with that file's directory, or 0."""
    with suppress(OSError, ValueError):
        pid = int(pidfile.read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        # empty in the middle of an exec, and for a zombie
        if str(pidfile.parent).encode() in words or (not words and not _gone(pid)):
            return pid
    return 0


def end(pidfile: Path, patience: float = 5.0) -> None:
    """End the process of a pidfile, and see to it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        pid = running(pidfile)
        if not pid:
            break
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        with suppress(UnavailableError):
            wait_for(lambda pid=pid: _gone(pid), "end of a process", patience)  # type: ignore[misc]
    pidfile.unlink(missing_ok=True)


def _gone(pid: int) -> bool:
    with suppress(ChildProcessError):  # one that another process started is not ours to reap
        os.waitpid(pid, os.WNOHANG)
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
