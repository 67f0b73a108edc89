"""A real etcd on loopback: one for each test process, and one of its own for a test that kills it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from netfabric.fabric.errors import UnavailableError
from netfabric.lab.etcd import Etcd, free_ports


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
