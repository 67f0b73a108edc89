"""The managed plugin's folder, and its proxy on real sockets."""

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from netfabric.agent.cnm.plugin import build

BIG = b"x" * 300_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("plugin") / "netfabric"
    build(made)
    return made


@contextmanager
def agent(path: Path) -> Iterator[None]:
    """Answer each connection with what it said, when it has said all."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=_serve, args=(listener,), daemon=True)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def _serve(listener: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection:
                said = b""
                while data := connection.recv(1 << 16):
                    said += data
                connection.sendall(said)


@contextmanager
def proxy(folder: Path, own: Path, agents: Path) -> Iterator["subprocess.Popen[bytes]"]:
    running = subprocess.Popen([str(folder / "rootfs/proxy"), str(own), str(agents)])
    try:
        yield running
    finally:
        running.terminate()
        assert running.wait(5) == 0


def ask(path: Path, what: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as asker:
        asker.settimeout(10)
        for _ in range(200):
            with suppress(FileNotFoundError, ConnectionRefusedError):
                asker.connect(str(path))
                break
            threading.Event().wait(0.02)
        asker.sendall(what)
        asker.shutdown(socket.SHUT_WR)
        said = b""
        while data := asker.recv(1 << 16):
            said += data
        return said


def test_the_folder_is_what_docker_wants(folder: Path) -> None:
    found = json.loads((folder / "config.json").read_text())
    assert found["interface"]["types"] == ["docker.networkdriver/1.0", "docker.ipamdriver/1.0"]
    assert found["entrypoint"][0] == "/proxy"
    (mount,) = found["mounts"]
    assert (folder / "rootfs" / mount["destination"].lstrip("/")).is_dir()
    assert (folder / "rootfs" / "run/docker/plugins").is_dir()
    assert (folder / "rootfs/proxy").stat().st_size < 2_000_000
    build(folder)  # again, in place


def test_bytes_go_both_ways_many_at_a_time(folder: Path, tmp_path: Path) -> None:
    own, agents = tmp_path / "own", tmp_path / "agents"
    with agent(agents), proxy(folder, own, agents):
        assert ask(own, BIG) == BIG
        with socket.socket(socket.AF_UNIX) as silent:
            silent.connect(str(own))
            silent.shutdown(socket.SHUT_WR)
            assert ask(own, b"hello") == b"hello"


def test_an_agent_that_comes_late_is_waited_for(folder: Path, tmp_path: Path) -> None:
    own, agents = tmp_path / "own", tmp_path / "agents"
    answers: list[bytes] = []
    with proxy(folder, own, agents):
        asking = threading.Thread(target=lambda: answers.append(ask(own, b"hello")))
        asking.start()
        while not own.exists():
            threading.Event().wait(0.02)
        with agent(agents):
            asking.join(10)
    assert answers == [b"hello"]
