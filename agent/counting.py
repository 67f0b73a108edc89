"""Rules' counters read beside everything else: thousands take a while, and nobody waits for them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from netfabric.agent.datapath.base import Datapath
from netfabric.fabric.errors import FabricError
from netfabric.fabric.events import Counted, Event
from netfabric.fabric.session import RuleCount

_SUBJECT = "rule counters"


class CountingThread:
    """Reads in a thread of its own, and posts what it found in the event loop's."""

    def __init__(
        self,
        datapath: Datapath,
        post: Callable[[Event], None],
        complain: Callable[[str, str], None],
    ) -> None:
        """`complain(subject, text)` tells of a reading that failed; an empty text takes it back."""
        self._datapath = datapath
        self._post = post
        self._complain = complain
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="counting")
        self._reading: asyncio.Future[tuple[RuleCount, ...]] | None = None

    def count(self, groups: tuple[str, ...]) -> None:
        """Have groups' rules read, unless a reading is under way."""
        if self._reading is None:
            loop = asyncio.get_running_loop()
            self._reading = loop.run_in_executor(self._thread, self._datapath.count, groups)
            self._reading.add_done_callback(self._done)

    def _done(self, reading: "asyncio.Future[tuple[RuleCount, ...]]") -> None:
        self._reading = None
        if reading.cancelled():
            return
        error = reading.exception()
        if error is not None and not isinstance(error, FabricError):
            raise error
        self._complain(_SUBJECT, str(error) if error else "")
        if error is None:
            self._post(Counted(reading.result()))

    def close(self) -> None:
        """Finish the reading under way."""
        self._thread.shutdown(wait=True, cancel_futures=True)
