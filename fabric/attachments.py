"""Every attachment of a host: what each ADD and DEL does next, whatever happens in between."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import heappop, heappush

from netfabric.fabric import admission
from netfabric.fabric.addresses import Addresses
from netfabric.fabric.attachment import LEAVING, STANDING, Attachment, Phase, endpoint_of
from netfabric.fabric.cooling import Where
from netfabric.fabric.departures import Departures
from netfabric.fabric.effects import (
    Attach,
    AttachAnswer,
    Detach,
    DetachAnswer,
    Effect,
    JournalChange,
    Refuse,
    Tell,
    Warn,
)
from netfabric.fabric.endpoint import PORT, AttachRequest, Endpoint, EndpointKey
from netfabric.fabric.errors import (
    ExhaustedError,
    FabricError,
    NamespaceGoneError,
    ShapingError,
    UnauthorizedError,
)
from netfabric.fabric.events import Advertised, HostSettings
from netfabric.fabric.guard import Guard
from netfabric.fabric.kernel import MAIN_TABLE
from netfabric.fabric.ledger import Ledger
from netfabric.fabric.network import Network
from netfabric.fabric.overlay import Overlay
from netfabric.fabric.placement import Placements, pod_of
from netfabric.fabric.port import Port
from netfabric.fabric.prefix import Address, Family, Prefix, family_of
from netfabric.fabric.route import Announcement
from netfabric.fabric.session import BlockAnswered, EndpointsChanged
from netfabric.fabric.speaking import Speaking
from netfabric.fabric.vlans import Vlans, vrf_of

PORT_TOKEN = 0
"""Of what nobody waits for: intent has it."""


@dataclass(slots=True)
class Attachments:
    """Attachments by key, and what wakes them."""

    settings: HostSettings
    out: list[Effect]
    ledger: Ledger
    addresses: Addresses
    speaking: Speaking
    guard: Guard
    overlay: Overlay
    vlans: Vlans
    networks: Mapping[str, Network] = field(default_factory=dict)
    known: dict[EndpointKey, Attachment] = field(default_factory=dict)
    ready: bool = False
    """False while it is not known what the host holds (the journal was lost, no netmaster yet)."""
    informed: bool = False
    """Whether any intent has come yet: before, an unknown network says nothing."""
    waiting: dict[EndpointKey, None] = field(default_factory=dict)
    """Those without an address, in the order in which they came."""
    departures: Departures = field(default_factory=Departures)
    unverified: set[EndpointKey] = field(default_factory=set)
    """Found damaged at start, and not heard of since: the replay waits for them."""
    aggregates: set[Prefix] = field(default_factory=set)
    """Blocks announced as a whole: what lies in one is not announced by itself."""
    deadlines: list[tuple[float, EndpointKey]] = field(default_factory=list)
    owed: dict[int, int] = field(default_factory=dict)
    """How many attachments a DEL or GC token still waits for."""
    placements: Placements = field(default_factory=Placements)

    # ADD

    def add(self, token: int, request: AttachRequest, now: float) -> None:
        """Begin an ADD, join one under way, or answer what is up already."""
        found = self.known.get(request.key)
        if found is None:
            self._begin(token, request, now)
        elif found.phase in LEAVING or found.cancelled:
            self.out.append(Refuse(token, admission.being_removed(found.key)))
        elif found.namespace != request.namespace:
            self.out.append(Refuse(token, admission.elsewhere(found.key, found.namespace)))
        elif found.phase is Phase.UP and found.recorded and found.endpoint is not None:
            self.out.append(AttachAnswer(token, found.endpoint))
        else:
            found.attaching.add(token)

    def _begin(self, token: int, request: AttachRequest, now: float) -> None:
        found = Attachment(request.key, Phase.WAITING, request, attaching={token})
        found.deadline = now + self.settings.block_timeout
        self.known[request.key] = found
        self._try_address(found, now)
        if found.phase is Phase.WAITING and request.key in self.known:
            self._wake_at(found.deadline, request.key)

    def _try_address(self, waiter: Attachment, now: float) -> None:
        """Take the addresses that are missing, or ask for a block."""
        assert waiter.request is not None
        if not (self.ready and self.informed and self._place(waiter)):
            self.waiting[waiter.key] = None
            return
        key = f"{waiter.request.tenant}:{waiter.request.network}"
        try:
            found = self.networks.get(key)
            network = admission.admit(waiter.request, found, self.settings.host, self.lacking)
            admission.admit_group(waiter.request, self.guard.desired.filters, self.settings.host)
            placed = self.placements.find(waiter.request.name, waiter.request.labels)
            self.guard.require(waiter.request, placed.filter if placed else "")
            missing = [r.family for r in network.ranges if not self._take(waiter, key, r.family)]
        except FabricError as error:
            self._fail(waiter, error)
            return
        for family in missing:
            self.addresses.want(key, family, waiter.request.wanted(family), now)
        if missing:
            self.waiting[waiter.key] = None
            return
        self._build(waiter, network)
        self.addresses.want_ahead(key, now)

    def _place(self, waiter: Attachment) -> bool:
        """Take over what netmaster says of the request's pod; return whether there is nothing to wait for."""
        request = waiter.request
        assert request is not None
        if not request.placed:
            return True
        found = self.placements.find(request.name, request.labels)
        if found is None:
            return False
        waiter.request = replace(
            request,
            tenant=found.tenant,
            network=found.network,
            group=found.group,
            labels=tuple(sorted({**dict(found.labels), **dict(request.labels)}.items())),
            placed=False,
        )
        return True

    def _take(self, waiter: Attachment, network: str, family: Family) -> bool:
        """Return whether it has an address of a family now; raise ConflictError."""
        assert waiter.request is not None
        if any(family_of(a) == family for a in waiter.taken):
            return True
        wanted = waiter.request.wanted(family)
        address = self.addresses.take(network, family, wanted)
        if address is not None:
            waiter.taken.append(address)
        elif wanted is not None and self.addresses.pools[network, family].holds(wanted):
            raise admission.in_use(wanted, network)
        return address is not None

    def _build(self, waiter: Attachment, network: Network) -> None:
        assert waiter.request is not None
        self.waiting.pop(waiter.key, None)
        addresses = tuple(sorted(waiter.taken, key=family_of))
        made = endpoint_of(waiter.request, self.settings.host, addresses)
        waiter.endpoint = replace(
            made,
            filter=self._filter_for(made),
            mtu=self._mtu_of(network, waiter.request.mtu),
            table=self._table_of(network),
        )
        waiter.taken = []
        waiter.phase = Phase.BUILDING
        lifted = self.addresses.cooling.lifted(waiter.network, addresses)
        change = JournalChange(endpoint=waiter.endpoint, cooled=lifted)
        self.ledger.write(change, partial(self._recorded, waiter))
        self.overlay.enter(waiter.endpoint)
        self.vlans.enter(waiter.endpoint)
        rules = self.guard.admit(waiter.endpoint, self.overlay.mark_of(waiter.endpoint))
        self.out.append(Attach(self.guard.limited(waiter.endpoint), rules))

    @property
    def lacking(self) -> dict[str, str]:
        """Return why this host cannot carry an encap, in words, for those that it cannot."""
        found = {"vxlan": self.overlay.missing, "vlan": self.vlans.missing}
        return {encap: why for encap, why in found.items() if why}

    def _mtu_of(self, network: Network, wanted: int) -> int:
        if network.encap == "vlan":
            return self.vlans.mtu_of(wanted)
        return self.overlay.mtu_of(network, wanted)

    def _table_of(self, network: Network) -> int:
        return vrf_of(network).table if network.encap == "vlan" else self.overlay.table_of(network)

    def _filter_for(self, endpoint: Endpoint) -> str:
        """Return the filter that an endpoint should have: its pod's, if that is known."""
        found = self.placements.find(endpoint.name, endpoint.labels)
        if found is None:
            return endpoint.filter
        if found.filter and found.tenant != endpoint.tenant:
            self.out.append(
                Warn(
                    f"endpoint {endpoint.key}",
                    f"pod {found.pod} is in tenant {endpoint.tenant}, and Kubernetes says"
                    f" {found.tenant}: its network policies are not in force",
                )
            )
            return endpoint.filter
        return found.filter

    def placed(self, pods: Iterable[str], now: float) -> None:
        """What is known of these pods has changed: guard theirs accordingly, and go on with those that wait."""
        changed = frozenset(pods)
        names = {pod.partition("/")[2] for pod in changed}
        for attachment in self.known.values():
            endpoint = attachment.endpoint
            if endpoint is None or endpoint.name not in names or attachment.phase in LEAVING:
                continue
            if pod_of(endpoint.name, endpoint.labels) not in changed:
                continue
            wanted = self._filter_for(endpoint)
            if wanted != endpoint.filter:
                attachment.endpoint = replace(endpoint, filter=wanted)
                self.ledger.write(JournalChange(endpoint=attachment.endpoint))
                self.overlay.renumbered(attachment.endpoint)
                self.guard.adopt(attachment.endpoint, self.overlay.mark_of(attachment.endpoint))
        self.addresses_came(now)

    def _recorded(self, attachment: Attachment, error: FabricError | None, now: float) -> None:
        attachment.recorded, attachment.durable = True, error is None
        attachment.failure = attachment.failure or error
        self._built(attachment, now)

    def attached(self, key: EndpointKey, error: FabricError | None, now: float) -> None:
        """The datapath stands (again), or does not."""
        attachment = self.known.get(key)
        if attachment is None or attachment.phase in LEAVING:
            return
        if attachment.phase is not Phase.BUILDING:
            self._mended(attachment, error, now)
        elif not attachment.attached:
            attachment.attached = True
            attachment.failure = attachment.failure or error
            self._built(attachment, now)

    def _built(self, attachment: Attachment, now: float) -> None:
        """Go on once both outcomes are known: durable, and attached."""
        if not (attachment.recorded and attachment.attached):
            return
        if self._is_absent_port(attachment):
            attachment.failure, attachment.phase = None, Phase.MENDING
            return
        if attachment.failure or attachment.cancelled:
            self._detach(attachment)  # nothing of it stays
            return
        self._stand(attachment, now)

    def _is_absent_port(self, attachment: Attachment) -> bool:
        """Return whether a port's link is not as it should be yet: audits try again, and the address is kept."""
        found, error = attachment.endpoint, attachment.failure
        if found is None or not found.is_port or attachment.cancelled or error is None:
            return False
        if not attachment.durable:
            return False
        self.out.append(Warn(f"endpoint {attachment.key}", str(error)))
        return True

    def ports(self, wanted: Mapping[EndpointKey, Port], now: float) -> None:
        """Have exactly these ports: take down what is not as wanted, and begin what is missing."""
        for key, found in list(self.known.items()):
            if not key.container.startswith(PORT) or found.phase in LEAVING:
                continue
            if key not in wanted or (found.endpoint and not wanted[key].fits(found.endpoint)):
                self.leave(found, now)
        for key, port in wanted.items():
            if key not in self.known:
                network = self.networks.get(f"{port.tenant}:{port.network}")
                gateways = [r.gateway for r in network.ranges if r.gateway] if network else []
                self.add(PORT_TOKEN, port.request(gateways), now)

    def absent_ports(self) -> bool:
        """Return whether a port waits for its link."""
        return any(
            a.phase is Phase.MENDING and a.endpoint is not None and a.endpoint.is_port
            for a in self.known.values()
        )

    def _stand(self, attachment: Attachment, now: float) -> None:
        assert attachment.endpoint is not None
        attachment.phase = Phase.UP
        self.addresses.cooling.settle(attachment.network, attachment.endpoint.addresses)
        self.overlay.stand(attachment.endpoint)
        offered = self.announce([attachment])
        self.out.append(Tell(EndpointsChanged(up=(attachment.endpoint,))))
        network = self.networks.get(attachment.network)
        awaits = network is not None and network.ready == "fabric" and attachment.attaching
        if not attachment.recorded:
            return  # answered once it is durable
        if awaits and self._await(attachment, offered, now, withdrawn=False):
            attachment.phase = Phase.CONFIRMING
        else:
            self._answer(attachment)

    def announce(self, attachments: Iterable[Attachment]) -> list[Prefix]:
        """Offer the routes of endpoints that no aggregate of ours covers; return them."""
        prefixes = [p for a in attachments for p in self._own_routes(a)]
        self.speaking.offer(Announcement(prefix) for prefix in prefixes)
        return prefixes

    def _own_routes(self, attachment: Attachment) -> list[Prefix]:
        if attachment.refused or attachment.endpoint is None:
            return []
        return [p for p in attachment.endpoint.announced if not self._covered(attachment, p)]

    def _covered(self, attachment: Attachment, prefix: Prefix) -> bool:
        if not self.aggregates:
            return False
        block = self.addresses.block_of(attachment.network, prefix.network_address)
        return block in self.aggregates

    def follow_aggregates(self) -> None:
        """Offer what no aggregate covers any more, and take back what one covers now."""
        standing = self.standing()
        offered = set(self.announce(standing))
        endpoints = [a.endpoint for a in standing if a.endpoint]
        self.speaking.retract(p for e in endpoints for p in e.announced if p not in offered)

    def _answer(self, attachment: Attachment) -> None:
        assert attachment.endpoint is not None
        attachment.phase = Phase.UP
        for token in sorted(attachment.attaching):
            self.out.append(AttachAnswer(token, attachment.endpoint))
        if PORT_TOKEN in attachment.attaching:
            self.out.append(Warn(f"endpoint {attachment.key}", ""))
        attachment.attaching = set()

    def _refuse(self, attachment: Attachment, error: FabricError) -> None:
        for token in sorted(attachment.attaching):
            self.out.append(Refuse(token, error))
        if PORT_TOKEN in attachment.attaching:
            self.out.append(Warn(f"endpoint {attachment.key}", str(error)))
        attachment.attaching = set()

    def _fail(self, waiter: Attachment, error: FabricError) -> None:
        """End an ADD of which nothing stands yet."""
        self.addresses.give_back(waiter.network, waiter.taken)
        self._refuse(waiter, error)
        self._forget(waiter)

    def _forget(self, attachment: Attachment) -> None:
        self.known.pop(attachment.key, None)
        if attachment.endpoint is not None:
            self.guard.release(attachment.endpoint.link)
            self.overlay.leave(attachment.endpoint)
            self.vlans.leave(attachment.endpoint)
        self.waiting.pop(attachment.key, None)
        for token in sorted(attachment.detaching):
            self._settle(token)

    # repair

    def _mended(self, attachment: Attachment, error: FabricError | None, now: float) -> None:
        """An endpoint that stood, or should have, was attached again; announced only if it stands."""
        self.unverified.discard(attachment.key)
        if isinstance(error, NamespaceGoneError):
            self.leave(attachment, now)
            return
        self.out.append(Warn(f"endpoint {attachment.key}", str(error) if error else ""))
        if isinstance(error, ShapingError) and attachment.phase in STANDING:
            return  # a limit that cannot be kept takes nobody off the network
        if error is not None:
            assert attachment.endpoint is not None
            self.departures.forget(attachment.key)
            self.speaking.retract(attachment.endpoint.announced)
            attachment.phase = Phase.MENDING
            self._refuse(attachment, error)
        elif attachment.phase is Phase.MENDING:
            self._stand(attachment, now)

    def bereaved(self, there: Container[str], now: float) -> None:
        """End those whose engine has the inner end, and whose link is not there: only a new start gives one."""
        for found in list(self.known.values()):
            endpoint, phase = found.endpoint, found.phase
            stands = phase in STANDING or phase is Phase.MENDING
            if stands and endpoint and endpoint.handed_over and endpoint.link not in there:
                gone = NamespaceGoneError(f"link {endpoint.link}: it is gone", "start it again")
                self._mended(found, gone, now)

    def stored(self, key: EndpointKey, sequence: int) -> None:
        """netmaster has the endpoint, and lets this host announce it."""
        attachment = self.known.get(key)
        if attachment is None or attachment.endpoint is None or attachment.phase in LEAVING:
            return
        if attachment.endpoint.sequence != sequence:
            attachment.endpoint = attachment.endpoint.moved(sequence)
            self.overlay.renumbered(attachment.endpoint)
            self.ledger.write(JournalChange(endpoint=attachment.endpoint))
        if attachment.refused:
            attachment.refused = False
            self.out.append(Warn(f"endpoint {key}", ""))
            if attachment.phase in STANDING:
                self.announce([attachment])

    def refuse(self, key: EndpointKey, reason: str, now: float) -> None:
        """netmaster does not let this host announce an endpoint."""
        attachment = self.known.get(key)
        if attachment is None or attachment.endpoint is None:
            return
        attachment.refused = True
        self.out.append(Warn(f"endpoint {key}", reason))
        if attachment.phase is Phase.CONFIRMING:
            self._refuse(attachment, UnauthorizedError(f"endpoint {key}: {reason}"))
            self.leave(attachment, now)
        elif attachment.endpoint.table != MAIN_TABLE and attachment.endpoint.sequence:
            self.leave(attachment, now)  # others have its address, and here it would hide theirs
        elif attachment.phase is Phase.UP:
            self.speaking.retract(attachment.endpoint.announced)

    def moved_away(self, key: EndpointKey, now: float) -> None:
        """Another host has the endpoint's address since: end it here, so that it is in one place."""
        attachment = self.known.get(key)
        if attachment is not None and attachment.phase not in LEAVING:
            text = "its address is another host's now; its interface here is removed"
            self.out.append(Warn(f"endpoint {key}", text))
            self.leave(attachment, now)

    # DEL

    def remove(self, token: int, keys: Iterable[EndpointKey], now: float) -> None:
        """Begin a DEL of these endpoints; those that are not known are gone already."""
        found = [self.known[key] for key in keys if key in self.known]
        if not (self.ready or found):
            self.out.append(Refuse(token, admission.journal_lost(self.settings.host)))
            return
        self.owed[token] = len(found) + 1
        for attachment in found:
            attachment.detaching.add(token)
            self.leave(attachment, now)
        self._settle(token)

    def _settle(self, token: int) -> None:
        """One of those that a token waits for is gone. A token that was refused waits no more."""
        if token not in self.owed:
            return
        self.owed[token] -= 1
        if not self.owed[token]:
            del self.owed[token]
            self.out.append(DetachAnswer(token))

    def leave(self, attachment: Attachment, now: float) -> None:
        """Take an attachment down, from whatever phase it is in; withdraw before break."""
        if attachment.stuck:
            self._detach(attachment)
        if attachment.phase in LEAVING:
            return
        self._refuse(attachment, admission.being_removed(attachment.key))
        if attachment.phase is Phase.WAITING:
            self._fail(attachment, admission.being_removed(attachment.key))
            return
        if attachment.phase is Phase.BUILDING:
            attachment.cancelled = True
            return
        assert attachment.endpoint is not None
        self.unverified.discard(attachment.key)
        self.ledger.write(JournalChange(detaching=attachment.key))
        offered = [p for p in attachment.endpoint.announced if p in self.speaking.offered]
        self.speaking.retract(offered)
        # Until the replay has ended, peers may have what an agent before us announced.
        awaited = offered if self.speaking.replayed else attachment.endpoint.announced
        self._withdraw(attachment, awaited, now)

    def _withdraw(self, attachment: Attachment, prefixes: Iterable[Prefix], now: float) -> None:
        attachment.phase = Phase.WITHDRAWING
        if not self._await(attachment, prefixes, now, withdrawn=True):
            self._detach(attachment)

    def _detach(self, attachment: Attachment) -> None:
        assert attachment.endpoint is not None
        attachment.phase = Phase.DETACHING
        attachment.stuck = False
        self.out.append(Detach(attachment.endpoint))

    def detached(self, key: EndpointKey, error: FabricError | None, now: float) -> None:
        """The datapath is gone, or could not be removed: then the next audit or DEL tries again."""
        attachment = self.known.get(key)
        if attachment is None or attachment.phase is not Phase.DETACHING:
            return
        if error is not None:
            self._stuck(attachment, error)
            return
        assert attachment.endpoint is not None
        attachment.phase = Phase.CLOSING
        addresses = attachment.endpoint.addresses
        cooling: tuple[tuple[Where, float], ...] = ()
        if attachment.failure is not None:
            cooling = self.addresses.give_back(attachment.network, addresses)  # nobody saw them
        else:
            until = now + self.settings.cool_down
            self.addresses.cool(attachment.network, addresses, until)
            cooling = tuple(((attachment.network, a), until) for a in addresses)
        self.out.append(Tell(EndpointsChanged(down=(key,))))
        change = JournalChange(gone=key, cooling=cooling)
        self.ledger.write(change, partial(self._closed, attachment))

    def _stuck(self, attachment: Attachment, error: FabricError) -> None:
        attachment.stuck = True
        self.out.append(Warn(f"endpoint {attachment.key}", str(error)))
        self._refuse(attachment, attachment.failure or error)
        for token in sorted(attachment.detaching):
            if self.owed.pop(token, 0):
                self.out.append(Refuse(token, error))
        attachment.detaching = set()

    def _closed(self, attachment: Attachment, error: FabricError | None, now: float) -> None:
        """It is written off; where that failed, a restart does it again."""
        if error is not None:
            self.out.append(Warn(f"endpoint {attachment.key}", str(error)))
        if attachment.failure is not None:
            self._refuse(attachment, attachment.failure)
        self._forget(attachment)

    def retry_detach(self) -> None:
        """Try again what could not be detached."""
        for attachment in self.known.values():
            if attachment.stuck:
                self._detach(attachment)

    # what is awaited

    def _await(
        self, attachment: Attachment, prefixes: Iterable[Prefix], now: float, *, withdrawn: bool
    ) -> bool:
        """Wait for the UPDATEs with these prefixes to leave; return whether any will."""
        departures = [
            (peer, prefix, withdrawn)
            for prefix in prefixes
            for peer in self.speaking.listeners(prefix)
        ]
        if not self.departures.expect(attachment.key, departures):
            return False
        attachment.deadline = now + self.settings.advertise_timeout
        self._wake_at(attachment.deadline, attachment.key)
        return True

    def advertised(self, event: Advertised, now: float) -> None:
        """An UPDATE left for a peer."""
        if not self.departures.waiting:
            return
        for prefix in event.prefixes:
            self._left(self.departures.left((event.peer, prefix, False)), now)
        for prefix in event.withdrawn:
            self._left(self.departures.left((event.peer, prefix, True)), now)

    def peer_lost(self, peer: str, now: float) -> None:
        """Nothing more leaves for a peer."""
        for key in self.departures.peer_lost(peer):
            self._left(key, now)

    def _left(self, key: EndpointKey | None, now: float) -> None:
        """Every UPDATE that an endpoint waited for has left."""
        attachment = self.known.get(key) if key is not None else None
        if attachment is None:
            return
        if attachment.phase is Phase.CONFIRMING:
            self._answer(attachment)
        elif attachment.phase is Phase.WITHDRAWING:
            attachment.phase = Phase.DRAINING
            attachment.deadline = now + self.settings.drain
            self._wake_at(attachment.deadline, attachment.key)

    def _wake_at(self, time: float, key: EndpointKey) -> None:
        heappush(self.deadlines, (time, key))

    def next_deadline(self) -> float | None:
        """Return when something is due next, in the same clock as `now`."""
        return self.deadlines[0][0] if self.deadlines else None

    def tick(self, now: float) -> None:
        """Do what is due."""
        while self.deadlines and self.deadlines[0][0] <= now:
            _, key = heappop(self.deadlines)
            attachment = self.known.get(key)
            if attachment and attachment.deadline <= now:
                self._due(attachment, now)

    def _due(self, attachment: Attachment, now: float) -> None:
        match attachment.phase:
            case Phase.WAITING:
                self._fail(attachment, self._no_address(attachment))
            case Phase.CONFIRMING:
                self.departures.forget(attachment.key)
                where = f"endpoint {attachment.key}"
                self.out.append(Warn(where, "its route had not left for every peer in time"))
                self._answer(attachment)
            case Phase.WITHDRAWING:
                self.departures.forget(attachment.key)
                self._left(attachment.key, now)
            case Phase.DRAINING:
                self._detach(attachment)

    def _no_address(self, attachment: Attachment) -> FabricError:
        if not self.ready:
            return admission.journal_lost(self.settings.host)
        if not self.informed:
            return admission.no_intent(self.settings.host)
        if attachment.request is not None and attachment.request.placed:
            return admission.no_placement(attachment.request, self.settings)
        return admission.no_block(attachment.network, self.settings.block_timeout)

    def addresses_came(self, now: float) -> None:
        """There may be addresses for those that wait."""
        for key in list(self.waiting):
            if key in self.known:
                self._try_address(self.known[key], now)

    def no_block(self, answer: BlockAnswered, wanted: Address | None) -> None:
        """netmaster has no address: those that wait for the one asked for (or any) are told."""
        for key in list(self.waiting):
            attachment = self.known[key]
            assert attachment.request is not None
            served = any(family_of(a) == answer.family for a in attachment.taken)
            same = attachment.request.wanted(answer.family) == wanted
            if attachment.network == answer.network and same and not served:
                self._fail(attachment, ExhaustedError(answer.error, answer.remedy))

    # recovery

    def adopt(self, endpoint: Endpoint, phase: Phase) -> Attachment:
        """Take an endpoint of the journal as one that is there; announced only once its datapath stands."""
        attachment = Attachment(endpoint.key, phase, endpoint=endpoint, recorded=True)
        self.known[endpoint.key] = attachment
        self.overlay.adopt(endpoint)
        self.vlans.enter(endpoint)
        self.guard.adopt(endpoint, self.overlay.mark_of(endpoint))
        if phase is Phase.MENDING:
            self.unverified.add(endpoint.key)
        return attachment

    def adopt_stored(self, endpoint: Endpoint, phase: Phase) -> None:
        """Take an endpoint of the store, since the journal was lost; an ADD of it that waits gets it."""
        waiter = self.known.get(endpoint.key)
        self.waiting.pop(endpoint.key, None)
        attachment = self.adopt(endpoint, phase)
        attachment.recorded = False
        if waiter is not None and waiter.namespace == endpoint.namespace:
            attachment.attaching = waiter.attaching
        elif waiter is not None:
            self._refuse(waiter, admission.elsewhere(endpoint.key, endpoint.namespace))
        self.ledger.write(JournalChange(endpoint=endpoint), partial(self._adopted, attachment))

    def _adopted(self, attachment: Attachment, error: FabricError | None, now: float) -> None:
        attachment.recorded = True
        if error is not None:
            self._refuse(attachment, error)
        elif attachment.phase is Phase.UP:
            self._answer(attachment)

    def resume_leaving(self, now: float) -> None:
        """Go on with DELs that a crash interrupted.

        Peers may still have the routes: the replay withdraws them, and nothing breaks before.
        """
        for attachment in self.known.values():
            if attachment.phase is Phase.WITHDRAWING and attachment.endpoint is not None:
                self._withdraw(attachment, attachment.endpoint.announced, now)

    def relimit(self, groups: Container[str]) -> None:
        """Give the endpoints of groups the limits that they have now; their links stay as they are."""
        for endpoint in self.endpoints():
            if f"{endpoint.tenant}:{endpoint.group}" in groups:
                self.out.append(Attach(self.guard.limited(endpoint)))

    def endpoints(self) -> list[Endpoint]:
        """Return every endpoint that is up, or should be."""
        return [
            a.endpoint
            for a in self.known.values()
            if a.endpoint and (a.phase in STANDING or a.phase is Phase.MENDING)
        ]

    def standing(self) -> list[Attachment]:
        """Return the attachments whose routes are announced."""
        return [a for a in self.known.values() if a.phase in STANDING]

    def busy(self) -> set[str]:
        """Return the links that are being changed: an audit leaves them alone."""
        return {
            a.endpoint.link
            for a in self.known.values()
            if a.endpoint and a.phase not in STANDING and a.phase is not Phase.MENDING
        }
