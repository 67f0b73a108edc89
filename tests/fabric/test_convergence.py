"""Any interleaving, repetition and splitting of what independent sources say ends in the same state."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from netfabric.fabric.effects import Attach, Detach, Effect, Record
from netfabric.fabric.endpoint import EndpointKey
from netfabric.fabric.events import (
    Attached,
    AttachRequested,
    Detached,
    DetachRequested,
    EndOfRib,
    Event,
    MasterConnected,
    MasterSaid,
    PathsReceived,
    PeerDown,
    PeerUp,
    Recorded,
    Started,
    Tick,
    UplinksChanged,
)
from netfabric.fabric.host import Host
from netfabric.fabric.kernel import KernelRoute, Nexthop, NexthopGroup
from netfabric.fabric.peer import ImportFilter
from netfabric.fabric.prefix import Prefix
from netfabric.fabric.route import PathAttributes
from netfabric.fabric.session import HeldBlock, Welcome
from tests.fabric.script import BLUE, NOW, PEERS, SETTINGS, TORS, UPLINKS, intent, kernel, request

WIDE = ImportFilter(within=((ip_network("10.64.0.0/10"), 32),))
TAKING = tuple(replace(peer, imports=WIDE) for peer in PEERS)
PREFIXES: list[Prefix] = [ip_network(f"10.{n}.0.0/16") for n in range(64, 70)]
BLOCKS = [HeldBlock(BLUE.key, ip_network(f"10.1.0.{n}/26")) for n in (0, 64)]
NAMES = ("a", "b", "c")
Stream = list[Event]


def attributes(tor: int, length: int) -> PathAttributes:
    return PathAttributes(ip_address(f"10.90.{tor}.0"), as_path=(65_000 + tor,) * length)


@st.composite
def updates(draw: st.DrawFn, tor: int) -> Stream:
    """What one switch says: sessions, UPDATEs with several prefixes, perhaps a reset in between."""
    stream: Stream = [PeerUp(TORS[tor])]
    some = st.lists(st.sampled_from(PREFIXES), unique=True, max_size=4).map(tuple)
    for _ in range(draw(st.integers(0, 5))):
        if draw(st.integers(0, 9)) == 0:
            stream += [PeerDown(TORS[tor], "reset"), PeerUp(TORS[tor])]
        taken = draw(some)
        gone = tuple(p for p in draw(some) if p not in taken)
        said = attributes(tor, draw(st.integers(1, 2)))
        stream.append(PathsReceived(TORS[tor], said, taken, gone))
    return [*stream, EndOfRib(TORS[tor], 4), EndOfRib(TORS[tor], 6)]


@st.composite
def requests(draw: st.DrawFn, name: str) -> Stream:
    """What an engine asks for one container: ADDs and DELs, an address of its own each time."""
    address = f"10.1.0.{10 + NAMES.index(name)}"
    add = AttachRequested(1, request(name, BLUE, address))
    delete = DetachRequested(2, EndpointKey(name, "eth0"))
    return draw(st.sampled_from([[], [add], [add, add], [add, delete], [delete, add]]))


MASTER: Stream = [
    MasterConnected("m:1"),
    MasterSaid(Welcome(tuple(BLOCKS), (), ())),
    MasterSaid(intent(BLUE, peers=TAKING)),
]
LINKS: Stream = [UplinksChanged(UPLINKS[:1]), UplinksChanged(UPLINKS)]


class Runner:
    """A host whose effects have their outcomes at once, and whose time stands still."""

    def __init__(self) -> None:
        # no block is returned: the netmaster of this script would not notice
        timeless = replace(SETTINGS, cool_down=0.0, drain=0.0, advertise_timeout=0.0, low_water=64)
        self.host = Host(timeless)
        self.todo: deque[Event] = deque()
        self.run(Started(None, kernel(), UPLINKS))
        for event in MASTER:
            self.run(event)

    def run(self, event: Event) -> None:
        self.todo.append(event)
        while self.todo:
            for effect in self.host.handle(self.todo.popleft(), NOW):
                self._outcome(effect)

    def _outcome(self, effect: Effect) -> None:
        match effect:
            case Record(_, number) if number:
                self.todo.append(Recorded(number))
            case Attach(endpoint):
                self.todo.append(Attached(endpoint.key))
            case Detach(endpoint):
                self.todo.append(Detached(endpoint.key))

    def state(self) -> object:
        """Return what counts: nexthop ids and the order of things do not."""
        objects = self.host.upkeep.actual.values()
        ways: dict[int, frozenset[object]] = {
            t.id: frozenset({(t.gateway, t.link)}) for t in objects if isinstance(t, Nexthop)
        }
        for group in (t for t in objects if isinstance(t, NexthopGroup)):
            ways[group.id] = frozenset().union(*(ways[member] for member in group.members))
        return (
            {t.prefix: ways[t.nexthop] for t in objects if isinstance(t, KernelRoute)},
            len(objects),
            self.host.speaking.rib.local,
            self.host.speaking.up,
            self.host.speaking.offered,
            {e.key: e.addresses for e in self.host.attachments.endpoints()},
            {key: sorted(pool.taken) for key, pool in self.host.addresses.pools.items()},
        )


def interleaved(streams: Sequence[Stream], choose: Callable[[int], int]) -> Stream:
    queues = [deque(stream) for stream in streams if stream]
    merged: Stream = []
    while queues:
        number = choose(len(queues))
        merged.append(queues[number].popleft())
        if not queues[number]:
            queues.pop(number)
    return merged


def split(event: Event) -> Stream:
    """Return the same news one prefix at a time."""
    if not isinstance(event, PathsReceived):
        return [event]
    gone: Stream = [replace(event, announced=(), withdrawn=(p,)) for p in event.withdrawn]
    return gone + [replace(event, announced=(p,), withdrawn=()) for p in event.announced]


REPEATABLE = (PathsReceived, PeerUp, EndOfRib, UplinksChanged, MasterSaid)


def final(events: Sequence[Event]) -> object:
    runner = Runner()
    for event in (*events, *[Tick()] * 5):
        runner.run(event)
    return runner.state()


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_order_repetition_and_splitting_do_not_matter(data: st.DataObject) -> None:
    streams = [
        *(data.draw(updates(tor)) for tor in (0, 1)),
        *(data.draw(requests(name)) for name in NAMES),
        LINKS,
        MASTER[1:],
    ]
    plain = final([event for stream in streams for event in stream])
    mixed: Stream = []
    for event in interleaved(streams, lambda n: data.draw(st.integers(0, n - 1))):
        pieces = split(event) if data.draw(st.booleans()) else [event]
        for piece in pieces:
            twice = isinstance(piece, REPEATABLE) and data.draw(st.booleans())
            mixed += [piece, piece] if twice else [piece]
    assert final(mixed) == plain
