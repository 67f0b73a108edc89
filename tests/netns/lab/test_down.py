"""What `down` finds and removes, and what it leaves alone."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from netfabric.fabric.errors import ConflictError
from netfabric.lab import wiring
from netfabric.lab.files import RUN, Files
from netfabric.lab.lab import Lab
from netfabric.lab.plan import namespace_prefix
from netfabric.lab.process import Process, lives
from netfabric.lab.settings import Settings
from netfabric.lab.sweep import inhabitants, namespaces, sweep

pytestmark = pytest.mark.netns
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A lab that was wired, and no more."""
    made = Lab(Settings(name=f"d{os.getpid()}", racks=1, hosts=1, tors=1, containers=0))
    made.files.write(made.settings)
    wiring.build(made.plan)
    yield made
    made.down()


def _trace(lab: Lab) -> tuple[list[str], dict[int, str], list[Path]]:
    names = namespaces(lab.settings.name)
    paths = [lab.files.run, lab.files.state, RUN / f"{lab.settings.name}.lock"]
    return names, inhabitants(names), [path for path in paths if path.exists()]


def test_a_half_made_lab_leaves_no_trace(lab: Lab) -> None:
    lab.controller  # noqa: B018 - makes directories
    lab.switches["tor1a"].start()
    swept = sweep(lab.settings.name)
    assert (swept.processes, swept.namespaces) == (2, 5)
    assert _trace(lab) == ([], {}, [])
    assert not sweep(lab.settings.name)


def test_a_process_that_ignores_sigterm_ends_too(lab: Lab) -> None:
    process = Process("host1", "stubborn", lab.namespace("host1"), lab.files.node("host1"))
    pid = process.start(sys.executable, "-c", STUBBORN)
    while not process.log.stat().st_size:
        assert lives(pid)
    assert sweep(lab.settings.name).processes == 1
    assert not lives(pid)


def test_a_process_outside_a_namespace_is_found_by_its_pidfile(lab: Lab) -> None:
    """One whose namespace has lost its name: `down` was killed between two steps."""
    directory = lab.files.node("host1")
    process = Process("host1", "orphan", lab.namespace("host1"), directory)
    pid = process.start(sys.executable, "-c", STUBBORN, str(directory / "some.conf"))
    lab.namespace("host1").delete()
    sweep(lab.settings.name)
    assert not lives(pid)


def test_a_pidfile_that_names_somebody_else_harms_nobody(lab: Lab) -> None:
    with subprocess.Popen(["sleep", "600"]) as bystander:
        (lab.files.node("host1") / "netplugin.pid").write_text(f"{bystander.pid}\n")
        sweep(lab.settings.name)
        assert bystander.poll() is None
        bystander.kill()


def test_another_lab_is_left_alone(lab: Lab) -> None:
    other = Lab(Settings(name=f"{lab.settings.name}x", racks=1, hosts=1, tors=1, containers=0))
    wiring.build(other.plan)
    try:
        before = namespaces(other.settings.name)
        sweep(lab.settings.name)
        assert namespaces(other.settings.name) == before
        assert all(name.startswith(namespace_prefix(other.settings.name)) for name in before)
    finally:
        other.down()


def test_two_at_a_time_are_refused_and_a_killed_one_holds_nothing(lab: Lab) -> None:
    holder = (
        "import sys, time; from netfabric.lab.files import Files\n"
        "with Files(sys.argv[1]).locked(): print(1, flush=True); time.sleep(600)"
    )
    words = [sys.executable, "-c", holder, lab.settings.name]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline()
        with pytest.raises(ConflictError, match=str(other.pid)), Files(lab.settings.name).locked():
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
        sweep(lab.settings.name)
