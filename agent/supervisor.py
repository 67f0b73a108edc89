"""Tasks that an agent can do without for a moment: started again when they fail."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger(__name__)

BACKOFF = (0.5, 10.0)
"""Seconds before a task is started again: at first, and at most."""
LASTING = 60.0
"""Seconds after which a task counts as having worked."""


async def keep(
    name: str, run: Callable[[], Awaitable[None]], complain: Callable[[str, str], None]
) -> None:
    """Run something until it returns or is cancelled, again and again while it fails."""
    loop = asyncio.get_running_loop()
    pause = BACKOFF[0]
    while True:
        began = loop.time()
        try:
            await run()
            return
        except Exception as error:
            log.error("a part of the agent failed", part=name, exc_info=error)
            complain(name, f"{_words(error)}; it is tried again")
        if loop.time() - began > LASTING:
            pause = BACKOFF[0]
        await asyncio.sleep(pause)
        pause = min(2 * pause, BACKOFF[1])
        complain(name, "")


def _words(error: BaseException) -> str:
    """Return an error's words; of a group, the first one's."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or repr(error)
