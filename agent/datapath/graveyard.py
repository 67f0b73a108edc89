"""Detached links on their way out: cut off at once, removed together a moment later.

The kernel takes some 15 ms to remove one link and 60 for thirty-two, and nobody else can change
a link meanwhile. So a detached link loses its routes, its name and its mark, and waits in a group.
"""

import threading
from collections.abc import Sequence

from netfabric.agent.datapath import link
from netfabric.agent.datapath.link import GRAVES, Link
from netfabric.agent.datapath.message import Message
from netfabric.agent.datapath.netlink import Netlink
from netfabric.fabric.errors import KernelError

BATCH = 32
"""Links removed at once; bounds how long an ADD may have to wait (about 60 ms)."""
DELAY = 0.05
"""Seconds that the first of a batch waits for others."""


class Graveyard:
    """Removes what `burial` has put into its groups, in a thread with a socket of its own."""

    def __init__(self, netlink: Netlink) -> None:
        """Take over `netlink`, a socket in the host's namespace."""
        self._netlink = netlink
        self._lock = threading.Lock()
        self._count = 0
        self._filled: set[int] = set()
        self._latest: int | None = None
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def burial(self, index: int, before: Sequence[Message] = ()) -> list[Message]:
        """Return the requests that cut a link off, after `before`; follow them with `kick`.

        It leaves our group first, so that who listens knows that what follows is meant.
        The order also suits kernels before 6.2, which rename no link that is up.
        """
        with self._lock:
            self._latest = group = GRAVES[self._count // BATCH % len(GRAVES)]
            self._count += 1
        return [
            link.change(index, link.grouped(group)),
            *before,
            link.set_down(index),
            link.change(index, link.renamed(f"nfx{index:x}")),
        ]

    def found(self, links: Sequence[Link]) -> None:
        """Take links that an earlier process left in the groups."""
        groups = {one.group for one in links if one.buried}
        if groups:
            with self._lock:
                self._filled |= groups
            self.kick()

    def kick(self) -> None:
        """Have everything removed soon. Only now: a sweep before the burial was sent finds nothing."""
        with self._lock:
            if self._latest is not None:
                self._filled.add(self._latest)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="graveyard", daemon=True)
            self._thread.start()
        self._wake.set()

    def sweep(self) -> None:
        """Remove everything now (some 20 ms a batch)."""
        with self._lock:
            groups, self._filled = self._filled, set()
        for group in sorted(groups):
            # ENODEV: empty already, since the containers' namespaces are gone.
            self._netlink.send([link.delete_group(group)])

    def close(self) -> None:
        """Stop after what is being removed; the rest is found by the next process."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self._netlink.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait()
            self._stop.wait(DELAY)
            self._wake.clear()
            try:
                self.sweep()
            except KernelError:
                continue  # an audit finds what is left
