"""A call to an etcd cluster: on a connected member, as a user, again where that is safe, within a time."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import grpc
from grpc import aio

from netfabric.api.store.base import ROOT
from netfabric.api.store.etcd_channel import EtcdSettings, Member, Members
from netfabric.api.store.etcd_fault import Fault, fault_of, meaning_of
from netfabric.fabric.errors import UnavailableError
from netfabric.proto import etcd_pb2 as pb

Request = TypeVar("Request")
Answer = TypeVar("Answer")
Metadata: TypeAlias = tuple[tuple[str, str], ...]

_PAUSE = (0.02, 0.3)
"""Seconds before another attempt: first, and at most."""
LOGINS = 3
"""A token just given must be known to the next member asked; a lagging one may need another."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What goes with an attempt: how many seconds it has, and who asks."""

    seconds: float
    metadata: Metadata


Attempt: TypeAlias = Callable[[Member, Terms], Awaitable[Answer]]


class Caller:
    """The way to a cluster. Errors that leave it are FabricErrors, and name the endpoints."""

    def __init__(self, settings: EtcdSettings) -> None:
        self.settings = settings
        self._members: Members | None = None
        self._token = ""
        self._logging_in = asyncio.Lock()

    def open(self) -> None:
        """Make the channels; nothing is sent yet."""
        self._members = Members(self.settings)

    async def close(self) -> None:
        """End all connections."""
        members, self._members, self._token = self._members, None, ""
        if members is not None:
            await members.close()

    @property
    def members(self) -> Members:
        """Return the members; raise UnavailableError before `open` and after `close`."""
        if self._members is None:
            raise UnavailableError(f"{self.settings}: not open", "open the store first")
        return self._members

    @property
    def deadline(self) -> float:
        """Return when a call that starts now must have ended, by the event loop's clock."""
        return asyncio.get_running_loop().time() + self.settings.timeout

    async def ask(
        self,
        method: Callable[[Member], aio.UnaryUnaryMultiCallable[Request, Answer]],
        request: Request,
        *,
        again: bool,
    ) -> Answer:
        """Do `call` with a method that has one request and one answer."""
        return await self.call(
            lambda member, terms: method(member)(
                request, timeout=terms.seconds, metadata=terms.metadata
            ),
            again=again,
        )

    async def call(self, attempt: Attempt[Answer], *, again: bool) -> Answer:
        """Return the answer; `again` says that it does no harm if the call happens twice.

        Raises UnavailableError; without `again` that leaves open whether it happened.
        """
        return await self._call(attempt, again, LOGINS)

    async def _call(self, attempt: Attempt[Answer], again: bool, logins: int) -> Answer:
        deadline, delays, said = self.deadline, Delays(), ""
        while True:
            member = await self.connected(deadline, said)
            token = self._token
            try:
                return await attempt(member, Terms(self._patience(deadline, again), self.metadata))
            except aio.AioRpcError as error:
                fault, said = fault_of(error, self.settings), error.details() or str(error.code())
            if fault is Fault.LOGIN and logins:
                logins -= 1
                await self.login(token)
            elif fault in (Fault.NOT_DONE, Fault.UNKNOWN):
                self.members.avoid(member)
                if fault is Fault.UNKNOWN and not again:
                    raise self.unavailable(f"{said}; it may have happened all the same")
            else:
                raise meaning_of(said, self.settings)
            await delays.pause()

    def _patience(self, deadline: float, again: bool) -> float:
        """A silent member must leave time to ask another one."""
        left = deadline - asyncio.get_running_loop().time()
        return max(0.01, min(left, self.settings.timeout / 2) if again else left)

    async def connected(self, deadline: float, said: str = "") -> Member:
        """Return a connected member; raise UnavailableError, with what was said last, after the deadline."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await asyncio.sleep(0)  # where the time is over already
                return await self.members.connected()
        raise self.unavailable(said or await self.members.trouble() or "no connection")

    def unavailable(self, said: str) -> UnavailableError:
        """Return the error of a cluster that does not answer."""
        return UnavailableError(
            f"{self.settings}: no answer within {self.settings.timeout:g} s ({said})",
            "check that a majority of its members runs, its address, and its TLS settings",
        )

    async def header(self) -> pb.ResponseHeader:
        """Return whose history this is and how far it has come, by the word of a majority."""
        request = pb.RangeRequest(key=ROOT.encode(), keys_only=True)
        answer = await self.ask(lambda member: member.kv.Range, request, again=True)
        return answer.header

    @property
    def token(self) -> str:
        """Return the token that calls carry now, "" without one."""
        return self._token

    @property
    def metadata(self) -> Metadata:
        """Return what goes with each call; a member cut off from its leader shall refuse, not wait."""
        leader = (("hasleader", "true"),)
        return (*leader, ("token", self._token)) if self._token else leader

    async def login(self, worn: str) -> None:
        """Get a token in place of `worn`, unless another call did so meanwhile; raise UnauthorizedError."""
        async with self._logging_in:
            if self.settings.user and self._token == worn:
                self._token = ""  # a worn token would fail even this call
                self._token = await self._authenticate()

    async def _authenticate(self) -> str:
        request = pb.AuthenticateRequest(name=self.settings.user, password=self.settings.password)

        async def attempt(member: Member, terms: Terms) -> str:
            try:
                answer = await member.auth.Authenticate(
                    request, timeout=terms.seconds, metadata=terms.metadata
                )
            except aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.FAILED_PRECONDITION:  # etcd asks for no user
                    return ""
                raise
            return answer.token

        return await self._call(attempt, again=True, logins=0)


class Delays:
    """Growing pauses between attempts, with jitter."""

    def __init__(self) -> None:
        self._next = _PAUSE[0]

    async def pause(self) -> None:
        """Wait a little longer than the last time."""
        await asyncio.sleep(self._next * random.uniform(0.5, 1.0))
        self._next = min(2 * self._next, _PAUSE[1])

    def reset(self) -> None:
        """Start again with the shortest."""
        self._next = _PAUSE[0]
