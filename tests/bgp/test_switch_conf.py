"""The lab switches' configurations: each daemon itself finds nothing wrong with its own."""

import shutil
import subprocess
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import pytest

from netfabric.lab import bird, frr, gobgp
from netfabric.lab.fib import Table, best, lines
from netfabric.lab.switch import SwitchPeer, SwitchSettings

HOST = SwitchPeer(
    "host1",
    ip_address("172.16.0.1"),
    4200000001,
    ip_address("172.16.0.0"),
    "host",
    password="s3cret#!:",
)
HOST6 = SwitchPeer(
    "host1-v6",
    ip_address("fd16::1"),
    4200000001,
    ip_address("fd16::"),
    "host",
    families=(4, 6),
    ttl_security=True,
)
SPINE = SwitchPeer("spine", ip_address("172.17.0.0"), 65000, ip_address("172.17.0.1"), "fabric")
SETTINGS = SwitchSettings("tor", "ns", 65101, "172.20.0.1", (HOST, HOST6, SPINE), Path("/run/x"))

CHECKS: list[tuple[Callable[[], str], list[str]]] = [
    (lambda: frr.configuration(SETTINGS), ["vtysh", "-C", "-f"]),
    (lambda: bird.configuration(SETTINGS, Path("/dev/null")), ["bird", "-p", "-c"]),
    (lambda: gobgp.configuration(SETTINGS), ["gobgpd", "--dry-run", "-p", "-f"]),
]


@pytest.mark.parametrize(("text", "check"), CHECKS, ids=["frr", "bird", "gobgp"])
def test_the_daemon_can_read_it(text: Callable[[], str], check: list[str], tmp_path: Path) -> None:
    if not shutil.which(check[0]):
        pytest.skip(f"{check[0]} is not installed")
    file = tmp_path / "switch.conf"
    file.write_text(text())
    done = subprocess.run(
        [*check, str(file)], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "error" not in (done.stdout + done.stderr).lower()


def path(hop: str, *asns: int, own: bool = False, preference: int = 100) -> dict[str, object]:
    """Return a path as `gobgp global rib -j` prints it."""
    attributes: list[dict[str, object]] = [
        {"type": 1, "value": 0},
        {"type": 2, "as_paths": [{"segment_type": 2, "num": len(asns), "asns": list(asns)}]},
        {"type": 3, "nexthop": hop},
        {"type": 5, "value": preference},
    ]
    return {"attrs": attributes} | ({} if own else {"neighbor-ip": hop})


def test_equal_paths_share_the_traffic() -> None:
    assert best([path("10.0.0.2", 1, 2), path("10.0.0.1", 3, 4), path("10.0.0.3", 1, 2, 3)]) == (
        "10.0.0.1",
        "10.0.0.2",
    )


def test_a_default_of_our_own_gives_way() -> None:
    own = path("0.0.0.0", own=True, preference=1)
    assert best([own]) == ()
    assert best([own, path("10.0.0.1", 1)]) == ("10.0.0.1",)


def test_only_what_differs_is_programmed() -> None:
    old: Table = {"10.1.0.1/32": ("10.0.0.1",), "10.1.0.2/32": ("10.0.0.1",)}
    new: Table = {
        "10.1.0.2/32": ("10.0.0.1",),
        "10.1.0.3/32": ("fd16::1",),
        "fd10::1/128": ("a::", "b::"),
    }
    assert lines(old, new) == [
        "route del 10.1.0.1/32 proto bgp",
        "route replace 10.1.0.3/32 proto bgp via inet6 fd16::1",
        "route replace fd10::1/128 proto bgp nexthop via a:: nexthop via b::",
    ]
    assert lines(new, new) == []
