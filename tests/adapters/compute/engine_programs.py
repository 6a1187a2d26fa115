"""The apps of the engine suite, each as a shell script (real engine) and as a coroutine (twin)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from poolwright.compute.fake import AppRun, MemoryExceeded
from poolwright.compute.port import KILLED


@dataclass(frozen=True)
class Program:
    script: str
    twin: Callable[[AppRun], Awaitable[int]]


async def _greet(run: AppRun) -> int:
    run.print_out(f"hello {run.spec.env['WHO']} from {' '.join(run.spec.command[1:])}\n")
    run.print_err("careful\n")
    (run.spec.output_dir / "result.txt").write_text((run.spec.input_dir / "question.txt").read_text())
    return 0


async def _fail(run: AppRun) -> int:
    run.print_err("cannot go on\n")
    return 3


async def _hang(run: AppRun) -> int:
    run.print_out("waiting\n")
    (run.spec.output_dir / "started").touch()
    await asyncio.sleep(600)
    return 0


async def _nothing(run: AppRun) -> int:
    return 0


async def _flood(run: AppRun) -> int:
    with (run.spec.output_dir / "flood").open("ab") as out:
        for _ in range(600):
            out.write(bytes(1 << 20))
            out.flush()
            await asyncio.sleep(0.01)
    return 0


async def _flood_many(run: AppRun) -> int:
    for number in range(600):
        (run.spec.output_dir / f"part-{number}").write_bytes(bytes(1 << 20))
        await asyncio.sleep(0.01)
    return 0


async def _eat_memory(run: AppRun) -> int:
    raise MemoryExceeded


async def _babble(run: AppRun) -> int:
    for number in range(20_000):
        run.print_out(f"line {number}\n")
    return 0


async def _killed(run: AppRun) -> int:
    return KILLED


async def _gate(run: AppRun) -> int:
    (run.spec.output_dir / "started").touch()
    while not (run.spec.input_dir / "go").exists():  # noqa: ASYNC110 - as the script does
        await asyncio.sleep(0.05)
    with (run.spec.output_dir / "runs").open("a") as out:
        out.write("ran\n")
    return 0


PROGRAMS = {
    "greet": Program(
        'echo "hello $WHO from $*"; echo careful >&2; cat /iexec_in/question.txt > /iexec_out/result.txt',
        _greet,
    ),
    "fail": Program("echo cannot go on >&2; exit 3", _fail),
    "hang": Program("echo waiting; touch /iexec_out/started; sleep 600", _hang),
    "killed": Program(f"exit {KILLED}", _killed),
    "nothing": Program("true", _nothing),
    "flood": Program("dd if=/dev/zero of=/iexec_out/flood bs=1048576 count=600", _flood),
    "flood-many": Program(
        "n=0; while [ $n -lt 600 ]; do dd if=/dev/zero of=/iexec_out/part-$n bs=1048576 count=1 2>/dev/null;"
        " n=$((n+1)); sleep 0.01; done",
        _flood_many,
    ),
    "eat-memory": Program("tail /dev/zero", _eat_memory),
    "babble": Program("n=0; while [ $n -lt 20000 ]; do echo line $n; n=$((n+1)); done", _babble),
    "gate": Program(
        "touch /iexec_out/started; while [ ! -e /iexec_in/go ]; do sleep 0.05; done;"
        " echo ran >> /iexec_out/runs",
        _gate,
    ),
}

# Run on the real engine only: what they show is the kernel's doing, which a twin cannot imitate.
REAL_ONLY = {
    "status": "cat /proc/self/status; ls /sys/class/net; id -u",
    "fork-bomb": (
        "n=0; while [ $n -lt 200 ]; do sleep 20 & n=$((n+1)); done;"
        " ls -d /proc/[0-9]* | wc -l > /iexec_out/processes"
    ),
    "scribble": (
        "for place in / /usr/bin /etc /programs /iexec_in; do"
        " if touch $place/scribble 2>/dev/null; then echo $place writable; fi; done;"
        " dd if=/dev/zero of=/tmp/big bs=1048576 count=64 2>&1 | grep -o 'No space left'; true"
    ),
    "orphan": "(sleep 600 &); touch /iexec_out/started; exit 0",
    "unreadable": "mkdir -p /iexec_out/deep/er; echo x > /iexec_out/deep/er/file;"
    " chmod 000 /iexec_out/deep/er/file /iexec_out/deep/er; chmod 500 /iexec_out/deep",
    "binary": "head -c 3000 /dev/urandom",
}


async def twin_app(run: AppRun) -> int:
    """The twin of the test image: its first argument names the program."""
    return await PROGRAMS[run.spec.command[0]].twin(run)
