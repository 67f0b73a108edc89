"""A whole fabric for a module's tests: real switches, store, netmaster, agents, containers."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from netfabric.lab.lab import Lab
from netfabric.lab.settings import Settings


@pytest.fixture(scope="module")
def make_lab() -> Iterator[Callable[..., Lab]]:
    """Bring labs up by their settings; all are down again after the module."""
    with ExitStack() as stack:
        made: list[Lab] = []

        def make(**wanted: object) -> Lab:
            name = f"e{os.getpid() % 100000:05d}x{len(made)}"
            lab = Lab(Settings(name=name, **wanted))  # type: ignore[arg-type]
            made.append(lab)
            return stack.enter_context(lab)

        yield make
