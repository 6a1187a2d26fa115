"""How contributions add up and how many workers a task needs."""

from __future__ import annotations

import pytest

from poolwright.poco.consensus import (
    Consensus,
    is_reached,
    log2_weight,
    more_needed,
    weight,
    workers_needed,
)
from poolwright.poco.keccak import keccak
from poolwright.poco.types import Hash32

A, B = Hash32(keccak(b"a")), Hash32(keccak(b"b"))


@pytest.mark.parametrize(
    ("score", "expected"),
    [(0, 2), (11, 2), (12, 3), (14, 3), (15, 4), (17, 4), (27, 8), (51, 16), (300, 99)],
)
def test_weight_grows_by_one_every_three_points_of_score(score: int, expected: int) -> None:
    assert weight(score) == expected


@pytest.mark.parametrize(("its_weight", "expected"), [(2, 1), (3, 1), (4, 2), (16, 4), (99, 6)])
def test_reward_share_is_the_logarithm_rounded_down(its_weight: int, expected: int) -> None:
    assert log2_weight(its_weight) == expected


def test_agreeing_weights_multiply_and_groups_add() -> None:
    tally = Consensus().add(A, 2).add(A, 3).add(B, 4)

    assert tally.groups == {A: 6, B: 4}
    assert tally.total == 11


def test_dropped_group_starts_again_from_nothing() -> None:
    tally = Consensus().add(A, 2).add(B, 4).drop(A)

    assert (tally.groups[A], tally.total) == (0, 5)
    assert tally.add(A, 3).groups[A] == 3


@pytest.mark.parametrize(
    ("trust", "workers"), [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (8, 3), (9, 4), (16, 4)]
)
def test_novices_needed_for_a_fresh_task(trust: int, workers: int) -> None:
    assert workers_needed({}, [], trust) == workers


def test_task_without_contribution_and_worker_needs_one_at_any_trust() -> None:
    assert more_needed({}, [], 0)
    assert more_needed({}, [], 1)


def test_pending_workers_count_for_the_heaviest_group() -> None:
    assert more_needed({A: 2}, [], 4)
    assert not more_needed({A: 2}, [2], 4)
    assert more_needed({A: 2, B: 2}, [2], 4)
    assert not more_needed({A: 2, B: 2}, [2, 3, 2], 4)


def test_dissenter_at_trust_8_makes_it_five() -> None:
    assert workers_needed({B: 2}, [], 8) == 2
    assert workers_needed({A: 2, B: 2}, [], 8) == 4


def test_expert_suffices_alone_up_to_trust_16() -> None:
    assert not more_needed({}, [16], 16)
    assert more_needed({}, [16], 17)


def test_weights_beyond_256_bits_are_no_problem() -> None:
    assert not more_needed({A: 2**400}, [99] * 50, 2**300)
    assert is_reached(2**400, 1 + 2**400, 2)
