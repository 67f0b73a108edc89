"""What the operator should know now: one text a subject, logged when it changes."""

from collections.abc import Mapping

import structlog

log = structlog.get_logger(__name__)

LIMIT = 1000
"""Subjects kept; more are only logged."""


class Warnings:
    """Standing warnings, until taken back."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def put(self, subject: str, text: str) -> None:
        """Warn of a subject; an empty text takes it back."""
        before = self._texts.pop(subject, "")
        if text and len(self._texts) < LIMIT:
            self._texts[subject] = text
        if text != before:
            if text:
                log.warning(text, subject=subject)
            else:
                log.info("well again", subject=subject)

    def all(self) -> Mapping[str, str]:
        """Return the standing warnings by subject."""
        return dict(self._texts)
