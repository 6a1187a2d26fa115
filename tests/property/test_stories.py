"""The story of a task is the life that it lived: told from its own events, it ends where the pool has it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_pool_walks import SEEDS, walk

from poolwright.poco.types import TaskId, Timestamp
from poolwright.scheduler import events
from poolwright.scheduler import pool as pools
from poolwright.scheduler.effects import Effect
from poolwright.scheduler.pool import Pool
from poolwright.scheduler.story import Chapter, Entry, Retelling
from poolwright.scheduler.task import Task


def told(life: list[events.PoolEvent]) -> tuple[Pool, dict[TaskId, Retelling], dict[TaskId, list[Chapter]]]:
    """A pool that lives through these events, and beside it the story of each of its tasks."""
    pool = Pool()
    stories: dict[TaskId, Retelling] = {}
    chapters: dict[TaskId, list[Chapter]] = {}
    past: list[tuple[events.PoolEvent, Timestamp, tuple[Effect, ...]]] = []
    for event in life:
        step = pools.step(pool, event)
        past.append((event, pool.now, step.effects))
    for task_id in pool.tasks:
        stories[task_id], chapters[task_id] = Retelling(task_id), []
        for number, (event, now, effects) in enumerate(past, 1):
            ours = tuple(effect for effect in effects if effect.task_id == task_id)
            chapter = stories[task_id].tell(Entry(number=number, event=event, now=now, effects=ours))
            if chapter is not None:
                chapters[task_id].append(chapter)
    return pool, stories, chapters


def weightless(task: Task | None) -> Task:
    """The task without its workers' weights, which are the pool's knowledge."""
    assert task is not None
    return replace(task, replicates=tuple(replace(each, weight=0) for each in task.replicates))


@pytest.mark.parametrize("seed", SEEDS[::3])
def test_a_story_ends_where_the_pool_has_the_task(seed: int) -> None:
    pool, stories, chapters = told(walk(seed).told)

    assert pool.tasks
    for task_id, task in pool.tasks.items():
        assert weightless(stories[task_id].task) == weightless(task)
        statuses = [move.after for chapter in chapters[task_id] for move in chapter.moves if move.worker]
        assert len(statuses) == sum(len(each.life) for each in task.replicates), "every status is told once"
        asked = [effect for chapter in chapters[task_id] for effect in chapter.effects]
        assert sum(type(effect).__name__ == "Submit" for effect in asked) == task.submitted
