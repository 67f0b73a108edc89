"""One lab for the engines that call CNI, with two of its hosts made as engines need them."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from netfabric.lab.lab import Lab
from netfabric.lab.settings import Settings
from tests.engines.host import Host


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    name = f"en{os.getpid() % 100000:05d}"
    with Lab(Settings(name=name, hosts=1, tors=1, containers=1, store="sqlite")) as lab:
        made = lab.controller.netctl(
            "net", "create", "red", "-s", "10.3.0.0/16", "-s6", "fd10:3::/64"
        )
        assert made.returncode == 0, made.stderr
        for host in lab.machines:
            lab.attach(host, "red", "default:red")  # every agent knows both networks from now on
        yield lab


@pytest.fixture(scope="session")
def hosts(lab: Lab) -> Iterator[tuple[Host, Host]]:
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="nfen"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        one, two = (
            stack.enter_context(Host(lab.machine(name), directory / name).running())
            for name in ("host1", "host2")
        )
        yield one, two
