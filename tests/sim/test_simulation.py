"""The simulated pool: seeds under faults, the corpus of those that once failed, and that a seed is one story.

`make sim SEEDS=2000` plays more of them; this is the share of every test run.
"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

import factories as f
from poolwright.chain.budget import FeeLimits
from poolwright.daemons.submissions import members_of
from poolwright.devnet.simulation.__main__ import main
from poolwright.devnet.simulation.chain import CONFIRMATIONS
from poolwright.devnet.simulation.faults import RANGES, Faults, drawn
from poolwright.devnet.simulation.runs import Outcome, play, play_all, shrunk, told
from poolwright.devnet.simulation.story import ALL_MOVES, Coverage
from poolwright.devnet.simulation.trade import DealPlan
from poolwright.devnet.simulation.world import OWNER_KEY, Size, World, plans
from poolwright.poco.tags import NO_TAG
from poolwright.poco.types import Wei
from poolwright.wire.statuses import MOVES, Mover, ReplicateStatus

CORPUS = [
    int(line.split()[0])
    for line in (Path(__file__).parent / "corpus.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
SEEDS = range(1, 21)


def check(outcome: Outcome) -> None:
    assert outcome.failure is None, "\n".join(told(outcome))


@pytest.mark.parametrize("seed", SEEDS)
def test_everything_holds_under_faults(seed: int) -> None:
    check(play(seed))


@pytest.mark.parametrize("seed", CORPUS)
def test_a_seed_that_once_failed_holds(seed: int) -> None:
    check(play(seed))


def test_without_faults_every_task_that_can_be_completed_is_and_nobody_loses_stake() -> None:
    size = Size(workers=10, deals=6, seconds=600)
    deals = tuple(replace(deal, tag=NO_TAG) for deal in plans(3, size, Faults()))

    outcome = play(3, Faults(), size, deals)

    check(outcome)
    assert outcome.tasks >= sum(deal.tasks for deal in outcome.deals)  # and those of the market
    assert outcome.completed == outcome.tasks
    assert outcome.seized == 0


def test_a_seed_tells_the_same_story_each_time() -> None:
    first, second = play(7), play(7)

    assert first.hash == second.hash
    assert [str(line) for line in first.story.lines] == [str(line) for line in second.story.lines]


def test_seeds_that_are_played_side_by_side_tell_the_same_stories() -> None:
    alone = list(play_all(range(30, 33), None, None))
    side_by_side = list(play_all(range(30, 33), None, None, jobs=2))

    assert [report.hash for report in side_by_side] == [report.hash for report in alone]
    assert [report.coverage for report in side_by_side] == [report.coverage for report in alone]


def test_reorgs_of_every_depth_up_to_the_confirmations_are_met() -> None:
    size, faults = Size(workers=2, deals=1, seconds=60), replace(Faults(), reorgs=0.2)
    world = World(5, faults, size, plans(5, size, faults))

    world.run()

    assert set(world.chain.depths) == set(range(1, CONFIRMATIONS + 1))


def test_tasks_of_a_bag_share_transactions() -> None:
    size = Size(workers=4, deals=3, seconds=60)
    deals = tuple(replace(deal, tasks=5, tag=NO_TAG) for deal in plans(5, size, Faults()))
    world = World(5, Faults(), size, deals)

    world.run()

    mined = [tx for block in world.chain.blocks for tx in block.txs]
    sizes = [len(members_of(tx.data)) for tx in mined if tx.key.startswith("INITIALIZE")]
    tasks, _, _ = world.checks.count()
    assert sum(max(size, 1) for size in sizes) == tasks
    assert len(sizes) < tasks
    assert max(sizes) > 1


def test_a_limit_on_fees_holds_what_may_wait_until_the_hour_is_over() -> None:
    """Ten tasks may be initialized in the hour; the others are claimed when the limit is lifted."""
    size = Size(workers=4, deals=5, seconds=60)
    deals = tuple(replace(deal, tasks=5, tag=NO_TAG) for deal in plans(5, size, Faults()))
    world = World(5, Faults(), size, deals)
    world.scheduler.set_limits(FeeLimits(per_hour=Wei(10)))

    world.run()

    mined = [tx for block in world.chain.blocks for tx in block.txs if tx.data or "FINALIZE" in tx.key]
    assert sum(tx.cost for tx in mined if tx.key.startswith("INITIALIZE:") or "E_ARRAY" in tx.key) == 10
    tasks, _, _ = world.checks.count()
    assert sum(tx.cost for tx in mined if "AND_CLAIM" in tx.key) == tasks - 10 > 0
    assert not any(tx.revert for tx in mined)


def test_a_key_or_anothers_authorization_in_a_message_is_found() -> None:
    size = Size(workers=2, deals=1, seconds=60)
    world = World(5, Faults(), size, plans(5, size, Faults()))
    alice, bob = (worker.address for worker in world.crew)
    start = f.start(f.task_of(f.deal_terms()))

    with pytest.raises(AssertionError, match="another one's authorization"):
        world.checks.after_message(bob, start)
    with pytest.raises(AssertionError, match="the workerpool owner's key stands in an instruction"):
        world.checks.after_message(alice, replace(start, authorization=b"v" + OWNER_KEY))


def test_another_seed_tells_another_story() -> None:
    assert play(40).hash != play(52).hash


def test_a_few_seeds_reach_every_status() -> None:
    coverage = Coverage()
    for seed in SEEDS:
        coverage.add(play(seed).coverage)
        if len(coverage.statuses) == len(ReplicateStatus):
            break

    assert coverage.statuses == set(ReplicateStatus)


def test_every_kind_of_fault_has_a_range_and_is_drawn_by_some_seed() -> None:
    names = {kind.name for kind in fields(Faults)}
    seeds = [drawn(seed) for seed in range(60)]
    drawn_kinds = {name for name in names if any(getattr(faults, name) for faults in seeds)}

    assert RANGES.keys() == names
    assert drawn_kinds == names


def test_a_broken_rule_is_told_with_its_faults_and_how_to_see_it_again() -> None:
    """A rule that breaks whatever happens: it shrinks to nothing that matters."""

    def broken(
        seed: int, faults: Faults, size: Size | None = None, deals: tuple[DealPlan, ...] | None = None
    ) -> Outcome:
        return replace(play(seed, faults, size, deals), failure=AssertionError("money is gone"))

    smallest = shrunk(broken(9, replace(Faults(), cuts=5.0, liars=0.3)), again=broken)
    lines = told(smallest)

    assert smallest.faults == Faults()
    assert smallest.deals == ()
    assert lines[0] == "seed 9 FAILED: AssertionError: money is gone"
    assert lines[-1] == "again: make sim SEED=9"


def test_the_last_lines_say_how_much_was_reached(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "2", "--first", "3", "--jobs", "2"]) == 0

    *_, speed, statuses, moves = capsys.readouterr().out.splitlines()
    assert statuses.startswith("statuses reached ")
    assert statuses.endswith("/36")
    assert moves.endswith(f"/{len(ALL_MOVES)}")
    assert "simulated seconds" in speed


def test_coverage_names_what_is_missing() -> None:
    coverage = Coverage()
    coverage.statuses.update(ReplicateStatus)
    coverage.moves.update(ALL_MOVES)
    coverage.moves.discard((Mover.WORKER, ReplicateStatus.CREATED, ReplicateStatus.RUNNING))

    assert list(coverage.missing()) == ["worker: CREATED -> RUNNING"]
    assert len(ALL_MOVES) == sum(len(targets) for table in MOVES.values() for targets in table.values())
