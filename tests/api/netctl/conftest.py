"""netctl, run in this process against a real netmaster."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from netfabric.api.netctl.main import run

if TYPE_CHECKING:
    from tests.api.conftest import NetmasterProcess

NETCTL = Path(sys.executable).with_name("netctl")


class Said(NamedTuple):
    status: int
    out: str
    err: str


Netctl = Callable[..., Said]


@pytest.fixture
def netctl(
    netmaster: "NetmasterProcess",
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Netctl:
    monkeypatch.setenv("NETMASTER", netmaster.url)
    monkeypatch.setenv("HOME", str(tmp_path))

    def command(*words: str, status: int = 0) -> Said:
        capsys.readouterr()
        found = run(list(words))
        said = Said(found, *capsys.readouterr())
        assert found == status, said
        return said

    return command


@pytest.fixture
def netctl_command() -> Path:
    """The installed command itself."""
    return NETCTL
