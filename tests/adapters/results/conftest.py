"""The oracle of `results.cid`: the UnixFS importer that the Helia project maintains, run by node.

Its packages stand in a lock file beside this module (`npm/`), with integrity hashes and without registry
addresses. They are installed once, into the cache folder, under a temporary name that is renamed at the
end, so an interrupted or parallel installation leaves nothing half done.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

LOCKED = Path(__file__).parent / "npm"
INSTALL_SECONDS = 300
IMPORT_SECONDS = 120

Question = tuple[Path, int, int]
"""A file, bytes per leaf, links per node."""
OracleCids = Callable[[Sequence[Question]], list[dict[str, str]]]


@pytest.fixture(scope="session")
def oracle_cids() -> OracleCids:
    """Answers {"v0", "v1"} for each question, in order, from one run of node."""
    folder = _installed()

    def ask(questions: Sequence[Question]) -> list[dict[str, str]]:
        keys = ("path", "chunkSize", "maxChildrenPerNode")
        lines = (json.dumps(dict(zip(keys, question, strict=True)), default=str) for question in questions)
        done = subprocess.run(
            [_program("node"), str(folder / "cids.js")],
            input="\n".join(lines) + "\n",
            capture_output=True,
            text=True,
            timeout=IMPORT_SECONDS,
            check=False,
            env=_environment(),
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return ask


def _installed() -> Path:
    cache = Path(os.environ.get("POOLWRIGHT_CACHE") or Path.home() / ".cache" / "poolwright")
    content = b"".join(path.read_bytes() for path in sorted(LOCKED.iterdir()))
    folder = cache / f"unixfs-oracle-{hashlib.sha256(content).hexdigest()[:16]}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix="unixfs-oracle-", suffix=".tmp", dir=cache))
    try:
        shutil.copytree(LOCKED, making, dirs_exist_ok=True)
        _npm_ci(making)
        try:
            making.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another test run was first, with the same content
                raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


def _npm_ci(folder: Path) -> None:
    done = subprocess.run(
        [_program("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
        env=_environment(),
    )
    assert done.returncode == 0, f"npm ci failed in {folder}: {done.stderr}"


def _program(name: str) -> str:
    """Find node or npm on PATH, or beside the running Python where its wheel puts them."""
    found = shutil.which(name, path=_environment()["PATH"])
    assert found, f"{name} not found on PATH nor beside {sys.executable}; run `make setup`"
    return found


def _environment() -> dict[str, str]:
    beside_python = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": os.pathsep.join([os.environ.get("PATH", ""), beside_python])}
