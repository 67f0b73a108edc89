"""Every attachment of a host: what each ADD and DEL does next, whatever happens in between."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush

from netfabric.fabric.addresses import Addresses
from netfabric.fabric.attachment import LEAVING, Attachment, Phase, endpoint_of
from netfabric.fabric.effects import (
    Attach,
    AttachAnswer,
    Detach,
    DetachAnswer,
    Effect,
    JournalChange,
    Record,
    Refuse,
    Tell,
    Warn,
)
from netfabric.fabric.endpoint import AttachRequest, Endpoint, EndpointKey
from netfabric.fabric.errors import (
    ConflictError,
    ExhaustedError,
    FabricError,
    InvalidError,
    NamespaceGoneError,
    NotFoundError,
    UnavailableError,
)
from netfabric.fabric.events import Advertised, HostSettings
from netfabric.fabric.network import Network
from netfabric.fabric.prefix import Address, Family, family_of
from netfabric.fabric.route import Announcement
from netfabric.fabric.session import EndpointsChanged
from netfabric.fabric.speaking import Speaking


@dataclass(slots=True)
class Attachments:
    """Attachments by key, and what wakes them."""

    settings: HostSettings
    out: list[Effect]
    addresses: Addresses
    speaking: Speaking
    networks: Mapping[str, Network] = field(default_factory=dict)
    known: dict[EndpointKey, Attachment] = field(default_factory=dict)
    ready: bool = False
    """False while it is not known what the host holds (the journal was lost, no netmaster yet)."""
    waiting: dict[EndpointKey, None] = field(default_factory=dict)
    unsent: dict[tuple[str, object], EndpointKey] = field(default_factory=dict)
    records: dict[int, EndpointKey] = field(default_factory=dict)
    deadlines: list[tuple[float, EndpointKey]] = field(default_factory=list)
    owed: dict[int, int] = field(default_factory=dict)
    """How many attachments a DEL or GC token still waits for."""
    _serial: int = 0

    # ADD

    def add(self, token: int, request: AttachRequest, now: float) -> None:
        """Begin an ADD, join one under way, or answer what is up already."""
        found = self.known.get(request.key)
        if found is None:
            try:
                self._network(request)
            except FabricError as error:
                self.out.append(Refuse(token, error))
                return
            found = Attachment(request.key, Phase.WAITING, request, attaching={token})
            found.deadline = now + self.settings.block_timeout
            self.known[request.key] = found
            self._wake_at(found.deadline, request.key)
            self._try_address(found, now)
        elif found.phase in LEAVING or found.cancelled:
            self.out.append(Refuse(token, _leaving(found)))
        elif found.endpoint and found.endpoint.namespace != request.namespace:
            self.out.append(Refuse(token, _elsewhere(found)))
        elif found.phase is Phase.UP:
            assert found.endpoint is not None
            self.out.append(AttachAnswer(token, found.endpoint))
        else:
            found.attaching.add(token)

    def _network(self, request: AttachRequest) -> Network | None:
        """Return the network asked for; None while nothing is known yet; raise what is wrong with it."""
        key = f"{request.tenant}:{request.network}"
        network = self.networks.get(key)
        if network is None:
            if not self.ready:
                return None
            raise NotFoundError(
                f"network {key}: not known on host {self.settings.host}",
                "netctl net ls -a lists the networks; netctl net create makes one",
            )
        if network.encap != "routed":
            raise InvalidError(
                f"network {key}: this host cannot carry encap {network.encap}",
                "use a network with encap routed",
            )
        for address in request.addresses:
            range_ = network.range_of(family_of(address))
            if range_ is None or address not in range_.subnet:
                raise InvalidError(
                    f"address {address} is not in network {key}",
                    f"ask for one of {' or '.join(str(r.subnet) for r in network.ranges)}",
                )
        return network

    def _try_address(self, waiter: Attachment, now: float) -> None:
        """Take the addresses that are missing, or ask for a block."""
        assert waiter.request is not None
        try:
            network = self._network(waiter.request) if self.ready else None
        except FabricError as error:
            self._fail(waiter, error)
            return
        if network is None:
            self.waiting[waiter.key] = None
            return
        complete = True
        for range_ in network.ranges:
            complete &= self._take(waiter, network.key, range_.family, now)
        if not complete:
            self.waiting[waiter.key] = None
            return
        self.waiting.pop(waiter.key, None)
        self._build(waiter)
        self.addresses.want_ahead(network.key, now)

    def _take(self, waiter: Attachment, network: str, family: Family, now: float) -> bool:
        assert waiter.request is not None
        if any(family_of(a) == family for a in waiter.taken):
            return True
        wanted = next((a for a in waiter.request.addresses if family_of(a) == family), None)
        address = self.addresses.take(network, family, wanted)
        if address is not None:
            waiter.taken.append(address)
            return True
        pool = self.addresses.pools[network, family]
        if wanted is not None and pool.holds(wanted):
            self._fail(waiter, _in_use(wanted, network))
            return False
        self.addresses.want(network, family, wanted, now)
        return False

    def _build(self, waiter: Attachment) -> None:
        assert waiter.request is not None
        addresses = tuple(sorted(waiter.taken, key=family_of))
        waiter.endpoint = endpoint_of(waiter.request, self.settings.host, addresses)
        waiter.taken = []
        waiter.phase = Phase.BUILDING
        self._record(waiter, JournalChange(endpoint=waiter.endpoint))
        self.out.append(Attach(waiter.endpoint))

    def _record(self, attachment: Attachment, change: JournalChange) -> None:
        self._serial += 1
        attachment.record = self._serial
        self.records[self._serial] = attachment.key
        self.out.append(Record(change, self._serial))

    def recorded(self, number: int, error: FabricError | None, now: float) -> None:
        """A journal write is durable, or failed."""
        attachment = self.known.get(self.records.pop(number, EndpointKey("", "")))
        if attachment is None or attachment.record != number:
            return
        attachment.record = 0
        if attachment.phase is Phase.CLOSING:
            self._closed(attachment)
        elif error is not None:
            self._unbuild(attachment, error)
        else:
            attachment.recorded = True
            self._built(attachment, now)

    def attached(self, key: EndpointKey, error: FabricError | None, now: float) -> None:
        """The datapath stands (again), or does not."""
        attachment = self.known.get(key)
        if attachment is None:
            return
        if attachment.phase is Phase.BUILDING:
            if error is not None:
                self._unbuild(attachment, error)
            else:
                attachment.attached = True
                self._built(attachment, now)
        elif isinstance(error, NamespaceGoneError) and attachment.phase not in LEAVING:
            self.leave(attachment, now)
        elif attachment.phase not in LEAVING:
            self.out.append(Warn(f"endpoint {key}", str(error) if error else ""))

    def _built(self, attachment: Attachment, now: float) -> None:
        if not (attachment.recorded and attachment.attached):
            return
        assert attachment.endpoint is not None
        if attachment.cancelled:
            self._detach(attachment)
            return
        attachment.phase = Phase.UP
        self.announce(attachment)
        self.out.append(Tell(EndpointsChanged(up=(attachment.endpoint,))))
        network = self.networks.get(attachment.network)
        if network and network.ready == "fabric" and self._await_update(attachment, now):
            attachment.phase = Phase.CONFIRMING
        else:
            self._answer(attachment)

    def announce(self, attachment: Attachment) -> None:
        """Offer an endpoint's routes, as its network says."""
        assert attachment.endpoint is not None
        if attachment.refused:
            return
        network = self.networks.get(attachment.network)
        by_block = network is not None and network.announce == "blocks"
        borrowed = {loan.address for loan in self.addresses.loans.values()}
        self.speaking.offer(
            Announcement(prefix)
            for address, prefix in zip(
                attachment.endpoint.addresses, attachment.endpoint.prefixes, strict=True
            )
            if not by_block or address in borrowed
        )

    def _answer(self, attachment: Attachment) -> None:
        assert attachment.endpoint is not None
        attachment.phase = Phase.UP
        for token in sorted(attachment.attaching):
            self.out.append(AttachAnswer(token, attachment.endpoint))
        attachment.attaching = set()

    def _unbuild(self, attachment: Attachment, error: FabricError) -> None:
        """An ADD failed half-way: nothing of it stays."""
        assert attachment.endpoint is not None
        self.out.append(Detach(attachment.endpoint))
        self.out.append(Record(JournalChange(gone=attachment.key)))
        self.addresses.give_back(attachment.network, attachment.endpoint.addresses)
        self._fail(attachment, error)

    def _fail(self, attachment: Attachment, error: FabricError) -> None:
        self.addresses.give_back(attachment.network, attachment.taken)
        for token in sorted(attachment.attaching):
            self.out.append(Refuse(token, error))
        self._forget(attachment)

    def _forget(self, attachment: Attachment) -> None:
        self.known.pop(attachment.key, None)
        self.waiting.pop(attachment.key, None)
        for token in sorted(attachment.detaching):
            self._settle(token)

    # DEL

    def remove(self, token: int, keys: Iterable[EndpointKey], now: float) -> None:
        """Begin a DEL of these endpoints; those that are not known are gone already."""
        found = [self.known[key] for key in keys if key in self.known]
        self.owed[token] = len(found) + 1
        for attachment in found:
            attachment.detaching.add(token)
            self.leave(attachment, now)
        self._settle(token)

    def _settle(self, token: int) -> None:
        self.owed[token] -= 1
        if not self.owed[token]:
            del self.owed[token]
            self.out.append(DetachAnswer(token))

    def leave(self, attachment: Attachment, now: float) -> None:
        """Take an attachment down, from whatever phase it is in."""
        if attachment.phase in LEAVING:
            return
        if attachment.phase is Phase.WAITING:
            self._fail(attachment, _leaving(attachment))
            return
        if attachment.phase is Phase.BUILDING:
            attachment.cancelled = True
            self._refuse_all(attachment)
            return
        self._refuse_all(attachment)
        assert attachment.endpoint is not None
        self.out.append(Record(JournalChange(detaching=attachment.key)))
        offered = [p for p in attachment.endpoint.prefixes if p in self.speaking.offered]
        self.speaking.retract(offered)
        attachment.phase = Phase.WITHDRAWING
        if not (offered and self._await_update(attachment, now)):
            self._detach(attachment)

    def _refuse_all(self, attachment: Attachment) -> None:
        for token in sorted(attachment.attaching):
            self.out.append(Refuse(token, _leaving(attachment)))
        attachment.attaching = set()

    def _detach(self, attachment: Attachment) -> None:
        assert attachment.endpoint is not None
        attachment.phase = Phase.DETACHING
        self.out.append(Detach(attachment.endpoint))

    def detached(self, key: EndpointKey, error: FabricError | None, now: float) -> None:
        """The datapath is gone, or could not be removed: then the next audit tries again."""
        attachment = self.known.get(key)
        if attachment is None or attachment.phase is not Phase.DETACHING:
            return
        assert attachment.endpoint is not None
        if error is not None:
            for token in sorted(attachment.detaching):
                self.owed.pop(token, None)
                self.out.append(Refuse(token, error))
            attachment.detaching = set()
            self.out.append(Warn(f"endpoint {key}", str(error)))
            return
        attachment.phase = Phase.CLOSING
        until = now + self.settings.cool_down
        addresses = attachment.endpoint.addresses
        self.addresses.cool(attachment.network, addresses, until)
        self._record(
            attachment, JournalChange(gone=key, cooling=tuple((a, until) for a in addresses))
        )
        self.out.append(Tell(EndpointsChanged(down=(key,))))

    def _closed(self, attachment: Attachment) -> None:
        self._forget(attachment)

    def retry_detach(self) -> None:
        """Try again what could not be detached."""
        for attachment in self.known.values():
            if attachment.phase is Phase.DETACHING and attachment.endpoint:
                self.out.append(Detach(attachment.endpoint))

    # what is awaited

    def _await_update(self, attachment: Attachment, now: float) -> bool:
        """Wait for the UPDATEs with an endpoint's prefixes to leave; return whether any will."""
        assert attachment.endpoint is not None
        attachment.unsent = {
            (peer, prefix)
            for prefix in attachment.endpoint.prefixes
            for peer in self.speaking.listeners(prefix)
        }
        for item in attachment.unsent:
            self.unsent[item] = attachment.key
        attachment.deadline = now + self.settings.advertise_timeout
        if attachment.unsent:
            self._wake_at(attachment.deadline, attachment.key)
        return bool(attachment.unsent)

    def advertised(self, event: Advertised, now: float) -> None:
        """An UPDATE left for a peer."""
        for prefix in event.prefixes:
            self._sent(event.peer, prefix, Phase.CONFIRMING, now)
        for prefix in event.withdrawn:
            self._sent(event.peer, prefix, Phase.WITHDRAWING, now)

    def _sent(self, peer: str, prefix: object, phase: Phase, now: float) -> None:
        attachment = self.known.get(self.unsent.get((peer, prefix), EndpointKey("", "")))
        if attachment is None or attachment.phase is not phase:
            return
        del self.unsent[peer, prefix]
        attachment.unsent.discard((peer, prefix))
        if not attachment.unsent:
            self._all_sent(attachment, now)

    def peer_lost(self, peer: str, now: float) -> None:
        """Nothing more leaves for a peer."""
        for item in [item for item in self.unsent if item[0] == peer]:
            attachment = self.known.get(self.unsent.pop(item))
            if attachment is None:
                continue
            attachment.unsent.discard(item)
            if not attachment.unsent:
                self._all_sent(attachment, now)

    def _all_sent(self, attachment: Attachment, now: float) -> None:
        if attachment.phase is Phase.CONFIRMING:
            self._answer(attachment)
        elif attachment.phase is Phase.WITHDRAWING:
            attachment.phase = Phase.DRAINING
            attachment.deadline = now + self.settings.drain
            self._wake_at(attachment.deadline, attachment.key)

    def _wake_at(self, time: float, key: EndpointKey) -> None:
        heappush(self.deadlines, (time, key))

    def tick(self, now: float) -> None:
        """Do what is due."""
        while self.deadlines and self.deadlines[0][0] <= now:
            _, key = heappop(self.deadlines)
            attachment = self.known.get(key)
            if attachment and attachment.deadline <= now:
                self._due(attachment, now)
        for key in list(self.waiting):
            if key in self.known:
                self._try_address(self.known[key], now)

    def _due(self, attachment: Attachment, now: float) -> None:
        for item in attachment.unsent:
            self.unsent.pop(item, None)
        attachment.unsent = set()
        match attachment.phase:
            case Phase.WAITING:
                self._fail(attachment, self._no_address(attachment))
            case Phase.CONFIRMING:
                where = f"endpoint {attachment.key}"
                self.out.append(Warn(where, "its route had not left for every peer in time"))
                self._answer(attachment)
            case Phase.WITHDRAWING:
                self._all_sent(attachment, now)
            case Phase.DRAINING:
                self._detach(attachment)

    def _no_address(self, attachment: Attachment) -> FabricError:
        network = attachment.network
        if not self.ready:
            return UnavailableError(
                f"host {self.settings.host}: its journal was lost and no netmaster answered yet",
                "bring a netmaster up; addresses are given out once it is known what is in use",
            )
        return UnavailableError(
            f"network {network}: no block with a free address here, and no netmaster gave one "
            f"within {self.settings.block_timeout:g} s",
            "check that netmaster and its store run (netctl host ls)",
        )

    def blocks_came(self, now: float) -> None:
        """There may be addresses for those that wait."""
        for key in list(self.waiting):
            if key in self.known:
                self._try_address(self.known[key], now)

    def no_block(self, network: str, error: str, remedy: str) -> None:
        """netmaster has no address for a network: those that wait for one are told."""
        for key in list(self.waiting):
            attachment = self.known.get(key)
            if attachment and attachment.network == network:
                self._fail(attachment, ExhaustedError(error, remedy))

    # recovery

    def adopt(self, endpoint: Endpoint, detaching: bool) -> Attachment:
        """Take an endpoint of the journal or the store as one that is up (or on its way down)."""
        phase = Phase.DETACHING if detaching else Phase.UP
        attachment = Attachment(endpoint.key, phase, endpoint=endpoint)
        attachment.recorded = attachment.attached = True
        self.known[endpoint.key] = attachment
        return attachment

    def endpoints(self) -> list[Endpoint]:
        """Return every endpoint that is up."""
        return [
            a.endpoint
            for a in self.known.values()
            if a.endpoint and a.phase in (Phase.UP, Phase.CONFIRMING)
        ]

    def next_deadline(self) -> float | None:
        """Return when something is due next, in the same clock as `now`."""
        return self.deadlines[0][0] if self.deadlines else None


def _leaving(attachment: Attachment) -> ConflictError:
    return ConflictError(
        f"endpoint {attachment.key} is being removed", "try again when its DEL has ended"
    )


def _elsewhere(attachment: Attachment) -> ConflictError:
    assert attachment.endpoint is not None
    return ConflictError(
        f"endpoint {attachment.key} is attached in {attachment.endpoint.namespace} already",
        "DEL it first",
    )


def _in_use(address: Address, network: str) -> ConflictError:
    return ConflictError(
        f"address {address} of network {network} is in use, reserved or cooling down here",
        "ask for another, or for none",
    )
