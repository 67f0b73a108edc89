"""A host's brain: every event that reaches an agent, and what has to be done about it."""

from dataclasses import replace

from netfabric.fabric.addresses import Addresses
from netfabric.fabric.attachment import STANDING, Phase
from netfabric.fabric.attachments import Attachments
from netfabric.fabric.counts import Counting
from netfabric.fabric.effects import Audit, Effect, JournalChange, Tell, Warn
from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.events import (
    Advertised,
    Attached,
    AttachRequested,
    CollectRequested,
    Counted,
    Detached,
    DetachRequested,
    EndOfRib,
    Event,
    Filtered,
    HostSettings,
    JournalState,
    KernelObserved,
    MasterConnected,
    MasterLost,
    MasterSaid,
    PathsReceived,
    PeerDown,
    PeerUp,
    Programmed,
    Recorded,
    ReleaseRequested,
    ReserveRequested,
    Started,
    Tick,
    UplinksChanged,
)
from netfabric.fabric.guard import FEATURE, Guard
from netfabric.fabric.kernel import EndpointLink, KernelState
from netfabric.fabric.ledger import Ledger
from netfabric.fabric.membership import Membership
from netfabric.fabric.network import Network
from netfabric.fabric.overlay import Overlay, Shares
from netfabric.fabric.peer import Peer, Speaker
from netfabric.fabric.prefix import Prefix, host_prefix
from netfabric.fabric.reservations import Reservations
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
    MembersChanged,
    PlacementsChanged,
    RemotesChanged,
    Version,
    Welcome,
)
from netfabric.fabric.speaking import Speaking
from netfabric.fabric.upkeep import Upkeep, link_of
from netfabric.fabric.vlans import Vlans

SETTLE_TIMEOUT = 60.0
"""Seconds after start at which routes found in the kernel are no longer spared."""

ASK_INTERVAL = 1.0
"""Seconds after which those that wait for an address are looked at again, whatever happens."""


class Host:
    """What one agent knows and decides. `handle` is its only way in, the returned effects the only way out."""

    def __init__(self, settings: HostSettings) -> None:
        self.settings = settings
        self.out: list[Effect] = []
        self.ledger = Ledger(self.out)
        self.addresses = Addresses(settings, self.out, self.ledger)
        self.speaking = Speaking(settings, self.out)
        self.upkeep = Upkeep(self.out)
        self.guard = Guard(self.out, FEATURE in settings.features)
        shares = Shares(self.upkeep.resolver.objects)
        self.overlay = Overlay(settings, self.upkeep.follow, self.guard, shares)
        self.vlans = Vlans(settings, self.upkeep.follow, self.guard, shares)
        self.counting = Counting(self.out)
        self.attachments = Attachments(
            settings,
            self.out,
            self.ledger,
            self.addresses,
            self.speaking,
            self.guard,
            self.overlay,
            self.vlans,
        )
        self.reservations = Reservations(self.attachments, self.addresses, self.ledger, self.out)
        self.networks: dict[str, Network] = {}
        self.attachments.networks = self.networks
        self.intent: IntentChanged | None = None
        self.membership = Membership()
        """Of the groups that filters name as peers."""
        self.connected = False
        self.fresh = False
        """The journal is new or was lost: netmaster has to say what this host holds."""
        self.kernel_links: dict[str, EndpointLink] = {}
        """Endpoints' links found at start, by name."""
        self.started_at = 0.0
        self.audit_at = 0.0
        self.ask_at = 0.0
        self.port_at = 0.0
        """When ports are looked at again: one may have gone, or failed."""
        self.sweep_at = float("inf")
        """When links that nobody knows may go: peers may have their routes until the replay has ended."""
        self.lost: set[HeldBlock] = set()
        """Blocks in use here that the store does not give us."""

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
                docker = {e.key for e in self.attachments.endpoints() if e.handed_over}
                stale = [key for key in self.attachments.known if key not in {*valid, *docker}]
                self.attachments.remove(token, stale, now)
            case ReserveRequested():
                self.reservations.reserve(event, now)
            case ReleaseRequested(network, address):
                self.addresses.give_up(network, address)
            case Attached(key, error):
                self.attachments.attached(key, error, now)
            case Detached(key, error):
                self.attachments.detached(key, error, now)
            case Recorded(number, error):
                self.ledger.recorded(number, error, now)
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
                self.overlay.uplinks_changed(uplinks)
                self.vlans.uplinks_changed(uplinks)
                if self.attachments.absent_ports():
                    self.out.append(Audit())
            case Programmed(failures):
                self.upkeep.failed(failures)
            case Filtered(error):
                self.guard.failed(error)
            case Counted(counts):
                self.counting.counted(counts, now)
            case KernelObserved(state):
                self._audited(state, now)
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
        self.reservations.look(now)

    def _matching(self, key: EndpointKey) -> list[EndpointKey]:
        if key.interface:
            return [key]
        return [known for known in self.attachments.known if known.container == key.container]

    # start

    def _start(self, event: Started, now: float) -> None:
        self.started_at, self.audit_at = now, now + self.settings.audit_interval
        self.upkeep.start(event.observed, event.uplinks)
        self.overlay.start(event.observed.objects.values(), event.uplinks)
        self.vlans.uplinks_changed(event.uplinks)
        self.guard.start(event.observed.ruleset)
        self.kernel_links = {
            thing.name: thing
            for thing in event.observed.objects.values()
            if isinstance(thing, EndpointLink)
        }
        journal = event.journal
        # Intent is written last of what a first Welcome brings: without it the rest is no proof.
        self.fresh = journal is None or journal.intent is None
        self.attachments.ready = not self.fresh
        if journal is not None and journal.intent is not None:
            # What stands is compared with the limits that its group has.
            self._guarded(journal.intent)
        if journal is not None:
            self._recover(journal)
        if journal is not None and journal.intent is not None:
            self.guard.members(
                self.membership.take(MembersChanged(full=True, added=journal.members))
            )
            self._spare_unknown_links(now)
            self._repair(event.observed, now)
            self._intent(journal.intent, now, durable=True)
            self.addresses.recall_reserved(now)
            self.attachments.resume_leaving(now)

    def _recover(self, journal: JournalState) -> None:
        self.addresses.recover(journal)
        whole = journal.intent is not None
        self.overlay.take(RemotesChanged(whole, journal.remotes))
        for endpoint in journal.endpoints:
            leaving = endpoint.key in journal.detaching
            self.attachments.adopt(
                endpoint, Phase.WITHDRAWING if leaving else self._found(endpoint)
            )

    def _found(self, endpoint: Endpoint) -> Phase:
        stands = self.kernel_links.get(endpoint.link) == link_of(self.guard.limited(endpoint))
        return Phase.UP if stands else Phase.MENDING

    def _repair(self, observed: KernelState, now: float) -> None:
        there = {t.name for t in observed.objects.values() if isinstance(t, EndpointLink)}
        self.attachments.bereaved(there, now)
        up = {e.link: self.guard.limited(e) for e in self.attachments.endpoints()}
        busy = self.attachments.busy()
        self.upkeep.audit(observed, up, busy, sweep=now >= self.sweep_at)

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
                    vtep=self.settings.vtep,
                )
            )
        )
        self.speaking.tell_all()
        self.counting.connected()

    def _told(self, message: MasterMessage, now: float) -> None:
        match message:
            case Welcome():
                self._welcome(message, now)
            case IntentChanged():
                self._intent(message, now)
            case MembersChanged():
                self._members(message)
            case RemotesChanged():
                self._remotes(message, now)
            case PlacementsChanged():
                self._placements(message, now)
            case BlockAnswered():
                self._block(message, now)
            case LendAsked():
                self.addresses.lend(message)
            case LoanEnded(loan):
                self.addresses.loan_ended(loan)
            case EndpointsAnswered(stored, refused):
                for kept in stored:
                    self.attachments.stored(kept.key, kept.sequence)
                for other in refused:
                    self.attachments.refuse(other.key, other.reason, now)

    def _block(self, answer: BlockAnswered, now: float) -> None:
        wanted = self.addresses.answered(answer)
        if answer.error:
            self.attachments.no_block(answer, wanted)
            self.reservations.no_block(answer, wanted)
        self._aggregates()
        self.attachments.addresses_came(now)

    def _welcome(self, welcome: Welcome, now: float) -> None:
        if not self.fresh:
            self._forget_others(
                welcome
            )  # before blocks go back: netmaster keeps one with endpoints
        in_use = self.addresses.welcomed(welcome, fresh=self.fresh)
        for block in in_use:
            self.out.append(
                Warn(
                    _name(block),
                    "the store does not give it to this host any more, and it is in use here: "
                    "nothing new is given out of it; move its containers",
                )
            )
        for block in self.lost.intersection(welcome.blocks):
            self.out.append(Warn(_name(block), ""))
        self.lost = set(in_use)
        if self.fresh:
            self._rebuild(welcome, now)
        self._aggregates()
        self.attachments.addresses_came(now)

    def _forget_others(self, welcome: Welcome) -> None:
        """Have netmaster forget endpoints that are not here (any more)."""
        here = {key for key, a in self.attachments.known.items() if a.endpoint is not None}
        gone = tuple(e.key for e in welcome.endpoints if e.key not in here)
        if gone:
            self.out.append(Tell(EndpointsChanged(down=gone)))

    def _rebuild(self, welcome: Welcome, now: float) -> None:
        """The journal was lost: what the store knows and the kernel still has is adopted."""
        for endpoint in welcome.endpoints:
            found = self.attachments.known.get(endpoint.key)
            unknown = found is None or found.phase is Phase.WAITING
            if endpoint.link in self.kernel_links and unknown:
                self.attachments.adopt_stored(endpoint, self._found(endpoint))
                self.addresses.use(f"{endpoint.tenant}:{endpoint.network}", endpoint.addresses)
        self._spare_unknown_links(now)
        self._forget_others(welcome)
        self.fresh = False
        self.attachments.ready = True
        if self.intent is not None:
            everyone = MembersChanged(full=True, added=self.membership.all())
            remotes = RemotesChanged(True, tuple(self.overlay.remotes.values()))
            self.ledger.write(JournalChange(intent=self.intent, members=everyone, remotes=remotes))
            self.guard.activate()
            self._announce_all()
        self.attachments.resume_leaving(now)
        self.out.append(Audit())

    def _spare_unknown_links(self, now: float) -> None:
        """A link of ours that nobody knows is removed later; until then its addresses are not given out."""
        until = now + max(
            self.settings.cool_down,
            self.settings.advertise_timeout + 2 * self.settings.audit_interval,
        )
        ours = {a.endpoint.link for a in self.attachments.known.values() if a.endpoint}
        for name in self.kernel_links.keys() - ours:
            for address in self.kernel_links[name].addresses:
                self.addresses.cool_unknown(address, until)

    # intent

    def _intent(self, change: IntentChanged, now: float, durable: bool = False) -> None:
        merged = merge(self.intent, change)
        self.intent = merged
        self.attachments.informed = True
        endpoints = [a.endpoint for a in self.attachments.known.values() if a.endpoint]
        self._networks(merged, endpoints, without=change.networks_gone)
        if change.networks_gone:
            self._networks(merged, endpoints)
        if not durable and not self.fresh:
            self.ledger.write(JournalChange(intent=with_filters_of(merged, change)))
        limited = self._guarded(merged)
        if limited and not durable:
            self.attachments.relimit(limited)
        if self.attachments.ready:
            self.guard.activate()
        self._speaker(merged.speaker, {peer.key: peer for peer in merged.peers}, now)
        self._aggregates()
        if not self.speaking.replayed:
            self._announce_all()
        self.attachments.addresses_came(now)
        self._ports(now)

    def _ports(self, now: float) -> None:
        """Attach and detach links of this host as intent wants it."""
        if not self.attachments.ready or self.intent is None or self.intent.ports is None:
            return
        self.port_at = now + ASK_INTERVAL
        self.attachments.ports({port.key: port for port in self.intent.ports.ports}, now)

    def _guarded(self, intent: IntentChanged) -> frozenset[str]:
        """Have networks and filters guarded; return the groups that have other limits now."""
        return self.guard.intent(intent.networks, {f.group: f for f in intent.filters})

    def _members(self, said: MembersChanged) -> None:
        """Take who is in the groups that rules name; the journal is told what changed."""
        change = self.membership.take(said)
        self.guard.members(change)
        if not self.fresh and (change.added or change.removed):
            self.ledger.write(JournalChange(members=change))

    def _remotes(self, said: RemotesChanged, now: float) -> None:
        """Take where overlay endpoints are; one of ours that is elsewhere since is ended here."""
        change = self.overlay.take(said)
        if not self.fresh and (change.added or change.removed):
            self.ledger.write(JournalChange(remotes=change))
        for endpoint in self.overlay.moved_away(said):
            self.attachments.moved_away(endpoint.key, now)

    def _placements(self, said: PlacementsChanged, now: float) -> None:
        """Take where pods belong. What is not told of any more keeps what it has until it goes."""
        self.attachments.placements.take(said.full, said.placed, said.gone)
        self.attachments.placed((placement.pod for placement in said.placed), now)

    def _networks(
        self, intent: IntentChanged, endpoints: list[Endpoint], without: tuple[str, ...] = ()
    ) -> None:
        self.networks.clear()
        self.networks.update((n.key, n) for n in intent.networks if n.key not in without)
        self.addresses.set_networks(self.networks, endpoints)
        self.overlay.intent(self.networks)
        self.vlans.intent(self.networks)

    def _speaker(self, speaker: Speaker | None, peers: dict[str, Peer], now: float) -> None:
        for gone in self.speaking.peers.keys() - peers.keys():
            self.attachments.peer_lost(gone, now)
        self._routes_changed(self.speaking.configure(speaker, peers, now))

    def _announce_all(self) -> None:
        """Offer everything again after start; aggregates first, since they cover much of it."""
        if not self.attachments.ready or self.intent is None:
            return
        self._aggregates()
        if self.settings.vtep is not None and self.settings.vtep_announced:
            self.speaking.offer([Announcement(host_prefix(self.settings.vtep))])
        self.attachments.announce(self.attachments.standing())

    def _replay_ended(self) -> bool:
        """Return whether all that this host offers has been announced: what stands, and what is mended."""
        return (
            self.intent is not None and self.attachments.ready and not self.attachments.unverified
        )

    def _aggregates(self) -> None:
        """Announce open blocks of the networks that want it, each with its unreachable rest.

        What lies in one is not announced by itself; make before break in both directions.
        """
        if not self.attachments.ready:
            return
        wanted = {
            block.prefix
            for block in self.addresses.blocks
            if (network := self.networks.get(block.network))
            and network.announce == "blocks"
            and network.encap == "routed"
            and self.addresses.is_open(block)
        }
        before = self.attachments.aggregates
        if wanted == before:
            return
        for prefix in wanted - before:
            self.upkeep.aggregate(prefix, True)
        self.speaking.offer(Announcement(prefix) for prefix in sorted(wanted, key=str))
        self.attachments.aggregates = wanted
        self.attachments.follow_aggregates()
        self.speaking.retract(before - wanted)
        for prefix in before - wanted:
            self.upkeep.aggregate(prefix, False)

    # routes and kernel

    def _routes_changed(self, changed: set[Prefix]) -> None:
        if changed:
            self.upkeep.paths_changed(changed, self.speaking.rib.local)
            self.speaking.tell_routes(changed)

    def _audited(self, state: KernelState, now: float) -> None:
        if not self.attachments.ready:
            return
        self.guard.audit(state.ruleset)
        self._repair(state, now)
        self.attachments.retry_detach()

    def _tick(self, now: float) -> None:
        self.attachments.tick(now)
        cooled = self.addresses.tick(now)
        if cooled:
            self._aggregates()
        if cooled or (self.attachments.waiting and now >= self.ask_at):
            self.ask_at = now + ASK_INTERVAL
            self.attachments.addresses_came(now)
        if now >= self.port_at:
            self._ports(now)
        self.speaking.tick_if_due(now)
        if not self.speaking.replayed and self._replay_ended():
            self.speaking.replay()
            self.sweep_at = now + self.settings.advertise_timeout + self.settings.drain
        if self.upkeep.inherited and self._settled(now):
            self.upkeep.settle()
        if self.connected and self.attachments.ready:
            self.counting.tick(now, self.guard.counting)
        if self.started_at and now >= self.audit_at:
            self.audit_at = now + self.settings.audit_interval
            self.out.append(Audit())
            if self.attachments.ready:
                self.addresses.return_idle_loans()

    def _settled(self, now: float) -> bool:
        if now - self.started_at >= SETTLE_TIMEOUT:
            return True
        known = self.intent is not None and self.overlay.informed
        return known and self.speaking.settled()

    def endpoint(self, key: EndpointKey) -> Endpoint | None:
        """Return an endpoint that is up, or should be, for CHECK."""
        attachment = self.attachments.known.get(key)
        up = attachment is not None and attachment.phase in (*STANDING, Phase.MENDING)
        return attachment.endpoint if attachment is not None and up else None

    def held(self) -> list[HeldBlock]:
        """Return the blocks that this host holds."""
        return list(self.addresses.blocks)


def _name(block: HeldBlock) -> str:
    return f"block {block.prefix} of {block.network}"


def merge(old: IntentChanged | None, change: IntentChanged) -> IntentChanged:
    """Return the whole intent after a change, as one full message.

    What a delta has both as gone and as there was removed and made again.
    """
    if change.full or old is None:
        return replace(change, full=True, networks_gone=(), peers_gone=(), filters_gone=())
    networks = {n.key: n for n in old.networks if n.key not in change.networks_gone}
    peers = {p.key: p for p in old.peers if p.key not in change.peers_gone}
    networks.update((n.key, n) for n in change.networks)
    peers.update((p.key, p) for p in change.peers)
    filters = {f.group: f for f in old.filters if f.group not in change.filters_gone}
    filters.update((f.group, f) for f in change.filters)
    return IntentChanged(
        version=change.version,
        full=True,
        networks=tuple(networks.values()),
        speaker=None if change.speaker_gone else change.speaker or old.speaker,
        peers=tuple(peers.values()),
        filters=tuple(filters.values()),
        ports=change.ports or old.ports,
    )


def with_filters_of(merged: IntentChanged, change: IntentChanged) -> IntentChanged:
    """Return the whole intent as the journal takes it: of the filters only what changed."""
    return replace(
        merged, full=change.full, filters=change.filters, filters_gone=change.filters_gone
    )
