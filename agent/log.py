"""How an agent logs: one line an event on standard error, as text or as JSON."""

import logging
import sys
from contextlib import suppress
from typing import Any, TextIO

import structlog

from netfabric.agent.settings import LogFormat

LEVELS = ("debug", "info", "warning", "error")


class Forgiving:
    """A text file that loses what cannot be written: a full disk under the log must not end the agent."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """Write, or drop."""
        with suppress(OSError):
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or drop."""
        with suppress(OSError):
            self._file.flush()


def configure(level: str, form: LogFormat) -> None:
    """Send events, from `level` on, to standard error; libraries only from warnings on."""
    last: Any = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(),
        pad_event_to=0,
        exception_formatter=structlog.dev.plain_traceback,
    )
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if form == "json":
        processors.append(structlog.processors.format_exc_info)
        last = structlog.processors.JSONRenderer(sort_keys=True)
    stderr: Any = Forgiving(sys.stderr)
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*processors, last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(number, logging.WARNING), stream=stderr, force=True)
