"""The shim by itself: which socket it asks, how long it waits, and what it says when nobody answers."""

import asyncio
import json
import os
import struct
import subprocess
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.agent.cni.conftest import Agent, Ledger, Shim, configuration, variables

SUPPORTED = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
Handler = Callable[[StreamReader, StreamWriter], Awaitable[None]]


@asynccontextmanager
async def answering(path: Path, handle: Handler) -> AsyncIterator[None]:
    """Let something listen at a path."""

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        await handle(reader, writer)
        writer.close()

    async with await asyncio.start_unix_server(serve, path):
        yield


async def read_call(reader: StreamReader) -> tuple[bytes, bytes]:
    magic, variables_, length = struct.unpack("!4sII", await reader.readexactly(12))
    assert magic == b"NFC1"
    return await reader.readexactly(variables_), await reader.readexactly(length)


def reply(text: bytes, status: int = 0) -> bytes:
    return struct.pack("!4sII", b"NFC1", status, len(text)) + text


def test_version_needs_no_agent(shim: Shim) -> None:
    done = shim.run(variables("VERSION"), b'{"cniVersion": "0.4.0"}')
    assert (done.status, done.error) == (0, "")
    assert done.json == {"cniVersion": "0.4.0", "supportedVersions": SUPPORTED}


@pytest.mark.parametrize("stdin", [b"", b"garbage", b'{"cniVersion": "7.0"}', b'{"cniVersion": 3}'])
def test_version_takes_any_input(shim: Shim, stdin: bytes) -> None:
    done = shim.run({"CNI_COMMAND": "VERSION"}, stdin)
    assert done.status == 0
    assert done.json == {"cniVersion": "1.0.0", "supportedVersions": SUPPORTED}


@pytest.mark.parametrize("environment", [{}, {"CNI_COMMAND": ""}])
def test_without_a_command_it_says_what_it_is(shim: Shim, environment: dict[str, str]) -> None:
    done = shim.run(environment)
    assert (done.status, done.json["code"]) == (1, 4)
    assert "CNI_COMMAND" in done.json["msg"]


@pytest.mark.parametrize(
    "stdin", [b"", b"{", b"[]", b'{"a": }', b'{"a": 1} {}', b"\0", b'{"\x01": 1}', b'{"a": 1,}']
)
def test_garbage_is_code_6(shim: Shim, stdin: bytes) -> None:
    done = shim.run(variables("ADD"), stdin)
    assert (done.status, done.json["code"]) == (1, 6)


def test_more_than_a_mebibyte_is_code_6(shim: Shim) -> None:
    done = shim.run(variables("ADD"), b'{"a": "' + b"x" * (1 << 20) + b'"}')
    assert (done.status, done.json["code"]) == (1, 6)
    assert "1 MiB" in done.json["msg"]


def test_too_many_arguments_are_code_4(shim: Shim) -> None:
    many = {f"CNI_{n}": "x" * 100_000 for n in range(3)}
    done = shim.run(variables("ADD", **many), configuration())
    assert (done.status, done.json["code"]) == (1, 4)
    assert "256 KiB" in done.json["msg"]


def test_input_that_never_ends_is_given_up(shim: Shim) -> None:
    reading, writing = os.pipe()
    try:
        done = subprocess.run(
            shim.command,
            stdin=reading,
            env=variables("ADD", NETFABRIC_CNI_TIMEOUT="1"),
            capture_output=True,
            check=False,
            timeout=20,
        )
    finally:
        os.close(reading)
        os.close(writing)
    assert (done.returncode, json.loads(done.stdout)["code"]) == (1, 11)


def test_closed_input_is_code_5(shim: Shim) -> None:
    words = ["/bin/sh", "-c", 'exec "$@" <&-', "sh", *shim.command]
    done = subprocess.run(words, env=variables("ADD"), capture_output=True, check=False, timeout=20)
    assert (done.returncode, json.loads(done.stdout)["code"]) == (1, 5)


def test_status_without_an_agent_is_50_at_once(shim: Shim, run_dir: Path) -> None:
    start = time.monotonic()
    done = shim.run(variables("STATUS"), configuration("1.1.0", socket=f"{run_dir}/cni.sock"))
    assert (done.status, done.json["code"]) == (1, 50)
    assert done.json["msg"] == f"{run_dir}/cni.sock: no agent listens there"
    assert done.json["cniVersion"] == "1.1.0"
    assert time.monotonic() - start < 2


def test_add_without_an_agent_is_11(shim: Shim, run_dir: Path) -> None:
    environment = variables("ADD", NETFABRIC_CNI_TIMEOUT="1")
    done = shim.run(environment, configuration("0.3.1", socket=f"{run_dir}/cni.sock"))
    assert (done.status, done.json["code"], done.json["cniVersion"]) == (1, 11, "0.3.1")


def test_a_file_that_is_no_socket(shim: Shim, run_dir: Path) -> None:
    """A file that cannot be connected to looks like an agent that is not there yet."""
    (run_dir / "cni.sock").touch()
    done = shim.run(variables("STATUS"), configuration(socket=f"{run_dir}/cni.sock"))
    assert (done.status, done.json["code"]) == (1, 50)


def test_a_path_through_a_file_is_code_5(shim: Shim, run_dir: Path) -> None:
    (run_dir / "file").touch()
    done = shim.run(variables("ADD"), configuration(socket=f"{run_dir}/file/cni.sock"))
    assert (done.status, done.json["code"]) == (1, 5)


@pytest.mark.parametrize(
    "text", [json.dumps("relative"), json.dumps("/" + "x" * 107), r'"/a\u0000b"', r'"/a\ud800"']
)
def test_a_socket_that_cannot_be_is_code_7(shim: Shim, text: str) -> None:
    stdin = b'{"cniVersion": "1.0.0", "socket": %s}' % text.encode()
    done = shim.run(variables("ADD"), stdin)
    assert (done.status, done.json["code"]) == (1, 7)
    assert "socket" in done.json["msg"]


@pytest.mark.parametrize(
    ("stdin", "expected"),
    [
        ('{"socket": "%s"}', True),
        (' {\n\t"a": [{"socket": "/no"}], "socket":"%s" } ', True),
        (r'{"so\u0063ket": "%s"}', True),
        ('{"socket": "/no", "socket": "%s"}', True),
        ('{"a": {"socket": "%s"}}', False),
        ('{"a": "\\"socket\\": \\"%s\\""}', False),
        ('{"socket": "%s", "socket": 5}', False),
        ('{"SOCKET": "%s"}', False),
        ('{"a": [1E5, -0.5e+3, true, false, null, {}, []], "socket": "%s"}', True),
        ('{"socket": "%s", "socket": ""}', False),
    ],
)
def test_the_socket_is_a_key_at_the_top(
    shim: Shim, stdin: str, expected: bool, run_dir: Path
) -> None:
    path, other = f"{run_dir}/a", f"{run_dir}/b"
    environment = variables("STATUS", NETFABRIC_CNI_SOCKET=other)
    done = shim.run(environment, (stdin % path.replace("/", r"\/")).encode())
    assert done.json["msg"].startswith(path if expected else other)


@pytest.mark.parametrize("text", [r"\u00e9\"\u20ac\ud834\uDD1e\t", 'é\\"€𝄞\\t'])
async def test_a_path_may_have_any_characters(shim: Shim, run_dir: Path, text: str) -> None:
    """Characters of one to four bytes, escaped or not."""

    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        await read_call(reader)
        writer.write(reply(b"{}\n"))

    async with answering(run_dir / 'é"€𝄞\t', handle):
        done = await shim.call(variables("STATUS"), f'{{"socket": "{run_dir}/{text}"}}'.encode())
    assert (done.status, done.out) == (0, "{}\n")


def test_what_is_no_ascii_is_not_shown(shim: Shim, run_dir: Path) -> None:
    stdin = rf'{{"socket": "{run_dir}/\u00e9\"\u0007"}}'.encode()
    done = shim.run(variables("STATUS"), stdin)
    assert done.json["msg"] == f'{run_dir}/??"\x07: no agent listens there'


async def test_it_passes_cni_variables_and_input_as_they_are(shim: Shim, run_dir: Path) -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        seen.append(await read_call(reader))
        writer.write(reply(b'{"any": "thing"}\n'))

    stdin = configuration(socket=f"{run_dir}/s", text="é\n", large="x" * 900_000)
    async with answering(run_dir / "s", handle):
        done = await shim.call(variables("ADD", CNI_ARGS="A=1;B=ü", SECRET="x"), stdin)
    assert (done.status, done.out) == (0, '{"any": "thing"}\n')
    environment, sent = seen[0]
    assert sent == stdin
    assert dict(item.split("=", 1) for item in environment.decode().split("\0") if item) == {
        name: value
        for name, value in variables("ADD", CNI_ARGS="A=1;B=ü").items()
        if name.startswith("CNI_")
    }


async def test_it_prints_large_answers_and_keeps_their_status(shim: Shim, run_dir: Path) -> None:
    text = b"x" * (3 << 20)

    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        await read_call(reader)
        writer.write(reply(text, 1))
        await writer.drain()

    async with answering(run_dir / "s", handle):
        done = await shim.call(variables("ADD"), configuration(socket=f"{run_dir}/s"))
    assert (done.status, len(done.out)) == (1, len(text))


@pytest.mark.parametrize(
    "words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", reply(b"")[:8] + b"\xff" * 4]
)
async def test_another_program_is_code_5(shim: Shim, run_dir: Path, words: bytes) -> None:
    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(words)
        await read_call(reader)

    async with answering(run_dir / "s", handle):
        done = await shim.call(variables("ADD"), configuration(socket=f"{run_dir}/s"))
    assert (done.status, done.json["code"]) == (1, 5)


async def test_an_agent_that_hangs_is_11(shim: Shim, run_dir: Path) -> None:
    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.read()

    async with answering(run_dir / "s", handle):
        environment = variables("ADD", NETFABRIC_CNI_TIMEOUT="1")
        done = await shim.call(environment, configuration(socket=f"{run_dir}/s"))
    assert (done.status, done.json["code"]) == (1, 11)


async def test_an_agent_that_dies_half_way_is_asked_again(shim: Shim, run_dir: Path) -> None:
    calls: list[Any] = []

    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        calls.append(await read_call(reader))
        writer.write(reply(b'{"done": true}\n')[: 20 if len(calls) == 1 else None])

    async with answering(run_dir / "s", handle):
        done = await shim.call(variables("ADD"), configuration(socket=f"{run_dir}/s"))
    assert (done.status, done.out, len(calls)) == (0, '{"done": true}\n', 2)
    assert calls[0] == calls[1]


@pytest.mark.parametrize(("command", "code", "attempts"), [("DEL", 11, 3), ("STATUS", 50, 1)])
async def test_an_agent_that_always_dies_is_given_up(
    shim: Shim, run_dir: Path, command: str, code: int, attempts: int
) -> None:
    calls: list[Any] = []

    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        calls.append(await read_call(reader))

    async with answering(run_dir / "s", handle):
        done = await shim.call(variables(command), configuration(socket=f"{run_dir}/s"))
    assert (done.status, done.json["code"], len(calls)) == (1, code, attempts)


async def test_add_waits_for_an_agent_that_starts(
    shim: Shim, run_dir: Path, agent: Agent, ledger: Ledger
) -> None:
    stdin = configuration(socket=f"{run_dir}/cni.sock")
    async with asyncio.TaskGroup() as group:
        call = group.create_task(shim.call(variables("ADD"), stdin))
        await asyncio.wait([call], timeout=0.3)
        assert not call.done()
        async with agent(ledger):
            await call
    assert (call.result().status, len(ledger.up)) == (0, 1)


async def test_add_goes_over_from_one_agent_to_the_next(
    shim: Shim, run_dir: Path, agent: Agent, ledger: Ledger
) -> None:
    """The agent restarts while an ADD is under way."""
    ledger.gate.clear()
    stdin = configuration(socket=f"{run_dir}/cni.sock")
    async with asyncio.TaskGroup() as group:
        async with agent(ledger):
            call = group.create_task(shim.call(variables("ADD"), stdin))
            async with asyncio.timeout(10):
                await ledger.asked.wait()
        ledger.gate.set()
        async with agent(ledger):
            await call
    assert (call.result().status, len(ledger.up), len(ledger.seen)) == (0, 1, 2)
