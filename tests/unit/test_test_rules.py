"""Rules of the tests themselves, beside those that ruff checks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parents[1]
FILES = [path for path in sorted(TESTS.rglob("*.py")) if path != Path(__file__)]


def test_no_test_changes_a_module_under_running_code() -> None:
    """Pass a parameter, or use the in-memory twin (CONTRIBUTING.md)."""
    words = ("monkeypatch.setattr", "monkeypatch.setitem", "mocker.", "unittest.mock")

    assert [(path.name, word) for path in FILES for word in words if word in path.read_text()] == []


def test_every_file_of_tests_has_a_name_of_its_own() -> None:
    """They are imported by their names."""
    names = Counter(path.name for path in FILES if path.name not in ("conftest.py", "__init__.py"))

    assert [name for name, count in names.items() if count > 1] == []
