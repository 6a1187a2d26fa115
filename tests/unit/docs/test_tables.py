"""The tables of docs/ name statuses and tests: what they name exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from poolwright.wire.statuses import ReplicateStatus

TESTS = Path(__file__).parents[2]
DOCS = TESTS.parent / "docs"
NODE = re.compile(r"`([\w/]+\.py)::(\w+)`")
NUMBERS_OF_WEAKNESSES = (14, 30, 15)
"""Rows of the three lists of the reference."""


@cache
def names_in(path: str) -> frozenset[str]:
    tree = ast.parse((TESTS / path).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def rows(page: str) -> list[list[str]]:
    """The cells of every row of the page's tables, their heads left out."""
    lines = [line for line in (DOCS / page).read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [each for each in cells if each[0] not in ("#", "status") and not each[0].startswith("---")]


@pytest.mark.parametrize("page", ["statuses.md", "weaknesses.md"])
def test_every_test_that_a_table_names_exists(page: str) -> None:
    named = NODE.findall((DOCS / page).read_text())

    missing = [f"{path}::{name}" for path, name in named if name not in names_in(path)]

    assert named
    assert missing == []


def test_every_status_has_its_row_with_who_enters_it_why_and_a_test() -> None:
    table = rows("statuses.md")

    assert [row[0] for row in table] == [status.value for status in ReplicateStatus]
    for status, mover, cause, test in table:
        assert set(mover.split(", ")) <= {"worker", "chain", "pool"}, status
        assert cause, status
        assert NODE.fullmatch(test), status


def test_every_weakness_has_its_row_and_a_test() -> None:
    table = rows("weaknesses.md")

    assert [int(row[0]) for row in table] == [
        number for count in NUMBERS_OF_WEAKNESSES for number in range(1, count + 1)
    ]
    for number, weakness, instead, test in table:
        assert weakness, number
        assert instead, number
        assert NODE.fullmatch(test), weakness
