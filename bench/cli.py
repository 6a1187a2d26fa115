"""Our `iexec` beside the official client 8.24.0, run in turns in one folder on one chain.

    cli.version   `iexec --version`, without its update check
    cli.sign      `iexec order sign --workerpool --force --raw`: load, read the chain, check, sign, save

The floor of each figure is the official client's time for the same command, so the ratio is what we take of
it: 0.2 is five times faster. Each is the median of several runs, after one that is not counted.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.iexec_folder import Place, deploy_own, new_project
from tests.peers.official import installed

from bench.harness import Figure, bench
from poolwright.devnet.anvil import Anvil, AnvilSettings, free_port
from poolwright.devnet.contracts import deploy

RUNS: Final = 9
TIMES_FASTER: Final = 5
LIMIT_SECONDS: Final = 60
NO_MARKET: Final = "http://127.0.0.1:1"
"""Signing a workerpoolorder asks no marketplace."""
COMMANDS: Final = {
    "cli.version": ("--version",),
    "cli.sign": ("order", "sign", "--workerpool", "--force", "--raw"),
}


@bench("cli")
def cli() -> Iterator[Figure]:
    """Milliseconds from the start of the process to its end, by the wall clock."""
    ours = shutil.which("iexec", path=str(Path(sys.executable).parent))
    if ours is None:
        raise AssertionError(f"no iexec beside {sys.executable}: run `make setup` first")
    theirs = installed(8).command()
    with tempfile.TemporaryDirectory() as folder, Anvil.start(AnvilSettings(port=free_port())) as anvil:
        here = Path(folder)
        place = Place(chain_url=anvil.url, market_url=NO_MARKET, contracts=deploy(anvil.url))
        project = new_project(here, place, major=8)
        deploy_own(project, "workerpool", description="a pool to sign for")
        project.raw("order", "init", "--workerpool")
        project.edit_order("workerpoolorder", trust="1")
        for name, words in COMMANDS.items():
            of_ours, of_theirs = _medians(here, [ours, *words], [*theirs, *words])
            yield Figure(
                name=name,
                value=of_ours * 1000,
                unit="ms",
                floor=of_theirs * 1000,
                goal=f"at least {TIMES_FASTER}x faster than the official client",
                is_met=of_ours * TIMES_FASTER <= of_theirs,
            )


def _medians(here: Path, *commands: list[str]) -> list[float]:
    """Seconds of each command, the median of runs taken in turns."""
    times: list[list[float]] = [[] for _ in commands]
    for number in range(RUNS + 1):
        for command, seconds in zip(commands, times, strict=True):
            started = time.perf_counter()
            subprocess.run(
                command,
                cwd=here,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=LIMIT_SECONDS,
                check=True,
            )
            if number:
                seconds.append(time.perf_counter() - started)
    return [statistics.median(each) for each in times]
