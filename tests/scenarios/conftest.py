"""`--rewrite-scenarios` writes what happened as what is expected: read the difference before it is committed."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-scenarios",
        action="store_true",
        help="write tests/scenarios/*/expected.txt anew instead of comparing",
    )
