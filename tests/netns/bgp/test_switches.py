"""The lab's switches among themselves: sessions, ECMP in the kernel, taken up by another process, gone without a trace."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_network
from itertools import count
from os import getpid
from pathlib import Path

import pytest

from netfabric.fabric.prefix import FAMILIES
from netfabric.lab.daemon import command
from netfabric.lab.namespace import Namespace, wire
from netfabric.lab.switch import (
    PeerRole,
    Switch,
    SwitchKind,
    SwitchPeer,
    SwitchSettings,
    make_switch,
)
from tests.netns.bgp.conftest import addresses, until

pytestmark = pytest.mark.netns
LINKS = range(2)
ASNS = (65101, 65102)
DEFAULTS = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}
PAIRS: list[tuple[SwitchKind, SwitchKind]] = [("frr", "bird"), ("bird", "gobgp"), ("gobgp", "frr")]
_number = count()


def settings(namespace: Namespace, end: int, role: PeerRole, directory: Path) -> SwitchSettings:
    """Return the settings of one end (0 or 1) of two wires; each session carries its own family."""
    peers = tuple(
        SwitchPeer(f"link{link}-v{family}", ends[1 - end], ASNS[1 - end], ends[end], role)
        for link in LINKS
        for family in FAMILIES
        for ends in [addresses(family, link)]
    )
    name = namespace.name
    return SwitchSettings(name, name, ASNS[end], f"172.20.0.{end + 1}", peers, directory)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Namespace, Namespace, Path]]:
    number = next(_number)
    one, two = (Namespace(f"nfbg-{getpid()}-{number}{side}") for side in "ab")
    with ExitStack() as stack:
        for namespace in (one, two):
            stack.callback(namespace.delete)
            namespace.create()
        for link in LINKS:
            wire((one, f"link{link}"), (two, f"link{link}"))
            for family, length in ((4, 31), (6, 127)):
                for namespace, address in zip((one, two), addresses(family, link), strict=True):  # type: ignore[arg-type]
                    nodad = ["nodad"] if family == 6 else []
                    namespace.run(*f"ip addr add {address}/{length} dev link{link}".split(), *nodad)
        yield one, two, tmp_path


@pytest.mark.parametrize(("upper", "lower"), PAIRS)
async def test_two_switches(
    pair: tuple[Namespace, Namespace, Path], upper: SwitchKind, lower: SwitchKind
) -> None:
    one, two, directory = pair
    before = _machines_own_frr()
    # the upper one takes the lower one for a host, and so gives it a default route
    above = make_switch(upper, settings(one, 0, "host", directory))
    below = make_switch(lower, settings(two, 1, "fabric", directory))
    with ExitStack() as stack:
        for switch in (above, below):
            stack.callback(switch.stop)
            switch.start()
        await until(lambda: _all_up(above) and _all_up(below), "all sessions", 30.0)
        for family, prefix in DEFAULTS.items():
            hops = frozenset(addresses(family, link)[0] for link in LINKS)  # type: ignore[arg-type]
            await until(lambda p=prefix, h=hops: below.rib().get(p) == h, "the default routes")  # type: ignore[misc]
            await until(lambda f=family: _ways(two, f) == 2, "two ways in the kernel")  # type: ignore[misc]
        assert above.rib() == {}

        again = make_switch(lower, below.settings)
        assert again.pids() == below.pids() != ()
        assert again.rib() == below.rib()
        again.stop()
        assert below.pids() == ()
        await until(lambda: not _ways(two, 4) and not _ways(two, 6), "the kernel's routes gone")
        await until(lambda: not any(above.sessions().values()), "the sessions ended")
        below.start()
        await until(lambda: _all_up(below), "all sessions again", 30.0)
    assert _machines_own_frr() == before
    assert not _left_behind(one, two, directory)


def _machines_own_frr() -> list[tuple[str, float]]:
    return sorted((p.name, p.stat().st_mtime) for p in Path("/etc/frr").iterdir())


def _left_behind(one: Namespace, two: Namespace, directory: Path) -> list[Path]:
    ours = [path for path in Path("/var/run/frr").glob("*") if path.name in (one.name, two.name)]
    return [*ours, *directory.iterdir()]


def _all_up(switch: Switch) -> bool:
    sessions = switch.sessions()
    return len(sessions) == len(LINKS) * len(FAMILIES) and all(sessions.values())


def _ways(namespace: Namespace, family: int) -> int:
    return namespace.run("ip", f"-{family}", "route", "show", "default").count("via")


def test_a_switch_without_its_daemon_says_so(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="is not installed: install frr, bird2 and gobgpd"):
        command(["no-such-daemon"], "switch tor")
    assert shutil.which("bird")
