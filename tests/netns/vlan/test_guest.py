"""The tests of VLANs in a guest whose kernel has 802.1Q."""

import sys
from pathlib import Path

import pytest

from tests.netns.vlan import guest

pytestmark = [pytest.mark.netns, pytest.mark.vlan]
INNER = "tests/netns/vlan/test_vlan.py"
TIMEOUT = 150.0
"""Seconds; it takes some 20 on an idle machine of two cores."""


@pytest.mark.skipif(not guest.KERNEL.exists(), reason="user-mode-linux is not installed")
def test_vlans_in_a_guest_that_has_8021q(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", INNER]
    outcome = guest.run(command, tmp_path, TIMEOUT)
    assert outcome.status == 0, outcome.output[-4000:]
    assert "7 passed" in outcome.output, outcome.output[-2000:]
