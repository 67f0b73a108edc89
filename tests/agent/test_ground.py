"""What an agent needs before it begins: said in words where it is not there, and nothing is left behind."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from netfabric.agent.datapath.base import Prepared
from netfabric.agent.ground import check_rights, check_user, stand, take_directories
from netfabric.agent.journal import Journal
from netfabric.agent.settings import Settings
from netfabric.fabric.errors import ConflictError, InvalidError, KernelError
from tests.fabric.fake_kernel import FakeKernel


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings("h1", ("m:1",), run_dir=tmp_path / "run", state_dir=tmp_path / "state")


class Old(FakeKernel):
    """A kernel from before nexthop objects."""

    def prepare(self) -> Prepared:
        raise KernelError("this kernel lacks nexthop", "use Linux 5.8 or newer")


def test_a_missing_kernel_feature(settings: Settings) -> None:
    take_directories(settings)
    with pytest.raises(KernelError, match="lacks nexthop"):
        stand(settings, Old())
    ground = stand(settings, FakeKernel())  # the journal was let go of
    assert (ground.journal_state, ground.prepared.features) == (None, ("nexthop", "veth"))
    ground.journal.close()


def test_another_agent_has_the_journal(settings: Settings) -> None:
    take_directories(settings)
    other = Journal(settings.journal)
    other.open()
    with pytest.raises(ConflictError, match=str(os.getpid())):
        stand(settings, FakeKernel())
    other.close()


def test_another_agent_has_the_run_directory(settings: Settings) -> None:
    """flock knows processes apart, so the other one is one."""
    settings.run_dir.mkdir()
    code = (
        "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX);"
        "f.write('4711'); f.flush(); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(settings.run_dir / "netplugin.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout
        other.stdout.readline()
        with pytest.raises(ConflictError, match="4711"):
            take_directories(settings)
        other.communicate()
    take_directories(settings)


def test_a_directory_that_cannot_be_made(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KernelError, match="--state-dir"):
        take_directories(replace(settings, state_dir=tmp_path / "file" / "x"))


@pytest.mark.parametrize(
    ("effective", "missing"),
    [("0", "no CAP_NET_ADMIN and no CAP_SYS_ADMIN"), ("1000", "no CAP_SYS_ADMIN")],
)
def test_too_few_rights(effective: str, missing: str) -> None:
    with pytest.raises(KernelError, match=missing):
        check_rights(f"Name:\tx\nCapEff:\t{effective}\n")
    check_rights("CapEff:\t0000000000201000\n")


def test_a_user_that_is_not_there() -> None:
    check_user("root")
    with pytest.raises(InvalidError, match="no-such-user"):
        check_user("no-such-user")
