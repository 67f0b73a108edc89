"""Benches: the contract runs on both, the rest on the real kernel."""

from collections.abc import Iterator

import pytest

from tests.netns.datapath.bench import Bench, FakeBench, RealBench


@pytest.fixture
def real(worker_id: str) -> Iterator[RealBench]:
    """A host on the real kernel."""
    bench = RealBench(worker_id)
    try:
        yield bench
    finally:
        bench.close()


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.netns)])
def bench(request: pytest.FixtureRequest) -> Bench:
    """A host on the fake kernel, then on the real one."""
    if request.param == "fake":
        return FakeBench()
    found: RealBench = request.getfixturevalue("real")
    return found
