"""A host's brain through a story: events of a YAML file in, effects out, one line each."""

from collections.abc import Callable, Iterable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import yaml

from netfabric.fabric.effects import (
    Announce,
    Attach,
    AttachAnswer,
    Audit,
    ConfigureSpeaker,
    Count,
    Detach,
    DetachAnswer,
    Effect,
    EndReplay,
    Filter,
    JournalChange,
    Program,
    Record,
    Refuse,
    ReserveAnswer,
    TearDown,
    Tell,
    Warn,
    Withdraw,
)
from netfabric.fabric.endpoint import AttachRequest, Endpoint, EndpointKey
from netfabric.fabric.errors import KernelError, NamespaceGoneError
from netfabric.fabric.events import (
    Advertised,
    Attached,
    AttachRequested,
    Detached,
    DetachRequested,
    EndOfRib,
    Event,
    HostSettings,
    JournalState,
    KernelObserved,
    MasterConnected,
    MasterLost,
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
from netfabric.fabric.intent import network_of, peer_of, speaker_of
from netfabric.fabric.kernel import (
    EndpointLink,
    KernelKey,
    KernelObject,
    KernelRoute,
    KernelState,
    Nexthop,
    NexthopGroup,
    Uplink,
    key_of,
)
from netfabric.fabric.prefix import Prefix, family_of
from netfabric.fabric.route import PathAttributes
from netfabric.fabric.session import (
    BlockAnswered,
    BlockReturned,
    BlockWanted,
    EndpointsChanged,
    HeldBlock,
    HeldLoan,
    Hello,
    IntentChanged,
    LendAnswered,
    LendAsked,
    LoanReturned,
    RoutesLearned,
    SessionsChanged,
    Version,
    Welcome,
)
from netfabric.fabric.upkeep import link_of

START = 1_000.0


def replay(folder: Path) -> str:
    """Return what a scenario's events lead to: each event as written, its effects below it."""
    told = yaml.safe_load((folder / "events.yaml").read_text())
    story = Story(yaml.safe_load((folder / "intent.yaml").read_text()))
    lines: list[str] = []
    for event in told:
        lines.append(f"{event}" if isinstance(event, str) else _line(event))
        lines += [f"    {said}" for said in story.happen(event)]
    return "\n".join(lines) + "\n"


def _line(event: dict[str, Any]) -> str:
    ((name, what),) = event.items()
    return f"{name} {yaml.safe_dump(what, default_flow_style=True, width=200).split(chr(10))[0]}"


class Story:
    """One host; a crash makes a new brain out of journal and kernel."""

    def __init__(self, intent: dict[str, Any]) -> None:
        self.host_name = str(intent["host"])
        self.settings = HostSettings(self.host_name, **intent.get("settings", {}))
        self.intent = self._read(intent)
        self.uplinks = tuple(
            Uplink(u["link"], ip_address(u["address"]), ip_network(u["subnet"]))
            for u in intent.get("uplinks", ())
        )
        self.now = START
        self.token = 0
        self.endpoints: dict[EndpointKey, Endpoint] = {}
        self.durable: dict[EndpointKey, Endpoint] = {}
        self.blocks: dict[HeldBlock, None] = {}
        self.kernel: dict[KernelKey, KernelObject] = {}
        self.host = Host(self.settings)
        self.writes: list[int] = []

    def _read(self, intent: dict[str, Any]) -> IntentChanged:
        speaker = intent.get("speaker")
        return IntentChanged(
            Version("epoch", 1),
            True,
            networks=tuple(map(network_of, intent.get("networks", ()))),
            speaker=speaker_of({"hostname": self.host_name, **speaker}) if speaker else None,
            peers=tuple(
                peer_of({"hostname": self.host_name, **peer}) for peer in intent.get("peers", ())
            ),
        )

    # events

    def happen(self, event: Any) -> list[str]:
        """Carry an event out; return the effects in words."""
        name, what = (event, None) if isinstance(event, str) else next(iter(event.items()))
        act: Callable[[Any], list[Event]] = getattr(self, f"_{name.replace('-', '_')}")
        said: list[str] = []
        for one in act(what):
            for effect in self.host.handle(one, self.now):
                self._keep(effect)
                said.append(in_words(effect))
        return said

    def _start(self, _: Any) -> list[Event]:
        return [Started(None, self._state(), self.uplinks)]

    def _crash(self, _: Any) -> list[Event]:
        self.host = Host(self.settings)
        self.writes = []
        journal = JournalState(
            tuple(self.durable.values()), blocks=tuple(self.blocks), intent=self.intent
        )
        return [Started(journal, self._state(), self.uplinks)]

    def _state(self) -> KernelState:
        return KernelState(dict(self.kernel))

    def _netmaster(self, _: Any) -> list[Event]:
        return [MasterConnected("m1:50051")]

    def _netmaster_lost(self, _: Any) -> list[Event]:
        return [MasterLost("stream ended")]

    def _welcome(self, blocks: Iterable[str] | None) -> list[Event]:
        held = tuple(self._block(text) for text in blocks or ())
        return [MasterSaid(Welcome(held, (), ()))]

    def _block(self, text: str) -> HeldBlock:
        network, prefix = text.split(" ")
        return HeldBlock(network, ip_network(prefix))

    def _intent(self, _: Any) -> list[Event]:
        return [MasterSaid(self.intent)]

    def _change(self, objects: list[dict[str, Any]]) -> list[Event]:
        change = IntentChanged(Version("epoch", 2), False, networks=tuple(map(network_of, objects)))
        return [MasterSaid(change)]

    def _given(self, text: str) -> list[Event]:
        held = self._block(text)
        family = family_of(held.prefix)
        return [MasterSaid(BlockAnswered(held.network, family, block=held.prefix))]

    def _lent(self, what: dict[str, str]) -> list[Event]:
        address = ip_address(what["address"])
        loan = HeldLoan(
            "loan1",
            what["network"],
            ip_network(what["block"]),
            what["by"],
            self.host_name,
            address,
        )
        answer = BlockAnswered(what["network"], family_of(address), loan=loan)
        return [MasterSaid(answer)]

    def _refused(self, what: dict[str, str]) -> list[Event]:
        return [MasterSaid(BlockAnswered(what["network"], 4, error=what["error"], remedy="grow"))]

    def _lend(self, text: str) -> list[Event]:
        held = self._block(text)
        return [MasterSaid(LendAsked("loan2", held.network, held.prefix))]

    def _add(self, what: str) -> list[Event]:
        name, network, *addresses = what.split(" ")
        self.token += 1
        tenant, _, short = network.partition(":")
        request = AttachRequest(
            EndpointKey(name, "eth0"),
            f"/run/netns/{name}",
            tenant,
            short,
            addresses=tuple(map(ip_address, addresses)),
        )
        return [AttachRequested(self.token, request)]

    def _del(self, name: str) -> list[Event]:
        self.token += 1
        return [DetachRequested(self.token, EndpointKey(name, "eth0"))]

    def _attached(self, name: str) -> list[Event]:
        key = EndpointKey(name, "eth0")
        link = link_of(self.endpoints[key])
        self.kernel[key_of(link)] = link
        return [Attached(key)]

    def _not_attached(self, what: dict[str, str]) -> list[Event]:
        ((name, why),) = what.items()
        gone = why == "namespace gone"
        error = NamespaceGoneError(f"/run/netns/{name}: {why}") if gone else KernelError(why)
        return [Attached(EndpointKey(name, "eth0"), error)]

    def _detached(self, name: str) -> list[Event]:
        key = EndpointKey(name, "eth0")
        self.kernel.pop(("link", self.endpoints[key].link), None)
        return [Detached(key)]

    def _durable(self, _: Any) -> list[Event]:
        done, self.writes = self.writes, []
        return [Recorded(number) for number in done]

    def _up(self, peer: str) -> list[Event]:
        return [PeerUp(f"{self.host_name}:{peer}")]

    def _down(self, peer: str) -> list[Event]:
        return [PeerDown(f"{self.host_name}:{peer}", "hold time expired")]

    def _end_of_rib(self, peer: str) -> list[Event]:
        key = f"{self.host_name}:{peer}"
        return [EndOfRib(key, 4), EndOfRib(key, 6)]

    def _path(self, what: dict[str, Any]) -> list[Event]:
        attributes = PathAttributes(ip_address(what["via"]), tuple(what["as"]))
        prefixes = tuple(map(ip_network, what["to"]))
        return [PathsReceived(f"{self.host_name}:{what['from']}", attributes, prefixes)]

    def _sent(self, prefixes: list[str]) -> list[Event]:
        return self._advertised(tuple(map(ip_network, prefixes)), ())

    def _withdrawal_sent(self, prefixes: list[str]) -> list[Event]:
        return self._advertised((), tuple(map(ip_network, prefixes)))

    def _advertised(self, new: tuple[Prefix, ...], gone: tuple[Prefix, ...]) -> list[Event]:
        return [Advertised(peer, new, gone) for peer in self.host.speaking.peers]

    def _links(self, names: list[str]) -> list[Event]:
        return [UplinksChanged(tuple(u for u in self.uplinks if u.link in names))]

    def _audit(self, _: Any) -> list[Event]:
        return [KernelObserved(self._state())]

    def _flushed(self, kind: str) -> list[Event]:
        self.kernel = {k: t for k, t in self.kernel.items() if key_of(t)[0] != kind}
        return []

    def _wait(self, seconds: float) -> list[Event]:
        self.now += seconds
        return [Tick()]

    # what effects leave behind

    def _keep(self, effect: Effect) -> None:
        match effect:
            case Record(change, number):
                self._write(change)
                self.writes += [number] if number else []
            case Attach(endpoint):
                self.endpoints[endpoint.key] = endpoint
            case Program(operations):
                for operation in operations:
                    self.kernel.pop(key_of(operation.thing), None)
                    if operation.action == "put":
                        self.kernel[key_of(operation.thing)] = operation.thing

    def _write(self, change: JournalChange) -> None:
        if change.endpoint:
            self.durable[change.endpoint.key] = change.endpoint
            self.endpoints[change.endpoint.key] = change.endpoint
        if change.gone:
            self.durable.pop(change.gone, None)
        if change.block:
            self.blocks[change.block] = None
        if change.block_gone:
            self.blocks.pop(change.block_gone, None)


# effects in words


def in_words(effect: Effect) -> str:
    """Return an effect on one line."""
    match effect:
        case Record(change, number):
            return f"record {_change(change)}" + (" and say so" if number else "")
        case Attach(endpoint):
            return f"attach {endpoint.key} {_joined(endpoint.addresses)}"
        case Detach(endpoint):
            return f"detach {endpoint.key}"
        case Program(operations):
            return "program " + ", ".join(f"{o.action} {_thing(o.thing)}" for o in operations)
        case Announce(routes):
            return f"announce {_joined(route.prefix for route in routes)}"
        case Withdraw(routes):
            return f"withdraw {_joined(route.prefix for route in routes)}"
        case ConfigureSpeaker(speaker, peers):
            asn = speaker.asn if speaker else "none"
            return f"speak as {asn} to {_joined(peer.name for peer in peers)}"
        case TearDown(peer, subcode):
            return f"tear down {peer} ({subcode})"
        case AttachAnswer(token, endpoint):
            return f"answer {token}: {_joined(endpoint.addresses)}"
        case DetachAnswer(token):
            return f"answer {token}: done"
        case ReserveAnswer(token, address):
            return f"answer {token}: {address} is reserved"
        case Refuse(token, error):
            return f"answer {token}: {type(error).__name__}: {error}"
        case Warn(subject, text):
            return f"warn {subject}: {text}" if text else f"well again: {subject}"
        case Tell(message):
            return f"tell netmaster: {_message(message)}"
        case Filter():
            return "filter"
        case Audit():
            return "audit"
        case Count(groups):
            return f"count {_joined(groups)}"
        case EndReplay():
            return "end the replay"


def _joined(things: Iterable[object]) -> str:
    return " ".join(map(str, things))


def _change(change: JournalChange) -> str:
    words = []
    if change.endpoint:
        words.append(f"endpoint {change.endpoint.key}")
    if change.detaching:
        words.append(f"leaving {change.detaching}")
    if change.gone:
        words.append(f"gone {change.gone}")
    words += [f"{address} cools until {until:g}" for (_, address), until in change.cooling]
    words += [f"{address} is cool" for _, address in change.cooled]
    for name, held in (("block", change.block), ("no block", change.block_gone)):
        if held:
            words.append(f"{name} {held.network} {held.prefix}")
    if change.loan:
        words.append(f"loan {change.loan.id} {change.loan.address}")
    if change.loan_gone:
        words.append(f"no loan {change.loan_gone}")
    if change.intent:
        words.append("intent")
    return ", ".join(words)


def _thing(thing: KernelObject) -> str:
    match thing:
        case Nexthop(number, gateway, link):
            return f"nexthop {number & 0xFFFF} via {gateway} on {link}"
        case NexthopGroup(number, members):
            return f"group {number & 0xFFFF} of {_joined(m & 0xFFFF for m in members)}"
        case KernelRoute(prefix, kind, nexthop):
            return f"route {prefix} " + (f"by {nexthop & 0xFFFF}" if nexthop else kind)
        case EndpointLink(name):
            return f"link {name}"
        case _:
            return " ".join(key_of(thing))


def _message(message: object) -> str:
    match message:
        case Hello(blocks=blocks, endpoints=endpoints, fresh=fresh):
            held = f"{len(blocks)} blocks, {len(endpoints)} endpoints"
            return f"hello, {held}" + (", journal lost" if fresh else "")
        case EndpointsChanged(up, down):
            words = [f"up {e.key} {_joined(e.addresses)}" for e in up]
            return ", ".join([*words, *(f"gone {key}" for key in down)])
        case RoutesLearned(full, routes, withdrawn):
            shown = [f"{r.prefix} via {_joined(r.next_hops)}" for r in routes]
            shown += [f"no {prefix}" for prefix in withdrawn]
            return ("all routes: " if full else "routes: ") + ", ".join(shown)
        case SessionsChanged(sessions):
            return "sessions: " + ", ".join(
                f"{s.peer} {s.state} {s.received} in {s.advertised} out" for s in sessions
            )
        case BlockWanted(network, family, address):
            return f"block wanted: {network} IPv{family}" + (f" {address}" if address else "")
        case BlockReturned(network, prefix):
            return f"block returned: {network} {prefix}"
        case LendAnswered(loan, address):
            return f"lent {loan}: {address or 'none'}"
        case LoanReturned(loan):
            return f"loan returned: {loan}"
    return repr(message)
