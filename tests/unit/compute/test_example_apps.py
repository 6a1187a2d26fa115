"""The example apps' own logic, without a container: exact arithmetic, a valid picture, a right report."""

from __future__ import annotations

import importlib.util
import json
import math
import struct
import sys
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from poolwright.devnet.examples import EXAMPLES, find
from poolwright.poco.errors import InputError

EXAMPLES_FOLDER = Path(__file__).parents[3] / "examples"


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, EXAMPLES_FOLDER / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


poster: Any = load("mandelbrot-poster/poster.py")
clocks: Any = load("clock-history/clocks.py")


def run_poster(
    monkeypatch: pytest.MonkeyPatch, out: Path, *arguments: str, **environment: str
) -> dict[str, str]:
    out.mkdir(exist_ok=True)
    for name, value in {"IEXEC_OUT": str(out), **environment}.items():
        monkeypatch.setenv(name, value)
    assert poster.main(["--width", "40", "--height", "30", *arguments]) == 0
    result: dict[str, str] = json.loads((out / "computed.json").read_text())
    return result


def pixels(path: Path) -> tuple[int, int, list[bytes]]:
    """Decode the PNGs that poster writes: one IDAT, filter 2."""
    raw = path.read_bytes()
    assert raw.startswith(b"\x89PNG\r\n\x1a\n")
    chunks = {}
    place = 8
    while place < len(raw):
        (length,) = struct.unpack(">I", raw[place : place + 4])
        kind, content = raw[place + 4 : place + 8], raw[place + 8 : place + 8 + length]
        assert struct.unpack(">I", raw[place + 8 + length : place + 12 + length])[0] == zlib.crc32(
            kind + content
        )
        chunks[kind] = content
        place += 12 + length
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    body = zlib.decompress(chunks[b"IDAT"])
    rows, previous = [], bytes(3 * width)
    for row in range(height):
        line = body[row * (3 * width + 1) : (row + 1) * (3 * width + 1)]
        assert line[0] == 2
        previous = bytes((a + b) & 255 for a, b in zip(line[1:], previous, strict=True))
        rows.append(previous)
    return width, height, rows


@pytest.mark.parametrize("value", [1e-3, 0.5, 0.75, 1.0, 2.0, 3.14159, 100.0, 1e9])
def test_own_logarithm_agrees_with_the_real_one(value: float) -> None:
    assert poster.log2(value) == pytest.approx(math.log2(value), abs=1e-7)


def test_inside_and_outside_of_the_set_are_told_apart() -> None:
    assert poster.escape(0j, 100) == poster.INSIDE
    assert poster.escape(-1 + 0.01j, 100) == poster.INSIDE
    assert 0 <= poster.escape(2 + 2j, 100) < 8
    assert poster.escape(-0.5622 + 0.68j, 100) > 3


def test_poster_is_a_png_of_the_asked_size_and_names_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = run_poster(monkeypatch, tmp_path, "lightning")
    assert result == {"deterministic-output-path": "/iexec_out/lightning-1-of-1.png"}
    width, height, rows = pixels(tmp_path / "lightning-1-of-1.png")
    assert (width, height) == (40, 30)
    assert len({row[i : i + 3] for row in rows for i in range(0, 120, 3)}) > 100


def test_three_tasks_paint_three_parts_of_one_picture(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for panel in range(3):
        run_poster(
            monkeypatch,
            tmp_path,
            IEXEC_BOT_SIZE="3",
            IEXEC_BOT_FIRST_INDEX="5",
            IEXEC_BOT_TASK_INDEX=str(5 + panel),
        )
    run_poster(
        monkeypatch,
        tmp_path,
        "--width",
        "120",
        IEXEC_BOT_SIZE="1",
        IEXEC_BOT_FIRST_INDEX="0",
        IEXEC_BOT_TASK_INDEX="0",
    )
    panels = [pixels(tmp_path / f"coral-{number}-of-3.png")[2] for number in (1, 2, 3)]
    _, _, whole = pixels(tmp_path / "coral-1-of-1.png")
    assert len({b"".join(panel) for panel in panels}) == 3
    joined = [a + b + c for a, b, c in zip(*panels, strict=True)]
    different = sum(
        a != b for left, right in zip(joined, whole, strict=True) for a, b in zip(left, right, strict=True)
    )
    # Where a pixel lies is summed up from another corner, so a few differ in the last bit of a coordinate.
    assert different < len(whole) * 360 / 50


def test_same_task_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        run_poster(monkeypatch, tmp_path / folder, "starfish", "--colours", "moss")
    name = "starfish-1-of-1.png"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


SMALL = """# version 2025b
R X 1940 o - Jun 1 0 1 S
R X 1940 o - O 1 0 0 -
R X 1980 ma - Mar lastSu 2 1 S
R X 1980 ma - O lastSu 2 0 -
Z Europe/Here 0:20 - LMT 1900
1 X CE%sT
Z Asia/There 8 - A 2011 D 29 24
-12:30 - B
Z Africa/Fixed 0 1 X 1950
0 - Y
L Europe/Here Europe/Also
"""


def test_report_counts_zones_summer_time_and_leaps(tmp_path: Path) -> None:
    (tmp_path / "zi").write_text(SMALL)
    facts = clocks.analyse(clocks.read(tmp_path / "zi"), 1939)
    assert facts["counts"] == {"zones": 3, "links": 1, "rules": 4}
    years = facts["zones-with-summer-time-by-year"]
    assert [years[year] for year in ("1939", "1940", "1951", "1979", "1980", "2025")] == [1, 2, 0, 0, 1, 1]
    assert facts["longest-leaps"][0] == {
        "year": 2011, "place": "Asia/There", "from": "UTC+08:00", "to": "UTC-12:30"
    }  # fmt: skip
    assert facts["still-changing-by-region"]["Europe"] == {"changing": 1, "of": 1}
    assert "2025" in clocks.report(facts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("-", 0), ("1", 60), ("-3:30", -210), ("0:20:08", 20), ("1s", 60), ("0", 0), ("14", 840)],
)
def test_offsets_are_read_as_minutes(text: str, expected: int) -> None:
    assert clocks.minutes(text) == expected


@pytest.mark.parametrize("content", ["", "R broken\n", "just some text\nthat is no database\n"])
def test_file_that_is_no_database_is_refused_with_a_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "zi").write_text(content)
    with pytest.raises(SystemExit, match="dataset"):
        clocks.read(tmp_path / "zi")


def test_every_example_is_complete_and_its_dataset_is_the_one_of_its_readme() -> None:
    for example in EXAMPLES.values():
        for name in ("Dockerfile", "README.md", *example.sources):
            assert (example.folder / name).is_file()
        assert (example.folder / "Dockerfile").read_text().splitlines()[1] == "FROM scratch"
    dataset = find("clock-history")
    assert dataset.dataset_checksum().hex() in (dataset.folder / "README.md").read_text()
    assert not find("mandelbrot-poster").dataset_checksum()


def test_unknown_example_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="clock-history or mandelbrot-poster"):
        find("nothing")
