"""Tasks started again when they fail, and what the operator reads meanwhile."""

import asyncio

import pytest

from netfabric.agent import supervisor
from netfabric.agent.supervisor import keep
from netfabric.agent.warnings import LIMIT, Warnings
from netfabric.fabric.errors import KernelError


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "BACKOFF", (0.001, 0.01))


async def test_a_failing_task_is_started_again() -> None:
    warnings, seen = Warnings(), list[str]()

    async def run() -> None:
        seen.append(warnings.all().get("x", ""))
        if len(seen) == 1:
            raise KernelError("it broke", "mend it")
        if len(seen) == 2:
            raise ExceptionGroup("g", [ZeroDivisionError("a defect")])

    complaints: list[str] = []

    def complain(subject: str, text: str) -> None:
        complaints.append(text)
        warnings.put(subject, text)

    await asyncio.wait_for(keep("x", run, complain), 5)
    assert seen == ["", "", ""]
    assert complaints[0].startswith("it broke: mend it")
    assert "a defect" in complaints[2]
    assert warnings.all() == {}


async def test_a_cancelled_task_ends() -> None:
    async def run() -> None:
        await asyncio.sleep(60)

    task = asyncio.ensure_future(keep("x", run, lambda *_: None))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_warnings_are_bounded() -> None:
    warnings = Warnings()
    for number in range(LIMIT + 10):
        warnings.put(str(number), "x")
    assert len(warnings.all()) == LIMIT
    warnings.put("0", "")
    warnings.put("new", "y")
    assert warnings.all()["new"] == "y"
