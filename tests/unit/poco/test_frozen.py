"""`frozen.replace`: a faster `dataclasses.replace` that means the same."""

from __future__ import annotations

import dataclasses

import pytest

import factories as f
from poolwright.poco.errors import InvariantBroken
from poolwright.poco.frozen import replace
from poolwright.scheduler.replicate import created


def test_a_copy_differs_in_what_is_changed_and_in_nothing_else() -> None:
    task = f.revealing_task(f.ALICE, f.BOB)

    changed = replace(task, submitted=7, results=b"link")

    assert changed == dataclasses.replace(task, submitted=7, results=b"link")
    assert type(changed) is type(task)
    assert task == f.revealing_task(f.ALICE, f.BOB)


def test_a_copy_without_changes_is_equal_and_another_object() -> None:
    replicate = created(f.ALICE, 2, f.START)

    assert replace(replicate) == replicate
    assert replace(replicate) is not replicate


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(InvariantBroken, match="Replicate has no field 'colour'"):
        replace(created(f.ALICE, 2, f.START), colour="red")


def test_a_class_that_checks_itself_when_made_is_refused() -> None:
    @dataclasses.dataclass(frozen=True, slots=True)
    class Even:
        number: int
        other: int = 0

        def __post_init__(self) -> None:
            assert self.number % 2 == 0

    @dataclasses.dataclass(frozen=True)
    class Roomy:
        number: int
        other: int = 0

    for value in (Even(2), Roomy(2)):
        with pytest.raises(InvariantBroken, match="cannot be copied slot by slot"):
            replace(value, number=3)


def test_a_field_may_have_any_name() -> None:
    @dataclasses.dataclass(frozen=True, slots=True)
    class Odd:
        value: int
        new: int
        cls: int

    assert replace(Odd(1, 2, 3), value=4, new=5, cls=6) == Odd(4, 5, 6)
