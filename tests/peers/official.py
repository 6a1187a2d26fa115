"""The official client, versions 8.24.0 and 9.0.0, as a peer: installed once from its lock, run by node.

The locks stand beside this module, with integrity hashes and without registry addresses.  Each goes into

    ${POOLWRIGHT_CACHE:-~/.cache/poolwright}/official-client-<major>-<first 16 hex digits of the SHA-256>/

which appears by one rename when it is complete; runs at once may both install, the first one wins.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poolwright.compute.cache import cache_folder
from poolwright.devnet.toolchain import npm_command

MAJORS = (8, 9)
LOCKS = Path(__file__).parent
INSTALL_SECONDS = 600
CALL_SECONDS = 600
"""So long that only a call that hangs takes longer, even on a busy machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficialClient:
    """One installed version."""

    major: int
    folder: Path

    def command(self) -> list[str]:
        """The words that start it."""
        return [_node(), str(self.folder / "node_modules/.bin/iexec")]

    def call(self, here: Path, *words: str, answers: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run `iexec <words>` in the folder `here`; `answers` is what is typed."""
        return subprocess.run(
            [*self.command(), *words],
            cwd=here,
            input=answers,
            stdin=subprocess.DEVNULL if answers is None else None,
            capture_output=True,
            text=True,
            timeout=CALL_SECONDS,
            check=False,
        )

    def raw(self, here: Path, *words: str) -> dict[str, Any]:
        """Run a command that must succeed, with --raw; returns its answer."""
        done = self.call(here, *words, "--raw")
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        assert done.stdout.startswith("{"), (words, done.stdout, done.stderr)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


def installed(major: int) -> OfficialClient:
    """The client of that major version, installed first when it is missing."""
    lock = LOCKS / f"npm{major}"
    digest = hashlib.sha256((lock / "package-lock.json").read_bytes()).hexdigest()
    folder = cache_folder() / f"official-client-{major}-{digest[:16]}"
    if not folder.is_dir():
        _install(lock, folder)
    return OfficialClient(major=major, folder=folder)


def _install(lock: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
    try:
        shutil.copytree(lock, making, dirs_exist_ok=True)
        npm, environment = npm_command()
        done = subprocess.run(
            [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
            cwd=making,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"npm ci failed in {making}: {done.stderr}"
        making.chmod(0o755)
        try:
            making.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another run was first, with the same content
                raise
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _node() -> str:
    """The node that belongs to the npm in use."""
    _, environment = npm_command()
    node = shutil.which("node", path=environment["PATH"])
    assert node is not None
    return node
