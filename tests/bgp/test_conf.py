"""ExaBGP's configuration: its text, and what ExaBGP itself says of it."""

import os
import subprocess
import sys
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from netfabric.bgp.child import ENVIRONMENT
from netfabric.bgp.conf import render
from netfabric.fabric.errors import InvalidError
from netfabric.fabric.peer import Asn, Peer, Speaker

EXABGP = Path(sys.executable).parent / "exabgp"
HELPER = ("/usr/bin/python3", "-I", "-S", "/run/x/tap.py", "/run/x/exabgp.sock")
SPEAKER = Speaker("h1", Asn(4200000001), "10.91.1.2")
FOUR = Peer("h1", "tor1", ip_address("10.91.1.1"), Asn(65001), ip_address("10.91.1.2"))
SIX = Peer("h1", "tor1-v6", ip_address("fd91:1::1"), Asn(65001), ip_address("fd91:1::2"))

GOLDEN = """\
process agent {
    run /usr/bin/python3 -I -S /run/x/tap.py /run/x/exabgp.sock;
    encoder json;
}
neighbor 10.91.1.1 {
    description "MARK";
    router-id 10.91.1.2;
    local-address 10.91.1.2;
    local-as 4200000001;
    peer-as 65001;
    hold-time 30;
    manual-eor true;
    adj-rib-in false;
    group-updates true;
    md5-password "s3cret#!";
    outgoing-ttl 255;
    incoming-ttl 255;
    family { ipv4 unicast; }
    capability { asn4 enable; route-refresh enable; graceful-restart 120; }
    API
}
neighbor fd91:1::1 {
    description "MARK";
    router-id 10.91.1.2;
    local-address fd91:1::2;
    local-as 4200000001;
    peer-as 65001;
    hold-time 9;
    manual-eor true;
    adj-rib-in false;
    group-updates true;
    outgoing-ttl 3;
    family { ipv4 unicast; ipv6 unicast; }
    capability { asn4 enable; route-refresh enable; nexthop enable; }
    nexthop { ipv4 unicast ipv6; }
    API
}
"""
API = (
    "api { processes [ agent ]; neighbor-changes; "
    "receive { parsed; update; refresh; notification; } send { parsed; update; } }"
)


def validate(text: str, directory: Path) -> "subprocess.CompletedProcess[str]":
    file = directory / "exabgp.conf"
    file.write_text(text)
    return subprocess.run(
        [EXABGP, "validate", file],
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_golden(tmp_path: Path) -> None:
    made = render(
        SPEAKER,
        [
            replace(SIX, families=(4, 6), multihop=3, graceful_restart=0),
            replace(FOUR, hold_time=30, password="s3cret#!", ttl_security=True),
        ],
        HELPER,
    )
    assert made.text == GOLDEN.replace("MARK", made.mark).replace("API", API)
    done = validate(made.text, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"families": (4,)},
        {"hold_time": 0},
        {"hold_time": 3},
        {"hold_time": 65535},
        {"graceful_restart": 4095},
        {"multihop": 255},
        {"password": "!#%&()*+,./:<=>?@^_|~-aZ9"},
        {"password": "x" * 80},
    ],
)
def test_exabgp_takes_every_option(options: dict[str, Any], tmp_path: Path) -> None:
    done = validate(render(SPEAKER, [replace(FOUR, **options)], HELPER).text, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_validation_can_fail(tmp_path: Path) -> None:
    text = render(SPEAKER, [FOUR], HELPER).text.replace("hold-time 9", "hold-time never")
    assert validate(text, tmp_path).returncode != 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"local_address": None}, "no address towards 10.91.1.1"),
        ({"password": 'quo"te'}, "a character that ExaBGP's file cannot carry"),
        ({"password": "blank here"}, "a character that ExaBGP's file cannot carry"),
        ({"password": "semi;colon"}, "a character that ExaBGP's file cannot carry"),
        ({"password": "x" * 81}, "longer than 80"),
        ({"families": (4, 6)}, "IPv6 routes over an IPv4 session"),
    ],
)
def test_what_cannot_be_written_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidError, match=words) as refused:
        render(SPEAKER, [replace(FOUR, **options)], HELPER)
    assert "peer h1:tor1" in str(refused.value)
    assert refused.value.remedy


def test_the_mark_changes_with_the_text_and_only_then() -> None:
    one = render(SPEAKER, [FOUR, SIX], HELPER)
    assert one == render(SPEAKER, [SIX, FOUR], HELPER)
    assert one.mark != render(SPEAKER, [FOUR], HELPER).mark
    assert one.mark != render(SPEAKER, [replace(FOUR, password="x"), SIX], HELPER).mark
    # options of routes are not in the file
    assert one == render(SPEAKER, [replace(FOUR, med=1, communities=("65000:1",)), SIX], HELPER)
