"""Sessions and what peers say: filters, limits, loops, failures, ECMP."""

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from netfabric.fabric.effects import ConfigureSpeaker, Effect, Program, TearDown, Warn
from netfabric.fabric.errors import KernelError
from netfabric.fabric.events import (
    EndOfRib,
    KernelObserved,
    PathsReceived,
    PeerDown,
    PeerUp,
    Programmed,
    UplinksChanged,
)
from netfabric.fabric.host import SETTLE_TIMEOUT
from netfabric.fabric.kernel import (
    KernelObject,
    KernelRoute,
    KernelState,
    Nexthop,
    NexthopGroup,
    key_of,
)
from netfabric.fabric.peer import ImportFilter, Peer
from netfabric.fabric.prefix import DEFAULT_ROUTES, Prefix
from netfabric.fabric.route import PathAttributes
from netfabric.fabric.session import RoutesLearned, SessionsChanged
from tests.fabric.script import (
    BLUE,
    BLUE_BLOCK,
    PEERS,
    SPEAKER,
    TORS,
    UPLINKS,
    Script,
    announced,
    intent,
    kernel,
    of,
    request,
    told,
    withdrawn,
)

DEFAULT = DEFAULT_ROUTES[0]
DC = ip_network("10.64.0.0/10")


@pytest.fixture
def script() -> Script:
    return Script().ready(BLUE, blocks=[BLUE_BLOCK])


def attributes(tor: int, **more: object) -> PathAttributes:
    return replace(
        PathAttributes(ip_address(f"10.90.{tor}.0"), as_path=(65_000 + tor,)),
        **more,  # type: ignore[arg-type]
    )


def path(tor: int, *prefixes: Prefix, **more: object) -> PathsReceived:
    return PathsReceived(TORS[tor], attributes(tor, **more), prefixes or (DEFAULT,))


class Kernel:
    """What a host's programs make of a kernel."""

    def __init__(self) -> None:
        self.objects: dict[object, KernelObject] = {}

    def take(self, effects: Iterable[Effect]) -> "Kernel":
        for program in of(effects, Program):
            for operation in program.operations:
                if operation.action == "put":
                    self.objects[key_of(operation.thing)] = operation.thing
                else:
                    self.objects.pop(key_of(operation.thing), None)
        return self

    def way(self, prefix: Prefix) -> set[str]:
        """Return the gateways of a route."""
        route = self.objects.get(key_of(KernelRoute(prefix)))
        if not isinstance(route, KernelRoute):
            return set()
        things = {t.id: t for t in self.objects.values() if isinstance(t, Nexthop | NexthopGroup)}
        thing = things[route.nexthop]
        members = thing.members if isinstance(thing, NexthopGroup) else (thing.id,)
        gateways = [things[member] for member in members]
        return {str(g.gateway) for g in gateways if isinstance(g, Nexthop)}

    def state(self) -> KernelState:
        return kernel(*self.objects.values())


def peered(*peers: Peer) -> Script:
    return Script().ready(BLUE, blocks=[BLUE_BLOCK], peers=peers)


# what is taken


def test_a_default_route_is_programmed_and_reported(script: Script) -> None:
    effects = script(path(0))
    assert Kernel().take(effects).way(DEFAULT) == {"10.90.0.0"}
    (learned,) = told(effects, RoutesLearned)
    assert (learned.full, [str(r.prefix) for r in learned.routes]) == (False, ["0.0.0.0/0"])


def test_two_tors_are_used_together_and_one_takes_over(script: Script) -> None:
    kernel_ = Kernel().take(script(path(0))).take(script(path(1)))
    assert kernel_.way(DEFAULT) == {"10.90.0.0", "10.90.1.0"}
    assert len(kernel_.objects) == 4
    kernel_.take(script(PeerDown(TORS[0], "hold time expired")))
    assert kernel_.way(DEFAULT) == {"10.90.1.0"}
    assert len(kernel_.objects) == 2
    kernel_.take(script(PeerDown(TORS[1], "hold time expired")))
    assert kernel_.objects == {}


def test_a_peer_down_withdraws_nothing_of_ours(script: Script) -> None:
    """The switch keeps our routes by graceful restart, or forgets them itself."""
    script.up(request("a"))
    effects = script(PeerDown(TORS[0], "connection reset"))
    assert not announced(effects)
    assert not withdrawn(effects)
    assert "connection reset" in of(effects, Warn)[0].text
    assert told(effects, SessionsChanged)[-1].sessions[0].reason == "connection reset"
    assert of(script(PeerUp(TORS[0])), Warn)[0].text == ""


def test_only_what_the_filter_admits_is_taken(script: Script) -> None:
    effects = script(path(0, DEFAULT, DC, ip_network("10.1.0.0/26")))
    (learned,) = told(effects, RoutesLearned)
    assert [r.prefix for r in learned.routes] == [DEFAULT]


def test_a_filter_may_take_longer_prefixes_up_to_a_length() -> None:
    filter_ = ImportFilter(exact=(), within=((DC, 16),))
    script = peered(replace(PEERS[0], imports=filter_))
    effects = script(path(0, DEFAULT, DC, ip_network("10.65.0.0/16"), ip_network("10.65.1.0/24")))
    (learned,) = told(effects, RoutesLearned)
    assert {str(r.prefix) for r in learned.routes} == {"10.64.0.0/10", "10.65.0.0/16"}


@pytest.mark.parametrize("where", ["as_path", "as_set"])
def test_our_own_as_in_a_path_is_a_loop(script: Script, where: str) -> None:
    kernel_ = Kernel().take(script(path(0)))
    looped = path(0, DEFAULT, **{where: (65_000, int(SPEAKER.asn))})
    assert kernel_.take(script(looped)).objects == {}


def test_what_we_announce_ourselves_is_not_learned_back() -> None:
    all_of_it = ImportFilter(exact=(), within=((ip_network("10.0.0.0/8"), 32),))
    script = peered(replace(PEERS[0], imports=all_of_it))
    script.up(request("a"))
    assert not told(script(path(0, ip_network("10.1.0.1/32"))), RoutesLearned)


def test_a_withdrawn_path_goes(script: Script) -> None:
    kernel_ = Kernel().take(script(path(0)))
    effects = script(PathsReceived(TORS[0], None, withdrawn=(DEFAULT,)))
    assert kernel_.take(effects).objects == {}
    assert told(effects, RoutesLearned)[0].withdrawn == (DEFAULT,)


def test_a_next_hop_that_is_on_no_link_is_none(script: Script) -> None:
    assert not of(script(path(0, next_hop=ip_address("192.0.2.1"))), Program)


def test_a_better_path_wins_alone() -> None:
    script = peered(PEERS[0], replace(PEERS[1], local_preference=200))
    kernel_ = Kernel().take(script(path(0))).take(script(path(1)))
    assert kernel_.way(DEFAULT) == {"10.90.1.0"}


def test_paths_of_an_unknown_peer_are_ignored(script: Script) -> None:
    assert script(replace(path(0), peer="h1:nobody")) == []


# limits


def test_too_many_prefixes_end_the_session_once() -> None:
    filter_ = ImportFilter(within=((DC, 32),), max_prefixes=3)
    script = peered(replace(PEERS[0], imports=filter_))
    many = [ip_network((int(DC.network_address) + n, 32)) for n in range(3)]
    kernel_ = Kernel().take(script(path(0, *many)))
    effects = script(path(0, DEFAULT))
    assert of(effects, TearDown) == [TearDown(TORS[0], 1)]
    assert "more than 3 prefixes" in of(effects, Warn)[0].text
    assert kernel_.take(effects).objects == {}
    assert script(path(0, DC)) == []  # it goes on talking until the session has ended
    script(PeerDown(TORS[0], "cease"))
    script(PeerUp(TORS[0]))
    assert told(script(path(0)), RoutesLearned)


# intent


def test_a_changed_filter_has_everything_said_again() -> None:
    script = Script().ready(BLUE)
    wider = (replace(PEERS[0], imports=ImportFilter(within=((DC, 16),))), PEERS[1])
    effects = script.says(intent(BLUE, peers=wider))
    assert of(effects, ConfigureSpeaker) == [ConfigureSpeaker(SPEAKER, wider)]
    assert of(effects, TearDown) == [TearDown(TORS[0], 6)]


def test_a_peer_that_is_gone_takes_its_paths_along(script: Script) -> None:
    kernel_ = Kernel().take(script(path(0))).take(script(path(1)))
    effects = script.says(replace(intent(full=False, peers=()), peers_gone=(TORS[0],)))
    assert of(effects, ConfigureSpeaker) == [ConfigureSpeaker(SPEAKER, PEERS[1:])]
    assert kernel_.take(effects).way(DEFAULT) == {"10.90.1.0"}
    assert [s.peer for s in told(effects, SessionsChanged)[-1].sessions] == [TORS[1]]


def test_the_same_intent_again_configures_nothing(script: Script) -> None:
    assert not of(script.says(intent(BLUE)), ConfigureSpeaker)


def test_a_delta_changes_only_what_it_names(script: Script) -> None:
    red = replace(BLUE, name="red")
    effects = script.says(intent(red, peers=(), full=False))
    assert not of(effects, ConfigureSpeaker)
    assert set(script.host.networks) == {BLUE.key, red.key}
    gone = replace(intent(peers=(), full=False), networks_gone=(red.key,), speaker_gone=True)
    assert of(script.says(gone), ConfigureSpeaker) == [ConfigureSpeaker(None, PEERS)]
    assert set(script.host.networks) == {BLUE.key}


# uplinks


def test_an_uplink_that_goes_and_comes_back_has_its_nexthops_made_again(script: Script) -> None:
    kernel_ = Kernel().take(script(path(0))).take(script(path(1)))
    ids = {t.id for t in kernel_.objects.values() if isinstance(t, Nexthop)}
    # with the link the kernel itself drops the nexthop
    first = next(
        k for k, t in kernel_.objects.items() if isinstance(t, Nexthop) and t.link == "up0"
    )
    del kernel_.objects[first]
    kernel_.take(script(UplinksChanged(UPLINKS[1:])))
    assert kernel_.way(DEFAULT) == {"10.90.1.0"}
    kernel_.take(script(UplinksChanged(UPLINKS)))
    assert kernel_.way(DEFAULT) == {"10.90.0.0", "10.90.1.0"}
    assert {t.id for t in kernel_.objects.values() if isinstance(t, Nexthop)} == ids


def test_the_only_uplink_lost_takes_the_route_and_gives_it_back(script: Script) -> None:
    script(path(0))
    script(UplinksChanged(UPLINKS[1:]))
    effects = script(UplinksChanged(UPLINKS))
    kernel_ = Kernel().take(effects)
    assert kernel_.way(DEFAULT) == {"10.90.0.0"}


def test_the_same_uplinks_again_change_nothing(script: Script) -> None:
    script(path(0))
    assert script(UplinksChanged(tuple(UPLINKS))) == []


# repair and restart


def test_drift_is_repaired_by_an_audit(script: Script) -> None:
    kernel_ = Kernel().take(script(path(0)))
    assert not of(script(KernelObserved(kernel_.state())), Program)
    damaged = {k: t for k, t in kernel_.objects.items() if not isinstance(t, KernelRoute)}
    stray = KernelRoute(DC, "unreachable")
    (program,) = of(script(KernelObserved(kernel(*damaged.values(), stray))), Program)
    assert [(o.action, type(o.thing)) for o in program.operations] == [
        ("put", KernelRoute),
        ("remove", KernelRoute),
    ]


def test_what_the_kernel_refused_is_said_once_a_kind_and_tried_again(script: Script) -> None:
    kernel_ = Kernel().take(script(path(0)))
    things = list(kernel_.objects.values())
    error = KernelError("route: no", "")
    said = script(Programmed(tuple((key_of(t), error) for t in things)))
    assert sorted(w.subject for w in of(said, Warn)) == ["kernel nexthop", "kernel route"]
    again = script(KernelObserved(kernel()))
    assert Kernel().take(again).way(DEFAULT) == {"10.90.0.0"}
    assert all(w.text == "" for w in of(again, Warn))


def restarted(after: Kernel) -> Script:
    script = Script()
    script.start(observed=after.state())
    script.connect()
    script.welcome(BLUE_BLOCK)
    script.says(intent(BLUE))
    return script


def test_routes_found_at_start_are_left_alone_until_all_peers_have_spoken() -> None:
    first = Script().ready(BLUE)
    kernel_ = Kernel().take(first(path(0))).take(first(path(1)))
    script = restarted(kernel_)
    effects = [*script.peers_up(), *script(path(0))]
    assert not of(effects, Program), "one ToR alone would halve the group"
    effects += script(path(1))
    for tor in TORS:
        for family in (4, 6):
            effects += script(EndOfRib(tor, family))
    assert not of(effects, Program)
    assert kernel_.way(DEFAULT) == {"10.90.0.0", "10.90.1.0"}


def test_what_no_peer_says_again_goes_once_all_have_spoken_or_are_known_to_be_down() -> None:
    first = Script().ready(BLUE)
    kernel_ = Kernel().take(first(path(0))).take(first(path(1)))
    script = restarted(kernel_)
    script.peers_up(TORS[1])
    kernel_.take(script(PeerDown(TORS[0], "no answer")))
    kernel_.take(script(path(1)))
    kernel_.take(script(EndOfRib(TORS[1], 4)))
    assert kernel_.way(DEFAULT) == {"10.90.0.0", "10.90.1.0"}
    kernel_.take(script(EndOfRib(TORS[1], 6)))
    assert kernel_.way(DEFAULT) == {"10.90.1.0"}


def test_a_peer_that_never_speaks_is_waited_for_only_so_long() -> None:
    first = Script().ready(BLUE)
    kernel_ = Kernel().take(first(path(0)))
    script = restarted(kernel_)
    kernel_.take(script.later(SETTLE_TIMEOUT - 1))
    assert kernel_.way(DEFAULT)
    assert kernel_.take(script.later(1)).objects == {}
