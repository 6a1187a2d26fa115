"""`poolwright task list|story|why`: what the scheduler's store knows of tasks, for the pool's manager."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from poolwright.poco.errors import InputError
from poolwright.poco.types import Hash32, TaskId, Timestamp

if TYPE_CHECKING:
    from poolwright.daemons.telling import TaskStory, ToldChapter, Wish
    from poolwright.scheduler.story import Move
    from poolwright.scheduler.why import Wait

folder_option = click.option(
    "--folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The scheduler's folder; else POOLWRIGHT_SCHEDULER_DIR, ./scheduler or ./.poolwright/scheduler.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")
task_argument = click.argument("task", metavar="TASK")
WIDTH = 26
"""Columns of who or what moves, in a story."""


def add_to(root: click.Group) -> None:
    """Add the commands about tasks."""
    root.add_command(task_group)


@click.group("task")
def task_group() -> None:
    """Tasks as the scheduler's store has them.

    Works beside a scheduler that runs, and without one: the store is read, the scheduler is not asked.
    """


@task_group.command("list")
@folder_option
@click.option("--ended", is_flag=True, help="Ended tasks too, as far as they are kept.")
@json_option
def list_tasks(folder: Path | None, ended: bool, as_json: bool) -> None:
    """List open tasks: status, age in chain time, and what each waits for."""
    rows = asyncio.run(_list(folder, ended=ended))
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        click.echo("No open task." if not ended else "No task.")
        return
    for line in table(rows, ("task", "status", "age", "waitsFor")):
        click.echo(line)


@task_group.command("story")
@task_argument
@folder_option
@json_option
def story(task: str, folder: Path | None, as_json: bool) -> None:
    """Tell the life of a task (its id: 0x and 64 digits).

    Each event, what it moved, what was asked for then and what came of that.
    """
    told = asyncio.run(_story(folder, _task_id(task)))
    if as_json:
        click.echo(json.dumps(story_json(told), indent=2))
        return
    for line in story_lines(told):
        click.echo(line)


@task_group.command("why")
@task_argument
@folder_option
@json_option
def why(task: str, folder: Path | None, as_json: bool) -> None:
    """Say what a task is waiting for right now, and until when."""
    found = asyncio.run(_why(folder, _task_id(task)))
    if as_json:
        click.echo(json.dumps([{"what": w.what, "text": w.text, "until": w.until} for w in found], indent=2))
        return
    for wait in found:
        until = "" if wait.until is None else f" (until {dated(wait.until)})"
        click.echo(f"{wait.what}: {wait.text}{until}")


# What is read ----------------------------------------------------------------------------------------------


async def _list(folder: Path | None, *, ended: bool) -> list[dict[str, Any]]:
    from poolwright.daemons import telling
    from poolwright.scheduler.history import history
    from poolwright.scheduler.why import waits

    async with telling.reading(os.environ, folder) as store:
        past = await telling.pool_of(store)
    pool = past.state
    return [
        {
            "task": str(task.id),
            "deal": str(task.deal.deal_id),
            "index": task.index,
            "phase": task.phase.value,
            "status": history(task)[-1].status,
            "age": max(pool.now - task.deal.start_time, 0),
            "waitsFor": waits(pool, task, stopped=past.stopped.get(task.id))[0].what,
            "finalDeadline": task.final_deadline,
        }
        for task in sorted(pool.tasks.values(), key=lambda task: (task.final_deadline, task.index))
        if ended or not task.is_ended
    ]


async def _story(folder: Path | None, task_id: TaskId) -> TaskStory:
    from poolwright.daemons import telling

    async with telling.reading(os.environ, folder) as store:
        told = await telling.story_of(store, task_id)
    if told is None:
        raise InputError(
            f"task {task_id}: this scheduler's log has nothing of it",
            code="unknown-task",
            next_step=f"`poolwright task why {task_id}` asks the chain about it",
        )
    return told


async def _why(folder: Path | None, task_id: TaskId) -> list[Wait]:
    from poolwright.daemons import telling
    from poolwright.scheduler.why import Wait, waits

    async with telling.reading(os.environ, folder) as store:
        past = await telling.pool_of(store)
        task = past.state.tasks.get(task_id)
        if task is None:
            told = await telling.story_of(store, task_id)
            followed = await telling.followed_to(store)
        else:
            tx = await telling.flight_of(store, task)
    if task is not None:
        found = list(waits(past.state, task, dated=dated, stopped=past.stopped.get(task_id)))
        if task.in_flight is not None:
            unsent = "not sent yet (a scheduler that is stopped, out of gas or holds fees back; see /health)"
            fate = unsent if tx is None else f"{tx.tx_hash}, {telling.fate(tx)}"
            found[0] = Wait(what=found[0].what, text=f"{found[0].text}: {fate}")
        return found
    if told is not None:
        ended = f"it ended {told.task.phase} and the scheduler has forgotten it since; its log has the story"
        return [Wait(what="nothing", text=ended)]
    return [await _ask_chain(task_id, followed)]


async def _ask_chain(task_id: TaskId, followed: Any) -> Wait:
    """What the chain says of a task that the store does not know."""
    from poolwright.chain.reads import HubReader
    from poolwright.chain.rpc import Rpc
    from poolwright.daemons import telling
    from poolwright.daemons.config import chain_config
    from poolwright.scheduler.why import Wait
    from poolwright.serving.environment import Environment

    env = Environment(os.environ)
    try:
        config, workerpool = chain_config(env), env.address("POOL_ADDRESS")
    except InputError as problem:
        text = (
            f"this scheduler's log has nothing of it; to have the chain asked, set its variables ({problem})"
        )
        return Wait(what="unknown", text=text)
    async with Rpc(config.rpc_urls) as rpc:
        return await telling.explain_unknown(HubReader(rpc, config.hub), task_id, workerpool, followed)


# How it is shown -------------------------------------------------------------------------------------------


def story_lines(told: TaskStory) -> list[str]:
    """A story for people."""
    task = told.task
    lines = [
        f"task {task.id}",
        f"deal {task.deal.deal_id}, index {task.index}, trust {task.deal.trust}, {task.phase}",
        f"contributions before {dated(task.contribution_deadline)}, all before {dated(task.final_deadline)}",
    ]
    if told.stopped is not None:
        lines.append(f"STOPPED by a bug of ours: {told.stopped}")
    for each in told.chapters:
        lines += ["", *_chapter_lines(each)]
    return lines


def _chapter_lines(told: ToldChapter) -> list[str]:
    chapter = told.chapter
    lines = [f"{dated(chapter.at)}  #{chapter.number}  {_event_words(told)}"]
    lines += [f"    {_mover(move):<{WIDTH}}{_move_words(move)}" for move in chapter.moves]
    terms = getattr(chapter.event, "terms", None)
    lines += [f"    {'odd':<{WIDTH}}{oddity}" for oddity in (terms.oddities if terms else ())]
    if chapter.ignored is not None:
        lines.append(f"    {'ignored':<{WIDTH}}{chapter.ignored}")
    lines += [f"    {'asked for':<{WIDTH}}{_wish_words(wish)}" for wish in told.wishes]
    return lines


def _event_words(told: ToldChapter) -> str:
    chapter = told.chapter
    words = [type(chapter.event).__name__]
    for name in ("status", "submission", "attempt", "reason", "link"):
        value = getattr(chapter.event, name, None)
        if value is not None:
            words.append(str(value))
    if chapter.worker is not None:
        words.append(f"by {chapter.worker}")
    details = getattr(chapter.event, "details", None)
    if details is not None:
        shown = {"exit_code": details.exit_code, "cause": details.cause, "tx": details.tx_hash}
        words += [f"{name} {value}" for name, value in shown.items() if value is not None]
    if chapter.ref is not None:
        words.append(f"(block {chapter.ref.block}, tx {chapter.ref.tx_hash})")
    return " ".join(words)


def _mover(move: Move) -> str:
    return "task" if move.worker is None else f"worker {str(move.worker)[:10]}…"


def _move_words(move: Move) -> str:
    because = ": ".join(part for part in (move.cause, move.message) if part)
    return f"{move.before or '-'} → {move.after}" + (f" ({because})" if because else "")


def _wish_words(wish: Wish) -> str:
    tx = f", tx {wish.tx.tx_hash}" if wish.tx else ""
    return f"{_effect_words(wish)}{tx}: {wish.outcome}"


def _effect_words(wish: Wish) -> str:
    from poolwright.scheduler.effects import Submit

    effect = wish.effect
    if isinstance(effect, Submit):
        return f"{effect.submission} (attempt {effect.attempt})"
    worker = getattr(effect, "worker", None)
    words = [type(effect).__name__]
    if hasattr(effect, "cause"):
        words.append(str(effect.cause))
    if worker is not None:
        words.append(f"to {worker}" if words[0].startswith("Tell") else f"of {worker}")
    return " ".join(words)


def story_json(told: TaskStory) -> dict[str, Any]:
    """A story for programs."""
    task = told.task
    return {
        "task": str(task.id),
        "deal": str(task.deal.deal_id),
        "index": task.index,
        "trust": task.deal.trust,
        "phase": task.phase.value,
        "stopped": told.stopped,
        "events": [_chapter_json(each) for each in told.chapters],
    }


def _chapter_json(told: ToldChapter) -> dict[str, Any]:
    from poolwright.wire import codec

    chapter = told.chapter
    return {
        "event": chapter.number,
        "at": chapter.at,
        "kind": type(chapter.event).__name__,
        "body": codec.to_json(chapter.event),
        "block": None if chapter.ref is None else chapter.ref.block,
        "txHash": None if chapter.ref is None else str(chapter.ref.tx_hash),
        "worker": None if chapter.worker is None else str(chapter.worker),
        "ignored": chapter.ignored,
        "moves": [
            {
                "worker": None if move.worker is None else str(move.worker),
                "from": move.before,
                "to": move.after,
                "cause": move.cause,
                "message": move.message,
            }
            for move in chapter.moves
        ],
        "asked": [
            {
                "effect": wish.number,
                "kind": type(wish.effect).__name__,
                "body": codec.to_json(wish.effect),
                "isDone": wish.is_done,
                "outcome": wish.outcome,
                "txHash": None if wish.tx is None else str(wish.tx.tx_hash),
                "nonce": None if wish.tx is None else wish.tx.nonce,
            }
            for wish in told.wishes
        ],
    }


def table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> list[str]:
    """Rows under their headings, in columns as wide as they must be."""
    shown = {"age": lambda seconds: f"{seconds} s"}
    cells = [columns, *(tuple(shown.get(c, str)(row[c]) for c in columns) for row in rows)]
    widths = [max(len(line[n]) for line in cells) for n in range(len(columns))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in cells]


def dated(at: Timestamp) -> str:
    """Chain seconds as people write them, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _task_id(text: str) -> TaskId:
    return TaskId(Hash32.parse(text))
