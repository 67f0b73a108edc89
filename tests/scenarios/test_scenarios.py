from pathlib import Path

import pytest

from tests.scenarios.story import replay

HERE = Path(__file__).parent
SCENARIOS = sorted(path.parent for path in HERE.glob("*/events.yaml"))


@pytest.mark.parametrize("folder", SCENARIOS, ids=lambda folder: folder.name)
def test_it_goes_as_written(folder: Path, request: pytest.FixtureRequest) -> None:
    happened = replay(folder)
    expected = folder / "expected.txt"
    if request.config.getoption("--rewrite-scenarios", default=False):
        expected.write_text(happened)
    assert happened == expected.read_text()


def test_there_are_some() -> None:
    assert len(SCENARIOS) >= 5
