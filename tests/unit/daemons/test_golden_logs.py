"""What earlier versions have stored: this version reads every row of it and comes to the same states.

The files in tests/golden are made by tools/golden_log.py, once for each release, and never changed.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from poolwright.daemons.mind import Mind
from poolwright.daemons.restore import restore
from poolwright.daemons.scheduler_mind import SchedulerMind
from poolwright.daemons.worker_mind import WorkerMind
from poolwright.poco.types import Hash32, TaskId, Timestamp
from poolwright.store.memory import MemoryStore
from poolwright.store.port import Commit, EventId, EventRow
from poolwright.wire import codec

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden"
Forms = dict[str, dict[str, list[str]] | list[str]]
MINDS: dict[str, type[Mind[Any, Any, Any]]] = {"scheduler": SchedulerMind, "worker": WorkerMind}


class Log:
    """One recorded log."""

    def __init__(self, path: Path) -> None:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        self.mind = MINDS[path.stem.rpartition("-")[2]]()
        self.events = [line for line in lines if "event" in line]
        self.effects = [line["effect"] for line in lines if "effect" in line]
        [self.snapshot] = [line for line in lines if "snapshot" in line]
        [self.state] = [line["state"] for line in lines if "state" in line]

    def commit(self) -> Commit:
        return Commit(
            events=[
                EventRow(
                    kind=line["kind"],
                    at=Timestamp(line["at"]),
                    body=stored(line["event"]),
                    task_id=None if line["task"] is None else TaskId(Hash32.parse(line["task"])),
                )
                for line in self.events
            ]
        )


def stored(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def differences(then: Any, now: Any, path: str = "state") -> list[str]:
    """Where a state of today is not what was recorded; fields that came since may stand beside."""
    if isinstance(then, dict) and isinstance(now, dict):
        return [
            found
            for name, value in then.items()
            for found in (
                differences(value, now[name], f"{path}.{name}")
                if name in now
                else [f"{path}.{name} is missing"]
            )
        ]
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        return [
            found
            for number, (one, other) in enumerate(zip(then, now, strict=True))
            for found in differences(one, other, f"{path}[{number}]")
        ]
    return [] if then == now else [f"{path}: {str(then)[:200]} became {str(now)[:200]}"]


@pytest.fixture(params=sorted(GOLDEN.glob("*.jsonl")), ids=lambda path: path.stem)
def log(request: pytest.FixtureRequest) -> Log:
    return Log(request.param)


@pytest.fixture
async def store(log: Log) -> AsyncIterator[MemoryStore]:
    made = MemoryStore()
    await made.commit(log.commit())
    yield made
    await made.close()


def test_there_are_logs_of_both_minds() -> None:
    names = {path.stem.rpartition("-")[2] for path in GOLDEN.glob("*.jsonl")}
    assert names == set(MINDS)


async def test_a_log_replays_to_the_state_that_was_recorded(log: Log, store: MemoryStore) -> None:
    past = await restore(log.mind, store)
    assert past.stopped == {}
    assert past.last_event == len(log.events)
    assert differences(log.state, json.loads(b"".join(log.mind.save(past.state)))) == []


async def test_a_snapshot_and_the_events_after_it_give_that_state_too(log: Log, store: MemoryStore) -> None:
    await store.snapshot(stored(log.snapshot["snapshot"]), EventId(log.snapshot["upto"]))
    past = await restore(log.mind, store)
    assert differences(log.state, json.loads(b"".join(log.mind.save(past.state)))) == []


def test_every_effect_in_an_outbox_can_be_read(log: Log) -> None:
    for effect in log.effects:
        read = codec.decode(log.mind.effect_type, stored(effect))
        assert differences(effect, json.loads(codec.encode(read)), effect["type"]) == []


def test_every_event_reads_as_what_it_was_and_new_fields_have_their_defaults(log: Log) -> None:
    for line in log.events:
        read = codec.decode(log.mind.event_type, stored(line["event"]))
        assert differences(line["event"], json.loads(codec.encode(read)), line["kind"]) == []


def test_no_stored_field_or_word_was_lost_and_new_fields_have_defaults() -> None:
    now = forms_of_today()
    for path in sorted(GOLDEN.glob("*-forms.json")):
        assert lost(json.loads(path.read_text()), now) == [], path.name


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ({"Seen": {"at": ["int"], "note?": ["str"]}, "Why": ["A", "B"]}, []),
        ({"Seen": {"at": ["int", "str"]}, "Why": ["A"]}, []),
        ({"Why": ["A"]}, ["Seen is gone"]),
        (
            {"Seen": {"moment": ["int"]}, "Why": ["A"]},
            ["Seen.at is gone", "Seen.moment is new, without default"],
        ),
        ({"Seen": {"at": ["str"]}, "Why": ["A"]}, ["Seen.at cannot be int any more"]),
        ({"Seen": {"at": ["int"], "note": ["str"]}, "Why": ["A"]}, ["Seen.note is new, without default"]),
        ({"Seen": {"at": ["int"]}, "Why": ["B"]}, ["Why has no A any more"]),
    ],
)
def test_what_would_make_a_stored_row_unreadable_is_named(now: Forms, said: list[str]) -> None:
    assert lost({"Seen": {"at": ["int"]}, "Why": ["A"]}, now) == said


def test_a_field_that_could_be_left_out_must_stay_so() -> None:
    assert lost({"Seen": {"at?": ["int"]}}, {"Seen": {"at": ["int"]}}) == ["Seen.at has no default any more"]


def test_the_first_log_has_rows_from_before_a_field_that_read_with_its_default() -> None:
    worker = Log(GOLDEN / "0.1.0.dev1-worker.jsonl")
    checked = [line["event"] for line in worker.events if line["kind"] == "ContributionChecked"]
    assert checked
    for event in checked:
        assert "contribute_and_finalize" not in event
        assert codec.decode(worker.mind.event_type, stored(event)).contribute_and_finalize is False


def forms_of_today() -> Forms:
    spec = importlib.util.spec_from_file_location("golden_log", ROOT / "tools" / "golden_log.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Forms = module.forms()
    return found


def lost(then: Forms, now: Forms) -> list[str]:
    """Why rows of the older forms could not be read by the newer ones."""
    found: list[str] = []
    for name, form in then.items():
        current = now.get(name)
        if current is None:
            found.append(f"{name} is gone")
        elif isinstance(form, list):
            found += [f"{name} has no {word} any more" for word in form if word not in current]
        elif isinstance(current, dict):
            found += [f"{name}.{words}" for words in _lost_fields(form, current)]
    return found


def _lost_fields(then: dict[str, list[str]], now: dict[str, list[str]]) -> list[str]:
    before = {field.rstrip("?"): kinds for field, kinds in then.items()}
    current = {field.rstrip("?"): kinds for field, kinds in now.items()}
    found = [f"{field} is gone" for field in before if field not in current]
    for field, kinds in before.items():
        missing = set(kinds) - set(current.get(field, kinds))
        found += [f"{field} cannot be {kind} any more" for kind in sorted(missing)]
    found += [
        f"{field.rstrip('?')} has no default any more"
        for field in then
        if field.endswith("?") and field.rstrip("?") in now
    ]
    new = [field for field in now if field not in before and not field.endswith("?")]
    return found + [f"{field} is new, without default" for field in new]
