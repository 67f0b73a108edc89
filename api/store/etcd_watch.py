"""A watch on an etcd cluster that goes on where it was, whatever member or connection dies."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import TypeAlias

from grpc import aio

from netfabric.api.store.base import Batch
from netfabric.api.store.etcd_call import LOGINS, Caller, Delays
from netfabric.api.store.etcd_fault import Fault, fault_of, meaning_of
from netfabric.api.store.etcd_key import entry_of, prefix_range
from netfabric.fabric.errors import CompactedError, UnavailableError
from netfabric.proto import etcd_pb2 as pb

Stream: TypeAlias = aio.StreamStreamCall[pb.WatchRequest, pb.WatchResponse]


class Watch:
    """The changes under a prefix. `reached` is the revision up to which everything has been yielded."""

    def __init__(self, caller: Caller, prefix: str, after: int) -> None:
        self._caller = caller
        self._prefix = prefix
        self.reached = after
        self._deadline = caller.deadline
        self._delays = Delays()
        self._logins = LOGINS
        self._said = ""

    async def batches(self) -> AsyncGenerator[Batch]:
        """Yield one batch a transaction, in order, once; and an empty one for what was elsewhere.

        Raises CompactedError; UnavailableError where no member watches within the driver's timeout;
        UnauthorizedError.
        """
        while True:
            member = await self._caller.connected(self._deadline, self._said)
            token = self._caller.token
            stream: Stream = member.watch.Watch(metadata=self._caller.metadata)
            try:
                await self._begin(stream)
                while True:
                    for batch in self._batches_of(await self._whole(stream)):
                        self.reached = batch.revision
                        yield batch
            except aio.AioRpcError as error:
                await self._mend(fault_of(error, self._caller.settings), error.details(), token)
                self._caller.members.avoid(member)
            except _RefusedError as error:
                await self._mend(error.fault, error.said, token)
            finally:
                stream.cancel()
            await self._delays.pause()

    async def _begin(self, stream: Stream) -> None:
        """Ask for what comes after `reached`, and wait until the member watches."""
        key, end = prefix_range(self._prefix)
        create = pb.WatchCreateRequest(
            key=key,
            range_end=end,
            start_revision=self.reached + 1,
            progress_notify=True,
            fragment=True,
        )
        try:
            async with asyncio.timeout_at(self._deadline):
                with self._closing():
                    await stream.write(pb.WatchRequest(create_request=create))
                created = await self._read(stream)
        except TimeoutError:
            raise self._caller.unavailable(self._said or "no watch") from None
        if created.header.revision < self.reached:
            await self._require_future()
        self._deadline, self._logins = float("inf"), LOGINS
        self._delays.reset()

    async def _require_future(self) -> None:
        """A member may lag behind what we saw; the cluster may not, unless its data were put back."""
        now = (await self._caller.header()).revision
        if now < self.reached:
            raise CompactedError(
                f"{self._caller.settings}: is at revision {now}, and was at {self.reached}",
                "its data were replaced: list again",
            )

    async def _whole(self, stream: Stream) -> pb.WatchResponse:
        """Return the next response with all its fragments."""
        whole = part = await self._read(stream)
        while part.fragment:
            part = await self._read(stream)
            whole.events.extend(part.events)
        return whole

    async def _read(self, stream: Stream) -> pb.WatchResponse:
        with self._closing():
            response = await stream.read()
        if not isinstance(response, pb.WatchResponse):  # the stream has ended
            raise _RefusedError(Fault.UNKNOWN, "the watch ended")
        if response.compact_revision:
            raise CompactedError(
                f"{self._prefix}: history up to {response.compact_revision} is gone", "list again"
            )
        if response.canceled:
            raise _RefusedError(self._fault_of(response), response.cancel_reason)
        return response

    @contextmanager
    def _closing(self) -> Iterator[None]:
        """Closing the store cancels the call, not the task that reads: that one gets an error."""
        try:
            yield
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise UnavailableError(f"{self._caller.settings}: was closed", "open it") from None

    def _fault_of(self, response: pb.WatchResponse) -> Fault:
        """etcd 3.4 says "permission denied" also where a member has forgotten a token."""
        if "permission denied" not in response.cancel_reason:
            return Fault.UNKNOWN
        return Fault.LOGIN if self._caller.token and self._logins else Fault.FINAL

    async def _mend(self, fault: Fault, said: str | None, token: str) -> None:
        """Make the next attempt possible; raise where there is none."""
        self._said = said or "the connection broke"
        if self._deadline == float("inf"):
            self._deadline = self._caller.deadline
        if fault is Fault.LOGIN:
            self._logins -= 1
            await self._caller.login(token)
        elif fault is Fault.FINAL:
            raise meaning_of(self._said, self._caller.settings)

    def _batches_of(self, response: pb.WatchResponse) -> Iterator[Batch]:
        """A response has whole transactions; the events of one have the same revision.

        The header's revision counts only where there are no events: a member that catches up puts the
        newest one on every part of the history.
        """
        for revision, events in groupby(response.events, lambda event: event.kv.mod_revision):
            if revision > self.reached:
                yield _batch(revision, list(events))
        if not response.events and response.header.revision > self.reached:
            yield Batch(response.header.revision, (), ())


class _RefusedError(Exception):
    """A member ended the watch, and the connection lives on."""

    def __init__(self, fault: Fault, said: str) -> None:
        super().__init__(said)
        self.fault = fault
        self.said = said


def _batch(revision: int, events: list[pb.Event]) -> Batch:
    puts = tuple(entry_of(event.kv) for event in events if event.type == pb.Event.PUT)
    deletes = tuple(event.kv.key.decode() for event in events if event.type == pb.Event.DELETE)
    return Batch(revision, puts, deletes)
