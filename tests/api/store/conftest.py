"""A real etcd on loopback: one for each test process, and one of its own for a test that kills it."""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from netfabric.fabric.errors import UnavailableError
from netfabric.lab.etcd import Etcd


def free_ports() -> int:
    """Return a port that is free, and so is the next: one for clients and one for peers."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            with suppress(OSError, OverflowError):
                two.bind(("127.0.0.1", port + 1))
                return port


def make_etcd(directory: Path) -> Etcd:
    """Return a started member of its own; somebody else may take the ports first, so it tries again."""
    for attempt in range(5):
        name = f"nfst-{os.getpid()}"
        etcd = Etcd(name, directory / str(attempt), port=free_ports(), outlives=False)
        try:
            etcd.start()
        except UnavailableError as error:
            etcd.stop()
            if "already in use" not in str(error):
                raise
        else:
            return etcd
    raise UnavailableError("no free ports")


@pytest.fixture(scope="session")
def shared_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    etcd = make_etcd(tmp_path_factory.mktemp("etcd"))
    yield etcd
    etcd.stop()


@pytest.fixture
def own_etcd(tmp_path: Path) -> Iterator[Etcd]:
    """One that a test may kill."""
    etcd = make_etcd(tmp_path)
    yield etcd
    etcd.stop()
