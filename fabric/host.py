"""A host's brain: every event that reaches an agent, and what has to be done about it."""

from dataclasses import replace

from netfabric.fabric.addresses import Addresses
from netfabric.fabric.attachment import LEAVING, Phase
from netfabric.fabric.attachments import Attachments
from netfabric.fabric.effects import Audit, Detach, Effect, JournalChange, Record, Tell, Warn
from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.events import (
    Advertised,
    Attached,
    AttachRequested,
    CollectRequested,
    Detached,
    DetachRequested,
    EndOfRib,
    Event,
    HostSettings,
    KernelObserved,
    MasterConnected,
    MasterLost,
    MasterSaid,
    PathsReceived,
    PeerDown,
    PeerUp,
    Programmed,
    Recorded,
    Started,
    Tick,
    UplinksChanged,
)
from netfabric.fabric.kernel import EndpointLink, KernelState
from netfabric.fabric.network import Network
from netfabric.fabric.peer import Peer, Speaker
from netfabric.fabric.prefix import Prefix
from netfabric.fabric.route import Announcement
from netfabric.fabric.session import (
    BlockAnswered,
    EndpointsAnswered,
    EndpointsChanged,
    HeldBlock,
    Hello,
    IntentChanged,
    LendAsked,
    LoanEnded,
    MasterMessage,
    Version,
    Welcome,
)
from netfabric.fabric.speaking import Speaking
from netfabric.fabric.upkeep import Upkeep

SETTLE_TIMEOUT = 60.0
"""Seconds after start at which routes found in the kernel are no longer spared."""


class Host:
    """What one agent knows and decides. `handle` is its only way in, the returned effects the only way out."""

    def __init__(self, settings: HostSettings) -> None:
        self.settings = settings
        self.out: list[Effect] = []
        self.addresses = Addresses(settings, self.out)
        self.speaking = Speaking(settings, self.out)
        self.upkeep = Upkeep(self.out)
        self.attachments = Attachments(settings, self.out, self.addresses, self.speaking)
        self.networks: dict[str, Network] = {}
        self.attachments.networks = self.networks
        self.intent: IntentChanged | None = None
        self.connected = False
        self.fresh = False
        self.kernel_links: dict[str, EndpointLink] = {}
        self.started_at = 0.0
        self.audit_at = 0.0
        self.aggregates: set[Prefix] = set()

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event at wall-clock time `now` (seconds); return what is to be done, in order."""
        self._dispatch(event, now)
        done, self.out[:] = list(self.out), []
        return done

    def next_deadline(self) -> float | None:
        """Return when a Tick is needed next, in wall-clock seconds, or None."""
        return self.attachments.next_deadline()

    def _dispatch(self, event: Event, now: float) -> None:
        match event:
            case AttachRequested(token, request):
                self.attachments.add(token, request, now)
            case DetachRequested(token, key):
                self.attachments.remove(token, self._matching(key), now)
            case CollectRequested(token, valid):
                stale = [key for key in self.attachments.known if key not in valid]
                self.attachments.remove(token, stale, now)
            case Attached(key, error):
                self.attachments.attached(key, error, now)
            case Detached(key, error):
                self.attachments.detached(key, error, now)
            case Recorded(number, error):
                self.attachments.recorded(number, error, now)
            case Advertised():
                self.attachments.advertised(event, now)
            case PathsReceived():
                self._routes_changed(self.speaking.received(event))
            case PeerUp(peer):
                self.speaking.peer_up(peer, now)
            case PeerDown(peer, reason):
                self.attachments.peer_lost(peer, now)
                self._routes_changed(self.speaking.peer_down(peer, reason, now))
            case EndOfRib(peer, family):
                self.speaking.ended.add((peer, family))
            case UplinksChanged(uplinks):
                self.upkeep.uplinks_changed(uplinks, self.speaking.rib.local)
            case Programmed(failures):
                self.upkeep.failed(failures)
            case KernelObserved(state):
                self._audited(state)
            case MasterConnected():
                self._connected()
            case MasterLost():
                self.connected = False
                self.addresses.asked.clear()
            case MasterSaid(message):
                self._told(message, now)
            case Started():
                self._start(event, now)
            case Tick():
                pass
        self._tick(now)

    def _matching(self, key: EndpointKey) -> list[EndpointKey]:
        if key.interface:
            return [key]
        return [known for known in self.attachments.known if known.container == key.container]

    # start

    def _start(self, event: Started, now: float) -> None:
        self.started_at, self.audit_at = now, now + self.settings.audit_interval
        self.upkeep.start(event.observed, event.uplinks)
        self.kernel_links = {
            thing.name: thing
            for thing in event.observed.objects.values()
            if isinstance(thing, EndpointLink)
        }
        journal = event.journal
        if journal is None:
            self.fresh = True
            return
        self.attachments.ready = True
        self.addresses.recover(journal)
        for endpoint in journal.endpoints:
            leaving = endpoint.key in journal.detaching
            self.attachments.adopt(endpoint, leaving)
            if leaving:
                self.out.append(Detach(endpoint))
        if journal.intent is not None:
            self._intent(journal.intent, now, durable=True)
        self._repair(event.observed)

    def _repair(self, observed: KernelState) -> None:
        up = {endpoint.link: endpoint for endpoint in self.attachments.endpoints()}
        self.upkeep.audit(observed, up, self._busy())

    def _busy(self) -> set[str]:
        return {
            attachment.endpoint.link
            for attachment in self.attachments.known.values()
            if attachment.endpoint and attachment.phase not in (Phase.UP, Phase.CONFIRMING)
        }

    # netmaster

    def _connected(self) -> None:
        self.connected = True
        self.addresses.asked.clear()
        seen = self.intent.version if self.intent else Version()
        self.out.append(
            Tell(
                Hello(
                    host=self.settings.host,
                    software=self.settings.software,
                    address=self.settings.address,
                    seen=seen,
                    blocks=tuple(self.addresses.blocks),
                    endpoints=tuple(self.attachments.endpoints()),
                    features=self.settings.features,
                    fresh=self.fresh,
                )
            )
        )
        self.speaking.tell_all()

    def _told(self, message: MasterMessage, now: float) -> None:
        match message:
            case Welcome():
                self._welcome(message, now)
            case IntentChanged():
                self._intent(message, now)
            case BlockAnswered():
                self._block(message, now)
            case LendAsked():
                self.addresses.lend(message)
            case LoanEnded(loan):
                self.addresses.loan_ended(loan)
            case EndpointsAnswered():
                self._answered(message)

    def _block(self, answer: BlockAnswered, now: float) -> None:
        self.addresses.answered(answer)
        if answer.error:
            self.attachments.no_block(answer.network, answer.error, answer.remedy)
        self._aggregates()
        self.attachments.blocks_came(now)

    def _welcome(self, welcome: Welcome, now: float) -> None:
        for block in welcome.blocks:
            self.addresses.hold(block)
        for loan in welcome.loans:
            if loan.address:
                self.addresses.borrow(loan)
        if self.fresh:
            self._rebuild(welcome)
        else:
            self._compare(welcome)
        self._aggregates()
        self.attachments.blocks_came(now)

    def _compare(self, welcome: Welcome) -> None:
        """Let go of blocks that the store gives to somebody else, and of endpoints it knows and we don't."""
        for block in [b for b in self.addresses.blocks if b not in welcome.blocks]:
            name = f"block {block.prefix} of {block.network}"
            if self.addresses.lose(block):
                self.out.append(
                    Warn(
                        name,
                        "the store does not give it to this host any more, and it is in use here: "
                        "nothing new is given out of it; move its containers",
                    )
                )
        known = self.attachments.known
        gone = tuple(e.key for e in welcome.endpoints if e.key not in known)
        if gone:
            self.out.append(Tell(EndpointsChanged(down=gone)))

    def _rebuild(self, welcome: Welcome) -> None:
        """The journal was lost: what the store knows and the kernel still has is adopted."""
        gone: list[EndpointKey] = []
        for endpoint in welcome.endpoints:
            if endpoint.link in self.kernel_links:
                self.attachments.adopt(endpoint, detaching=False)
                self.out.append(Record(JournalChange(endpoint=endpoint)))
            else:
                gone.append(endpoint.key)
        if gone:
            self.out.append(Tell(EndpointsChanged(down=tuple(gone))))
        self.fresh = False
        self.attachments.ready = True
        self._use_kernel_links()
        self._announce_all()

    def _use_kernel_links(self) -> None:
        """Whatever address a link of ours has is in use, known or not."""
        for link in self.kernel_links.values():
            for address in link.addresses:
                if network := self.addresses.network_of(address):
                    self.addresses.use(network, (address,))

    def _answered(self, answer: EndpointsAnswered) -> None:
        for stored in answer.stored:
            key, sequence = stored.key, stored.sequence
            attachment = self.attachments.known.get(key)
            if attachment and attachment.endpoint and attachment.endpoint.sequence != sequence:
                attachment.endpoint = attachment.endpoint.moved(sequence)
                if attachment.phase not in LEAVING:
                    self.out.append(Record(JournalChange(endpoint=attachment.endpoint)))
            self.out.append(Warn(f"endpoint {key}", ""))
        for refused in answer.refused:
            key, reason = refused.key, refused.reason
            attachment = self.attachments.known.get(key)
            if attachment and attachment.endpoint:
                attachment.refused = True
                self.speaking.retract(attachment.endpoint.prefixes)
                self.out.append(Warn(f"endpoint {key}", reason))

    # intent

    def _intent(self, change: IntentChanged, now: float, durable: bool = False) -> None:
        merged = merge(self.intent, change)
        known_before = self.intent is not None
        self.intent = merged
        self.networks.clear()
        self.networks.update((network.key, network) for network in merged.networks)
        endpoints = [a.endpoint for a in self.attachments.known.values() if a.endpoint]
        self.addresses.set_networks(self.networks, endpoints)
        if not durable:
            self.out.append(Record(JournalChange(intent=merged)))
        if not self.attachments.ready:
            self._use_kernel_links()
        self._speaker(merged.speaker, {peer.key: peer for peer in merged.peers}, now)
        if not known_before or not self.speaking.replayed:
            self._announce_all()
        self._aggregates()
        self.attachments.blocks_came(now)

    def _speaker(self, speaker: Speaker | None, peers: dict[str, Peer], now: float) -> None:
        if (speaker, peers) != (self.speaking.speaker, self.speaking.peers):
            for gone in self.speaking.peers.keys() - peers.keys():
                self.attachments.peer_lost(gone, now)
            self._routes_changed(self.speaking.configure(speaker, peers, now))

    def _announce_all(self) -> None:
        """Offer everything again after start; End-of-RIB only when all of it is known."""
        if not self.attachments.ready or self.intent is None:
            return
        for attachment in self.attachments.known.values():
            if attachment.phase in (Phase.UP, Phase.CONFIRMING):
                self.attachments.announce(attachment)
        self._aggregates()
        self.speaking.replay()

    def _aggregates(self) -> None:
        """Announce held blocks of the networks that want it, each with its unreachable rest."""
        if not self.attachments.ready:
            return
        wanted = {
            block.prefix
            for block in self.addresses.blocks
            if (network := self.networks.get(block.network)) and network.announce == "blocks"
        }
        for prefix in wanted - self.aggregates:
            self.upkeep.aggregate(prefix, True)
        self.speaking.offer(Announcement(prefix) for prefix in sorted(wanted, key=str))
        gone = self.aggregates - wanted
        self.speaking.retract(gone)
        for prefix in gone:
            self.upkeep.aggregate(prefix, False)
        self.aggregates = wanted

    # routes and kernel

    def _routes_changed(self, changed: set[Prefix]) -> None:
        if changed:
            self.upkeep.paths_changed(changed, self.speaking.rib.local)
            self.speaking.tell_routes(changed)

    def _audited(self, state: KernelState) -> None:
        if not self.attachments.ready:
            return
        self._repair(state)
        self.attachments.retry_detach()

    def _tick(self, now: float) -> None:
        self.attachments.tick(now)
        self.addresses.tick(now)
        self.speaking.tick_if_due(now)
        if self.upkeep.inherited and self._settled(now):
            self.upkeep.settle()
        if self.started_at and now >= self.audit_at:
            self.audit_at = now + self.settings.audit_interval
            self.out.append(Audit())

    def _settled(self, now: float) -> bool:
        if now - self.started_at >= SETTLE_TIMEOUT:
            return True
        return self.intent is not None and self.speaking.settled()

    def endpoint(self, key: EndpointKey) -> Endpoint | None:
        """Return an endpoint that is up, for CHECK."""
        attachment = self.attachments.known.get(key)
        return attachment.endpoint if attachment and attachment.phase is Phase.UP else None

    def held(self) -> list[HeldBlock]:
        """Return the blocks that this host holds."""
        return list(self.addresses.blocks)


def merge(old: IntentChanged | None, change: IntentChanged) -> IntentChanged:
    """Return the whole intent after a change, as one full message."""
    if change.full or old is None:
        return replace(change, full=True, networks_gone=(), peers_gone=())
    networks = {n.key: n for n in (*old.networks, *change.networks)}
    peers = {p.key: p for p in (*old.peers, *change.peers)}
    speaker = None if change.speaker_gone else change.speaker or old.speaker
    return IntentChanged(
        version=change.version,
        full=True,
        networks=tuple(n for key, n in networks.items() if key not in change.networks_gone),
        speaker=speaker,
        peers=tuple(p for key, p in peers.items() if key not in change.peers_gone),
    )
