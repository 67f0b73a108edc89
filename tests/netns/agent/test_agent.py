"""The real netplugin in a namespace: it serves, dies at any moment, adopts what it finds and repairs the rest."""

import pytest

from tests.agent.small_netmaster import SmallNetmaster
from tests.netns.agent.conftest import Machine

pytestmark = pytest.mark.netns


async def test_add_and_del(machine: Machine, netmaster: SmallNetmaster) -> None:
    machine.start(f"127.0.0.1:{netmaster.port}")
    await machine.serving()
    one, two = await machine.add("1"), await machine.add("2")
    assert len({*one, *two}) == 4
    assert all(machine.pings("1", address) for address in two)
    await netmaster.until(lambda: len(netmaster.endpoints) == 2, "both are stored")
    assert await machine.cni("DEL", "1") == {}
    await netmaster.until(lambda: len(netmaster.endpoints) == 1, "one is gone")
    assert not machine.pings("2", one[0])
