"""Whether a daemon would find what it needs, asked before it starts: one finding for each thing.

Nothing is changed and no lock is taken, so a check may run beside the daemon. A thing that cannot be looked
at because another one failed says so, rather than being left out.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

import aiohttp

from poolwright import __version__
from poolwright.chain.blocks import check_chain, newest_header
from poolwright.chain.reads import HubReader
from poolwright.chain.rpc import Rpc
from poolwright.chain.wallet import Wallet
from poolwright.compute.docker import DockerEngine
from poolwright.daemons.config import (
    ChainConfig,
    SchedulerConfig,
    WorkerConfig,
    scheduler_config,
    worker_config,
)
from poolwright.daemons.home import IDENTITY_MARK, STORE_FILE, open_wallet
from poolwright.poco.errors import InputError, PoolwrightError
from poolwright.poco.types import Address
from poolwright.serving.http import explanation
from poolwright.store.port import StoreReads
from poolwright.store.postgresql_reads import PostgresReads
from poolwright.store.sqlite_reads import SqliteReads

T = TypeVar("T")

HTTP_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
TASK_GAS: Final = 500_000
"""Gas of one task, roughly: `initialize` and `finalize`, or `contribute` and `reveal` (reference 12)."""
FEW_TASKS: Final = 100
MIB: Final = 1024**2
LITTLE_DISK: Final = 100 * MIB
SOME_DISK: Final = 2048 * MIB
NRLC_PER_RLC: Final = 10**9


class Verdict(StrEnum):
    """How a thing stands."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at: what is so, and, unless all is well, what to do."""

    name: str
    verdict: Verdict
    message: str
    next_step: str = ""


def ok(name: str, message: str) -> Finding:
    return Finding(name=name, verdict=Verdict.OK, message=message)


def warning(name: str, message: str, next_step: str) -> Finding:
    return Finding(name=name, verdict=Verdict.WARNING, message=message, next_step=next_step)


def failed(name: str, problem: PoolwrightError) -> Finding:
    """What an error says, its next step apart."""
    message = str(problem).removesuffix(f"; {problem.next_step}") if problem.next_step else str(problem)
    return Finding(name=name, verdict=Verdict.FAILED, message=message, next_step=problem.next_step)


def untested(name: str, what: str) -> Finding:
    """It could not be looked at before `what` is well."""
    message, step = "not tested", f"check again when the {what} is well"
    return Finding(name=name, verdict=Verdict.FAILED, message=message, next_step=step)


async def check_scheduler(variables: Mapping[str, str]) -> list[Finding]:
    """All that a scheduler needs: configuration, chain, wallet, gas, stake, store, result repository."""
    try:
        config = scheduler_config(variables)
    except InputError as problem:
        return [failed("configuration", problem)]
    findings = [ok("configuration", f"workerpool {config.workerpool} on chain {config.chain.chain_id}")]
    async with AsyncExitStack() as stack:
        hub = await _chain(stack, config.chain, findings)
        wallet = await _try(findings, "wallet", lambda: open_wallet(config.wallet, variables))
        if wallet is not None:
            await _owner(hub, config, wallet, findings)
        await _gas(hub, wallet, config.chain, findings)
        await _stake(hub, wallet, findings, _pool_stake)
        findings.append(await _store(config))
        if config.store_url is None:
            findings.append(_disk(config.folder))
        findings.append(
            await _service("results", f"{config.results_url}/version", "IEXEC_RESULT_REPOSITORY_URL")
        )
    return findings


async def check_worker(variables: Mapping[str, str]) -> list[Finding]:
    """All that a worker needs: configuration, chain, wallet, gas, stake, engine, disk, scheduler."""
    try:
        config = worker_config(variables)
    except InputError as problem:
        return [failed("configuration", problem)]
    findings = [ok("configuration", f"{config.slots} slots for workerpool {config.workerpool}")]
    async with AsyncExitStack() as stack:
        hub = await _chain(stack, config.chain, findings)
        wallet = await _try(findings, "wallet", lambda: open_wallet(config.wallet, variables))
        if wallet is not None:
            findings.append(ok("wallet", str(wallet.address)))
        await _gas(hub, wallet, config.chain, findings)
        await _stake(hub, wallet, findings, _worker_stake)
        findings.append(await _engine(config, wallet))
        findings.append(_disk(config.folder))
        findings += [await _scheduler(url, wallet) for url in config.core_urls]
    return findings


# The chain -------------------------------------------------------------------------------------------------


async def _chain(stack: AsyncExitStack, config: ChainConfig, findings: list[Finding]) -> HubReader | None:
    """Look at each node; the hub as the first good one shows it."""
    good: str | None = None
    for url in config.rpc_urls:
        finding = await _node(url, config)
        findings.append(finding)
        if finding.verdict is not Verdict.FAILED:
            good = good or url
    return None if good is None else HubReader(await stack.enter_async_context(Rpc((good,))), config.hub)


async def _node(url: str, config: ChainConfig) -> Finding:
    try:
        async with Rpc((url,)) as rpc:
            await check_chain(rpc, config.chain_id, config.hub)
            newest = (await newest_header(rpc)).stamp
    except PoolwrightError as problem:
        return failed("chain", problem)
    age = int(time.time()) - newest.timestamp
    message = f"{url}: hub {config.hub}, block {newest.number}, {max(age, 0)} s old"
    if age > 60 + 20 * config.block_seconds:
        step = "wait until the node has caught up, or name another one; it works late until then"
        return warning("chain", message, step)
    return ok("chain", message)


async def _owner(
    hub: HubReader | None, config: SchedulerConfig, wallet: Wallet, findings: list[Finding]
) -> None:
    if hub is None:
        findings.append(untested("wallet", "chain"))
        return
    owner = await _try(findings, "wallet", lambda: hub.workerpool_owner(config.workerpool))
    if owner is None:
        return
    if owner == wallet.address:
        findings.append(ok("wallet", f"{wallet.address} owns the workerpool"))
        return
    problem = InputError(
        f"workerpool {config.workerpool} does not belong to this wallet",
        expected=f"the wallet of its owner {owner}",
        got=str(wallet.address),
        next_step="set POOL_ADDRESS or IEXEC_CORE_WALLET_PATH to the pair that belongs together",
    )
    findings.append(failed("wallet", problem))


async def _gas(
    hub: HubReader | None, wallet: Wallet | None, config: ChainConfig, findings: list[Finding]
) -> None:
    if hub is None or wallet is None:
        findings.append(untested("gas", "chain" if hub is None else "wallet"))
        return
    balance = await _try(findings, "gas", lambda: hub.ether(wallet.address))
    network = None if balance is None else await _try(findings, "gas", hub.gas_price)
    if balance is None or network is None:
        return
    price = config.gas.price(network)
    if price == 0:
        findings.append(ok("gas", "transactions are free here"))
        return
    tasks = balance // (price * TASK_GAS)
    message = f"{balance} wei pay for some {tasks} tasks at {price} wei per gas"
    step = f"send coins for gas to {wallet.address}"
    if tasks == 0:
        findings.append(Finding(name="gas", verdict=Verdict.FAILED, message=message, next_step=step))
    else:
        findings.append(warning("gas", message, step) if tasks < FEW_TASKS else ok("gas", message))


async def _stake(
    hub: HubReader | None,
    wallet: Wallet | None,
    findings: list[Finding],
    judge: Callable[[int, int], Finding],
) -> None:
    if hub is None or wallet is None:
        findings.append(untested("stake", "chain" if hub is None else "wallet"))
        return
    account = await _try(findings, "stake", lambda: hub.account(wallet.address))
    if account is not None:
        findings.append(judge(account.stake, account.locked))


def _pool_stake(free: int, locked: int) -> Finding:
    message = f"{_rlc(free)} free, {_rlc(locked)} locked"
    if free == 0:
        step = "deposit RLC into the hub's account of this wallet: a deal locks 30 % of the pool's price"
        return warning("stake", message, step)
    return ok("stake", message)


def _worker_stake(free: int, locked: int) -> Finding:
    message = f"{_rlc(free)} free, {_rlc(locked)} locked"
    if free + locked == 0:
        step = "deposit RLC into the hub's account of this wallet; until then only pools without stake serve"
        return warning("stake", message, step)
    return ok("stake", message)


def _rlc(amount: int) -> str:
    return f"{amount / NRLC_PER_RLC:.9f}".rstrip("0").rstrip(".") + " RLC"


# Store, disk, services -------------------------------------------------------------------------------------


async def _store(config: SchedulerConfig) -> Finding:
    path = config.folder / STORE_FILE
    if config.store_url is None and not path.exists():
        return _new_folder(config.folder)
    try:
        store = (
            await SqliteReads.open(path)
            if config.store_url is None
            else await PostgresReads.open(config.store_url)
        )
        try:
            return await _look_into(store, config)
        finally:
            await store.close()
    except PoolwrightError as problem:
        if problem.code == "no-store":
            return ok("store", "empty; the scheduler makes it when it starts")
        return failed("store", problem)


async def _look_into(store: StoreReads, config: SchedulerConfig) -> Finding:
    identity = await store.mark(IDENTITY_MARK)
    expected = f"chain {config.chain.chain_id}, hub {config.chain.hub}, workerpool {config.workerpool}"
    if identity is not None and not identity.decode().startswith(f"{expected}, "):
        problem = InputError(
            "the store keeps the state of another daemon",
            expected=expected,
            got=identity.decode(),
            next_step="set the folder or store of this scheduler, or an empty one",
        )
        return failed("store", problem)
    return ok("store", f"opens, {await store.last_event_id()} events")


def _new_folder(folder: Path) -> Finding:
    parent = next(each for each in (folder, *folder.parents) if each.exists())
    try:
        probe = parent / f".poolwright-check-{time.monotonic_ns()}"
        probe.touch()
        probe.unlink()
    except OSError as problem:
        error = InputError(
            f"cannot write to {parent}",
            got=problem.strerror or str(problem),
            next_step="choose a folder that this user may write to",
        )
        return failed("store", error)
    return ok("store", f"none yet; the scheduler makes it in {folder}")


def _disk(folder: Path) -> Finding:
    place = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(place).free
    message = f"{free // MIB} MiB free at {place}"
    step = "free some space, or choose a folder on another disk"
    if free < LITTLE_DISK:
        return Finding(name="disk", verdict=Verdict.FAILED, message=message, next_step=step)
    return warning("disk", message, step) if free < SOME_DISK else ok("disk", message)


async def _service(name: str, url: str, variable: str) -> Finding:
    """Whether an HTTP service answers with its version."""
    try:
        status, text = await _get(url)
    except (aiohttp.ClientError, TimeoutError, OSError) as problem:
        got = str(problem) or type(problem).__name__
        return Finding(
            name=name,
            verdict=Verdict.FAILED,
            message=f"{url} does not answer: {got}",
            next_step=f"start it, or correct {variable}",
        )
    if status != 200:
        message = f"{url}: expected 200, got {status} {explanation(text)[1]}"
        return Finding(name=name, verdict=Verdict.FAILED, message=message, next_step="read its log")
    return ok(name, f"{url.rsplit('/', 1)[0]} answers, version {text.strip()[:40]}")


async def _scheduler(url: str, wallet: Wallet | None) -> Finding:
    """Whether the scheduler answers, has our version, and lets this wallet in."""
    finding = await _service("scheduler", f"{url}/version", "IEXEC_CORE_URL")
    if finding.verdict is not Verdict.OK or wallet is None:
        return finding
    status, text = await _get(f"{url}/workers/challenge?walletAddress={wallet.address}")
    if status != 200:
        _, why = explanation(text)
        step = "ask the workerpool's manager" if status < 500 else "wait until it is well"
        return Finding(name="scheduler", verdict=Verdict.FAILED, message=why, next_step=step)
    if not finding.message.endswith(f" {__version__}"):
        return warning(
            "scheduler", finding.message, f"this worker is version {__version__}; install the same"
        )
    return finding


async def _get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession(timeout=HTTP_TIMEOUT) as http, http.get(url) as answer:
        return answer.status, (await answer.content.read(4096)).decode("utf-8", "replace")


async def _engine(config: WorkerConfig, wallet: Wallet | None) -> Finding:
    engine = DockerEngine(
        worker_name=config.name,
        worker=wallet.address if wallet else Address.zero(),
        network=config.network_id,
        host=config.docker_host,
    )
    try:
        facts = await asyncio.wait_for(engine.ping(), HTTP_TIMEOUT.total)
    except PoolwrightError as problem:
        return failed("engine", problem)
    except TimeoutError:
        step = "restart it, or set DOCKER_HOST"
        return failed("engine", InputError("the container engine does not answer", next_step=step))
    finally:
        await engine.close()
    message = f"version {facts.version}, {facts.cpus} CPUs, {facts.memory_bytes // MIB} MiB"
    if config.slots * config.memory_bytes > facts.memory_bytes:
        need = config.slots * config.memory_bytes // MIB
        step = "offer fewer slots or less memory each (POOLWRIGHT_WORKER_TASK_MEMORY_BYTES)"
        return warning("engine", f"{message}; {config.slots} tasks may use {need} MiB", step)
    return ok("engine", message)


async def _try(findings: list[Finding], name: str, ask: Callable[[], Awaitable[T]]) -> T | None:
    """The answer, or None and a finding that says why there is none."""
    try:
        return await ask()
    except PoolwrightError as problem:
        findings.append(failed(name, problem))
        return None
