"""How the world has set its clocks: a report on a copy of the time zone database.

    clocks.py [--since YEAR]

The database is the task's dataset, one file in the compact form `tzdata.zi`: rules (R), zones (Z, with the
eras of a place in the lines that follow) and links (L). The report goes to IEXEC_OUT/report, as text for
people and as JSON for programs. Nothing but the dataset and the arguments goes into it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

FOREVER = 9999
BAR = 50


@dataclass
class Era:
    """A time in which a place kept one standard offset (minutes east of Greenwich) and one set of rules."""

    offset: int
    rules: str
    until: int
    """Last year of the era."""


@dataclass
class Database:
    version: str = "unknown"
    zones: dict[str, list[Era]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    summer_years: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    """By name of a set of rules: the spans of years in which it put clocks forward."""
    rule_lines: int = 0


def minutes(text: str) -> int:
    """`-`, `1`, `-3:30`, `0:20:08`, `1s` as minutes; seconds are rounded down towards zero."""
    text = text.rstrip("sd")
    sign = -1 if text.startswith("-") else 1
    parts = [int(part or 0) for part in text.lstrip("-").split(":")] if text.strip("-") else [0]
    return sign * (parts[0] * 60 + (parts[1] if len(parts) > 1 else 0))


def year_of(text: str, start: int) -> int:
    if text[:1] == "o":  # only
        return start
    return FOREVER if text[:2] == "ma" else int(text)


def read(path: Path) -> Database:
    database = Database()
    zone: list[Era] = []
    for number, line in enumerate(path.read_text(encoding="ascii").splitlines(), start=1):
        if line.startswith("# version"):
            database.version = line.split()[2]
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            if words[0] == "R":
                database.rule_lines += 1
                first = int(words[2])
                if minutes(words[8]) != 0:
                    database.summer_years[words[1]].append((first, year_of(words[3], first)))
            elif words[0] == "L":
                database.links[words[2]] = words[1]
            else:
                if words[0] == "Z":
                    zone = database.zones[words[1]] = []
                    words = words[2:]
                zone.append(Era(minutes(words[0]), words[1], int(words[3]) if len(words) > 3 else FOREVER))
        except (ValueError, IndexError) as problem:
            raise SystemExit(
                f"line {number} of the dataset is no line of tzdata.zi: {line[:80]!r} ({problem})"
            ) from None
    if not database.zones:
        raise SystemExit("the dataset holds no time zone; expected a file in the form of tzdata.zi")
    return database


def has_summer_time(database: Database, era: Era, year: int) -> bool:
    if era.rules == "-":
        return False
    if era.rules in database.summer_years:
        return any(first <= year <= last for first, last in database.summer_years[era.rules])
    return era.rules[0].isdigit() and minutes(era.rules) != 0


def eras_of_year(eras: list[Era], year: int) -> list[Era]:
    """The eras that touch a year, in order."""
    touched = []
    start = 0
    for era in eras:
        if start <= year <= era.until:
            touched.append(era)
        start = era.until
    return touched


def name_of(offset: int) -> str:
    return f"UTC{'-' if offset < 0 else '+'}{abs(offset) // 60:02}:{abs(offset) % 60:02}"


def analyse(database: Database, since: int) -> dict:
    this_year = int(database.version[:4])
    summer = {
        year: sum(
            any(has_summer_time(database, era, year) for era in eras_of_year(eras, year))
            for eras in database.zones.values()
        )
        for year in range(since, this_year + 1)
    }
    moves: dict[str, list[tuple[int, int, int]]] = {}
    for name, eras in database.zones.items():
        moves[name] = [
            (before.until, before.offset, after.offset)
            for before, after in pairwise(eras)
            if before.offset != after.offset
        ]
    places = {
        name: eras for name, eras in database.zones.items() if "/" in name and not name.startswith("Etc/")
    }
    now = Counter(eras[-1].offset for eras in places.values())
    region_changes: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name, eras in places.items():
        counted = region_changes[name.split("/")[0]]
        counted[0] += has_summer_time(database, eras[-1], this_year)
        counted[1] += 1
    leaps = sorted(
        (
            (abs(after - before), year, name, before, after)
            for name, steps in moves.items()
            for year, before, after in steps
        ),
        key=lambda leap: (-leap[0], leap[1], leap[2]),
    )
    restless = sorted(moves.items(), key=lambda item: (-len(item[1]), item[0]))
    return {
        "version": database.version,
        "counts": {"zones": len(database.zones), "links": len(database.links), "rules": database.rule_lines},
        "zones-with-summer-time-by-year": {str(year): count for year, count in summer.items()},
        "still-changing-by-region": {
            region: {"changing": changing, "of": total}
            for region, (changing, total) in sorted(region_changes.items())
        },
        "standard-offsets-now": {name_of(offset): count for offset, count in sorted(now.items())},
        "most-restless": [
            {"place": name, "changes-of-standard-time": len(steps)} for name, steps in restless[:10]
        ],
        "longest-leaps": [
            {"year": year, "place": name, "from": name_of(before), "to": name_of(after)}
            for _, year, name, before, after in leaps[:10]
        ],
    }


def bar(count: int, most: int) -> str:
    return "#" * (count * BAR // most if most else 0)


def report(facts: dict) -> str:
    counts = facts["counts"]
    lines = [
        f"How the world sets its clocks (time zone database {facts['version']})",
        "",
        f"{counts['zones']} zones, {counts['links']} other names for them, {counts['rules']} rules.",
        "",
        "Zones that put their clocks forward, year by year",
        "",
    ]
    by_year = facts["zones-with-summer-time-by-year"]
    most = max(by_year.values(), default=0)
    lines += [f"  {year} {count:4} {bar(count, most)}" for year, count in by_year.items()]
    lines += ["", "Where clocks still change today", ""]
    for region, it in facts["still-changing-by-region"].items():
        lines.append(f"  {region:12} {it['changing']:4} of {it['of']:4} zones")
    lines += ["", "Standard time today, zones at each offset", ""]
    offsets = facts["standard-offsets-now"]
    most = max(offsets.values(), default=0)
    lines += [f"  {name} {count:4} {bar(count, most)}" for name, count in offsets.items()]
    lines += ["", "Most restless: places that changed their standard time most often", ""]
    lines += [f"  {it['changes-of-standard-time']:3}  {it['place']}" for it in facts["most-restless"]]
    lines += ["", "Longest leaps of a standard time", ""]
    lines += [f"  {it['year']}  {it['place']:24} {it['from']} -> {it['to']}" for it in facts["longest-leaps"]]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="clocks", description="A report on a copy of the time zone database."
    )
    parser.add_argument("--since", type=int, default=1916, help="first year of the chart (default 1916)")
    options = parser.parse_args()
    dataset = Path(os.environ.get("IEXEC_IN", "."), os.environ.get("IEXEC_DATASET_FILENAME", "tzdata.zi"))
    if not dataset.is_file():
        print(f"no dataset at {dataset}; order this app together with its dataset", file=sys.stderr)
        return 2
    facts = analyse(read(dataset), options.since)
    out = Path(os.environ.get("IEXEC_OUT", "."))
    folder = out / "report"
    folder.mkdir(exist_ok=True)
    (folder / "report.txt").write_text(report(facts))
    (folder / "report.json").write_text(json.dumps(facts, indent=2) + "\n")
    (out / "computed.json").write_text(json.dumps({"deterministic-output-path": "/iexec_out/report"}) + "\n")
    years = facts["zones-with-summer-time-by-year"]
    top = max(years, key=lambda year: years[year])
    print(f"{facts['counts']['zones']} zones read; summer time was most common in {top} ({years[top]} zones)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
