"""How netmaster logs: one line an event on standard error, as text or as JSON."""

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from netfabric.api.settings import LogFormat

LEVELS = ("debug", "info", "warning", "error")


def configure(level: str, form: LogFormat) -> None:
    """Send our events and those of the libraries to standard error, from `level` on.

    Before gRPC is imported: its core writes lines of its own there, which only `debug` lets through.
    """
    if level != "debug":
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    shared: list[Any] = [structlog.stdlib.add_log_level, stamp]
    last: Any = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    if form == "json":
        shared.append(structlog.processors.format_exc_info)
        last = structlog.processors.JSONRenderer(sort_keys=True)
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _library],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)


def _library(logger: Any, _: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Say which library speaks."""
    return {**event, "library": getattr(logger, "name", "")}
