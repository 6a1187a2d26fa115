"""The local network as a whole: up, down, status.

`up` holds the state folder, clears what a killed predecessor left, and runs the supervisor until it is asked
to end. The chain comes first; it counts as answering once it is provisioned, and then everything else starts
at once. `down` signals that supervisor, whose pid and start time are on record; when it is gone without
having tidied up, `down` (and the next `up`) tidies up for it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any

from poolwright.devnet import engine, processes, toolchain
from poolwright.devnet.anvil import (
    AnvilSettings,
    free_port,
    look_for_transactions,
    refuse_taken_port,
    save_chain,
    wait_ready,
)
from poolwright.devnet.folder import SUPERVISOR, ProcessRecord, StateFolder
from poolwright.devnet.fork_server import ForkServer
from poolwright.devnet.parts import (
    HOST,
    Ports,
    Program,
    chain_program,
    inherited_environment,
    market_program,
    poolwright_command,
    results_program,
    scheduler_program,
    slots_per_worker,
    worker_program,
)
from poolwright.devnet.provision import Services, provision
from poolwright.devnet.record import NetworkRecord, read_network, require_network, write_network
from poolwright.devnet.runner import Runner
from poolwright.devnet.toolchain import Say
from poolwright.poco.errors import InputError, PoolwrightError, Unavailable

DEFAULT_FOLDER = Path(".poolwright")
MOST_WORKERS = 64
LOOK_SECONDS = 0.5
"""How often the chain is looked at; one that has new transactions is saved."""
IDLE_SAVE_SECONDS = 10.0
"""How often it is saved without any."""
SAVING_SHARE = 20
"""At most one part in so many of the time goes into saving, which grows with the chain."""
DOWN_SECONDS = 90.0

STARTING, READY, STOPPING = "starting", "ready", "stopping"
FAILED = "failed: "
"""What the supervisor's log says before the error for which it gave up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """What the user asks of `poolwright up`."""

    state: Path = DEFAULT_FOLDER
    workers: int = 2
    block_time: float = 1.0
    """Seconds between blocks."""
    chain_port: int = 8545
    results_port: int = 13200
    scheduler_port: int = 13000
    market_port: int = 3000
    """0 lets the kernel choose a port."""
    fresh: bool = False
    """Forget the network that was in the folder."""

    def check(self) -> None:
        """Raise InputError naming the option that cannot be."""
        if not 0 <= self.workers <= MOST_WORKERS:
            raise _bad_option("--workers", f"0 to {MOST_WORKERS}", self.workers)
        if not 0.1 <= self.block_time <= 3600:
            raise _bad_option("--block-time", "0.1 to 3600 seconds", self.block_time)
        ports = {
            "--chain-port": self.chain_port,
            "--results-port": self.results_port,
            "--scheduler-port": self.scheduler_port,
            "--market-port": self.market_port,
        }
        for option, port in ports.items():
            if not 0 <= port <= 65535:
                raise _bad_option(option, "0 to 65535", port)
        chosen = [port for port in ports.values() if port]
        if len(chosen) != len(set(chosen)):
            raise _bad_option(", ".join(ports), "different ports", chosen)


def up(options: UpOptions, say: Say) -> None:
    """Bring the network up and run it until it is asked to end (Ctrl-C, SIGTERM, `poolwright down`).

    When it is up already, says so and returns. Raises InputError for options, ports and machines that do
    not fit, Unavailable when a part does not come up; nothing is left running then.
    """
    options.check()
    folder = StateFolder(options.state.absolute())
    with folder.held() as is_ours:
        if not is_ours:
            _say_already_up(folder, options, say)
            return
        clean_up(folder, say)
        _LocalNetwork(folder, options, say).run()


def up_detached(options: UpOptions, say: Say) -> NetworkRecord:
    """Bring the network up in the background and return when it is ready.

    Raises what kept it from coming up, as Unavailable with the supervisor's last words.
    """
    options.check()
    folder = StateFolder(options.state.absolute())
    running = running_supervisor(folder)
    if running is not None and running.state == READY:
        _say_already_up(folder, options, say)
        return require_network(folder)
    folder.create()
    log = folder.log(SUPERVISOR)
    heard = log.stat().st_size if log.exists() else 0
    process = processes.spawn(
        poolwright_command("up", *_as_words(options, folder)),
        environment=dict(os.environ) | {"PYTHONUNBUFFERED": "1"},
        folder=folder.root,
        log=folder.log(f"{SUPERVISOR}.out"),
    )
    with log.open("a+") as lines:
        lines.seek(heard)
        while True:
            code, current = process.poll(), running_supervisor(folder)
            said = [line.rstrip("\n").partition(" ")[2] for line in lines]
            failure = next((at for at, line in enumerate(said) if line.startswith(FAILED)), len(said))
            for line in said[:failure]:
                say(line)
            if code is not None and (code != 0 or current is None):  # 0: another `up` was faster
                raise _not_up(folder, code, said[failure:])
            if current is not None and current.state == READY:
                return require_network(folder)
            time.sleep(0.03)


def down(state: Path, say: Say) -> bool:
    """End the network of the folder, all its processes and containers; False when none was up."""
    folder = StateFolder(state.absolute())
    supervisor = running_supervisor(folder)
    if supervisor is None:
        return clean_up(folder, say)
    say("Stopping the network ...")
    processes.send(supervisor, Signals.SIGTERM)
    if not processes.wait_gone(supervisor, DOWN_SECONDS):
        say(f"The supervisor (pid {supervisor.pid}) does not end; killing it.")
        processes.send(supervisor, Signals.SIGKILL)
        processes.wait_gone(supervisor, 5)
    clean_up(folder, say)
    return True


def clean_up(folder: StateFolder, say: Say) -> bool:
    """End what a killed supervisor left running, by recorded pid and start time, and remove the network's
    containers. Returns whether there was anything of the kind."""
    left = [record for record in folder.records() if record.name != SUPERVISOR]
    orphans = [record for record in left if processes.is_alive(record)]
    if orphans:
        say(f"Ending what an earlier run left: {', '.join(record.name for record in orphans)}.")
    for record in sorted(orphans, key=lambda record: -record.rank):
        if record.name == "chain":
            with contextlib.suppress(Unavailable):
                save_chain(record.url, folder.chain_state)
        processes.end(record, Signals.SIGTERM, seconds=10)
    had_records = bool(left)
    if had_records:
        _remove_containers(folder, say)
    folder.clear_records()
    return had_records


def running_supervisor(folder: StateFolder) -> ProcessRecord | None:
    """The supervisor of the folder's network, if it lives."""
    supervisor = folder.supervisor()
    return supervisor if supervisor is not None and processes.is_alive(supervisor) else None


def status(state: Path) -> dict[str, Any]:
    """What runs and what does not, as JSON values: `{"state", "network", "folder", "parts": [...]}`."""
    folder = StateFolder(state.absolute())
    supervisor = running_supervisor(folder)
    record = read_network(folder)
    parts = []
    for each in folder.records():
        alive = processes.is_alive(each)
        parts.append(
            {
                "name": each.name,
                "pid": each.pid if alive else None,
                "url": each.url or None,
                "state": each.state if alive or supervisor is not None else "lost",
                "restarts": each.restarts,
                "lastExit": each.last_exit,
                "log": str(folder.log(each.name)),
            }
        )
    unsupervised = "lost" if parts else "down"
    return {
        "state": supervisor.state if supervisor is not None else unsupervised,
        "network": record.network_id if record else None,
        "folder": str(folder.root),
        "parts": parts,
    }


class _LocalNetwork:
    """One run of the network, from a held folder to its end."""

    def __init__(self, folder: StateFolder, options: UpOptions, say: Say) -> None:
        self._folder = folder
        self._options = options
        self._log = folder.log(SUPERVISOR)
        self._say_to_user = say
        self._fork_server = ForkServer(inherited_environment(os.environ), folder.log("fork-server"))
        self._record: NetworkRecord | None = None
        self._started = time.monotonic()
        self._saving = threading.Event()
        self._saver: threading.Thread | None = None

    def run(self) -> None:
        previous = self._prepare()
        self._write_own_record(STARTING)
        try:
            ports = self._ports()
            self._fork_server.start()
            toolchain.ensure(self._say)
            engine_url = engine.require() if self._options.workers else ""
            settings = AnvilSettings(
                port=ports.chain,
                host=HOST,
                block_time=self._options.block_time,
                state=self._folder.chain_state,
            )
            self._say(f"Starting the network in {self._folder.root} ...")
            Runner(
                self._folder,
                self._programs(ports, settings, engine_url, previous),
                self._fork_server,
                environment_of=self._environment_of,
                on_ready=self._on_ready,
                before_stop=self._before_stop,
                say=self._say,
            ).run()
        except PoolwrightError as problem:
            self._write_log(f"{FAILED}{problem}")
            raise
        finally:
            self._end_saving()
            self._fork_server.close()
            if self._record is not None:
                _remove_containers(self._folder, self._say)
            self._folder.clear_records()
        self._say("The network is down.")

    def _prepare(self) -> NetworkRecord | None:
        """Decide whether a network continues or a new one is made."""
        previous = None if self._options.fresh else read_network(self._folder)
        if previous is None:
            self._folder.forget()
        self._folder.create()
        return previous

    def _ports(self) -> Ports:
        chosen = {
            "--chain-port": self._options.chain_port,
            "--results-port": self._options.results_port,
            "--scheduler-port": self._options.scheduler_port,
            "--market-port": self._options.market_port,
        }
        for option, port in chosen.items():
            if port:
                refuse_taken_port(HOST, port, option=option)
        chain, results, scheduler, market = (port or free_port(HOST) for port in chosen.values())
        return Ports(chain=chain, results=results, scheduler=scheduler, market=market)

    def _programs(
        self, ports: Ports, settings: AnvilSettings, engine_url: str, previous: NetworkRecord | None
    ) -> list[Program]:
        services = Services(
            block_time=self._options.block_time,
            chain_url=ports.chain_url,
            results_url=ports.results_url,
            scheduler_url=ports.scheduler_url,
            market_url=ports.market_url,
        )

        def chain_answers() -> bool:
            wait_ready(settings, lambda: True)
            if self._record is None:
                record = provision(self._folder, services, workers=self._options.workers, previous=previous)
                save_chain(settings.url, self._folder.chain_state)
                write_network(self._folder, record)
                self._record = record
            return True

        slots = slots_per_worker(self._options.workers)
        return [
            chain_program(self._folder, settings, chain_answers),
            results_program(self._folder, ports),
            market_program(self._folder, ports),
            scheduler_program(self._folder, ports),
            *(
                worker_program(
                    self._folder,
                    ports,
                    number,
                    slots=slots,
                    engine=engine_url,
                    record_of=self._provisioned,
                )
                for number in range(1, self._options.workers + 1)
            ),
        ]

    def _provisioned(self) -> NetworkRecord:
        if self._record is None:
            raise Unavailable("the network is not provisioned yet", code="not-provisioned")
        return self._record

    def _environment_of(self, program: Program) -> Mapping[str, str]:
        inherited = inherited_environment(os.environ)
        return inherited if self._record is None else inherited | program.environment(self._record)

    def _on_ready(self) -> None:
        for line in self._banner(self._provisioned()):
            self._say(line)
        self._write_own_record(READY)  # last: whoever waits for it has read the lines above
        self._saver = threading.Thread(target=self._keep_saving, daemon=True)
        self._saver.start()

    def _banner(self, record: NetworkRecord) -> list[str]:
        every = f"a block every {record.block_time:g} s"
        return [
            f"The network is up after {time.monotonic() - self._started:.1f} s.",
            f"  chain      {record.chain_url}  chain id {record.chain_id}, {every}",
            f"  results    {record.results_url}",
            f"  scheduler  {record.scheduler_url}  workerpool {record.workerpool}",
            f"  market     {record.market_url}",
            f"  workers    {self._options.workers}",
            f"  files      {self._folder.network_file}, chain.json in iexec-8/ and iexec-9/",
            "Stop it with Ctrl-C or `poolwright down`.",
        ]

    def _before_stop(self, name: str) -> None:
        self._write_own_record(STOPPING)
        self._say(f"Stopping {name} ...")
        if name == "chain":
            self._end_saving()
            if self._record is not None:
                with contextlib.suppress(Unavailable):
                    save_chain(self._record.chain_url, self._folder.chain_state)

    def _keep_saving(self) -> None:
        """Save the chain soon after its transactions, so that a killed anvil forgets next to nothing."""
        url, saved_block, saved_at, pause = self._provisioned().chain_url, 0, time.monotonic(), LOOK_SECONDS
        while not self._saving.wait(pause):
            pause = LOOK_SECONDS
            self._folder.shorten_logs()
            with contextlib.suppress(Unavailable, OSError):
                head, has_transactions = look_for_transactions(url, saved_block)
                if not has_transactions and time.monotonic() < saved_at + IDLE_SAVE_SECONDS:
                    continue
                started = time.monotonic()
                save_chain(url, self._folder.chain_state)
                saved_block, saved_at = head, time.monotonic()
                pause = max(LOOK_SECONDS, SAVING_SHARE * (saved_at - started))

    def _end_saving(self) -> None:
        self._saving.set()
        if self._saver is not None:
            self._saver.join()
            self._saver = None

    def _write_own_record(self, state: str) -> None:
        pid = os.getpid()
        self._folder.write_record(
            ProcessRecord(
                name=SUPERVISOR, pid=pid, start_ticks=processes.start_ticks(pid), state=state, rank=-1
            )
        )

    def _say(self, line: str) -> None:
        self._write_log(line)
        self._say_to_user(line)

    def _write_log(self, text: str) -> None:
        with self._log.open("a") as log:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            log.writelines(f"{stamp} {line}\n" for line in text.splitlines())


def _say_already_up(folder: StateFolder, options: UpOptions, say: Say) -> None:
    supervisor = running_supervisor(folder)
    if options.fresh:
        raise InputError(
            f"the network in {folder.root} is up",
            code="already-up",
            expected="none, to start over with --fresh",
            next_step="`poolwright down` first",
        )
    state = supervisor.state if supervisor else STARTING
    say(f"The network in {folder.root} is already up ({state}); see `poolwright status`.")


def _remove_containers(folder: StateFolder, say: Say) -> None:
    """Remove the network's containers, wherever an engine answers; without one there can be none."""
    try:
        record = read_network(folder)
        host = engine.find() if record else None
        if record and host:
            removed = engine.remove_containers(host, record.network_id)
            if removed:
                say(f"Removed {removed} container{'s' if removed > 1 else ''}.")
    except PoolwrightError as problem:
        say(f"Containers were not removed: {problem}")


def _as_words(options: UpOptions, folder: StateFolder) -> list[str]:
    """The options as a command line again, for the detached supervisor."""
    words = [
        "--state", str(folder.root),
        "--workers", str(options.workers),
        "--block-time", f"{options.block_time:g}",
        "--chain-port", str(options.chain_port),
        "--results-port", str(options.results_port),
        "--scheduler-port", str(options.scheduler_port),
        "--market-port", str(options.market_port),
    ]  # fmt: skip
    return [*words, "--fresh"] if options.fresh else words


def _not_up(folder: StateFolder, code: int, last_words: list[str]) -> PoolwrightError:
    """The detached supervisor's error, as if it had been ours."""
    kind = InputError if code == InputError.exit_code else Unavailable
    said = "\n".join(last_words).removeprefix(FAILED)
    log = folder.log(f"{SUPERVISOR}.out")
    return kind(said or f"the supervisor ended with exit code {code}; its output is in {log}", code="not-up")


def _bad_option(option: str, expected: str, got: object) -> InputError:
    return InputError(f"option {option}", code="bad-option", expected=expected, got=str(got))
