"""A host's brain under script: events in, effects out, with a network, blocks and peers at hand."""

from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_network
from typing import Any, TypeVar

from netfabric.fabric.effects import (
    Announce,
    AttachAnswer,
    Effect,
    Record,
    Tell,
    Withdraw,
)
from netfabric.fabric.endpoint import AttachRequest, Endpoint, EndpointKey
from netfabric.fabric.errors import FabricError
from netfabric.fabric.events import (
    Advertised,
    Attached,
    AttachRequested,
    Detached,
    DetachRequested,
    Event,
    HostSettings,
    JournalState,
    MasterConnected,
    MasterSaid,
    PeerUp,
    Recorded,
    Started,
    Tick,
)
from netfabric.fabric.host import Host
from netfabric.fabric.kernel import KernelObject, KernelState, Uplink, key_of
from netfabric.fabric.network import Network, whole_range
from netfabric.fabric.peer import Asn, Peer, Speaker
from netfabric.fabric.prefix import Prefix
from netfabric.fabric.session import (
    BlockAnswered,
    HeldBlock,
    IntentChanged,
    MasterMessage,
    Version,
    Welcome,
)

NOW = 1_000.0
UPLINKS = (
    Uplink("up0", ip_address("10.90.0.1"), ip_network("10.90.0.0/31")),
    Uplink("up1", ip_address("10.90.1.1"), ip_network("10.90.1.0/31")),
)
SPEAKER = Speaker("h1", Asn(4_200_000_001), "10.90.0.1")
PEERS = tuple(
    Peer("h1", f"tor{n}", ip_address(f"10.90.{n}.0"), Asn(65_000 + n), families=(4, 6))
    for n in (0, 1)
)
TORS = tuple(peer.key for peer in PEERS)
BLUE = Network("default", "blue", "routed", (whole_range(ip_network("10.1.0.0/16")),))
DUAL = Network(
    "default",
    "dual",
    "routed",
    (whole_range(ip_network("10.2.0.0/16")), whole_range(ip_network("fd10:2::/64"))),
)
SETTINGS = HostSettings(host="h1", cool_down=30.0, low_water=0)
Effects = Sequence[Effect]
_Kind = TypeVar("_Kind")


def block(network: Network, prefix: str) -> HeldBlock:
    return HeldBlock(network.key, ip_network(prefix))


BLUE_BLOCK = block(BLUE, "10.1.0.0/26")
DUAL_BLOCKS = (block(DUAL, "10.2.0.0/26"), block(DUAL, "fd10:2::/122"))


def intent(
    *networks: Network, peers: Sequence[Peer] = PEERS, full: bool = True, **more: Any
) -> IntentChanged:
    speaker = SPEAKER if peers else None
    return IntentChanged(
        Version("e", 1), full, networks=networks, speaker=speaker, peers=tuple(peers), **more
    )


def key(name: str) -> EndpointKey:
    return EndpointKey(name, "eth0")


def request(
    name: str, network: Network = BLUE, *addresses: str, namespace: str = ""
) -> AttachRequest:
    return AttachRequest(
        key(name),
        namespace or f"/run/netns/{name}",
        network.tenant,
        network.name,
        addresses=tuple(map(ip_address, addresses)),
    )


def kernel(*things: KernelObject) -> KernelState:
    return KernelState({key_of(thing): thing for thing in things})


def of(effects: Iterable[Effect], kind: type[_Kind]) -> list[_Kind]:
    """Return the effects of one kind."""
    return [effect for effect in effects if isinstance(effect, kind)]


def told(effects: Iterable[Effect], kind: type[_Kind]) -> list[_Kind]:
    """Return the messages of one kind that go to netmaster."""
    return [tell.message for tell in of(effects, Tell) if isinstance(tell.message, kind)]


def announced(effects: Iterable[Effect]) -> set[str]:
    return {str(route.prefix) for one in of(effects, Announce) for route in one.routes}


def withdrawn(effects: Iterable[Effect]) -> set[str]:
    return {str(route.prefix) for one in of(effects, Withdraw) for route in one.routes}


def names(effects: Iterable[Effect]) -> list[str]:
    """Return the kinds of effects, in order."""
    return [type(effect).__name__ for effect in effects]


class Script:
    """A host, its clock, and shorthand for what happens to it."""

    def __init__(self, settings: HostSettings = SETTINGS) -> None:
        self.host = Host(settings)
        self.now = NOW
        self._token = 0

    def __call__(self, event: Event) -> Effects:
        return self.host.handle(event, self.now)

    def later(self, seconds: float) -> Effects:
        """Let time pass."""
        self.now += seconds
        return self(Tick())

    # the world

    def start(
        self,
        journal: JournalState | None = None,
        observed: KernelState | None = None,
        uplinks: tuple[Uplink, ...] = UPLINKS,
    ) -> Effects:
        return self(Started(journal, observed or kernel(), uplinks))

    def says(self, message: MasterMessage) -> Effects:
        """Let netmaster say something."""
        return self(MasterSaid(message))

    def welcome(
        self,
        *blocks: HeldBlock,
        endpoints: Sequence[Endpoint] = (),
        loans: Sequence[Any] = (),
    ) -> Effects:
        return self.says(Welcome(tuple(blocks), tuple(loans), tuple(endpoints)))

    def give(self, network: Network, prefix: str) -> Effects:
        """Let netmaster answer with a block."""
        given = ip_network(prefix)
        return self.says(BlockAnswered(network.key, 4 if given.version == 4 else 6, block=given))

    def connect(self) -> Effects:
        return self(MasterConnected("m:1"))

    def peers_up(self, *which: str) -> Effects:
        return [effect for peer in which or TORS for effect in self(PeerUp(peer))]

    def ready(
        self, *networks: Network, blocks: Sequence[HeldBlock] = (), peers: Sequence[Peer] = PEERS
    ) -> "Script":
        """Start on a fresh host and let netmaster say all it has; peers come up."""
        self.start()
        self.connect()
        self.welcome(*blocks)
        self.says(intent(*networks, peers=peers))
        self.peers_up(*(peer.key for peer in peers))
        return self

    # requests

    def token(self) -> int:
        self._token += 1
        return self._token

    def add(self, wanted: AttachRequest) -> Effects:
        return self(AttachRequested(self.token(), wanted))

    def delete(self, name: str, interface: str = "eth0") -> Effects:
        return self(DetachRequested(self.token(), EndpointKey(name, interface)))

    def recorded(self, effects: Effects, error: FabricError | None = None) -> Effects:
        """Let every write of these that asks for an outcome have it."""
        ids = [record.id for record in of(effects, Record) if record.id]
        return [effect for number in ids for effect in self(Recorded(number, error))]

    def attached(self, name: str, error: FabricError | None = None) -> Effects:
        return self(Attached(key(name), error))

    def detached(self, name: str, error: FabricError | None = None) -> Effects:
        return self(Detached(key(name), error))

    def left(self, prefixes: Iterable[Prefix], *, withdrawn: bool = False) -> Effects:
        """Let an UPDATE leave for every peer."""
        gone = tuple(prefixes)
        effects: list[Effect] = []
        for peer in TORS:
            effects += self(Advertised(peer, () if withdrawn else gone, gone if withdrawn else ()))
        return effects

    def up(self, wanted: AttachRequest) -> Endpoint:
        """Do a whole ADD; return the endpoint answered."""
        begun = self.add(wanted)
        self.attached(wanted.key.container)
        done = self.recorded(begun)
        (answer,) = of(done, AttachAnswer)
        return answer.endpoint

    def gone(self, name: str) -> Effects:
        """Do a whole DEL with the peers' help; return what its end brought."""
        begun = self.delete(name)
        prefixes = [route.prefix for one in of(begun, Withdraw) for route in one.routes]
        self.left(prefixes, withdrawn=True)
        self.later(self.host.settings.drain)
        return self.recorded(self.detached(name))
