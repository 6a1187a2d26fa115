"""Results are proven before they are unpacked."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from poolwright.devnet.retrieval import unpack, verified_digest
from poolwright.poco.errors import PeerError
from poolwright.poco.keccak import keccak
from poolwright.poco.records import NO_TASK, OnchainTask, TaskStatus
from poolwright.poco.results import file_digest, result_hash, sha256_of
from poolwright.poco.types import Hash32, TaskId

TASK_ID = TaskId(Hash32(keccak(b"task")))
PICTURE = b"picture"
DIGEST = file_digest(sha256_of(PICTURE))
TASK = replace(
    NO_TASK, status=TaskStatus.COMPLETED, consensus=result_hash(TASK_ID, DIGEST), result_digest=DIGEST
)
COMPUTED = json.dumps({"deterministic-output-path": "/iexec_out/out/picture.png"}).encode()


def zipped(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / "result.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return zipped(tmp_path, {"computed.json": COMPUTED, "out/picture.png": PICTURE, "stdout.txt": b"hi"})


def test_a_result_with_the_agreed_digest_is_taken(good: Path) -> None:
    assert verified_digest(good, TASK_ID, TASK) == DIGEST


@pytest.mark.parametrize(
    "task",
    [
        replace(TASK, consensus=result_hash(TaskId(Hash32(keccak(b"other"))), DIGEST)),
        replace(TASK, result_digest=Hash32(keccak(b"other"))),
    ],
)
def test_another_result_than_the_agreed_one_is_refused(good: Path, task: OnchainTask) -> None:
    with pytest.raises(PeerError, match="is not the one that was agreed on, expected digest"):
        verified_digest(good, TASK_ID, task)


@pytest.mark.parametrize(
    "files",
    [
        {"out/picture.png": PICTURE},
        {"computed.json": COMPUTED},
        {"computed.json": COMPUTED, "out/picture.png": PICTURE, "../evil": b""},
        {"computed.json": COMPUTED, "out/picture.png": PICTURE, "/etc/evil": b""},
    ],
)
def test_a_zip_that_is_no_result_is_refused_before_unpacking(tmp_path: Path, files: dict[str, bytes]) -> None:
    with pytest.raises(PeerError, match="the result of task 0 is none"):
        verified_digest(zipped(tmp_path, files), TASK_ID, TASK)


def test_unpacking_replaces_what_was_there(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "0"
    folder.mkdir()
    (folder / "old.txt").write_text("old")

    assert unpack(good, folder) == (Path("computed.json"), Path("out/picture.png"), Path("stdout.txt"))
    assert (folder / "out/picture.png").read_bytes() == PICTURE
    assert not (folder / "old.txt").exists()
