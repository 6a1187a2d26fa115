"""Shared by all tests: this file's folder is on the import path, so that they can `import factories`."""

import sys
from collections.abc import Iterator

import pytest
import structlog

RECURSION_LIMIT = sys.getrecursionlimit()


@pytest.fixture(autouse=True)
def _python_as_it_is_in_production() -> None:
    """Undo what py_ecc, a dependency of the eth-account oracle, does when imported: it lifts Python's
    recursion limit to 100,000, and then deeply nested JSON ends the process instead of being refused."""
    if sys.getrecursionlimit() >= 100_000:
        sys.setrecursionlimit(RECURSION_LIMIT)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Undo what a command that runs within the tests, as the simulator's, sets up for its process."""
    yield
    structlog.reset_defaults()
