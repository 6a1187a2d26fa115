"""Record stored logs of today's form, which every later version must replay to the state they end in.

    .venv/bin/python tools/golden_log.py 0.2.0

plays a few seeds of the simulator, and writes `tests/golden/<version>-scheduler.jsonl` and `-worker.jsonl`:
the events and effects as a store has them, a snapshot from the middle, and the state at the end; beside them
`-forms.json`, the fields of everything that is ever stored. Run it once for a release. A file that is
committed is never written again; see docs/adr/0021-stored-for-ever.md.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, NewType, Union, get_args, get_origin, get_type_hints

from poolwright.chain.journal import TxRecord
from poolwright.daemons.mind import Mind
from poolwright.daemons.scheduler_mind import SchedulerMind
from poolwright.daemons.worker_mind import WorkerMind
from poolwright.devnet.simulation.faults import drawn
from poolwright.devnet.simulation.world import Size, World, plans
from poolwright.poco.types import BlockStamp
from poolwright.wire import codec
from poolwright.wire.task_logs import ComputeLogs

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
SEEDS = range(1, 60)
SIZE = Size(workers=3, deals=4, seconds=900)
MOST_EVENTS = 260
"""Longer logs say no more and make larger files."""

STORED = (
    *(SchedulerMind.event_type, SchedulerMind.effect_type, WorkerMind.event_type, WorkerMind.effect_type),
    *(TxRecord, BlockStamp, ComputeLogs),
)
"""Everything that must stay readable. Snapshots need not: one that is not readable is passed over."""


def recorded(mind: Mind[Any, Any, Any], events: list[Any]) -> Iterator[dict[str, Any]]:
    """The lines of one log."""
    state = mind.initial()
    for number, event in enumerate(events, 1):
        step = mind.step(state, event)
        state = step.state
        task = getattr(event, "task_id", None)
        yield {
            "event": json.loads(codec.encode(event)),
            "kind": type(event).__name__,
            "at": event.at,
            "task": None if task is None else str(task),
        }
        for effect in step.effects:
            yield {"effect": json.loads(codec.encode(effect))}
        if number == len(events) // 2:
            yield {"snapshot": json.loads(b"".join(mind.save(state))), "upto": number}
    yield {"state": json.loads(b"".join(mind.save(state)))}


def richest() -> tuple[list[Any], list[Any]]:
    """The events of a scheduler and of a worker that have the most kinds, of all seeds' short logs."""
    schedulers: list[list[Any]] = []
    workers: list[list[Any]] = []
    for seed in SEEDS:
        faults = drawn(seed)
        world = World(seed, faults, SIZE, plans(seed, SIZE, faults))
        world.run()
        schedulers.append(list(world.scheduler.disk.events))
        workers += [list(worker.disk.events) for worker in world.crew]
    return _richest(schedulers), _richest(workers)


def _richest(logs: list[list[Any]]) -> list[Any]:
    short = [log for log in logs if len(log) <= MOST_EVENTS]
    return max(short, key=lambda log: (len({type(event) for event in log}), -len(log)))


def forms() -> dict[str, dict[str, list[str]] | list[str]]:
    """What is stored, by class: of a dataclass its fields and the types each may have; of an enum its words.

    A field that may be left out, because it has a default, ends in "?".
    """
    found: dict[str, dict[str, list[str]] | list[str]] = {}
    for stored in STORED:
        _types_of(stored, found)
    return dict(sorted(found.items()))


def _types_of(tp: Any, found: dict[str, dict[str, list[str]] | list[str]]) -> list[str]:
    """The alternatives of a type; the classes within it are added to `found`."""
    if isinstance(tp, NewType):
        return _types_of(tp.__supertype__, found)
    origin, arguments = get_origin(tp), get_args(tp)
    if origin is Annotated:
        return _types_of(arguments[0], found)
    if origin is Union or origin is types.UnionType:
        return sorted(name for each in arguments for name in _types_of(each, found))
    if origin is not None:
        inner = [" | ".join(_types_of(each, found)) for each in arguments if each is not ...]
        return [f"{origin.__name__}[{', '.join(inner)}]"]
    if is_dataclass(tp) and tp.__name__ not in found:
        found[tp.__name__] = {}
        hints = get_type_hints(tp, include_extras=True)
        found[tp.__name__] = {
            f"{each.name}{'?' if has_default(each) else ''}": _types_of(hints[each.name], found)
            for each in fields(tp)
            if each.init
        }
    elif isinstance(tp, type) and issubclass(tp, Enum):
        found[tp.__name__] = [json.loads(codec.encode(member, tp)) for member in tp]
    return [tp.__name__]


def has_default(each: Field[Any]) -> bool:
    return each.default is not MISSING or each.default_factory is not MISSING


def main(version: str) -> None:
    scheduler, worker = richest()
    for name, mind, events in (("scheduler", SchedulerMind(), scheduler), ("worker", WorkerMind(), worker)):
        path = GOLDEN / f"{version}-{name}.jsonl"
        lines = [json.dumps(line, separators=(",", ":")) for line in recorded(mind, events)]
        with path.open("x") as file:
            file.writelines(f"{line}\n" for line in lines)
        kinds = len({type(event) for event in events})
        print(f"{path.name}: {len(events)} events of {kinds} kinds")
    with (GOLDEN / f"{version}-forms.json").open("x") as file:
        json.dump(forms(), file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
