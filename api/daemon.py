"""A netmaster at work: store, mirror, REST, control; started in order, stopped in time."""

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any, TypeAlias

import structlog

from netfabric.api.bootstrap import bootstrap
from netfabric.api.control import Control
from netfabric.api.mirror import Mirror
from netfabric.api.rest.app import make_app
from netfabric.api.rest.site import listening
from netfabric.api.rest.writer import Writer
from netfabric.api.settings import Listen, Settings, StoreSettings
from netfabric.api.standing import own_address
from netfabric.api.store.base import Store
from netfabric.api.store_choice import make_store
from netfabric.api.version import version_info
from netfabric.fabric.errors import InvalidError, UnavailableError

RETRY = (0.2, 5.0)
"""Seconds between attempts to reach a store that does not answer: first, and at most."""
FAREWELL = 1.5
"""Seconds that agents' sessions get at the end."""
Duty: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
log = structlog.get_logger()


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; raise a FabricError where we cannot begin."""
    for note in settings.notes:
        log.warning(note)
    netmaster = _Netmaster(settings)
    with _signals() as stop, _unwrapped():
        async with listening(netmaster.app, settings.rest) as rest, asyncio.TaskGroup() as tasks:
            log.info("listening", rest=str(rest), version=version_info()["Version"])
            agents = tasks.create_task(netmaster.control.serve(settings.grpc))
            work = tasks.create_task(netmaster.work(rest))
            await stop.wait()
            log.info("stopping")
            agents.cancel()  # first: it tells the store which hosts are no longer connected here
            await asyncio.wait([agents], timeout=FAREWELL)
            work.cancel()
    log.info("stopped")


class _Netmaster:
    """The parts of a netmaster, put together."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = make_store(settings.store)
        self._mirror = Mirror(self._store)
        self._writer = Writer(self._store, self._mirror, settings.cluster_mode)
        self.control = Control(
            self._store,
            self._mirror,
            self._writer,
            name=settings.name,
            address=own_address(settings),
        )
        self.app = make_app(self._writer, self.control.standing)

    async def work(self, rest: Listen) -> None:
        """Open the store, follow it, and take part in its control; until cancelled."""
        await _open(self._store, self._settings.store)
        try:
            async with self._kubernetes() as duties, asyncio.TaskGroup() as tasks:
                for duty in duties:
                    tasks.create_task(self.control.election.while_leading(duty))
                tasks.create_task(self._mirror.run())
                tasks.create_task(self.control.run())
                await self._mirror.listed.wait()
                await _patiently(lambda: bootstrap(self._writer, self._settings))
                await self.control.listening.wait()
                self._say_ready(rest)
        finally:
            await self._store.close()

    @contextlib.asynccontextmanager
    async def _kubernetes(self) -> AsyncIterator[list[Duty]]:
        """Yield what the leader has to do for Kubernetes, if it is asked for; raise InvalidError."""
        if not self._settings.kubernetes:
            yield []
            return
        try:  # its client takes its time to load, and is not everywhere
            from netfabric.api.kubernetes.access import load_access
            from netfabric.api.kubernetes.controller import Controller
        except ModuleNotFoundError as error:
            raise InvalidError(
                f"--kubernetes: {error}", "pip install 'netfabric[kubernetes]'"
            ) from None

        access = await load_access(self._settings.kubernetes)
        try:
            commits = self.control.hub.commits
            yield [Controller(access, self._mirror, commits, self._writer).run]
        finally:
            await access.close()

    def _say_ready(self, rest: Listen) -> None:
        settings = self._settings
        grpc = replace(settings.grpc, port=self.control.port)
        log.info(
            "ready",
            name=settings.name,
            store=str(settings.store),
            rest=str(rest),
            grpc=str(grpc),
        )


@contextlib.contextmanager
def _signals() -> Iterator[asyncio.Event]:
    """Yield an event that SIGTERM and SIGINT set."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    both = (signal.SIGTERM, signal.SIGINT)
    for number in both:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in both:
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def _unwrapped() -> Iterator[None]:
    """Raise the first error of a group itself: it is the one that ended us."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


async def _open(store: Store, settings: StoreSettings) -> None:
    """Open the store; wait for etcd as long as it takes, a file is there or is not."""
    if settings.scheme == "etcd":
        await _patiently(store.open)
    else:
        await store.open()


async def _patiently(call: Callable[[], Awaitable[None]]) -> None:
    """Call until the store answers, at a slowing pace."""
    delay = RETRY[0]
    while True:
        try:
            return await call()
        except UnavailableError as error:
            log.warning("waiting for the store", error=str(error))
        await asyncio.sleep(delay * random.uniform(0.5, 1.0))
        delay = min(2 * delay, RETRY[1])
