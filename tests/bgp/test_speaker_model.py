"""Whatever happens, in whatever order: in the end each switch holds exactly what is wanted, as it is wanted."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from netfabric.bgp import commands
from netfabric.bgp.speaker import Phase, SpeakerMachine
from netfabric.fabric.peer import Asn, Peer
from netfabric.fabric.prefix import Prefix
from netfabric.fabric.route import Announcement
from tests.bgp.exabgp_model import ExaBgpModel, SwitchModel

ASN = Asn(65010)
ADDRESSES = ("10.0.0.1", "10.0.0.2")
PREFIXES = tuple(map(ip_network, ("10.1.0.1/32", "10.1.0.2/32", "10.1.0.3/32")))
ROUTES = tuple(Announcement(p, c) for p in PREFIXES for c in ((), ("65010:1",)))
peers = st.tuples(st.sampled_from(ADDRESSES), st.sampled_from((None, 50)))
STEP = 0.05


def peer(address: str, med: int | None = None, **options: object) -> Peer:
    local = ip_address("10.9.9.9")
    base = Peer("h", f"t{address[-1]}", ip_address(address), Asn(65001), local, med=med)
    return replace(base, **options)  # type: ignore[arg-type]


class Conversation(RuleBasedStateMachine):
    """An agent, ExaBGP and two switches."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.marks = 0
        self.exa = ExaBgpModel()
        self.machine = SpeakerMachine()
        self.given: tuple[Peer, ...] = ()
        self.wanted: dict[Prefix, Announcement] = {}

    @initialize(begun=st.integers(0, 3))
    def begin(self, begun: int) -> None:
        if begun:
            self.configure([(address, None) for address in ADDRESSES])
            self.machine.announce(ROUTES[:2], self.now)
            self.wanted[PREFIXES[0]] = ROUTES[1]
            self.machine.end_replay(self.now)
            self.all_goes_well(30)

    # the agent

    @rule(routes=st.lists(st.sampled_from(ROUTES), min_size=1, max_size=4))
    def announce(self, routes: list[Announcement]) -> None:
        self.wanted.update((route.prefix, route) for route in routes)
        self.machine.announce(routes, self.now)

    @rule(prefixes=st.lists(st.sampled_from(PREFIXES), min_size=1, max_size=3, unique=True))
    def withdraw(self, prefixes: list[Prefix]) -> None:
        gone = [route for p in prefixes if (route := self.wanted.pop(p, None))]
        self.machine.withdraw(gone, self.now)

    @rule(changes=st.lists(st.sampled_from((*ROUTES, *PREFIXES)), min_size=2, max_size=6))
    def change_quickly(self, changes: list[Announcement | Prefix]) -> None:
        """ExaBGP reads each change, and answers, before anything leaves."""
        for change in changes:
            if isinstance(change, Announcement):
                self.announce([change])
            else:
                self.withdraw([change])
            self.exabgp_runs(1)
            self.agent_reads(1)

    def end_replay(self) -> None:
        self.machine.end_replay(self.now)

    @rule(given=st.lists(peers, min_size=1, max_size=2, unique_by=lambda pair: pair[0]))
    def configure(self, given: list[tuple[str, int | None]]) -> None:
        self.given = tuple(peer(*pair) for pair in given)
        self.marks += 1
        self.exa.file = (f"m{self.marks}", tuple(address for address, _ in given))
        self._configure()

    def _configure(self) -> None:
        self.machine.configure(ASN, self.given, self.exa.file[0], self.now)
        if not self.exa.running:
            self.exa.start()

    @rule(given=st.lists(peers, min_size=1, max_size=2, unique_by=lambda pair: pair[0]))
    @precondition(lambda self: self.given)
    def reconfigure_without_reload(self, given: list[tuple[str, int | None]]) -> None:
        """Options that are not in ExaBGP's file change."""
        meds = dict(given)
        self.given = tuple(replace(p, med=meds.get(str(p.address), p.med)) for p in self.given)
        self._configure()

    # the pipes

    @rule()
    def attach(self) -> None:
        if self.exa.running and self.machine.phase is Phase.AWAY:
            self.machine.attached(self.now)

    @rule(forgotten=st.booleans(), which=st.integers(0, 2))
    def somebody_dies(self, forgotten: bool, which: int) -> None:
        match which:
            case 0:
                self.helper_dies()
            case 1 if self.given:
                self.exabgp_dies()
            case 2:
                self.agent_restarts(forgotten)
        self.attach()

    def helper_dies(self) -> None:
        self.exa.helper_dies()
        self.machine.detached(self.now)

    def exabgp_dies(self) -> None:
        self.exa.die()
        self.machine.lost("ExaBGP ended", self.now)
        self.exa.start()

    def agent_restarts(self, forgotten: bool) -> None:
        """What it said stays in the pipe, and so do the answers that nobody read."""
        self.hand_over()
        self.machine = SpeakerMachine()
        if self.exa.running:
            self._configure()
            self.machine.attached(self.now)
        if not forgotten:
            self.machine.announce(self.wanted.values(), self.now)
            self.machine.end_replay(self.now)
        else:
            self.wanted.clear()

    @rule(turns=st.integers(1, 8))
    def exabgp_runs(self, turns: int) -> None:
        self.hand_over()
        for _ in range(turns):
            if self.exa.running:
                self.exa.turn()

    @rule(lines=st.integers(1, 8))
    def agent_reads(self, lines: int) -> None:
        for _ in range(lines):
            if self.exa.output and self.machine.phase is not Phase.AWAY:
                self.machine.feed(self.exa.output.popleft(), self.now)
                self.hand_over()

    def hand_over(self) -> None:
        if self.machine.phase is not Phase.AWAY:
            self.exa.commands += self.machine.lines
        self.machine.lines.clear()

    @rule(seconds=st.sampled_from((0.05, 0.3, 2.5, 11.0)))
    def time_passes(self, seconds: float) -> None:
        """ExaBGP may hang, but what it answered it has sent."""
        for address in self.exa.peers:
            self.exa.flush(address)
        self.now += seconds
        self.machine.tick(self.now)

    # the sessions

    @rule(address=st.sampled_from(ADDRESSES))
    def session_connects(self, address: str) -> None:
        if (model := self.exa.peers.get(address)) and model.state == "down":
            self.exa.connects(address)

    @rule(address=st.sampled_from(ADDRESSES))
    def session_comes_up(self, address: str) -> None:
        if (model := self.exa.peers.get(address)) and model.state == "connected":
            self.exa.comes_up(address)

    @rule(address=st.sampled_from(ADDRESSES))
    def session_fails(self, address: str) -> None:
        if address in self.exa.peers:
            self.exa.session_fails(address)

    @rule(address=st.sampled_from(ADDRESSES))
    def flush(self, address: str) -> None:
        if address in self.exa.peers:
            self.exa.flush(address)

    # in the end

    @rule(rounds=st.integers(1, 10))
    def all_goes_well(self, rounds: int) -> None:
        self.attach()
        for _ in range(rounds):
            self.exabgp_runs(2)
            for address in self.exa.peers:
                self.session_connects(address)
                self.agent_reads(2)
                self.session_comes_up(address)
                self.flush(address)
            self.agent_reads(20)
            self.time_passes(STEP)

    def teardown(self) -> None:
        if not self.given:
            return
        self.machine.end_replay(self.now)
        self.all_goes_well(150)
        assert self.machine.phase is Phase.TALKING
        assert not self.machine.stuck
        for each in self.given:
            switch = self.exa.switches[str(each.address)]
            wanted = {
                str(p): commands.attributes(route, each, ASN) for p, route in self.wanted.items()
            }
            assert switch.rib == wanted
            assert not switch.stale, "End-of-RIB is owed"
            session = self.machine.sessions[each.key]
            assert (session.state, session.dirty, session.in_flight) == ("up", {}, {})


Conversation.TestCase.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None, print_blob=True, database=None
)
TestConversation = Conversation.TestCase


def test_the_model_has_the_trap() -> None:
    """Or else the property above would hold for any machine."""
    exa = ExaBgpModel(file=("m", (ADDRESSES[0],)), switches={ADDRESSES[0]: SwitchModel()})
    exa.start()
    exa.connects(ADDRESSES[0])
    exa.comes_up(ADDRESSES[0])
    exa.flush(ADDRESSES[0])
    for verb, text in (("announce", "med 1"), ("announce", "med 2"), ("announce", "med 1")):
        exa.commands.append(f"neighbor {ADDRESSES[0]} {verb} attributes {text} nlri 10.1.0.1/32")
        exa.turn()
    exa.flush(ADDRESSES[0])
    assert exa.switches[ADDRESSES[0]].rib == {"10.1.0.1/32": "med 2"}
