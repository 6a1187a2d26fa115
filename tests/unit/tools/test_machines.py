"""The drawings of the machines are those of the tables in the code."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]


def load_tool() -> ModuleType:
    """The tool as a module; tools/ is no package."""
    spec = importlib.util.spec_from_file_location("machines", ROOT / "tools" / "machines.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES: dict[str, str] = load_tool().pages()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_committed_page_is_what_the_tool_writes(name: str) -> None:
    committed = ROOT / "docs" / "machines" / name

    assert committed.read_text() == PAGES[name], "run: .venv/bin/python tools/machines.py"


def test_no_page_is_left_from_a_machine_that_is_gone() -> None:
    assert {path.name for path in (ROOT / "docs" / "machines").iterdir()} == set(PAGES)
