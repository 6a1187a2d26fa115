from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path

import pytest

from poolwright.compute.disk import remove_tree, size_of
from poolwright.compute.outputs import (
    NoDeterminismHash,
    NotArchivable,
    add_logs,
    describe_failure,
    read_result,
    write_archive,
)
from poolwright.poco.keccak import keccak


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "iexec_out"
    folder.mkdir()
    return folder


def computed(output: Path, **fields: str) -> None:
    (output / "computed.json").write_text(json.dumps({k.replace("_", "-"): v for k, v in fields.items()}))


def test_digest_of_a_file_is_its_sha256(output: Path) -> None:
    (output / "result.txt").write_text("42")
    computed(output, deterministic_output_path="/iexec_out/result.txt")
    assert read_result(output).digest == hashlib.sha256(b"42").digest()


def test_digest_of_a_folder_is_keccak_of_its_own_files_in_order(output: Path) -> None:
    folder = output / "results"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "ignored").write_text("x")
    (folder / "b").write_text("B")
    (folder / "a").write_text("A")
    (folder / "link").symlink_to("a")
    computed(output, deterministic_output_path="/iexec_out/results/")
    expected = keccak(hashlib.sha256(b"A").digest() + hashlib.sha256(b"B").digest())
    assert read_result(output).digest == expected


def test_digest_of_a_callback_is_keccak_of_its_bytes(output: Path) -> None:
    computed(output, callback_data="0xc0ffee", deterministic_output_path="/iexec_out/other")
    result = read_result(output, has_callback=True)
    assert (result.digest, result.callback) == (keccak(b"\xc0\xff\xee"), b"\xc0\xff\xee")


@pytest.mark.parametrize("text", ["", "0x", "0xzz", "coffee"])
def test_callback_data_that_is_no_hex_is_no_result(output: Path, text: str) -> None:
    computed(output, callback_data=text)
    with pytest.raises(NoDeterminismHash, match="callback-data"):
        read_result(output, has_callback=True)


def test_app_that_forgot_computed_json_is_told_what_to_write(output: Path) -> None:
    (output / "result.txt").write_text("42")
    with pytest.raises(NoDeterminismHash) as caught:
        read_result(output)
    assert caught.value.code == "DETERMINISM_HASH_NOT_FOUND"
    assert "got only result.txt" in str(caught.value)
    assert 'computed.json with {"deterministic-output-path"' in str(caught.value)


def test_app_that_wrote_nothing_at_all_is_told_so(output: Path) -> None:
    with pytest.raises(NoDeterminismHash, match="an empty folder"):
        read_result(output)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "result.txt",
        "/iexec_out/../secret",
        "/iexec_output/x",
        "",
        "/iexec_out/missing",
        "/iexec_out/a\0b",
    ],
)
def test_output_path_outside_or_absent_is_no_result(output: Path, path: str) -> None:
    (output.parent / "secret").write_text("host")
    computed(output, deterministic_output_path=path)
    with pytest.raises(NoDeterminismHash):
        read_result(output)


@pytest.mark.parametrize(
    "content", ["", "[]", "{", "[" * 5000, '{"deterministic-output-path": 7}', " " * 300_000]
)
def test_computed_json_that_is_not_one_is_no_result(output: Path, content: str) -> None:
    (output / "computed.json").write_text(content)
    with pytest.raises(NoDeterminismHash):
        read_result(output)


def test_links_lead_nowhere(output: Path) -> None:
    secret = output.parent / "secret"
    secret.write_text("host")
    (output / "result.txt").symlink_to(secret)
    (output / "folder").symlink_to(output.parent)
    for path in ("/iexec_out/result.txt", "/iexec_out/folder/secret", "/iexec_out/folder"):
        computed(output, deterministic_output_path=path)
        with pytest.raises(NoDeterminismHash, match="a link at"):
            read_result(output)
    (output / "computed.json").unlink()
    (output / "computed.json").symlink_to(secret)
    with pytest.raises(NoDeterminismHash):
        read_result(output)


def test_pipe_in_place_of_the_result_does_not_block(output: Path) -> None:
    os.mkfifo(output / "result.txt")
    computed(output, deterministic_output_path="/iexec_out/result.txt")
    with pytest.raises(NoDeterminismHash, match="something else"):
        read_result(output)
    (output / "computed.json").unlink()
    os.mkfifo(output / "computed.json")
    with pytest.raises(NoDeterminismHash):
        read_result(output)


def test_archive_holds_regular_files_only_sorted_and_byte_for_byte_the_same(
    output: Path, tmp_path: Path
) -> None:
    (output / "z").write_text("last")
    (output / "deep" / "er").mkdir(parents=True)
    (output / "deep" / "er" / "a").write_text("first")
    (output / "link").symlink_to("/etc/passwd")
    os.mkfifo(output / "pipe")
    first = write_archive(output, tmp_path / "one.zip")
    os.utime(output / "z", (0, 0))
    second = write_archive(output, tmp_path / "two.zip")
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.files == 2
    with zipfile.ZipFile(first.path) as archive:
        assert archive.namelist() == ["deep/er/a", "z"]
        assert archive.read("z") == b"last"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["iexec_out", "one.zip", "two.zip"]


def test_archive_refuses_names_that_the_repository_refuses(output: Path, tmp_path: Path) -> None:
    (output / "a\\b").write_text("x")
    with pytest.raises(NotArchivable, match="backslash"):
        write_archive(output, tmp_path / "r.zip")


def test_archive_refuses_names_that_are_no_text(output: Path, tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(output) + b"/\xff")).write_text("x")
    with pytest.raises(NotArchivable, match="UTF-8"):
        write_archive(output, tmp_path / "r.zip")


def test_logs_are_added_when_not_empty_and_never_replace_the_apps_own(output: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "stdout.txt").write_text("said")
    (logs / "stderr.txt").write_text("")
    add_logs(output, logs)
    assert [path.name for path in output.iterdir()] == ["stdout.txt"]
    (output / "stdout.txt").write_text("mine")
    add_logs(output, logs)
    assert (output / "stdout.txt").read_text() == "mine"


def test_logs_do_not_follow_a_link_out(output: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "stdout.txt").write_text("said")
    (output / "stdout.txt").symlink_to(tmp_path / "victim")
    add_logs(output, logs)
    assert not (tmp_path / "victim").exists()


def test_failure_has_a_digest_that_depends_on_the_failure_only(output: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "stderr.txt").write_text("line 1 at 12:00")
    (output / "half-done").write_text("x")
    first = describe_failure(output, cause="COMPUTE_FAILED", exit_code=3, log_dir=logs)
    assert sorted(path.name for path in output.iterdir()) == ["computed.json", "error.txt", "stderr.txt"]
    assert json.loads((output / "error.txt").read_text()) == [{"cause": "COMPUTE_FAILED", "exit-code": 3}]
    (logs / "stderr.txt").write_text("line 1 at 13:00")
    assert describe_failure(output, cause="COMPUTE_FAILED", exit_code=3, log_dir=logs) == first
    assert describe_failure(output, cause="COMPUTE_FAILED", exit_code=4) != first


def test_size_counts_sparse_files_full_and_empty_ones_something(output: Path) -> None:
    with (output / "sparse").open("wb") as file:
        file.truncate(50_000_000)
    assert size_of(output) >= 50_000_000
    before = size_of(output)
    (output / "empty").touch()
    assert size_of(output) > before


def test_size_follows_no_link(output: Path) -> None:
    (output / "loop").symlink_to(output)
    assert size_of(output) < 100_000


def test_tree_deeper_than_a_path_can_name_counts_as_too_large_and_can_be_removed(output: Path) -> None:
    here = os.open(output, os.O_RDONLY)
    for _ in range(900):
        os.mkdir("abcd", dir_fd=here)
        below = os.open("abcd", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert size_of(output) > 1 << 60
    remove_tree(output)
    assert not output.exists()


def test_removing_a_folder_that_is_gone_is_no_error(tmp_path: Path) -> None:
    remove_tree(tmp_path / "never")
