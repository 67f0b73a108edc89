"""Hosts with brain, journal, kernel and speaker, and a netmaster with its real decisions: all in memory, step by step."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from typing import Any

from netfabric.fabric.controller import asked_of, decide_abandoned, decide_claims, welcome_of
from netfabric.fabric.controller_blocks import (
    Given,
    decide_block,
    decide_lent,
    decide_loan_end,
    decide_return,
)
from netfabric.fabric.controller_endpoints import decide_endpoints
from netfabric.fabric.cooling import Where
from netfabric.fabric.effects import (
    Announce,
    Attach,
    AttachAnswer,
    Audit,
    ConfigureSpeaker,
    Detach,
    DetachAnswer,
    Effect,
    EndReplay,
    JournalChange,
    Program,
    Record,
    Refuse,
    Tell,
    Warn,
    Withdraw,
)
from netfabric.fabric.endpoint import AttachRequest, Endpoint, EndpointKey
from netfabric.fabric.errors import ConflictError, FabricError
from netfabric.fabric.events import (
    Advertised,
    Attached,
    AttachRequested,
    Detached,
    DetachRequested,
    Event,
    HostSettings,
    JournalState,
    KernelObserved,
    MasterConnected,
    MasterLost,
    MasterSaid,
    PeerUp,
    Programmed,
    Recorded,
    Started,
    Tick,
)
from netfabric.fabric.host import Host
from netfabric.fabric.peer import Asn, Peer, Speaker
from netfabric.fabric.prefix import Address, Prefix
from netfabric.fabric.session import (
    AgentMessage,
    BlockAnswered,
    BlockReturned,
    BlockWanted,
    EndpointsAnswered,
    EndpointsChanged,
    Hello,
    IntentChanged,
    LendAnswered,
    LendAsked,
    LoanEnded,
    LoanReturned,
    MasterMessage,
    Version,
)
from netfabric.fabric.stored import plain
from netfabric.fabric.upkeep import link_of
from netfabric.fabric.view import ROOT, HostStatus, View, host_key
from netfabric.fabric.world import Write
from tests.fabric.fake_kernel import FakeKernel, HostLink

COOL_DOWN, AUDIT = 3.0, 2.0
SUBNET, SUBNET6 = ip_network("10.1.0.0/27"), ip_network("fd10:1::/123")
OBJECT = {
    "tenantName": "default",
    "networkName": "blue",
    "subnet": str(SUBNET),
    "ipv6Subnet": str(SUBNET6),
    "blockLength": 29,
    "blockLength6": 125,
    "gateway": "10.1.0.30",
}
BLUE = "default:blue"


@dataclass(slots=True)
class FakeJournal:
    """What is durable, with the rules of `agent/journal.py`."""

    endpoints: dict[EndpointKey, Endpoint] = field(default_factory=dict)
    detaching: set[EndpointKey] = field(default_factory=set)
    blocks: dict[object, None] = field(default_factory=dict)
    loans: dict[str, Any] = field(default_factory=dict)
    cooling: dict[Where, float] = field(default_factory=dict)
    intent: IntentChanged | None = None

    def apply(self, change: JournalChange) -> None:
        if change.endpoint:
            self.endpoints[change.endpoint.key] = change.endpoint
            self.detaching.discard(change.endpoint.key)
        if change.detaching in self.endpoints:
            self.detaching.add(change.detaching)
        if change.gone:
            self.endpoints.pop(change.gone, None)
            self.detaching.discard(change.gone)
        self.cooling.update(change.cooling)
        for address in change.cooled:
            self.cooling.pop(address, None)
        if change.block:
            self.blocks[change.block] = None
        if change.block_gone:
            self.blocks.pop(change.block_gone, None)
        if change.loan:
            self.loans[change.loan.id] = change.loan
        if change.loan_gone:
            self.loans.pop(change.loan_gone, None)
        if change.intent:
            self.intent = change.intent

    def state(self) -> JournalState:
        return JournalState(
            tuple(self.endpoints.values()),
            frozenset(self.detaching),
            tuple(self.blocks),  # type: ignore[arg-type]
            tuple(self.loans.values()),
            tuple(self.cooling.items()),
            self.intent,
        )


QUEUES = ("journal", "kernel", "bgp", "up", "down")


class SimHost:
    """One host. Effects wait in queues, each carried out in order, the queues in any order."""

    def __init__(self, world: "World", name: str) -> None:
        self.world, self.name = world, name
        self.kernel = FakeKernel()
        self.kernel.links["up0"] = HostLink()
        self.journal: FakeJournal | None = None
        self.told: dict[Prefix, None] = {}
        """What ExaBGP announces; outlives the agent."""
        self.broken: set[Address] = set()
        """Not attached because somebody else broke it, and not mended or detached since."""
        self.connected = False
        self.answers: dict[int, Effect] = {}
        self.asked: set[int] = set()
        self.start()

    def start(self) -> None:
        """Start the agent on what is durable, in the journal and in the kernel."""
        settings = HostSettings(
            self.name, cool_down=COOL_DOWN, audit_interval=AUDIT, low_water=1, block_timeout=4.0
        )
        self.host = Host(settings)
        self.queues: dict[str, deque[Any]] = {name: deque() for name in QUEUES}
        self.wanted: dict[Prefix, None] = {}
        self.asked.clear()
        journal = self.journal.state() if self.journal else None
        if self.journal is None:
            self.journal = FakeJournal()
        self.handle(Started(journal, self.kernel.observe(), self.kernel.uplinks()))

    def crash(self, *, journal_lost: bool = False) -> None:
        """Die here; whatever was not carried out is lost, and so is the connection."""
        self.world.master.lost(self)
        if journal_lost:
            # What netmaster had not heard of is nobody's now; nothing can be promised for it.
            stored = {
                a
                for (_, a), (h, _) in self.world.master.view.endpoints_by_address.items()
                if h == self.name
            }
            self.broken |= self.attached().keys() - stored
            self.journal = None
        self.start()

    def reboot(self) -> None:
        """The machine starts anew: no containers, nothing in the kernel, no speaker."""
        self.kernel.namespaces.clear()
        for name in [name for name, link in self.kernel.links.items() if link.ours]:
            self.kernel._remove_link(name)
        self.kernel.routes.clear()
        self.told.clear()
        self.broken.clear()
        self.crash()

    def handle(self, event: Event) -> None:
        for effect in self.host.handle(event, self.world.now):
            self._queue(effect)

    def _queue(self, effect: Effect) -> None:
        match effect:
            case Record():
                self.queues["journal"].append(effect)
            case Attach() | Detach() | Program() | Audit():
                self.queues["kernel"].append(effect)
            case Announce() | Withdraw() | EndReplay() | ConfigureSpeaker():
                self.queues["bgp"].append(effect)
            case Tell(message):
                if self.connected:
                    self.queues["up"].append(message)
            case AttachAnswer(token, endpoint):
                self.world.answered(self, endpoint)
                self.answers[token] = effect
                self.asked.discard(token)
            case DetachAnswer(token) | Refuse(token):
                self.world.refused(effect)
                self.answers[token] = effect
                self.asked.discard(token)
            case Warn():
                pass

    # carrying out

    def step(self, name: str) -> bool:
        """Carry out the first effect of a queue; return whether there was one."""
        queue = self.queues[name]
        if not queue:
            return False
        act: Callable[[Any], None] = getattr(self, f"_{name}")
        act(queue.popleft())
        return True

    def _journal(self, record: Record) -> None:
        assert self.journal is not None
        self.journal.apply(record.change)
        if record.id:
            self.handle(Recorded(record.id))

    def _kernel(self, effect: Attach | Detach | Program | Audit) -> None:
        match effect:
            case Attach(endpoint):
                error = self._try(lambda: self.kernel.attach(endpoint))
                if error is None:
                    self.broken -= set(endpoint.addresses)
                self.world.look()
                self.handle(Attached(endpoint.key, error))
            case Detach(endpoint):
                stood = {a for a in endpoint.addresses if self.attached().get(a) == endpoint.link}
                error = self._try(lambda: self.kernel.detach(endpoint))
                self.broken -= stood
                self.world.look()
                self.handle(Detached(endpoint.key, error))
            case Program(operations):
                failures = self.kernel.apply(operations)
                self.world.look()
                self.handle(Programmed(failures))
            case Audit():
                self.handle(KernelObserved(self.kernel.observe()))

    @staticmethod
    def _try(act: Callable[[], None]) -> FabricError | None:
        try:
            act()
        except FabricError as error:
            return error
        return None

    def _bgp(self, effect: Announce | Withdraw | EndReplay | ConfigureSpeaker) -> None:
        match effect:
            case Announce(routes):
                new = [r.prefix for r in routes if r.prefix not in self.told]
                self.wanted.update((r.prefix, None) for r in routes)
                self.told.update(dict.fromkeys(new))
                self._left(new, ())
            case Withdraw(routes):
                self._withdraw([r.prefix for r in routes])
            case EndReplay():
                self._withdraw([p for p in self.told if p not in self.wanted])
            case ConfigureSpeaker(_, peers):
                for peer in peers:
                    self.handle(PeerUp(peer.key))

    def _withdraw(self, prefixes: Iterable[Prefix]) -> None:
        gone = [p for p in prefixes if p in self.told]
        for prefix in gone:
            self.told.pop(prefix)
            self.wanted.pop(prefix, None)
        self._left((), gone)

    def _left(self, announced: Iterable[Prefix], withdrawn: Iterable[Prefix]) -> None:
        self.world.look()
        if announced or withdrawn:
            for peer in self.host.speaking.peers:
                self.handle(Advertised(peer, tuple(announced), tuple(withdrawn)))

    def _up(self, message: AgentMessage) -> None:
        self.world.master.heard(self, message)

    def _down(self, message: MasterMessage) -> None:
        self.handle(MasterSaid(message))

    # what happens to it

    def add(self, name: str, *addresses: Address) -> int:
        namespace = f"/run/netns/{name}"
        self.kernel.namespaces.setdefault(namespace, {})
        token = self.world.token()
        self.asked.add(token)
        request = AttachRequest(
            EndpointKey(name, "eth0"), namespace, network="blue", addresses=addresses
        )
        self.handle(AttachRequested(token, request))
        return token

    def delete(self, name: str) -> int:
        token = self.world.token()
        self.asked.add(token)
        self.handle(DetachRequested(token, EndpointKey(name, "eth0")))
        return token

    def break_(self, name: str, *, namespace_too: bool) -> None:
        """Somebody removes a container's link, or the container ends."""
        path = f"/run/netns/{name}"
        inside = self.kernel.namespaces.get(path, {})
        for end in list(inside.values()):
            on = [a for (_, a), link in self.kernel.endpoint_routes.items() if link == end.link]
            self.broken.update(on)
            self.kernel._remove_link(end.link)
        if namespace_too:
            self.kernel.end_namespace(path)

    def connect(self) -> None:
        if not self.connected:
            self.world.master.connected(self)
            self.connected = True
            self.handle(MasterConnected("m:1"))

    def disconnect(self) -> None:
        if self.connected:
            self.world.master.lost(self)
            self.handle(MasterLost("stream ended"))

    # what is there

    def attached(self) -> dict[Address, str]:
        return {address: link for (_, address), link in self.kernel.endpoint_routes.items()}

    def idle(self, *names: str) -> bool:
        return not any(self.queues[name] for name in names or QUEUES)


class SimMaster:
    """A netmaster: the real decisions on a store that is always there, one transaction at a time."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.view = View()
        self.hosts: dict[str, SimHost] = {}
        self.wishes: dict[str, tuple[SimHost, BlockWanted, set[Prefix]]] = {}
        """Loans that wait for their owner."""
        self._loan = 0

    def put(self, puts: Mapping[str, Any], deletes: Iterable[str] = ()) -> None:
        """Commit a change and tell those whom it concerns."""
        before = dict(self.view.loans)
        revision = self.view.revision + 1
        encoded = [(key, json.dumps(value).encode(), revision) for key, value in puts.items()]
        change = self.view.apply(encoded, list(deletes), revision)
        assert not self.view.broken, self.view.broken
        for loan in change.loans:
            self._loan_changed(before.get(loan), self.view.loans.get(loan))

    def _commit(self, write: Write) -> None:
        for key, revision in write.unchanged.items():
            assert self.view.revisions.get(ROOT + key, 0) == revision, "a decision out of date"
        if write:
            self.put(
                {ROOT + key: value for key, value in write.puts.items()},
                [ROOT + key for key in write.deletes],
            )

    def tell(self, host: str, message: MasterMessage) -> None:
        if host in self.hosts:
            self.hosts[host].queues["down"].append(message)

    def connected(self, sim: SimHost) -> None:
        self.hosts[sim.name] = sim
        self.put({host_key(sim.name): plain(HostStatus(sim.name))})

    def lost(self, sim: SimHost) -> None:
        self.hosts.pop(sim.name, None)
        sim.connected = False
        sim.queues["up"].clear()
        sim.queues["down"].clear()
        self.put({}, [host_key(sim.name)])
        for loan, (host, _, _) in list(self.wishes.items()):
            if host is sim:
                del self.wishes[loan]

    def intent(self) -> IntentChanged:
        peers = tuple(Peer("h", f"tor{n}", ip_address(f"10.90.{n}.0"), Asn(65000)) for n in (0, 1))
        peers = tuple(replace(peer, families=(4, 6)) for peer in peers)
        networks = tuple(self.view.networks.values())
        version = Version("e", self.view.revision)
        return IntentChanged(
            version, True, networks=networks, speaker=Speaker("h", Asn(1), "1.1.1.1"), peers=peers
        )

    def change_network(self, **fields: Any) -> None:
        self.put({f"{ROOT}intent/network/{BLUE}": {**OBJECT, **fields}})
        for name in self.hosts:
            self.tell(name, self.intent())

    def heard(self, sim: SimHost, message: AgentMessage) -> None:
        view, host = self.view, sim.name
        match message:
            case Hello():
                self._commit(decide_abandoned(view, host).write)
                self._commit(decide_claims(view, host, message.blocks).write)
                self.tell(host, welcome_of(view, host))
                self.tell(host, self.intent())
                for asked in asked_of(view, host):
                    self.tell(host, asked)
                self._endpoints(host, {e.key: e for e in message.endpoints})
            case EndpointsChanged(up, down):
                reported: dict[EndpointKey, Endpoint | None] = {e.key: e for e in up}
                reported.update(dict.fromkeys(down))
                self._endpoints(host, reported)
            case BlockWanted():
                self._want(sim, message, set())
            case BlockReturned():
                self._commit(decide_return(view, host, message).write)
            case LoanReturned(loan):
                self._commit(decide_loan_end(view, host, loan).write)
            case LendAnswered(loan):
                done = decide_lent(view, host, message)
                self._commit(done.write)
                if done.ended:
                    self.tell(host, LoanEnded(loan))

    def _endpoints(self, host: str, reported: dict[EndpointKey, Endpoint | None]) -> None:
        if reported:
            done = decide_endpoints(self.view, host, reported)
            self._commit(done.write)
            self.tell(host, EndpointsAnswered(done.stored, done.refused))

    def _want(self, sim: SimHost, wanted: BlockWanted, tried: set[Prefix]) -> None:
        self._loan += 1
        loan = f"l{self._loan}"
        try:
            decision = decide_block(self.view, sim.name, wanted, loan, tried)
        except FabricError as error:
            self._answer(sim, wanted, error=error.what or "no", remedy=error.remedy)
            return
        if not isinstance(decision, Given) and decision.loan.address is None:
            self.wishes[decision.loan.id] = (sim, wanted, tried | {decision.loan.block})
        self._commit(decision.write)
        if isinstance(decision, Given):
            self._answer(sim, wanted, block=decision.block)
        elif decision.loan.address is not None:
            self._answer(sim, wanted, loan=decision.loan)

    def _answer(self, sim: SimHost, wanted: BlockWanted, **what: Any) -> None:
        self.tell(sim.name, BlockAnswered(wanted.network, wanted.family, **what))

    def _loan_changed(self, before: Any, after: Any) -> None:
        if after is not None and after.address is None:
            self.tell(after.owner, LendAsked(after.id, after.network, after.block, after.wanted))
            return
        loan = after or before
        if after is None and before.address is not None:
            self.tell(before.owner, LoanEnded(before.id))
        sim, wanted, tried = self.wishes.pop(loan.id, (None, None, None))
        if sim is None or wanted is None or tried is None:
            return
        if after is not None:
            self._answer(sim, wanted, loan=after)
        else:
            self._want(sim, wanted, tried)


class World:
    """Two hosts on one subnet with hardly enough addresses, and a netmaster."""

    def __init__(self, hosts: tuple[str, ...] = ("h1", "h2"), **network: Any) -> None:
        self.now = 1_000.0
        self._token = 0
        self.gone_wrong: list[str] = []
        self.hosts: dict[str, SimHost] = {}
        self.master = SimMaster(self)
        self.master.change_network(**network)
        for name in hosts:
            self.hosts[name] = SimHost(self, name)

    def token(self) -> int:
        self._token += 1
        return self._token

    # the laws, looked at after each step

    def look(self) -> None:
        """Announced means attached (law 1); one owner an address (law 2)."""
        owners: dict[Address, str] = {}
        for sim in self.hosts.values():
            for prefix in sim.told:
                if not self._may_be_told(sim, prefix):
                    raise AssertionError(f"{sim.name} announces {prefix}, which is not attached")
            for address in sim.attached():
                if address in owners:
                    raise AssertionError(f"{owners[address]} and {sim.name} both have {address}")
                owners[address] = sim.name

    @staticmethod
    def _may_be_told(sim: SimHost, prefix: Prefix) -> bool:
        """Aggregates may, and with them what they have just come to cover; single addresses if attached."""
        if prefix.prefixlen < prefix.max_prefixlen or sim.kernel.reaches(prefix):
            return True
        covered = any(_within(prefix, block) for block in sim.host.attachments.aggregates)
        return covered or prefix.network_address in sim.broken

    def answered(self, sim: SimHost, endpoint: Endpoint) -> None:
        """An ADD was answered: what it says is there, and durable."""
        assert sim.journal is not None
        for address in endpoint.addresses:
            assert address in sim.broken or sim.attached().get(address) == endpoint.link
        assert endpoint.key in sim.journal.endpoints

    def refused(self, effect: Effect) -> None:
        """No ADD may fail because an address was given out twice."""
        if isinstance(effect, Refuse) and isinstance(effect.error, ConflictError):
            assert "the host has a route" not in str(effect.error), effect.error

    # time

    def may_wait(self) -> bool:
        """Whether time may pass: what was started is done, as it is within milliseconds."""
        return all(sim.idle("journal", "kernel", "bgp") for sim in self.hosts.values())

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for sim in self.hosts.values():
            sim.handle(Tick())

    def settle(self, seconds: int = 30) -> None:
        """Connect everybody and let everything end."""
        for _ in range(seconds * 2):
            for sim in self.hosts.values():
                sim.connect()
            self.drain()
            self.wait(0.5)
        self.drain()

    def drain(self) -> None:
        """Carry out all that waits."""
        moved = True
        while moved:
            moved = False
            for sim in self.hosts.values():
                for name in QUEUES:
                    while sim.step(name):
                        moved = True

    # the end

    def check(self) -> None:
        """Everybody agrees: brain, journal, kernel, switches, netmaster."""
        self.look()
        for sim in self.hosts.values():
            self._check(sim)
        held = [(sim.name, a) for sim in self.hosts.values() for a in sim.attached()]
        assert len({a for _, a in held}) == len(held)

    def _check(self, sim: SimHost) -> None:
        host, view = sim.host, self.master.view
        up = {e.key: e for e in host.attachments.endpoints()}
        assert not sim.asked, "a caller was left without an answer"
        assert host.attachments.known.keys() == up.keys()
        assert sim.journal is not None
        assert sim.journal.endpoints.keys() == up.keys()
        assert not sim.journal.detaching
        assert sim.journal.state().blocks == tuple(host.addresses.blocks)
        ours = {t for k, t in sim.kernel.observe().objects.items() if k[0] == "link"}
        assert ours == {link_of(e) for e in up.values()}
        assert set(sim.told) == self._expected(sim, up.values())
        assert view.endpoints_by_host.get(sim.name, set()) == up.keys()
        stored = {prefix for _, prefix in view.blocks_by_host.get(sim.name, ())}
        assert stored == {block.prefix for block in host.addresses.blocks}
        mine = {x.id for x in view.loans.values() if sim.name in (x.owner, x.borrower)}
        assert mine == host.addresses.loans.keys()

    def _expected(self, sim: SimHost, endpoints: Iterable[Endpoint]) -> set[Prefix]:
        network = self.master.view.networks[BLUE]
        singles = {p for e in endpoints for p in e.prefixes}
        if network.announce != "blocks":
            return singles
        blocks = {block.prefix for block in sim.host.addresses.blocks}
        return blocks | {p for p in singles if not any(_within(p, b) for b in blocks)}


def _within(prefix: Prefix, block: Prefix) -> bool:
    return prefix.version == block.version and prefix.network_address in block
