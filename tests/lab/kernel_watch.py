"""What a namespace's kernel says it changed, with the time: the proof that nothing, or something, was done."""

import select
import socket
import threading
import time
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Self

from netfabric.agent.datapath import link, neighbour, nexthop
from netfabric.agent.datapath.link import Link
from netfabric.agent.datapath.message import (
    RTM_DELLINK,
    RTM_DELNEIGH,
    RTM_DELNEXTHOP,
    RTM_DELROUTE,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    RTM_NEWNEXTHOP,
    RTM_NEWROUTE,
    Received,
    attributes,
    messages,
)
from netfabric.agent.datapath.netlink import subscribe
from netfabric.fabric.prefix import Prefix
from netfabric.lab.namespace import Namespace

_GROUPS = (1, 3, 7, 11, 32)
"""RTNLGRP_ LINK, NEIGH, IPV4_ROUTE, IPV6_ROUTE, NEXTHOP."""
_RTA_DST, _MAIN_TABLE = 1, 254
_SO_RCVBUFFORCE = 33


@dataclass(frozen=True, slots=True)
class Change:
    """One notification, on arrival."""

    time: float
    """Monotonic seconds."""
    what: str
    """"route", "link", "neighbour" or "nexthop"."""
    gone: bool
    prefix: Prefix | None = None
    """Of a route in the main table."""
    link: Link | None = None
    protocol: int = 0
    """Of a route or nexthop: who made it."""


class KernelWatch:
    """Collects a namespace's changes while it is entered. Neighbours that the kernel learns by itself are left out."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._changes: list[Change] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch {namespace.name}")

    def __enter__(self) -> Self:
        with self._namespace.entered():
            self._socket = subscribe(_GROUPS)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    @property
    def changes(self) -> list[Change]:
        """Return what has been seen so far, in order."""
        return list(self._changes)

    def first(self, prefix: Prefix, gone: bool, after: float = 0.0) -> float | None:
        """Return when a route to a prefix first came (or went) after a time, or None."""
        times = (
            change.time
            for change in self._changes
            if change.prefix == prefix and change.gone == gone and change.time >= after
        )
        return next(times, None)

    def wait(self, prefix: Prefix, gone: bool, timeout: float = 10.0, after: float = 0.0) -> float:
        """Wait for a route to come or go; return when it did, raise TimeoutError."""
        end = time.monotonic() + timeout
        while (seen := self.first(prefix, gone, after)) is None:
            if time.monotonic() > end:
                state = "stays" if gone else "does not come"
                raise TimeoutError(f"{self._namespace.name}: the route to {prefix} {state}")
            self._ended.wait(0.002)
        return seen

    def _run(self) -> None:
        while not self._ended.is_set():
            if select.select([self._socket], [], [], 0.05)[0]:
                now = time.monotonic()
                found = (
                    _change(received, now) for received in messages(self._socket.recv(1 << 16))
                )
                self._changes += [change for change in found if change]


def _change(received: Received, now: float) -> Change | None:
    body = received.body
    match received.kind:
        case kind if kind in (RTM_NEWROUTE, RTM_DELROUTE):
            return _route(body, kind == RTM_DELROUTE, now)
        case kind if kind in (RTM_NEWLINK, RTM_DELLINK):
            return Change(now, "link", kind == RTM_DELLINK, link=link.parse(body))
        case kind if kind in (RTM_NEWNEXTHOP, RTM_DELNEXTHOP):
            found = nexthop.parse(body)
            return Change(now, "nexthop", kind == RTM_DELNEXTHOP, protocol=found.protocol)
        case kind if kind in (RTM_NEWNEIGH, RTM_DELNEIGH) and neighbour.parse(body):
            return Change(now, "neighbour", kind == RTM_DELNEIGH)
    return None


def _route(body: bytes, gone: bool, now: float) -> Change | None:
    family, length, table, protocol = body[0], body[1], body[4], body[5]
    if table != _MAIN_TABLE:
        return None
    destination = attributes(body, 12).get(_RTA_DST, bytes(4 if family == socket.AF_INET else 16))
    form = IPv4Network if family == socket.AF_INET else IPv6Network
    return Change(now, "route", gone, prefix=form((destination, length)), protocol=protocol)
