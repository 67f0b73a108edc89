"""Requests to /api/v1 and the answers that CONTIV.md promises, replayed to the byte.

replay/*.script: a request is `METHOD path [body]`, its answer follows, indented: `status body`. A body of an
error ends with one newline, which is not written. Each script begins with a new fabric, in `fwdMode` bridge
(which is where most of Contiv's fabrics are), unless its first line is `fwdMode routing`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from netfabric.api.settings import Settings

SCRIPTS = sorted((Path(__file__).parent / "replay").glob("*.script"))
LEAST = 150
"""Requests in all scripts together."""


@dataclass(frozen=True)
class Exchange:
    line: int
    method: str
    path: str
    body: str | None
    status: int
    answer: str


def exchanges(script: Path) -> Iterator[Exchange]:
    request: tuple[int, list[str]] | None = None
    for number, line in enumerate(script.read_text().splitlines(), 1):
        if not line.strip() or line.startswith(("#", "fwdMode")):
            continue
        if not line.startswith(" "):
            assert request is None, f"{script.name}:{number}: the request before has no answer"
            request = number, line.split(" ", 2)
            continue
        assert request is not None, f"{script.name}:{number}: an answer without a request"
        status, _, answer = line[2:].partition(" ")
        at, words = request
        body = words[2] if len(words) > 2 else None
        yield Exchange(at, words[0], words[1], body, int(status), answer)
        request = None
    assert request is None, f"{script.name}: the last request has no answer"


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    first = request.param.read_text().partition("\n")[0]
    return replace(settings, fwd_mode="routing" if first == "fwdMode routing" else "bridge")


@pytest.mark.parametrize("settings", SCRIPTS, indirect=True, ids=lambda path: path.stem)
async def test_replay(api: Any, request: pytest.FixtureRequest) -> None:
    script: Path = request.node.callspec.params["settings"]
    for exchange in exchanges(script):
        where = f"{script.name}:{exchange.line}"
        before = await api.stored()
        path = exchange.path if exchange.path.startswith("/") else f"/api/v1/{exchange.path}"
        answer = await api.call(exchange.method, path, exchange.body)
        assert (answer.status, answer.text.removesuffix("\n")) == (
            exchange.status,
            exchange.answer,
        ), where
        if answer.status == 200:
            assert answer.headers["Content-Type"] == "application/json", where
            assert answer.text.endswith("\n"), where
        else:
            assert answer.headers["Content-Type"] == "text/plain; charset=utf-8", where
            assert answer.headers["X-Content-Type-Options"] == "nosniff", where
            assert await api.stored() == before, f"{where}: refused, yet something was written"


def test_the_scripts_are_as_long_as_promised() -> None:
    assert sum(len(list(exchanges(script))) for script in SCRIPTS) >= LEAST
