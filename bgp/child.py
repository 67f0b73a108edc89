"""ExaBGP's own process: its files prepared, its configuration tried, itself started, found again and ended."""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import structlog

from netfabric.fabric.errors import InvalidError

log = structlog.get_logger(__name__)

LOG_LIMIT = 1 << 20
"""Bytes of ExaBGP's log after which the next start begins another one."""
PYTHON = "/usr/bin/python3"
"""Runs the helper: ExaBGP's user can reach it, which is not sure of our own environment."""
ENVIRONMENT = {
    "exabgp_api_cli": "false",
    "exabgp_api_ack": "true",
    "exabgp_log_destination": "stderr",
    "exabgp_log_level": "WARNING",
    "exabgp_tcp_bind": "",
    "exabgp_bgp_openwait": "10",  # seconds; while it waits it does not even reload
}


class Child:
    """An ExaBGP that outlives us: the next agent finds it by its pidfile."""

    def __init__(self, run_dir: Path, user: str, exabgp: Sequence[str] | None) -> None:
        self.directory = run_dir
        self.socket = run_dir / "exabgp.sock"
        self.log = run_dir / "exabgp.log"
        self.pid = 0
        self._user = user
        self._command = list(exabgp or [str(Path(sys.executable).parent / "exabgp")])
        self._conf = run_dir / "exabgp.conf"
        self._pidfile = run_dir / "exabgp.pid"

    @property
    def helper(self) -> list[str]:
        """Return the command that ExaBGP is to start as its API process."""
        return [PYTHON, "-I", "-S", str(self.directory / "tap.py"), str(self.socket)]

    # files

    def prepare(self) -> None:
        """Lay out the run directory, and see that ExaBGP's user can enter it; raise InvalidError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o755)
        tap = self.directory / "tap.py"
        source = files("netfabric.bgp").joinpath("tap.py").read_text()
        if not tap.exists() or tap.read_text() != source:
            tap.write_text(source)
        tap.chmod(0o755)
        self._check_path()

    def _check_path(self) -> None:
        if os.geteuid() != 0:
            return  # ExaBGP stays who we are
        uid, gid = self._owner()
        for directory in self.directory.resolve().parents:
            if uid and not _may_enter(directory, uid, gid):
                raise InvalidError(
                    f"run directory {self.directory}: user {self._user} cannot enter {directory}",
                    f"chmod o+x {directory}, or choose another directory (--run-dir)",
                )

    def _owner(self) -> tuple[int, int]:
        try:
            entry = pwd.getpwnam(self._user)
        except KeyError:
            raise InvalidError(
                f"user {self._user}: unknown here", "create it, or name another (bgp user)"
            ) from None
        return entry.pw_uid, entry.pw_gid

    def give(self, path: Path) -> None:
        """Let only ExaBGP's user have a file."""
        path.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(path, *self._owner())

    # configuration

    def has(self, text: str) -> bool:
        """Return whether this is ExaBGP's configuration already."""
        return self._conf.exists() and self._conf.read_text() == text

    async def replace(self, text: str) -> None:
        """Put a new file in place if ExaBGP itself finds nothing wrong with it; raise InvalidError.

        A broken file would make a running ExaBGP end all its helpers.
        """
        fresh = self.directory / "exabgp.conf.new"
        fresh.write_text("")
        self.give(fresh)
        fresh.write_text(text)
        check = await asyncio.to_thread(self._validate, fresh)
        if check.returncode:
            words = " ".join(check.stdout.split()[-40:])
            raise InvalidError(
                f"ExaBGP refuses the configuration: {words}",
                "correct the peers; the sessions go on with the old configuration",
            )
        fresh.replace(self._conf)

    def _validate(self, path: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._command, "validate", str(path)],
            env={**os.environ, **ENVIRONMENT},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )

    # the process

    def adopt(self) -> None:
        """Find the ExaBGP that an earlier agent started for this directory."""
        with suppress(OSError, ValueError):
            pid = int(self._pidfile.read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if str(self._conf).encode() in words:
                log.info("ExaBGP adopted", pid=pid)
                self.pid = pid

    def start(self) -> None:
        """Run ExaBGP, in a session of its own."""
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".log.1"))
        environment = {**os.environ, **ENVIRONMENT, "exabgp_daemon_user": self._user}
        self.pid = _spawn([*self._command, str(self._conf)], environment, self.log)
        self._pidfile.write_text(f"{self.pid}\n")
        log.info("ExaBGP started", pid=self.pid)

    async def ends(self) -> None:
        """Wait until the process is no more; for ever if there is none."""
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        try:
            descriptor = os.pidfd_open(self.pid) if self.pid else -1
        except ProcessLookupError:
            return
        if descriptor < 0:
            await ended.wait()
        loop.add_reader(descriptor, ended.set)
        try:
            await ended.wait()
            _reap(self.pid)
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    async def end(self) -> None:
        """End the process; its sessions close, and switches keep or drop routes as they were told to."""
        pid, self.pid = self.pid, 0
        for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 2.0)):
            if not pid or not _alive(pid):
                break
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            end = time.monotonic() + patience
            while _alive(pid) and time.monotonic() < end:
                await asyncio.sleep(0.02)
                _reap(pid)

    def kill(self) -> None:
        """End it at once, as a crash would: switches keep its routes while it restarts (RFC 4724)."""
        with suppress(ProcessLookupError):
            if self.pid:
                os.kill(self.pid, signal.SIGKILL)

    def forget(self) -> None:
        """Remove what a next agent would find it by."""
        for path in (self._pidfile, self._conf):
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the run directory."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def last_words(self) -> str:
        """Return the end of ExaBGP's log."""
        with suppress(OSError):
            return " ".join(self.log.read_text(errors="replace")[-300:].split())
        return ""


def _may_enter(directory: Path, uid: int, gid: int) -> bool:
    status = directory.stat()
    shift = 6 if status.st_uid == uid else 3 if status.st_gid == gid else 0
    return bool(status.st_mode >> shift & 1)


def _spawn(command: list[str], environment: dict[str, str], output: Path) -> int:
    """Start a process that outlives us, its output to a file; return its pid."""
    with output.open("ab") as sink, open(os.devnull, "rb") as nothing:
        actions = [
            (os.POSIX_SPAWN_DUP2, nothing.fileno(), 0),
            (os.POSIX_SPAWN_DUP2, sink.fileno(), 1),
            (os.POSIX_SPAWN_DUP2, sink.fileno(), 2),
        ]
        return os.posix_spawn(command[0], command, environment, file_actions=actions, setsid=True)


def _reap(pid: int) -> None:
    """Take the exit status of a child; one that an earlier agent started is not ours to take."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
