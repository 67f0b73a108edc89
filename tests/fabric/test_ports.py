"""A host's brain and its ports: attached without anybody waiting, kept while their link is away, taken down as told."""

from ipaddress import ip_address

import pytest

from netfabric.fabric.effects import Attach, Audit, Detach, Record, Warn
from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.errors import KernelError
from netfabric.fabric.events import Attached, Detached, JournalState, UplinksChanged
from netfabric.fabric.kernel import EndpointLink
from netfabric.fabric.port import Port, Ports
from netfabric.fabric.session import EndpointsChanged
from tests.fabric.script import (
    BLUE,
    BLUE_BLOCK,
    UPLINKS,
    Effects,
    Script,
    announced,
    intent,
    kernel,
    of,
    told,
    withdrawn,
)

TAP = Port("h1", "tap0", "default", "blue", addresses=(ip_address("10.1.0.9"),))
KEY = EndpointKey("port:tap0", "tap0")
AWAY = KernelError("endpoint port:tap0/tap0: link tap0 is not there", "it comes")


@pytest.fixture
def script() -> Script:
    return Script().ready(BLUE, blocks=[BLUE_BLOCK])


def wants(script: Script, *ports: Port) -> Effects:
    return script.says(intent(BLUE, ports=Ports(ports)))


def begun(effects: Effects) -> Endpoint:
    (attach,) = of(effects, Attach)
    return attach.endpoint


def up(script: Script) -> Endpoint:
    effects = wants(script, TAP)
    script(Attached(KEY, None))
    done = script.recorded(effects)
    assert announced(done) == {"10.1.0.9/32"}
    return begun(effects)


def test_it_is_attached_as_intent_says(script: Script) -> None:
    effects = wants(script, TAP)
    endpoint = begun(effects)
    assert (endpoint.link, endpoint.mac, endpoint.mtu) == ("tap0", "", 0)
    assert (endpoint.key, endpoint.namespace, endpoint.is_port) == (KEY, "", True)
    assert announced(effects) == set()
    done = [*script(Attached(KEY, None)), *script.recorded(effects)]
    assert announced(done) == {"10.1.0.9/32"}
    (said,) = told(done, EndpointsChanged)
    assert [one.key for one in said.up] == [KEY]


def test_the_same_intent_again_changes_nothing(script: Script) -> None:
    up(script)
    assert not of(wants(script, TAP), Attach | Detach)  # type: ignore[arg-type]
    assert not of(script.later(5), Attach | Detach)  # type: ignore[arg-type]


def test_while_its_link_is_away_it_keeps_its_address(script: Script) -> None:
    effects = wants(script, TAP)
    failed = [*script(Attached(KEY, AWAY)), *script.recorded(effects)]
    assert (announced(failed), of(failed, Detach)) == (set(), [])
    assert any("link tap0 is not there" in warn.text for warn in of(failed, Warn))
    news = script(UplinksChanged(UPLINKS))
    assert of(news, Audit), "a link came: perhaps it is this one"
    came = script(Attached(KEY, None))
    assert announced(came) == {"10.1.0.9/32"}
    assert Warn(f"endpoint {KEY}", "") in came


def test_a_link_that_goes_is_withdrawn(script: Script) -> None:
    up(script)
    assert withdrawn(script(Attached(KEY, AWAY))) == {"10.1.0.9/32"}


def test_what_the_journal_cannot_take_does_not_stay(script: Script) -> None:
    effects = wants(script, TAP)
    script(Attached(KEY, None))
    assert of(script.recorded(effects, KernelError("disk", "mend it")), Detach)


@pytest.mark.parametrize("ports", [(), (Port("h1", "tap0", "default", "blue", "web"),)])
def test_it_goes_as_intent_says(script: Script, ports: tuple[Port, ...]) -> None:
    """Removed, or moved to a group: first everybody forgets it, then it is taken down."""
    endpoint = up(script)
    effects = wants(script, *ports)
    assert withdrawn(effects) == {"10.1.0.9/32"}
    assert not of(effects, Detach)
    script.left(endpoint.prefixes, withdrawn=True)
    assert of(script.later(script.host.settings.drain), Detach)
    ended = script.recorded(script(Detached(KEY, None)))
    assert bool(ports) == any(warn.text for warn in [*of(ended, Warn), *of(script.later(2), Warn)])


def test_an_intent_that_says_nothing_of_ports_leaves_them(script: Script) -> None:
    up(script)
    said = script.says(intent(full=False))
    assert not withdrawn(said)


@pytest.mark.parametrize("there", [True, False])
def test_a_restart_adopts_it(script: Script, there: bool) -> None:
    endpoint = up(script)
    journal = JournalState(
        endpoints=(endpoint,), blocks=(BLUE_BLOCK,), intent=intent(BLUE, ports=Ports((TAP,)))
    )
    link = EndpointLink("tap0", "", endpoint.addresses, 0)
    again = Script()
    effects = again.start(journal, kernel(link) if there else kernel())
    assert [one.endpoint for one in of(effects, Attach)] == ([] if there else [endpoint])
    assert not of(effects, Record) or not of(effects, Detach)
