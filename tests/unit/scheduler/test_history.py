"""The statuses of a task, told from its facts."""

from __future__ import annotations

import factories as f
from factories import ALICE, BOB, START
from poolwright.poco.types import Timestamp
from poolwright.scheduler import task as tasks
from poolwright.scheduler.history import history
from poolwright.scheduler.task import Task
from poolwright.wire.statuses import ReplicateStatus as S


def told(task: Task) -> list[str]:
    return [moment.status for moment in history(task)]


def test_a_task_that_goes_well_has_every_status_of_the_way() -> None:
    task = f.active_task(ALICE)
    assert told(f.received_task()) == ["RECEIVED"]
    assert told(f.active_task()) == ["RECEIVED", "INITIALIZED"]
    assert told(task) == ["RECEIVED", "INITIALIZED", "RUNNING"]

    task = f.uploading_task()
    task = f.told(task, f.finalized(task.id)).task

    assert told(task) == [
        *("RECEIVED", "INITIALIZED", "RUNNING", "CONSENSUS_REACHED", "AT_LEAST_ONE_REVEALED"),
        *("RESULT_UPLOAD_REQUESTED", "RESULT_UPLOADING", "RESULT_UPLOADED", "FINALIZED", "COMPLETED"),
    ]
    moments = history(task)
    assert moments[0].at == START
    assert [moment.at for moment in moments] == sorted(moment.at for moment in moments)
    assert [moment.ref is not None for moment in moments] == [
        *(False, True, False, True, True, False, False, False, True, True)
    ]


def test_a_task_that_one_transaction_ends_is_completed() -> None:
    task = f.active_task(ALICE)

    task = f.told(task, f.contributed_and_finalized(task.id)).task

    assert told(task) == ["RECEIVED", "INITIALIZED", "RUNNING", "FINALIZED", "COMPLETED"]


def test_a_task_that_is_claimed_met_its_final_deadline() -> None:
    task = f.active_task(ALICE)

    task = f.told(task, f.claimed(task.id)).task

    assert told(task) == ["RECEIVED", "INITIALIZED", "RUNNING", "FINAL_DEADLINE_REACHED", "FAILED"]


def test_a_reopened_task_runs_again_when_it_has_another_worker() -> None:
    task = f.revealing_task(ALICE)
    assert task.reveal_deadline is not None
    reopened_at = task.reveal_deadline + 5
    task = tasks.step(task, f.reopened(task.id, reopened_at)).task
    first = ["RECEIVED", "INITIALIZED", "RUNNING", "CONSENSUS_REACHED", "REOPENED", "INITIALIZED"]
    assert told(task) == first

    task = tasks.assign(task, BOB, 2, Timestamp(reopened_at + 3)).task

    assert told(task) == [*first, "RUNNING"]
    assert history(task)[-1].at == reopened_at + 3


def test_a_second_reveal_is_no_second_status() -> None:
    task = f.revealing_task(ALICE, BOB, trust=3)

    task = f.told(task, f.revealed(task.id, ALICE), f.revealed(task.id, BOB)).task

    assert told(task).count("AT_LEAST_ONE_REVEALED") == 1


def test_a_worker_whose_clock_is_behind_does_not_turn_the_story_round() -> None:
    task = f.revealed_task(ALICE).task

    task = f.told(task, *f.reports(task.id, ALICE, S.RESULT_UPLOADING, at=START + 1)).task

    moments = history(task)
    assert told(task)[-1] == "RESULT_UPLOADING"
    assert [moment.at for moment in moments] == sorted(moment.at for moment in moments)
