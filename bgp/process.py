"""ExaBGP kept running beside the agent: started, adopted, reconfigured, restarted; its pipes attached."""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from netfabric.bgp.child import Child
from netfabric.bgp.conf import neighbor, render
from netfabric.bgp.nodelay import hurry
from netfabric.bgp.speaker import Phase, SpeakerMachine
from netfabric.fabric.errors import FabricError, InvalidError
from netfabric.fabric.events import Event, PeerDown, PeerUp
from netfabric.fabric.peer import Asn, Peer, Speaker
from netfabric.fabric.route import Announcement

log = structlog.get_logger(__name__)

LINE_LIMIT = 64 << 20
"""Bytes: FRR sends extended messages, whose one JSON line is hundreds of kilobytes."""
TICK = 0.1
"""Seconds between looks at what has waited too long."""
BACKOFF = (0.1, 10.0)
"""Seconds before ExaBGP is started again: after it ran well for STEADY, and at most."""
STEADY = 30.0
ALONE = 15.0
"""Seconds without a helper after which a running ExaBGP is restarted: nothing can be said to it."""


class ExaBgp:
    """One ExaBGP process and the conversation with it.

    Events (`PeerUp`, `PathsReceived`, …) go to `on_event` in the event loop's thread.
    """

    def __init__(
        self,
        run_dir: Path,
        on_event: Callable[[Event], None],
        user: str = "nobody",
        exabgp: Sequence[str] | None = None,
    ) -> None:
        self._on_event = on_event
        self._child = Child(run_dir, user, exabgp)
        self._machine = SpeakerMachine()
        self._wanted: tuple[Speaker | None, tuple[Peer, ...]] = (None, ())
        self._changed = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._alone_since = 0.0
        self._resting: frozenset[str] = frozenset()

    @property
    def pid(self) -> int:
        """Return ExaBGP's pid, 0 if it does not run."""
        return self._child.pid

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
        self._machine.tear_down(peer, subcode, time.monotonic())
        self._flush()

    # running

    async def run(self) -> None:
        """Keep ExaBGP as configured until cancelled; it is left running then."""
        self._child.directory.mkdir(parents=True, exist_ok=True)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._supervise())
            tasks.create_task(self._tick())

    async def _listen(self) -> None:
        path = self._child.socket
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(path))
            with suppress(InvalidError):  # an unknown user is said when ExaBGP is to start
                self._child.give(path)
            listener.listen(4)
            listener.setblocking(False)
            while True:
                await _readable(listener)
                with suppress(BlockingIOError), listener.accept()[0] as helper:
                    await self._serve(helper)

    async def _serve(self, helper: socket.socket) -> None:
        """Take one helper's pipes and talk until they close."""
        helper.setblocking(False)
        try:
            async with asyncio.timeout(1.0):
                await _readable(helper)
            _, descriptors, _, _ = socket.recv_fds(helper, 16, 2)
        except (OSError, TimeoutError):
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
            self._machine.detached(time.monotonic())
            self._alone_since = time.monotonic()

    async def _converse(self, reader: asyncio.StreamReader) -> None:
        self._machine.attached(time.monotonic())
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
            if isinstance(event, PeerUp):
                hurry(self._child.pid)
            self._on_event(event)
        if self._machine.resting.keys() != self._resting:
            self._resting = frozenset(self._machine.resting)
            self._changed.set()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self._machine.tick(time.monotonic())
            self._flush()
            if self._hopeless():
                log.error(
                    "ExaBGP does not follow; it is restarted", phase=self._machine.phase.value
                )
                self._alone_since = time.monotonic()
                self._child.kill()

    def _hopeless(self) -> bool:
        alone = self._machine.phase is Phase.AWAY and bool(self._child.pid)
        return self._machine.stuck or (alone and time.monotonic() > self._alone_since + ALONE)

    # the process

    async def _supervise(self) -> None:
        """Bring configuration and process in step, whenever either changes."""
        self._child.adopt()
        self._alone_since = time.monotonic()  # its helper needs a moment to find us
        delay = BACKOFF[0]
        await self._changed.wait()
        while True:
            self._changed.clear()
            started = time.monotonic()
            await self._try_to_apply()
            if await self._ended_first():
                steady = time.monotonic() - started > STEADY
                delay = BACKOFF[0] if steady else min(2 * delay, BACKOFF[1])
                self._mourn(delay)
                await asyncio.sleep(delay)

    async def _ended_first(self) -> bool:
        """Wait for a new configuration (False) or for the process to end (True)."""
        async with asyncio.TaskGroup() as tasks:
            waits = [tasks.create_task(self._child.ends()), tasks.create_task(self._change())]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        return not waits[0].cancelled()

    async def _change(self) -> None:
        await self._changed.wait()

    def _mourn(self, delay: float) -> None:
        words = self._child.last_words()
        log.warning("ExaBGP ended; starting it again", after=delay, log=words)
        self._child.pid = 0
        self._machine.trouble = f"ExaBGP does not stay up ({words}): see {self._child.log}"
        self._machine.lost("ExaBGP ended; it is being restarted", time.monotonic())
        self._flush()

    async def _try_to_apply(self) -> None:
        try:
            await self._apply()
        except (FabricError, OSError) as error:
            log.error("BGP configuration refused", error=str(error))
            for peer in self._wanted[1]:
                if peer.key not in self._machine.sessions:
                    self._on_event(PeerDown(peer.key, str(error)))

    async def _apply(self) -> None:
        speaker, peers = self._wanted
        peers = self._possible(speaker, peers) if speaker else ()
        if speaker is None or not peers:
            self._machine.configure(Asn(0), (), "", time.monotonic())
            await self.stop()
            return
        self._child.prepare()
        configuration = render(speaker, peers, self._child.helper)
        if not self._child.has(configuration.text):
            await self._child.replace(configuration.text)
        self._machine.configure(speaker.asn, peers, configuration.mark, time.monotonic())
        if not self._child.pid:
            self._alone_since = time.monotonic()
            self._child.start()
        self._flush()

    def _possible(self, speaker: Speaker, peers: Iterable[Peer]) -> tuple[Peer, ...]:
        """Return the peers that can be written; one that cannot does not hold up the others."""
        possible = []
        for peer in peers:
            try:
                neighbor(speaker, peer)
            except InvalidError as error:
                self._on_event(PeerDown(peer.key, str(error)))
                continue
            if peer.key not in self._machine.resting:
                possible.append(peer)
        return tuple(possible)

    async def stop(self) -> None:
        """End ExaBGP for good."""
        if not self._child.pid:
            self._child.adopt()
        await self._child.end()
        self._child.forget()

    def remove(self) -> None:
        """Remove the run directory's files."""
        self._child.remove()


async def _readable(endpoint: socket.socket) -> None:
    """Wait until there is something to take. Whoever is cancelled has taken nothing that would be lost."""
    ready, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(endpoint, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(endpoint)
