"""The agent's CNI socket: one call a connection, many at a time, each bounded."""

import asyncio
import select
import socket
import time
from contextlib import suppress
from errno import ECONNRESET
from pathlib import Path

import structlog

from netfabric.agent.cni.commands import Commands, failure
from netfabric.agent.cni.problem import CniError, Code
from netfabric.agent.cni.wire import Answer, Call, encode, read_call
from netfabric.agent.requests import Requests
from netfabric.agent.unix_socket import check_length, listening
from netfabric.fabric.errors import InvalidError

log = structlog.get_logger(__name__)

CONCURRENT = 256
"""Calls under way at once; more wait in the socket's backlog."""
BACKLOG = 1024
READ_TIMEOUT = 10.0
"""Seconds for a shim to send its call: it has it all before it connects."""
ANSWER_TIMEOUT = 55.0
"""Seconds for an answer; the shim itself gives up after 60."""
WRITE_TIMEOUT = 10.0
ACCEPT_PAUSE = 0.2


class CniServer:
    """Serves CNI on a unix socket that only root may use."""

    def __init__(self, requests: Requests, path: Path) -> None:
        self._commands = Commands(requests)
        self._path = path
        self._slots = asyncio.Semaphore(CONCURRENT)
        self.listening = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled; a socket that an earlier agent left is replaced. Raise KernelError, InvalidError.

        Calls under way are then cut off: their shims ask the next agent.
        """
        listener = _listen(self._path)
        ours = self._path.stat().st_ino
        self.listening.set()
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await self._slots.acquire()
                    group.create_task(self._serve(await _accept(listener)))
        finally:
            listener.close()
            with suppress(FileNotFoundError):
                if self._path.stat().st_ino == ours:
                    self._path.unlink()

    async def _serve(self, connection: socket.socket) -> None:
        try:
            reader, writer = await asyncio.open_unix_connection(sock=connection)
            try:
                writer.write(encode(await self._answer(reader, connection)))
                async with asyncio.timeout(WRITE_TIMEOUT):
                    await writer.drain()
            finally:
                writer.close()
        except (OSError, TimeoutError) as error:
            log.info("a CNI call's shim went away before its answer", error=str(error))
        finally:
            self._slots.release()

    async def _answer(self, reader: asyncio.StreamReader, connection: socket.socket) -> Answer:
        """Return an answer, whatever happens; raise OSError where nobody waits for one.

        A call whose shim has been killed is not begun: its engine goes on with another, which must not be overtaken.
        """
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                call = await read_call(reader)
        except InvalidError as error:
            return failure(CniError(Code.IO_FAILURE, error.what, error.remedy))
        except TimeoutError:
            return failure(CniError(Code.IO_FAILURE, "call on the CNI socket: it did not come"))
        if _hung_up(connection):
            raise ConnectionResetError(ECONNRESET, "its call was not begun")
        start = time.monotonic()
        answer = await self._carry_out(call)
        took = time.monotonic() - start
        # after the answer has been written: the engine waits for that, and not for the log
        asyncio.get_running_loop().call_soon(_log, call, answer, took)
        return answer

    async def _carry_out(self, call: Call) -> Answer:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                return await self._commands.answer(call)
        except TimeoutError:
            what = f"the agent did not finish within {ANSWER_TIMEOUT:g} s"
            return failure(CniError(Code.TRY_LATER, what, "try again; see the agent's log"))
        except Exception:  # one call's defect must not end the agent
            log.exception("a defect in the CNI server", environment=dict(call.environment))
            what = "the agent failed on this call"
            return failure(CniError(Code.INTERNAL, what, "see the agent's log, and report it"))


def _log(call: Call, answer: Answer, took: float) -> None:
    log.info(
        "CNI",
        command=call.environment.get("CNI_COMMAND", ""),
        container=call.environment.get("CNI_CONTAINERID", ""),
        interface=call.environment.get("CNI_IFNAME", ""),
        milliseconds=round(took * 1e3, 2),
        **({"error": answer.text.decode().strip()} if answer.status else {}),
    )


async def _accept(listener: socket.socket) -> socket.socket:
    """Return the next connection, however long it takes: a process out of files gets some back."""
    while True:
        try:
            return (await asyncio.get_running_loop().sock_accept(listener))[0]
        except OSError as error:
            log.warning("cannot take a CNI call; will try again", error=error.strerror)
            await asyncio.sleep(ACCEPT_PAUSE)


def _listen(path: Path) -> socket.socket:
    """Return a listening socket at a path, in place of one left behind."""
    check_length(path, "CNI socket", "choose a shorter --run-dir")
    return listening(path, BACKLOG, "CNI socket", "run as root, or choose another --run-dir")


def _hung_up(connection: socket.socket) -> bool:
    """Return whether the other end is closed; one that has only ended its sending is not."""
    poller = select.poll()
    poller.register(connection, 0)
    return any(happened & select.POLLHUP for _, happened in poller.poll(0))
