"""The kernel's own news: that the host's links changed, or that somebody touched what is ours."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from errno import ENOBUFS
from pathlib import Path

from netfabric.agent.datapath import address, link, neighbour, nexthop, route
from netfabric.agent.datapath.message import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELNEIGH,
    RTM_DELNEXTHOP,
    RTM_DELROUTE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    RTM_NEWNEXTHOP,
    RTM_NEWROUTE,
    Received,
    messages,
)
from netfabric.agent.datapath.namespace import inside, opened
from netfabric.agent.datapath.netlink import Netlink, subscribe
from netfabric.fabric.kernel import PROTOCOL

_GROUPS = (1, 3, 5, 7, 9, 11, 32)
"""RTNLGRP_ LINK, NEIGH, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE, NEXTHOP."""
_BUFFER = 64 << 10
_BURST = 64
"""Datagrams read before others get their turn."""
DELAY = 0.05
"""Seconds after the first piece of news until it is told, together with what follows."""


@dataclass(slots=True)
class News:
    """Sorts notifications: whose change it was, and what it touched. No I/O."""

    own: Collection[int]
    """Ports of sockets whose changes are our own doing."""
    ours: set[int] = field(default_factory=set)
    """Indexes of endpoints' links."""
    ports: set[int] = field(default_factory=set)
    """Those of them whose neighbours the kernel looks up itself."""
    carrying: dict[int, bool] = field(default_factory=dict)
    """Of other links: whether they are up with a carrier."""
    sizes: dict[int, int] = field(default_factory=dict)
    """Their MTUs."""
    uplinks: bool = False
    """The host's own links or addresses have changed."""
    touched: bool = False
    """Something of ours was changed by somebody else."""

    def take(self, received: Received) -> None:
        """Note what a notification says."""
        foreign = received.port not in self.own
        body = received.body
        match received.kind:
            case kind if kind in (RTM_NEWLINK, RTM_DELLINK):
                self._link(kind == RTM_DELLINK, body, foreign)
            case kind if kind in (RTM_NEWADDR, RTM_DELADDR):
                self.uplinks |= address.index_of(body) not in self.ours
            case kind if kind in (RTM_NEWROUTE, RTM_DELROUTE):
                self.touched |= foreign and route.protocol_of(body) == PROTOCOL
            case kind if kind in (RTM_NEWNEIGH, RTM_DELNEIGH):
                of_ours = neighbour.index_of(body) in self.ours - self.ports
                self.touched |= foreign and of_ours
            case kind if kind in (RTM_NEWNEXTHOP, RTM_DELNEXTHOP):
                self.touched |= foreign and nexthop.parse(body).ours

    def _link(self, gone: bool, body: bytes, foreign: bool) -> None:
        found = link.parse(body)
        if found.port:
            self.ports.add(found.index)
        else:
            self.ports.discard(found.index)
        if found.ours or found.port:
            self._our_link(found, gone, link.changed_flags(body), foreign)
        elif found.shaper:
            self.touched |= gone and foreign
        elif found.buried or found.index in self.ours:
            self.ours.discard(found.index)
            self.touched |= not found.buried
        else:
            self._other_link(found, gone)

    def _our_link(self, found: link.Link, gone: bool, changed: int, foreign: bool) -> None:
        known = found.index in self.ours
        self.ours.add(found.index)
        if gone:
            self.ours.discard(found.index)
            self.touched = True
        elif known and not found.up and changed & link.IFF_UP and foreign:
            self.touched = True

    def _other_link(self, found: link.Link, gone: bool) -> None:
        before = self.carrying.pop(found.index, False)
        size = self.sizes.pop(found.index, found.mtu)
        now = found.carrying and not gone
        if not gone:
            self.carrying[found.index] = now
            self.sizes[found.index] = found.mtu
        self.uplinks |= now and size != found.mtu
        if before != now:
            self.uplinks = True
            # With the carrier the kernel drops nexthops, and does not say so.
            self.touched |= before

    def lost(self) -> None:
        """Notifications were lost: anything may have changed."""
        self.uplinks = self.touched = True


class Monitor:
    """Calls back when something changed, a moment later and once for many changes."""

    def __init__(
        self,
        on_uplinks: Callable[[], None],
        on_touched: Callable[[], None],
        own: Collection[int] = (),
        namespace: str | Path | None = None,
    ) -> None:
        """Listen from now on, in the host's namespace (None: the process's own).

        `on_uplinks`: read `Datapath.uplinks` again. `on_touched`: audit, something of ours was changed.
        `own` are ports whose changes are not worth telling (`RoutedDatapath.port`).
        """
        self._on_uplinks = on_uplinks
        self._on_touched = on_touched
        if namespace is None:
            self._listen(own)
            return
        with opened(namespace) as descriptor, inside(descriptor, namespace):
            self._listen(own)

    def _listen(self, own: Collection[int]) -> None:
        self._socket = subscribe(_GROUPS)
        self._news = News(own)
        netlink = Netlink()
        for found in map(link.parse, netlink.dump(link.get_all())):
            if found.ours or found.port:
                self._news.ours.add(found.index)
            elif not found.buried:
                self._news.carrying[found.index] = found.carrying
                self._news.sizes[found.index] = found.mtu
        netlink.close()

    async def run(self) -> None:
        """Listen until cancelled."""
        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()
        loop.add_reader(self._socket.fileno(), self._read, arrived)
        try:
            while True:
                await arrived.wait()
                await asyncio.sleep(DELAY)
                arrived.clear()
                self._tell()
        finally:
            loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _read(self, arrived: asyncio.Event) -> None:
        for _ in range(_BURST):
            try:
                data = self._socket.recv(_BUFFER)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != ENOBUFS:
                    raise
                self._news.lost()
                continue
            for received in messages(data):
                self._news.take(received)
        if self._news.uplinks or self._news.touched:
            arrived.set()

    def _tell(self) -> None:
        news = self._news
        uplinks, touched = news.uplinks, news.touched
        news.uplinks = news.touched = False
        if uplinks:
            self._on_uplinks()
        if touched:
            self._on_touched()
