"""The datapath's own thread: kernel work beside the event loop, in the order in which it was decided."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeAlias, TypeVar

import structlog

from netfabric.agent.datapath.base import Datapath
from netfabric.fabric.effects import Attach, Audit, Detach, Filter, Program
from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.errors import FabricError, KernelError
from netfabric.fabric.events import (
    Attached,
    Detached,
    Event,
    Filtered,
    KernelObserved,
    Programmed,
    UplinksChanged,
)
from netfabric.fabric.kernel import KernelState, Operation, Uplink, key_of
from netfabric.fabric.ruleset_plan import Transaction

log = structlog.get_logger(__name__)

KernelEffect: TypeAlias = Attach | Detach | Program | Filter | Audit
AGAIN = 1.0
"""Seconds after which uplinks that could not be read are read again."""
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class DatapathThread:
    """Performs effects one after the other and posts their outcomes in the event loop's thread.

    One thread, since the order an endpoint's effects were decided in is the order they must be seen in,
    and since the kernel serialises them anyway.
    """

    def __init__(
        self,
        datapath: Datapath,
        post: Callable[[Event], None],
        complain: Callable[[str, str], None],
    ) -> None:
        """`complain(subject, text)` tells of an audit that failed; an empty text takes it back."""
        self._datapath = datapath
        self._post = post
        self._complain = complain
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="datapath")
        self._gathered: list[Operation] = []
        self._auditing = False
        self._closed = False
        self.audits = 0
        """Readings of the kernel so far."""

    def perform(self, effect: KernelEffect) -> None:
        """Have an effect performed; `flush` must follow soon. Programs without others between are one."""
        match effect:
            case Program(operations):
                self._gathered += operations
            case Filter(rules):
                self._filter(rules)
            case Attach(endpoint, rules):
                self.flush()
                filtering = self._filter(rules) if rules is not None else None
                self._start(
                    lambda: self._attach(endpoint, filtering),
                    lambda done: self._post(
                        Attached(endpoint.key, _error(done, f"endpoint {endpoint.key}"))
                    ),
                )
            case Detach(endpoint):
                self.flush()
                self._start(
                    lambda: self._datapath.detach(endpoint),
                    lambda done: self._post(
                        Detached(endpoint.key, _error(done, f"endpoint {endpoint.key}"))
                    ),
                )
            case Audit():
                self._audit()

    def _attach(self, endpoint: Endpoint, filtering: Future[None] | None) -> None:
        """Attach under rules that are in force: with those that failed it fails."""
        if filtering is not None:
            filtering.result()
        self._datapath.attach(endpoint)

    def _filter(self, rules: Transaction) -> Future[None]:
        self.flush()
        return self._start(lambda: self._datapath.filter(rules), self._filtered)

    def _filtered(self, done: Future[None]) -> None:
        error = _error(done, "packet filter")
        if error is not None:
            self._post(Filtered(error))

    def flush(self) -> None:
        """Have the gathered operations carried out."""
        operations, self._gathered = tuple(self._gathered), []
        if not operations:
            return

        def report(done: Future[tuple[tuple[tuple[str, str], FabricError], ...]]) -> None:
            error = _error(done, "kernel")
            failures = (
                tuple((key_of(o.thing), error) for o in operations) if error else done.result()
            )
            if failures:
                self._post(Programmed(failures))

        self._start(lambda: self._datapath.apply(operations), report)

    def _audit(self) -> None:
        """Read the kernel, unless that is about to be done already."""
        if self._auditing:
            return
        self._auditing = True
        self.flush()

        def observe() -> KernelState:
            # What changes from here on may be missed, and asks for a reading of its own.
            self._auditing = False
            return self._datapath.observe()

        def report(done: Future[KernelState]) -> None:
            error = _error(done, "audit")
            self._complain("audit", str(error) if error else "")
            if error is None:
                self.audits += 1
                self._post(KernelObserved(done.result()))

        self._start(observe, report)

    def read_uplinks(self) -> None:
        """Have the host's own addresses read and posted; again, as long as that fails."""
        if self._closed:
            return
        self.flush()

        def report(done: Future[tuple[Uplink, ...]]) -> None:
            error = _error(done, "uplinks")
            self._complain("uplinks", str(error) if error else "")
            if error is None:
                self._post(UplinksChanged(done.result()))
            else:
                asyncio.get_running_loop().call_later(AGAIN, self.read_uplinks)

        self._start(self._datapath.uplinks, report)

    def _start(
        self, work: Callable[[], _Result], then: Callable[[Future[_Result]], object]
    ) -> Future[_Result]:
        loop = asyncio.get_running_loop()

        def ended(done: Future[_Result]) -> None:
            if not (done.cancelled() or loop.is_closed()):
                loop.call_soon_threadsafe(then, done)

        started = self._thread.submit(work)
        started.add_done_callback(ended)
        return started

    async def ask(
        self,
        question: Callable[_Arguments, _Result],
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> _Result:
        """Return what a blocking call of the datapath's returns, in its turn."""
        self.flush()
        return await asyncio.wrap_future(self._thread.submit(question, *args, **kwargs))

    def close(self) -> None:
        """Finish the call under way, and nothing more."""
        self._closed = True
        self._thread.shutdown(wait=True, cancel_futures=True)


def _error(done: Future[_Result], what: str) -> FabricError | None:
    """Return how a call failed; what is no FabricError is a bug, and says so."""
    error = done.exception()
    if error is None or isinstance(error, FabricError):
        return error
    log.error("the datapath failed in a way nobody foresaw", subject=what, exc_info=error)
    return KernelError(f"{what}: {error!r}", "report it, with the agent's log")
