"""A netmaster at work: store, mirror, REST, control; started in order, stopped in time."""

import asyncio
import contextlib
import random
import signal
from collections.abc import Awaitable, Callable, Iterator

import structlog

from netfabric.api.bootstrap import bootstrap
from netfabric.api.mirror import Mirror
from netfabric.api.rest.app import make_app
from netfabric.api.rest.site import listening
from netfabric.api.rest.writer import Writer
from netfabric.api.settings import Settings, StoreSettings
from netfabric.api.standing import Alone, own_address
from netfabric.api.store.base import Store
from netfabric.api.store_choice import make_store
from netfabric.api.version import version_info
from netfabric.fabric.errors import UnavailableError

RETRY = (0.2, 5.0)
"""Seconds between attempts to reach a store that does not answer: first, and at most."""
log = structlog.get_logger()


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; raise a FabricError where we cannot begin."""
    for note in settings.notes:
        log.warning(note)
    store = make_store(settings.store)
    mirror = Mirror(store)
    writer = Writer(store, mirror, settings.cluster_mode)
    app = make_app(writer, Alone(own_address(settings)))
    with _signals() as stop, _unwrapped():
        async with listening(app, settings.rest) as rest, asyncio.TaskGroup() as tasks:
            log.info("listening", rest=str(rest), version=version_info()["Version"])
            work = tasks.create_task(_work(settings, store, mirror, writer))
            await stop.wait()
            log.info("stopping")
            work.cancel()
    log.info("stopped")


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


async def _work(settings: Settings, store: Store, mirror: Mirror, writer: Writer) -> None:
    """Open the store and follow it, until cancelled."""
    await _open(store, settings.store)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(mirror.run())
            await mirror.listed.wait()
            await _patiently(lambda: bootstrap(writer, settings))
            log.info("ready", name=settings.name, store=str(settings.store))
    finally:
        await store.close()


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
