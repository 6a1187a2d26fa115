"""The harness of the benchmarks: what it prints is read by programs."""

from __future__ import annotations

import io
import json

from bench.harness import Figure, benchmarks, best_rates, run


def test_each_figure_is_one_json_line_with_five_names() -> None:
    line = Figure(name="orders.app", value=12_000.0, unit="1/s", floor=16_000.0).json_line()
    assert json.loads(line) == {
        "name": "orders.app",
        "value": 12_000.0,
        "unit": "1/s",
        "floor": 16_000.0,
        "ratio": 0.75,
    }
    assert list(json.loads(line)) == ["name", "value", "unit", "floor", "ratio"]


def test_a_missed_goal_is_told_to_people_and_programs() -> None:
    def made_up() -> list[Figure]:
        good = Figure(name="good", value=2.0, unit="s", floor=1.0, goal="under 3 s")
        bad = Figure(name="bad", value=4.0, unit="s", floor=1.0, goal="under 3 s", is_met=False)
        return [good, bad]

    out, people = io.StringIO(), io.StringIO()
    assert not run([made_up], out, people)
    assert [json.loads(line)["name"] for line in out.getvalue().splitlines()] == ["good", "bad"]
    assert "MISSED: under 3 s" in people.getvalue()


def test_the_benchmarks_of_the_folder_are_found() -> None:
    assert {"orders", "store"} <= set(benchmarks())


def test_rates_are_taken_in_turns_and_the_best_stays() -> None:
    calls: list[str] = []
    rates = best_rates(
        {"a": lambda _: calls.append("a"), "b": lambda _: calls.append("b")}, count=1, rounds=2
    )
    assert calls == ["a", "b"] * 3
    assert all(rate > 0 for rate in rates.values())
