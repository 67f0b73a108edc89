"""The conversation with ExaBGP, line by line."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

from netfabric.bgp.speaker import OUTSTANDING, RELOADS, REST, Phase
from netfabric.fabric.events import Advertised, EndOfRib, PathsReceived, PeerDown, PeerUp
from netfabric.fabric.peer import Asn, ImportFilter, Peer
from netfabric.fabric.prefix import DEFAULT_ROUTES
from tests.bgp.script import (
    SWITCH,
    TOR,
    Script,
    echo,
    end_of_rib,
    neighbors,
    out,
    received,
    refresh,
    routes,
    state,
)

ONE, TWO = "10.1.0.1/32", "10.1.0.2/32"
SELF = "attributes next-hop self origin igp nlri"
ANNOUNCE = f"neighbor {SWITCH} announce {SELF}"
WITHDRAW = f"neighbor {SWITCH} withdraw {SELF}"
EOR = f"neighbor {SWITCH} announce eor ipv4 unicast"
REFRESH = f"neighbor {SWITCH} announce route-refresh ipv4 unicast"


# the way to being in step


def test_nothing_is_announced_before_the_session_is_up() -> None:
    script = Script().configure()
    script.machine.announce(routes(ONE), script.now)
    assert script.attaches() == []
    assert script.hears(state("connected")) == []
    assert script.hears(state("up")) == [f"{ANNOUNCE} {ONE}"]


def test_a_session_that_is_up_already_is_asked_for_its_routes() -> None:
    script = Script().configure()
    assert script.attaches(up=True) == [REFRESH]
    assert script.told() == [PeerUp("h:tor")]


def test_what_an_earlier_agent_announced_stays_until_the_replay_ends() -> None:
    script = Script().configure()
    script.attaches(up=True, held=(ONE, TWO))
    script.machine.announce(routes(ONE), script.now)
    assert script.said() == [f"{ANNOUNCE} {ONE}"]
    assert script.hears("done", "done") == []
    script.machine.end_replay(script.now)
    assert script.said() == [f"{WITHDRAW} {TWO}"]


def test_end_of_rib_waits_for_what_must_come_before_it() -> None:
    script = Script().talks()
    script.machine.announce(routes(ONE), script.now)
    script.machine.end_replay(script.now)
    assert script.said() == [f"{ANNOUNCE} {ONE}"]
    assert script.hears("done") == []
    assert script.hears(echo(ONE)) == [EOR]


def test_end_of_rib_does_not_wait_for_ever() -> None:
    script = Script().talks()
    script.machine.announce(routes(ONE), script.now)
    script.machine.end_replay(script.now)
    script.hears("done")
    assert script.waits(3.0) == []
    assert script.waits(2.0) == [EOR]


def test_every_later_session_gets_end_of_rib() -> None:
    script = Script().talks()
    script.machine.end_replay(script.now)
    assert script.said() == [EOR]
    script.hears("done", state("down", "closing connection"))
    assert script.hears(state("connected"), state("up")) == [EOR]


def test_answers_to_an_earlier_agent_are_not_taken_for_ours() -> None:
    script = Script().configure()
    script.machine.announce(routes(ONE), script.now)
    script.machine.attached(script.now)
    script.said()
    # the earlier one had asked the same, and then announced; it died before it read this
    said = script.hears("done", neighbors(False), "done", "done", "done", "error")
    assert said == ["show neighbor configuration", "reload", "show neighbor configuration"]
    # ours: the list, and the answers to those three; only then is the configuration asked for in earnest
    assert script.hears(neighbors(True), "done", '  description "m1";', "done") == []
    assert script.hears("reload in progress", "done") == []
    assert script.hears('  description "m1";', "done") == ["show neighbor configuration"]
    assert script.hears('  description "m1";', "done") == ["show adj-rib out json"]
    assert script.hears("done") == [REFRESH, f"{ANNOUNCE} {ONE}"]


# reloads


def test_a_reload_waits_for_what_is_on_its_way() -> None:
    script = Script().talks()
    script.machine.announce(routes(ONE), script.now)
    script.said()
    script.configure("m2")
    assert script.said() == []
    assert script.hears("done") == []
    assert script.hears(echo(ONE)) == ["show neighbor configuration"]
    assert script.hears('  description "m1";', "done") == ["reload"]
    assert script.hears("reload in progress", "done") == ["show neighbor configuration"]
    assert script.hears('  description "m2";', "done") == ["show adj-rib out json"]
    assert script.hears(*out(ONE), "done") == []
    assert script.machine.phase is Phase.TALKING


def test_a_reload_that_was_lost_is_repeated() -> None:
    script = Script().talks()
    script.configure("m2")
    script.said()
    for _ in range(3):
        assert script.hears('  description "m1";', "done") == ["reload"]
        script.hears("done")
        script.waits(0.5)
    assert not script.machine.stuck
    assert script.hears('  description "m2";', "done") == ["show adj-rib out json"]


def test_reloads_without_effect_end_in_a_restart() -> None:
    script = Script().talks()
    script.configure("m2")
    for _ in range(RELOADS + 1):
        script.hears("done", "done")
        script.waits(0.5)
    assert script.machine.stuck
    script.machine.lost("killed", script.now)
    assert not script.machine.stuck


def test_options_outside_the_file_need_no_reload() -> None:
    script = Script().talks()
    script.machine.announce(routes(ONE), script.now)
    script.hears("done", echo(ONE))
    script.peers = [replace(TOR, med=7)]
    script.configure()
    assert script.said() == [
        f"neighbor {SWITCH} announce attributes next-hop self origin igp med 7 nlri {ONE}"
    ]
    assert script.told() == [Advertised("h:tor", (ip_network(ONE),))]


def test_a_new_peer_gets_everything_and_the_others_nothing() -> None:
    script = Script().talks()
    script.machine.announce(routes(ONE), script.now)
    script.hears("done", echo(ONE))
    other = Peer("h", "two", ip_address("10.0.0.3"), Asn(65001), ip_address("10.0.0.9"))
    script.peers = [TOR, other]
    script.configure("m2")
    script.hears('  description "m1";', "done", "done", '  description "m2";', "done")
    assert script.hears(*out(ONE), "done") == []
    assert script.hears(state("up", peer="10.0.0.3")) == [
        f"neighbor 10.0.0.3 announce {SELF} {ONE}"
    ]


def test_a_peer_that_is_back_before_exabgp_missed_it() -> None:
    script = Script().talks()
    script.hears(received("0.0.0.0/0"))
    script.machine.announce(routes(ONE), script.now)
    script.peers = []
    script.configure("m2")
    script.peers = [TOR]
    script.configure("m3")
    script.told()
    script.hears("done", echo(ONE))
    script.hears('  description "m1";', "done", "done", '  description "m3";', "done")
    assert script.hears(*out(ONE), "done") == [REFRESH]
    script.hears("done", refresh("begin"), received("0.0.0.0/0"), refresh("end"))
    events = script.told()
    assert not any(isinstance(e, PathsReceived) and e.withdrawn for e in events)


# what is said


def test_one_change_of_a_prefix_is_in_flight() -> None:
    script = Script().talks()
    script.machine.announce(routes(ONE), script.now)
    assert script.said() == [f"{ANNOUNCE} {ONE}"]
    script.machine.withdraw(routes(ONE), script.now)
    assert script.hears("done") == []
    assert script.hears(echo(ONE, withdrawn=True)) == []  # of something else
    assert script.hears(echo(ONE)) == [f"{WITHDRAW} {ONE}"]


def test_an_update_that_may_not_be_sent_holds_its_prefix_up_shortly() -> None:
    script = Script().configure()
    script.attaches(up=True, held=(ONE,))
    script.machine.announce(routes(ONE), script.now)
    script.machine.end_replay(script.now)
    script.hears("done", "done")
    script.machine.withdraw(routes(ONE), script.now)
    assert WITHDRAW not in " ".join(script.said())
    assert f"{WITHDRAW} {ONE}" in script.waits(0.5)


def test_what_was_withdrawn_while_the_session_was_down_does_not_come_back() -> None:
    script = Script().talks()
    script.machine.announce(routes(ONE), script.now)
    script.hears("done", echo(ONE), state("down", "closing connection"))
    script.machine.withdraw(routes(ONE), script.now)
    assert script.said() == []
    assert script.hears(state("connected")) == [f"{WITHDRAW} {ONE}"]
    assert script.hears("done", state("up")) == []


def test_many_prefixes_go_in_batches_and_few_commands_are_outstanding() -> None:
    script = Script().talks()
    many = [f"10.2.{n // 256}.{n % 256}/32" for n in range(1000)]
    script.machine.announce(routes(*many), script.now)
    said = script.said()
    assert len(said) == OUTSTANDING
    while more := script.hears("done"):
        assert len(more) == 1
        said += more
    assert sum(line.count("/32") for line in said) == 1000
    assert max(len(line) for line in said) < 1000


def test_a_refused_change_is_said_again() -> None:
    script = Script().talks()
    script.machine.announce(routes(ONE), script.now)
    script.said()
    assert script.hears("error") == []
    assert script.waits(0.3) == [f"{ANNOUNCE} {ONE}"]
    script.hears("done", echo(ONE))
    script.machine.end_replay(script.now)
    script.machine.withdraw(routes(ONE), script.now)
    assert script.said()[-1] == f"{WITHDRAW} {ONE}"
    script.hears("done", "error")
    assert script.waits(0.3) == [f"{WITHDRAW} {ONE}"]


def test_a_teardown_goes_alone() -> None:
    script = Script().talks()
    script.machine.announce(routes(ONE), script.now)
    script.said()
    script.machine.tear_down("h:tor", 2, script.now)
    script.machine.announce(routes(TWO), script.now)
    assert script.said() == []
    assert script.hears("done") == [f"neighbor {SWITCH} teardown 2", f"{ANNOUNCE} {TWO}"][:1]


# what is heard


def test_routes_come_and_go() -> None:
    script = Script().talks()
    script.hears(received("0.0.0.0/0"), end_of_rib())
    (paths, eor) = script.told()
    assert isinstance(paths, PathsReceived)
    assert paths.announced == DEFAULT_ROUTES[:1]
    assert paths.attributes is not None
    assert paths.attributes.next_hop == ip_address(SWITCH)
    assert eor == EndOfRib("h:tor", 4)


def test_a_peer_that_ends_nothing_is_taken_to_have_sent_all() -> None:
    script = Script().configure()
    script.attaches()
    script.hears(state("up"))
    assert script.told() == [PeerUp("h:tor")]
    script.waits(3.5)
    assert script.told() == [EndOfRib("h:tor", 4)]


def test_a_refresh_sweeps_what_was_not_repeated() -> None:
    script = Script().talks()
    script.hears(received("0.0.0.0/0", "10.9.0.0/16"))
    script.hears(refresh("begin"), received("0.0.0.0/0"))
    script.told()
    script.hears(refresh("end"))
    gone = PathsReceived("h:tor", None, (), (ip_network("10.9.0.0/16"),))
    assert script.told() == [gone, EndOfRib("h:tor", 4)]


def test_a_refresh_that_we_asked_for_may_begin_after_its_routes() -> None:
    """FRR, asked in the second before it sends its first table: routes, End-of-RIB, begin, end."""
    script = Script().configure()
    script.attaches(up=True)
    script.hears(received("0.0.0.0/0"), end_of_rib(), refresh("begin"), refresh("end"))
    paths = [event for event in script.told() if isinstance(event, PathsReceived)]
    assert [(path.announced, path.withdrawn) for path in paths] == [(DEFAULT_ROUTES[:1], ())]
    script.hears(refresh("begin"), refresh("end"))  # unasked: it means what it says
    assert PathsReceived("h:tor", None, (), DEFAULT_ROUTES[:1]) in script.told()


def test_the_helper_may_die_without_anybody_losing_a_route() -> None:
    script = Script().talks()
    script.hears(received("0.0.0.0/0"))
    script.machine.announce(routes(ONE), script.now)
    script.told()
    script.machine.detached(script.now)
    script.waits(2.0)
    assert script.told() == []
    said = script.attaches(up=True, held=(ONE,))
    assert said == [REFRESH, f"{ANNOUNCE} {ONE}"]  # unanswered when the pipe closed: said again
    assert script.told() == []


def test_a_session_that_ended_while_nobody_listened() -> None:
    script = Script().talks()
    script.machine.detached(script.now)
    script.attaches(up=False)
    (down,) = script.told()
    assert isinstance(down, PeerDown)


def test_exabgp_may_die_and_come_back_without_a_route_lost() -> None:
    script = Script().talks()
    script.hears(received("0.0.0.0/0", "10.9.0.0/16"))
    script.machine.announce(routes(ONE), script.now)
    script.machine.end_replay(script.now)
    script.hears("done", echo(ONE), "done")
    script.told()
    script.machine.lost("ExaBGP ended", script.now)
    script.waits(1.0)
    assert script.attaches() == []
    # the switch may close the first attempt
    script.hears(state("connected"), state("down", "closing connection"))
    assert script.told() == []
    assert script.hears(state("connected"), state("up")) == [f"{ANNOUNCE} {ONE}"]
    assert script.hears("done", echo(ONE)) == [EOR]
    script.hears(received("0.0.0.0/0"), end_of_rib())
    events = script.told()
    assert not any(isinstance(event, PeerDown) for event in events)
    assert PathsReceived("h:tor", None, (), (ip_network("10.9.0.0/16"),)) in events


def test_exabgp_that_does_not_come_back_in_time() -> None:
    script = Script().talks()
    script.machine.lost("ExaBGP ended", script.now)
    script.waits(TOR.hold_time - 1)
    assert script.told() == []
    script.waits(2)
    (down,) = script.told()
    assert isinstance(down, PeerDown)
    assert "hold time" in down.reason


def test_without_graceful_restart_its_end_is_the_sessions() -> None:
    script = Script([replace(TOR, graceful_restart=0)]).talks()
    script.machine.lost("ExaBGP ended; it is being restarted", script.now)
    assert script.told() == [PeerDown("h:tor", "ExaBGP ended; it is being restarted")]


def test_a_peer_that_says_nothing_is_down() -> None:
    script = Script().configure()
    script.attaches()
    script.waits(3.5)
    assert script.told() == []
    script.waits(2.0)
    (down,) = script.told()
    assert isinstance(down, PeerDown)
    assert down.reason.startswith(f"no answer from {SWITCH}")
    script.waits(20.0)
    assert script.told() == []


def test_why_exabgp_does_not_run_is_said_of_each_peer() -> None:
    script = Script().configure()
    script.machine.trouble = "ExaBGP does not stay up"
    script.waits(5.0)
    assert script.told() == [PeerDown("h:tor", "ExaBGP does not stay up")]


def test_a_notification_explains_the_bare_closings_after_it() -> None:
    script = Script().configure()
    script.attaches()
    script.hears(state("connected"), state("down", "notification received (2,2)"))
    script.hears(state("connected"), state("down", "closing connection"))
    (down,) = script.told()
    assert isinstance(down, PeerDown)
    assert "expects another AS" in down.reason
    script.waits(61.0)
    script.hears(state("connected"), state("down", "closing connection"))
    (down,) = script.told()
    assert isinstance(down, PeerDown)
    assert "179" in down.reason


def test_too_many_prefixes_end_the_session_for_a_while() -> None:
    script = Script([replace(TOR, imports=ImportFilter(max_prefixes=2))]).talks()
    script.hears(received("10.9.1.0/24", "10.9.2.0/24"))
    script.told()
    assert script.hears(received("10.9.3.0/24")) == [f"neighbor {SWITCH} teardown 1"]
    down = script.told()[-1]
    assert isinstance(down, PeerDown)
    assert "more than 2 prefixes" in down.reason
    assert set(script.machine.resting) == {"h:tor"}
    script.waits(REST + 1)
    assert not script.machine.resting
