"""A host that an operator removed and that comes back: what its agent does about what is not its own any more."""

from netfabric.fabric.effects import Warn
from netfabric.fabric.events import MasterLost
from netfabric.fabric.session import BlockWanted, EndpointsAnswered, RefusedEndpoint
from tests.fabric.script import BLUE, BLUE_BLOCK, Script, block, key, of, request, told, withdrawn


def test_its_containers_are_withdrawn_and_new_ones_get_another_block() -> None:
    script = Script().ready(BLUE, blocks=[BLUE_BLOCK])
    script.up(request("c1"))
    script(MasterLost("gone"))
    script.connect()
    (warning,) = of(script.welcome(), Warn)
    assert warning.subject == f"block {BLUE_BLOCK.prefix} of {BLUE.key}"
    assert "nothing new is given out of it" in warning.text

    refused = RefusedEndpoint(key("c1"), "its block is held by host h2")
    assert withdrawn(script.says(EndpointsAnswered((), (refused,)))) == {"10.1.0.1/32"}

    begun = script.add(request("c2"))
    assert told(begun, BlockWanted)
    script.give(BLUE, "10.1.5.0/26")
    assert [str(b.prefix) for b in script.host.held()] == ["10.1.0.0/26", "10.1.5.0/26"]

    script.gone("c1")
    script.later(script.host.settings.cool_down)
    assert script.host.held() == [block(BLUE, "10.1.5.0/26")]
