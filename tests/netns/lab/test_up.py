"""`netlab` as a user types it: up with each kind of switch, looked at, down without a trace."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netfabric.lab.files import RUN, Files
from netfabric.lab.process import lives
from netfabric.lab.sweep import inhabitants, namespaces, sweep

pytestmark = pytest.mark.netns

SLOW = pytest.mark.slow
NETLAB = Path(sys.executable).parent / "netlab"
SMALL = ("--racks", "2", "--hosts", "1", "--tors", "1", "--containers", "1")


def netlab(*words: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
    command = [str(NETLAB), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)


@contextmanager
def named(suffix: str) -> Iterator[str]:
    name = f"u{os.getpid() % 1000000}{suffix}"
    try:
        yield name
    finally:
        sweep(name)


def trace(name: str) -> list[Path]:
    """Return the files that a lab of that name has anywhere."""
    files = Files(name)
    places = [files.run, files.state, RUN / f"{name}.lock"]
    frr = [
        path for where in ("/run/frr", "/var/tmp/frr") for path in Path(where).glob(f"nfl-{name}-*")
    ]
    return [path for path in (*places, *frr) if path.exists()]


@pytest.mark.parametrize(
    ("kind", "shape", "store"),
    [
        ("frr", SMALL, "etcd"),
        pytest.param("bird", SMALL, "sqlite", marks=SLOW),
        pytest.param("gobgp", SMALL, "sqlite", marks=SLOW),
        pytest.param("mixed", (*SMALL[:5], "3", *SMALL[6:]), "etcd", marks=SLOW),
    ],
)
def test_up_shows_that_all_reach_all_and_down_leaves_nothing(
    kind: str, shape: tuple[str, ...], store: str
) -> None:
    with named(kind[0]) as name:
        up = netlab("up", "--name", name, "--tor", kind, "--store", store, *shape)
        assert up.returncode == 0, up.stdout + up.stderr
        for family in (4, 6):
            assert f"IPv{family}: 2 of 2 pairs reach each other" in up.stdout
            assert re.search(rf"From ADD to reachable: .*[\d.]+ ms over IPv{family}", up.stdout)
        for part in (
            "Hosts",
            "BGP sessions",
            "Containers",
            "Learned by the switches",
            "netlab down",
        ):
            assert part in up.stdout
        assert "down" not in _sessions(up.stdout)

        there = namespaces(name)
        processes = inhabitants(there)
        assert {host.removeprefix(f"nfl-{name}-") for host in processes.values()} >= {
            "spine1",
            "tor1a",
            "tor2a",
            "host1",
            "host2",
            "netmaster",
        }
        down = netlab("down", "--name", name)
        assert down.returncode == 0, down.stderr
        assert namespaces(name) == []
        assert trace(name) == []
        assert [pid for pid in processes if lives(pid)] == []


def _sessions(text: str) -> str:
    return text.partition("BGP sessions")[2].partition("Containers")[0]


def test_down_after_up_was_killed_midway() -> None:
    """At several depths: what was made so far differs."""
    for steps in (1, 2, 4):
        with named(f"k{steps}") as name:
            command = [str(NETLAB), "up", "--name", name, "--tor", "bird", *SMALL]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as up:
                assert up.stdout
                for _ in range(steps):
                    assert up.stdout.readline()
                up.kill()
            there = namespaces(name)
            processes = inhabitants(there)
            assert there
            down = netlab("down", "--name", name)
            assert down.returncode == 0, down.stderr
            assert (namespaces(name), trace(name)) == ([], [])
            assert [pid for pid in processes if lives(pid)] == []


INTERRUPTIBLE = (
    "import os, signal, sys;"
    "signal.signal(signal.SIGINT, signal.default_int_handler); os.execv(sys.argv[1], sys.argv[1:])"
)
"""A test run in the background of a shell has interrupts turned off, and so do its children."""


def test_an_interrupted_up_says_what_to_look_at() -> None:
    with named("i") as name:
        command = [str(NETLAB), "up", "--name", name, "--tor", "bird", *SMALL]
        with subprocess.Popen(
            [sys.executable, "-c", INTERRUPTIBLE, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            stdin=subprocess.DEVNULL,
        ) as up:
            assert up.stdout and up.stdout.readline()
            up.send_signal(signal.SIGINT)
            _, said = up.communicate(timeout=30)
        assert up.returncode == 1
        assert "interrupted" in said
        assert f"netlab down --name {name}" in said
        assert namespaces(name)


def test_a_failure_names_node_cause_and_log_and_is_cleaned_up_if_asked() -> None:
    """netmaster's port is taken: somebody else listens there, in its namespace."""
    with named("f") as name:
        taker = _TakesPort(name)
        with taker.running():
            up = netlab("up", "--name", name, "--store", "sqlite", "--clean-on-failure", *SMALL)
        assert up.returncode == 1
        assert re.search(
            r"netmaster: .*9999.*in use.*see \S+netmaster\.log", up.stderr, re.DOTALL
        ), up.stderr
        assert (namespaces(name), trace(name)) == ([], [])


class _TakesPort:
    """Waits for the lab's netmaster namespace, and is faster than netmaster in it."""

    _CODE = """
import os, sys, time, socket
from netfabric.lab.namespace import Namespace
space = Namespace(f"nfl-{sys.argv[1]}-netmaster")
print(1, flush=True)
while True:
    try:
        with space.entered():
            taken = socket.socket()
            taken.bind(("0.0.0.0", 9999))
        break
    except OSError:
        time.sleep(0.001)
time.sleep(600)
"""

    def __init__(self, name: str) -> None:
        self._words = [sys.executable, "-c", self._CODE, name]

    @contextmanager
    def running(self) -> Iterator[None]:
        with subprocess.Popen(self._words, stdout=subprocess.PIPE) as taker:
            assert taker.stdout and taker.stdout.readline()
            try:
                yield
            finally:
                taker.kill()


@SLOW
def test_commands_on_a_lab_that_is_up() -> None:
    with named("c") as name:
        up = netlab("up", "--name", name, "--tor", "bird", "--store", "sqlite", *SMALL)
        assert up.returncode == 0, up.stderr
        again = netlab("up", "--name", name)
        assert again.returncode == 1
        assert "is there already" in again.stderr

        status = netlab("status", "--name", name)
        assert status.returncode == 0 and "IPv6: 2 of 2 pairs" in status.stdout

        asked = netlab("attach", "--name", name, "host1", "web", "--ip", "10.1.0.77")
        assert asked.returncode == 0, asked.stderr
        assert "10.1.0.77" in asked.stdout
        one = _until_ok("ping", "--name", name, "host2/c1", "10.1.0.77")
        assert "ms" in one.stdout
        assert netlab("ping", "--name", name, "host2/c1", "host1/web").returncode == 0
        whole = netlab("ping", "--name", name)
        assert whole.returncode == 0 and "IPv4: 6 of 6 pairs" in whole.stdout

        inside = netlab(
            "exec", "--name", name, "host1/web", "--", "ip", "-br", "address", "show", "eth0"
        )
        assert "10.1.0.77/32" in inside.stdout
        assert "host2" in netlab("netctl", "--name", name, "host", "ls").stdout
        assert "10.1.0.77" in netlab("netctl", "--name", name, "endpoint", "ls").stdout
        assert "10.1.0.77" in netlab("switch", "--name", name, "tor2a", "show", "route").stdout
        assert "netplugin.log" in netlab("logs", "--name", name, "host1").stdout

        assert netlab("kill", "--name", name, "host1", "netplugin").returncode == 0
        dead = netlab("attach", "--name", name, "host1", "late")
        assert dead.returncode == 1 and "no agent listens" in dead.stderr
        assert f"nfl-{name}-host1-late" not in namespaces(name)
        assert netlab("ping", "--name", name).returncode == 0
        back = netlab("restart", "--name", name, "host1", "netplugin")
        assert back.returncode == 0, back.stderr

        assert netlab("detach", "--name", name, "host1", "web").returncode == 0
        gone = netlab("ping", "--name", name, "host2/c1", "10.1.0.77", timeout=30)
        assert gone.returncode == 1
        wrong = netlab("detach", "--name", name, "host1", "web")
        assert wrong.returncode == 1 and "no container 'web'" in wrong.stderr
        unknown = netlab("exec", "--name", name, "tor9z", "--", "true")
        assert unknown.returncode == 1 and "spine1" in unknown.stderr


def _until_ok(*words: str) -> subprocess.CompletedProcess[str]:
    end = time.monotonic() + 20
    while (done := netlab(*words)).returncode and time.monotonic() < end:
        pass
    assert done.returncode == 0, done.stdout + done.stderr
    return done
