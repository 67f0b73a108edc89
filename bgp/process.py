"""ExaBGP kept running beside the agent: started, adopted, reconfigured, restarted; its pipes attached."""

import asyncio
import os
import pwd
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import structlog

from netfabric.bgp.conf import render
from netfabric.bgp.speaker import SpeakerMachine
from netfabric.fabric.errors import FabricError, InvalidError
from netfabric.fabric.events import Event, PeerDown
from netfabric.fabric.peer import Peer, Speaker
from netfabric.fabric.route import Announcement

log = structlog.get_logger(__name__)

LINE_LIMIT = 64 << 20
"""Bytes: FRR sends extended messages, whose one JSON line is hundreds of kilobytes."""
TICK = 0.25
BACKOFF = (0.5, 10.0)
LOG_LIMIT = 1 << 20
ENVIRONMENT = {
    "exabgp_api_cli": "false",
    "exabgp_api_ack": "true",
    "exabgp_log_destination": "stderr",
    "exabgp_log_level": "WARNING",
    "exabgp_tcp_bind": "",
}


class ExaBgp:
    """One ExaBGP process and the conversation with it.

    It is started in a session of its own and outlives the agent; the next agent finds it by its
    pidfile. Events (`PeerUp`, `PathsReceived`, …) go to `on_event` in the event loop's thread.
    """

    def __init__(
        self,
        run_dir: Path,
        on_event: Callable[[Event], None],
        user: str = "nobody",
        exabgp: Sequence[str] | None = None,
    ) -> None:
        self._dir = run_dir
        self._on_event = on_event
        self._user = user
        self._exabgp = list(exabgp or [str(Path(sys.executable).parent / "exabgp")])
        self._machine = SpeakerMachine()
        self._wanted: tuple[Speaker | None, tuple[Peer, ...]] = (None, ())
        self._changed = asyncio.Event()
        self._pid = 0
        self._writer: asyncio.StreamWriter | None = None

    @property
    def _conf(self) -> Path:
        return self._dir / "exabgp.conf"

    @property
    def _pidfile(self) -> Path:
        return self._dir / "exabgp.pid"

    # from above: none of these waits

    def configure(self, speaker: Speaker | None, peers: Iterable[Peer]) -> None:
        """Run exactly these sessions; no speaker ends ExaBGP."""
        self._wanted = (speaker, tuple(peers))
        self._changed.set()

    def announce(self, routes: Iterable[Announcement]) -> None:
        """Offer routes to every peer that carries their family."""
        self._machine.announce(routes, time.monotonic())
        self._flush()

    def withdraw(self, routes: Iterable[Announcement]) -> None:
        """Take routes back."""
        self._machine.withdraw(routes, time.monotonic())
        self._flush()

    def end_replay(self) -> None:
        """Say that everything wanted has been announced: End-of-RIB may go out."""
        self._machine.end_replay(time.monotonic())
        self._flush()

    def teardown(self, peer: str, subcode: int) -> None:
        """End a session with a Cease NOTIFICATION."""
        self._machine.tear_down(peer, subcode)
        self._flush()

    # running

    async def run(self) -> None:
        """Keep ExaBGP as configured until cancelled; it is left running then."""
        self._prepare()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._supervise())
            tasks.create_task(self._tick())

    def _prepare(self) -> None:
        self._dir.mkdir(parents=True, exist_ok=True)
        tap = self._dir / "tap.py"
        source = files("netfabric.bgp").joinpath("tap.py").read_text()
        if not tap.exists() or tap.read_text() != source:
            tap.write_text(source)
        tap.chmod(0o755)

    def _owner(self) -> tuple[int, int]:
        try:
            entry = pwd.getpwnam(self._user)
        except KeyError:
            raise InvalidError(
                f"user {self._user}: unknown here", "create it, or name another (bgp user)"
            ) from None
        return entry.pw_uid, entry.pw_gid

    def _give(self, path: Path) -> None:
        """Let only ExaBGP's user have a file."""
        path.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(path, *self._owner())

    async def _listen(self) -> None:
        path = self._dir / "exabgp.sock"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(path))
            self._give(path)
            listener.listen(4)
            listener.setblocking(False)
            while True:
                await self._serve_one(listener)

    async def _serve_one(self, listener: socket.socket) -> None:
        """Take one helper's pipes and talk until they close."""
        loop = asyncio.get_running_loop()
        helper, _ = await loop.sock_accept(listener)
        with helper:
            helper.setblocking(True)
            helper.settimeout(1.0)
            try:
                _, descriptors, _, _ = socket.recv_fds(helper, 16, 2)
            except OSError:
                return
            if len(descriptors) == 2:
                await self._talk(*descriptors)

    async def _talk(self, read: int, write: int) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=LINE_LIMIT)
        incoming, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb", 0)
        )
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, os.fdopen(write, "wb", 0)
        )
        self._writer = asyncio.StreamWriter(transport, protocol, None, loop)
        try:
            await self._converse(reader)
        finally:
            self._writer = None
            incoming.close()
            transport.close()
            self._machine.detached("ExaBGP's helper has gone; it is being restarted")
            self._flush()

    async def _converse(self, reader: asyncio.StreamReader) -> None:
        self._machine.attached()
        self._flush()
        with suppress(OSError, ValueError):
            while line := await reader.readline():
                self._machine.feed(line.decode(errors="replace"), time.monotonic())
                self._flush()

    def _flush(self) -> None:
        """Write what the conversation wants to say; pass on what it heard."""
        lines, self._machine.lines[:] = list(self._machine.lines), []
        if lines and self._writer is not None:
            self._writer.write("".join(line + "\n" for line in lines).encode())
        heard, self._machine.events[:] = list(self._machine.events), []
        for event in heard:
            self._on_event(event)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self._machine.tick(time.monotonic())
            self._flush()

    # the process

    async def _supervise(self) -> None:
        """Bring configuration and process in step, whenever either changes."""
        self._pid = self._running()
        delay = BACKOFF[0]
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                started = time.monotonic()
                await self._apply()
            except FabricError as error:
                log.error("BGP configuration refused", error=str(error))
                for peer in self._wanted[1]:
                    self._on_event(PeerDown(peer.key, str(error)))
                continue
            if self._pid and not await self._until_change():
                delay = (
                    BACKOFF[0] if time.monotonic() - started > 30 else min(2 * delay, BACKOFF[1])
                )
                log.warning("ExaBGP ended; starting it again", after=delay)
                self._pid = 0
                await asyncio.sleep(delay)
                self._changed.set()

    async def _until_change(self) -> bool:
        """Wait for a new configuration (True) or for the process to end (False)."""
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        try:
            descriptor = os.pidfd_open(self._pid)
        except ProcessLookupError:
            return False
        loop.add_reader(descriptor, ended.set)
        waits = [asyncio.ensure_future(e.wait()) for e in (self._changed, ended)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            loop.remove_reader(descriptor)
            os.close(descriptor)
        if ended.is_set():
            _reap(self._pid)
            return False
        return True

    async def _apply(self) -> None:
        speaker, peers = self._wanted
        if speaker is None or not peers:
            await self.stop()
            return
        helper = ["/usr/bin/python3", "-I", "-S", str(self._dir / "tap.py")]
        text = render(speaker, peers, [*helper, str(self._dir / "exabgp.sock")])
        if self._pid and self._conf.exists() and self._conf.read_text() == text:
            self._machine.configure(speaker.asn, peers, time.monotonic())
            self._flush()
            return
        await self._replace(text)
        self._machine.configure(speaker.asn, peers, time.monotonic())
        if self._pid:
            os.kill(self._pid, signal.SIGUSR1)
        else:
            self._start()
        self._flush()

    async def _replace(self, text: str) -> None:
        """Put a new file in place, if ExaBGP itself finds nothing wrong with it."""
        fresh = self._dir / "exabgp.conf.new"
        fresh.write_text("")
        self._give(fresh)
        fresh.write_text(text)
        check = await asyncio.create_subprocess_exec(
            *self._exabgp,
            "validate",
            str(fresh),
            env={**os.environ, **ENVIRONMENT},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await check.communicate()
        if check.returncode:
            words = " ".join(said.decode(errors="replace").split()[-40:])
            raise InvalidError(
                f"ExaBGP refuses the configuration: {words}",
                "correct the peers; the sessions go on with the old configuration",
            )
        fresh.replace(self._conf)

    def _start(self) -> None:
        output = self._dir / "exabgp.log"
        if output.exists() and output.stat().st_size > LOG_LIMIT:
            output.replace(self._dir / "exabgp.log.1")
        environment = {**os.environ, **ENVIRONMENT, "exabgp_daemon_user": self._user}
        pid = _spawn([*self._exabgp, str(self._conf)], environment, output)
        self._pidfile.write_text(f"{pid}\n")
        self._pid = pid
        log.info("ExaBGP started", pid=pid)

    def _running(self) -> int:
        """Return the pid of the ExaBGP that an earlier agent started for this directory, or 0."""
        with suppress(OSError, ValueError):
            pid = int(self._pidfile.read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if str(self._conf).encode() in words:
                log.info("ExaBGP adopted", pid=pid)
                return pid
        return 0

    async def stop(self) -> None:
        """End ExaBGP for good: its sessions close, and switches drop or keep routes as they were told to."""
        pid = self._pid or self._running()
        self._pid = 0
        if pid:
            await _end(pid)
        for name in ("exabgp.pid", "exabgp.conf", "exabgp.sock"):
            (self._dir / name).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the run directory's files."""
        shutil.rmtree(self._dir, ignore_errors=True)


def _spawn(command: list[str], environment: dict[str, str], output: Path) -> int:
    """Start a process that outlives us, its output to a file; return its pid."""
    with output.open("ab") as sink, open(os.devnull, "rb") as nothing:
        actions = [
            (os.POSIX_SPAWN_DUP2, nothing.fileno(), 0),
            (os.POSIX_SPAWN_DUP2, sink.fileno(), 1),
            (os.POSIX_SPAWN_DUP2, sink.fileno(), 2),
        ]
        return os.posix_spawn(command[0], command, environment, file_actions=actions, setsid=True)


async def _end(pid: int) -> None:
    """Ask a process to end, and see to it."""
    for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 2.0)):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        end = time.monotonic() + patience
        while time.monotonic() < end:
            _reap(pid)
            if not _alive(pid):
                return
            await asyncio.sleep(0.05)


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
