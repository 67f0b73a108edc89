"""A netmaster as a process on loopback."""

import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

Found = TypeVar("Found")
COMMAND = Path(sys.executable).with_name("netmaster")
PATIENCE = 20.0
"""Seconds that a netmaster may take to become ready on a busy machine."""


class NetmasterProcess:
    """One netmaster, and what it said."""

    def __init__(self, log: Path, *words: str) -> None:
        self._log = log
        self.words = (str(COMMAND), "--rest", "127.0.0.1:0", "--grpc", "127.0.0.1:0", *words)
        with log.open("w") as file:
            self.process = subprocess.Popen(self.words, stderr=file, stdout=file)

    @property
    def said(self) -> str:
        return self._log.read_text()

    @property
    def url(self) -> str:
        """Return the REST URL, once it says where it listens."""
        found = self.until(lambda: re.search(r"listening.* rest=(\S+)", self.said))
        return f"http://{found[1]}"

    def until(self, condition: Callable[[], Found | None]) -> Found:
        """Return what a condition finds, as soon as it does; fail when it takes too long."""
        deadline = time.monotonic() + PATIENCE
        while (found := condition()) is None:
            assert self.process.poll() is None, f"netmaster ended early:\n{self.said}"
            assert time.monotonic() < deadline, f"waited in vain:\n{self.said}"
            time.sleep(0.02)
        return found

    def ready(self) -> "NetmasterProcess":
        self.until(lambda: re.search(r" ready ", self.said))
        return self

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=10) as reply:
            return str(reply.read().decode())

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Stop it; return the exit status and the seconds that it took."""
        start = time.monotonic()
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE)
        return status, time.monotonic() - start


Starter = Callable[..., NetmasterProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    """Start netmasters that end with the test."""
    started: list[NetmasterProcess] = []

    def begin(*words: str) -> NetmasterProcess:
        started.append(NetmasterProcess(tmp_path / f"netmaster{len(started)}.log", *words))
        return started[-1]

    yield begin
    for netmaster in started:
        if netmaster.process.poll() is None:
            netmaster.process.kill()
            netmaster.process.wait()


@pytest.fixture(scope="module")
def netmaster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetmasterProcess]:
    """One netmaster on a memory store for all tests of a module."""
    log = tmp_path_factory.mktemp("netmaster") / "log"
    found = NetmasterProcess(log, "--store", "memory").ready()
    yield found
    found.stop()
