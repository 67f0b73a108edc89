"""What the kernel still does after it has said yes: a new pair carries packets only when that is done.

Two things are left to its workqueues. A link that is up has no queue, and drops what is sent on it, until
the link watch has seen its carrier. An IPv6 address, even without duplicate address detection, takes no
packet until its local route is there. Both wait behind whatever else changes links: milliseconds on a busy host.
"""

import time
from collections.abc import Callable
from functools import partial

from netfabric.agent.datapath import link, route
from netfabric.agent.datapath.netlink import Netlink
from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.prefix import Address

_PATIENCE, _PAUSE = 0.5, 0.0005
"""Seconds to wait for one of them at most, and between two looks."""


def settle(outer: tuple[Netlink, int], inner: tuple[Netlink, int], endpoint: Endpoint) -> None:
    """Wait until both ends of a pair (by socket and index) transmit, and the inner one receives.

    Linux 6.8 and later run the link watch when a link is asked for, so that mostly nothing is waited for.
    """
    _wait(partial(_transmits, *outer))
    _wait(partial(_transmits, *inner))
    for address in endpoint.addresses:
        if address.version == 6:
            _wait(partial(_receives, inner[0], address))


def _receives(within: Netlink, own: Address) -> bool:
    body = within.ask(route.look_up(own))
    return isinstance(body, bytes) and route.is_local(body)


def _transmits(netlink: Netlink, index: int) -> bool:
    body = netlink.ask(link.get_index(index))
    return not isinstance(body, bytes) or link.transmits(body)  # one that is gone is not waited for


def _wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not done() and time.monotonic() < deadline:
        time.sleep(_PAUSE)
