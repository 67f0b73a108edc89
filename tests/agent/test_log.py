"""The log: a line an event, and no reason to end where it cannot be written."""

import json
import subprocess
import sys

import pytest

SAY = "from netfabric.agent import log; import structlog; log.configure('info', {form!r});"
SAY += "structlog.get_logger().info('hello', host='h1'); structlog.get_logger().debug('unheard');"
SAY += "print('done')"


def _say(form: str, **more: object) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-c", SAY.replace("{form!r}", repr(form))]
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=20, check=False, **more)  # type: ignore[call-overload,no-any-return]


def test_text_and_json() -> None:
    said = _say("json", stderr=subprocess.PIPE).stderr
    found = json.loads(said)
    assert (found["event"], found["host"], found["level"]) == ("hello", "h1", "info")
    said = _say("text", stderr=subprocess.PIPE).stderr
    assert "hello" in said
    assert "host=h1" in said
    assert "unheard" not in said


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_full_disk_ends_nothing(form: str) -> None:
    """Python itself may exit with 120 afterwards, for what it could not flush at the very end."""
    with open("/dev/full", "w") as full:
        assert _say(form, stderr=full).stdout == "done\n"
