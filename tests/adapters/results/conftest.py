"""The oracle of `results.cid`: the UnixFS importer that the Helia project maintains, run by node.

Its packages stand in a lock file beside this module (`npm/`), with integrity hashes and without registry
addresses. They are installed once, into the cache folder, under a temporary name that is renamed at the
end, so an interrupted or parallel installation leaves nothing half done.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from poolwright.compute.cache import cache_folder
from poolwright.devnet.toolchain import npm_command

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
            [_node(), str(folder / "cids.js")],
            input="\n".join(lines) + "\n",
            capture_output=True,
            text=True,
            timeout=IMPORT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return ask


def _installed() -> Path:
    cache = cache_folder()
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
    npm, environment = npm_command()
    done = subprocess.run(
        [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, f"npm ci failed in {folder}: {done.stderr}"


def _node() -> str:
    """The node that belongs to the npm in use."""
    _, environment = npm_command()
    node = shutil.which("node", path=environment["PATH"])
    assert node is not None
    return node
