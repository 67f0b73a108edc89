"""What the sessions of one netmaster share: the store, the history of intent, the routes, each other."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

from netfabric.api.commit import Commits
from netfabric.api.mirror import Mirror
from netfabric.api.statuses import SupersededError
from netfabric.api.store.base import Store
from netfabric.fabric.controller_intent import Intents
from netfabric.fabric.controller_remotes import Remotes, Tenants
from netfabric.fabric.controller_routes import RouteTable, Subnets
from netfabric.fabric.errors import FabricError, UnavailableError
from netfabric.fabric.session import (
    HeldLoan,
    IntentChanged,
    MembersChanged,
    PlacementsChanged,
    RemotesChanged,
)
from netfabric.fabric.view import View, ViewChange, host_key
from netfabric.proto.codec import master_to_wire

GATHER = 0.005
"""Seconds for which changes are gathered before they are told, at least."""
TOLD = 20_000
"""Messages a second that one process can send: with many sessions changes are gathered longer."""
BATCH = 5000
"""Remotes that are added, or removed, in a message at most."""
LISTING = 5.0
"""Seconds that an agent may wait for a netmaster that has not read the store yet."""


class Listener(Protocol):
    """A session as the hub sees it."""

    def intent_changed(self) -> None:
        """Intent has moved on."""
        ...

    def pod_changed(self, pod: str) -> None:
        """A pod that is on the host, or was, has another placement."""
        ...

    def loan_changed(self, before: HeldLoan | None, after: HeldLoan | None) -> None:
        """A loan that the host borrows or lends has changed."""
        ...

    def status_changed(self, revision: int) -> None:
        """The host's status in the store has changed; 0: it is gone."""
        ...

    def cut(self, error: FabricError) -> None:
        """End, and tell the agent why."""
        ...


class Pulse:
    """Wakes everybody who waits, as often as it is fired."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def fire(self) -> None:
        """Wake those who wait now."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self) -> None:
        """Return when it is fired."""
        await self._event.wait()


class Hub:
    """Follows the mirror, and tells every session what concerns it."""

    def __init__(self, store: Store, mirror: Mirror) -> None:
        self.store = store
        self.mirror = mirror
        self.view: View = mirror.view
        self.commits = Commits(store, mirror)
        self.intents = Intents(self.view)
        self.table = RouteTable(self.view)
        self.remotes = Remotes(self.view)
        self.routes_changed = Pulse()
        self.sessions: dict[str, Listener] = {}
        self.closed = asyncio.Event()
        """Set when no session is left after `close`."""
        self._closing: FabricError | None = None
        self.claiming = asyncio.Lock()
        """Held while a block is claimed: those who want one don't race for the same."""
        self._loans: dict[str, HeldLoan] = {}
        self._begun = False
        self._at = 0
        self._replaced = 0
        """How often the store was replaced by an older one."""
        self._gathering = False
        self._routes_moved = False
        self._encoded: dict[int | None, tuple[bytes, bool]] = {}
        self._encoded_at = -1
        self._members: dict[int | None, tuple[bytes, bytes]] = {}
        self._members_at = -1
        self._remotes: dict[tuple[int | None, Tenants, Tenants], list[bytes]] = {}
        self._remotes_at = -1
        self._subnets: tuple[int, Subnets] = (-1, Subnets(()))
        mirror.follow(self._follow)

    def _follow(self, change: ViewChange) -> None:
        if change.revision < self._at:
            self._store_replaced()
        self._at = change.revision
        serial = self.intents.policies.serial
        intent_moved = self._begun and self.intents.follow(change)
        members_moved = self.intents.policies.serial != serial
        if not self._begun:  # the first listing is no change
            self._begun = True
            lives = f".{self._replaced}" if self._replaced else ""
            self.intents.begin(self.store.epoch + lives)
        self._routes_moved |= self.table.follow(change)
        remotes_moved = self.remotes.follow(change)
        for host, pod in change.pods:
            if session := self.sessions.get(host):
                session.pod_changed(pod)
        moved = intent_moved or members_moved or remotes_moved or self._routes_moved
        if moved or change.pods:
            self._gather()
        for loan in change.loans:
            self._loan(loan)
        for host in change.hosts & self.sessions.keys():
            self.sessions[host].status_changed(self.view.revisions.get(host_key(host), 0))

    def _store_replaced(self) -> None:
        """A backup was restored: nobody's version counts any more, and every agent says again what it holds."""
        self._replaced += 1
        self._begun = False
        for session in self.sessions.values():
            session.cut(
                UnavailableError("the store was replaced by an older one", "say Hello again")
            )

    def _loan(self, loan: str) -> None:
        before, after = self._loans.pop(loan, None), self.view.loans.get(loan)
        if after is not None:
            self._loans[loan] = after
        known = after or before
        for host in {known.owner, known.borrower} if known else ():
            if session := self.sessions.get(host):
                session.loan_changed(before, after)

    def _gather(self) -> None:
        if not self._gathering:
            self._gathering = True
            pause = max(GATHER, len(self.sessions) / TOLD)
            asyncio.get_running_loop().call_later(pause, self._tell)

    def _tell(self) -> None:
        self._gathering = False
        if self._routes_moved:
            self._routes_moved = False
            self.routes_changed.fire()
        for session in self.sessions.values():
            session.intent_changed()

    def enter(self, host: str, session: Listener) -> None:
        """Tell a session from now on; one of the same host is told no more, and ends."""
        if self._closing is not None:
            raise self._closing
        older, self.sessions[host] = self.sessions.get(host), session
        if older is not None:
            older.cut(SupersededError(f"host {host}: a newer stream of its agent took over"))

    def leave(self, host: str, session: Listener) -> None:
        """Tell a session no more."""
        if self.sessions.get(host) is session:
            del self.sessions[host]
        if self._closing is not None and not self.sessions:
            self.closed.set()

    def close(self, reason: FabricError) -> None:
        """End all sessions, and take no more."""
        self._closing = reason
        for session in self.sessions.values():
            session.cut(reason)
        if not self.sessions:
            self.closed.set()

    async def listed(self) -> None:
        """Return when the view is complete; raise UnavailableError where that takes long."""
        try:
            async with asyncio.timeout(LISTING):
                await self.mirror.listed.wait()
        except TimeoutError:
            raise UnavailableError(
                "this netmaster has not read the store yet", "try another, or see its log"
            ) from None

    @property
    def subnets(self) -> Subnets:
        """Return the subnets of the networks that the underlay knows, as they are now: overlays have their own."""
        at, found = self._subnets
        if at != self.intents.revision:
            found = Subnets(n for n in self.view.networks.values() if n.encap != "vxlan")
            self._subnets = (self.intents.revision, found)
        return found

    def intent(self, host: str, since: int | None, *, always: bool = False) -> bytes:
        """Return the message that brings a host from a revision (None: from nothing) to now.

        Where nothing changed for it that is b"", or with `always` the version alone. The part that all
        hosts share is encoded once: two encodings one after the other are the encoding of both messages
        merged (protobuf's rule for fields that come again).
        """
        shared, changed = self._networks(since)
        own = self._own(host, since)
        if own is None:
            return shared if changed or always else b""
        return shared + master_to_wire(own).SerializeToString()

    def _own(self, host: str, since: int | None) -> IntentChanged | None:
        if since is None:
            return replace(self.intents.full(host), networks=(), filters=())
        if not self.intents.touches(host, since):
            return None
        return replace(self.intents.delta(host, since), **_SHARED)

    def members(self, since: int | None) -> tuple[bytes, bytes]:
        """Return what is told before and after the intent, to bring a host's members to now; b"": nothing.

        Rules never lack a member that they need, so no packet of an allowed flow is lost to a gap.
        """
        policies = self.intents.policies
        if self._members_at != policies.serial:
            self._members_at = policies.serial
            self._members.clear()
        if since not in self._members:
            change = policies.members() if since is None else policies.since(since)
            first = MembersChanged(False, added=change.added)
            then = change if change.full else MembersChanged(False, removed=change.removed)
            self._members[since] = (_encoded(first), _encoded(then))
        return self._members[since]

    def remotes_told(self, since: int | None, told: Tenants, tenants: Tenants) -> list[bytes]:
        """Return the messages that bring a host's remotes to now, encoded once for all who need the same."""
        if self._remotes_at != self.remotes.serial:
            self._remotes_at = self.remotes.serial
            self._remotes.clear()
        key = (since, told, tenants)
        if key not in self._remotes:
            self._remotes[key] = [_encoded(part) for part in _parts(self.remotes.since(*key))]
        return self._remotes[key]

    def placements(self, host: str, pods: Iterable[str] | None) -> PlacementsChanged:
        """Return where these pods of a host are placed; all of the host's if that is None."""
        known, here = self.view.pods, self.view.pods_by_host.get(host, set())
        wanted = sorted(here if pods is None else pods)
        placed = tuple(replace(known[pod], peers=()) for pod in wanted if pod in here)
        gone = tuple(pod for pod in wanted if pod not in here)
        return PlacementsChanged(pods is None, placed, gone)

    def _networks(self, since: int | None) -> tuple[bytes, bool]:
        """Return the encoded networks and filters of a message, and whether there are any."""
        if self._encoded_at != self.intents.revision:
            self._encoded_at = self.intents.revision
            self._encoded.clear()
        if since not in self._encoded:
            whole = self.intents.full("") if since is None else self.intents.delta("", since)
            octets = master_to_wire(whole).SerializeToString()
            said = whole.networks or whole.networks_gone or whole.filters or whole.filters_gone
            self._encoded[since] = octets, bool(said)
        return self._encoded[since]


_SHARED: Mapping[str, Any] = dict.fromkeys(
    ("networks", "networks_gone", "filters", "filters_gone"), ()
)
"""The parts of intent that all hosts share, left out."""


def _parts(change: RemotesChanged) -> Iterator[RemotesChanged]:
    """Yield a delta in pieces of a bounded size; what replaces everything has to be whole."""
    if change.full:
        yield change
        return
    for at in range(0, max(len(change.added), len(change.removed)), BATCH):
        piece = slice(at, at + BATCH)
        yield RemotesChanged(False, change.added[piece], change.removed[piece])


def _encoded(change: MembersChanged | RemotesChanged) -> bytes:
    if not (change.full or change.added or change.removed):
        return b""
    return master_to_wire(change).SerializeToString()
