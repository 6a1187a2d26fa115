"""Reading the logs of the parts."""

from pathlib import Path

import pytest

from poolwright.devnet import logs
from poolwright.devnet.folder import StateFolder
from poolwright.poco.errors import InputError


def folder_with(tmp_path: Path, **contents: str) -> StateFolder:
    folder = StateFolder(tmp_path)
    folder.create()
    for part, text in contents.items():
        folder.log(part).write_text(text)
    return folder


def test_last_lines_of_one_part_come_bare(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, chain="a\nb\nc\n", results="r\n")

    assert list(logs.read(folder, "chain", lines=2, follow=False)) == ["b", "c"]


def test_lines_of_all_parts_carry_their_name(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, chain="a\n", results="r\n")

    assert list(logs.read(folder, None, lines=5, follow=False)) == ["chain   | a", "results | r"]


def test_following_yields_whole_new_lines_only(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, chain="a\n")
    lines = logs.read(folder, "chain", lines=1, follow=True)
    assert next(lines) == "a"

    with folder.log("chain").open("a") as log:
        log.write("b\nhalf")

    assert next(lines) == "b"


def test_following_goes_on_after_a_log_was_emptied(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, chain="a long first line\n")
    lines = logs.read(folder, "chain", lines=1, follow=True)
    assert next(lines) == "a long first line"

    folder.log("chain").write_text("new\n")

    assert next(lines) == "new"


def test_last_lines_are_found_across_chunks(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, chain="first\nsecond\nthird\n")

    assert logs.last_lines(folder.log("chain"), 2, chunk_bytes=3) == ["second", "third"]


def test_unknown_part_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, chain="a\n", results="r\n")

    with pytest.raises(InputError, match=r"no log of worker-9.*one of: chain, results"):
        list(logs.read(folder, "worker-9", lines=1, follow=False))
