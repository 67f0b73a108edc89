"""Counters are read beside everything else, and a reading that fails is said and tried again."""

import asyncio
import threading
from collections.abc import Sequence

from netfabric.agent.counting import CountingThread
from netfabric.fabric.events import Counted, Event
from netfabric.fabric.session import RuleCount
from tests.fabric.fake_kernel import FakeKernel

ONE = RuleCount("default:web", "in", "default", 1, 60)


class SlowKernel(FakeKernel):
    """Its counters are read when the test says so."""

    def __init__(self) -> None:
        super().__init__(counts=(ONE,))
        self.go = threading.Event()

    def count(self, groups: Sequence[str]) -> tuple[RuleCount, ...]:
        assert self.go.wait(10)
        self._may_fail()
        return FakeKernel.count(self, groups)


async def test_readings_one_at_a_time_and_failures() -> None:
    events: asyncio.Queue[Event] = asyncio.Queue()
    said: list[str] = []
    kernel = SlowKernel()
    thread = CountingThread(kernel, events.put_nowait, lambda _, text: said.append(text))
    try:
        for _ in range(3):
            thread.count(("default:web",))  # under way already: once is enough
        kernel.go.set()
        async with asyncio.timeout(10):
            assert await events.get() == Counted((ONE,))
        assert (kernel.operations, events.empty()) == (1, True)
        kernel.fail_next()
        thread.count(("default:web",))
        async with asyncio.timeout(10):
            while len(said) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            assert "told to fail" in said[-1]
            thread.count(("default:web",))
            assert await events.get() == Counted((ONE,))
        assert said[-1] == ""
    finally:
        kernel.go.set()
        thread.close()
