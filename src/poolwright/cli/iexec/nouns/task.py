"""`iexec task`: one run, from its first contribution to its result."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from poolwright.cli.iexec.command import Noun, Outcome, Run, Shared
from poolwright.cli.iexec.nouns.order import hash32

if TYPE_CHECKING:
    from poolwright.cli.iexec.session import Session
    from poolwright.poco.records import OnchainTask
    from poolwright.poco.types import Hash32, Timestamp

COMMAND = task = Noun("task", "Tasks: status, result, what their workers did, and the money back.")


@task.verb("show", Shared.WALLET, Shared.CHAIN, example="iexec task show 0x3890…0a --watch --download")
@click.argument("task_id", metavar="<taskid>")
@click.option("--watch", is_flag=True, help="Wait until the task is over.")
@click.option(
    "--download",
    is_flag=False,
    flag_value="",
    metavar="[fileName]",
    help="Save the result of a completed task as <fileName>.zip [<taskid>.zip].",
)
async def show(run: Run, task_id: str, watch: bool, download: str | None) -> Outcome:
    """Show a task, and download its result."""
    from poolwright.cli.iexec.deal_chain import chain_now, read_task
    from poolwright.cli.iexec.deal_view import is_claimable, status_name, task_json
    from poolwright.cli.iexec.downloads import download_result
    from poolwright.poco.records import TaskStatus
    from poolwright.poco.types import TaskId

    wanted = hash32(task_id)
    async with run.session() as session:
        if watch:
            found, now = await _watched(session, wanted)
        else:
            found, now = await read_task(session, wanted), await chain_now(session)
        fields: dict[str, Any] = {
            "task": task_json(TaskId(wanted), found, now),
            "claimable": is_claimable(found, now),
        }
        if download is not None:
            if found.status is TaskStatus.COMPLETED:
                path = await download_result(run, session.chain, wanted, found, download)
                fields["resultPath"] = str(path)
            else:
                run.out.warn(f"no result to download: the task is {status_name(found, now)}, not COMPLETED")
    if fields["claimable"]:
        run.out.note(f"the task timed out: `iexec task claim {wanted}` gets the money back")
    saved = f", result saved as {fields['resultPath']}" if "resultPath" in fields else ""
    return Outcome(
        text=f"Task {wanted} is {status_name(found, now)}{saved}", fields=fields, shown=fields["task"]
    )


@task.verb("debug", Shared.WALLET, Shared.CHAIN, example="iexec task debug 0x3890…0a --logs")
@click.argument("task_id", metavar="<taskid>")
@click.option("--logs", is_flag=True, help="Show the app's output on every worker; only the requester may.")
async def debug(run: Run, task_id: str, logs: bool) -> Outcome:
    """Show what the chain and the workerpool know of a task."""
    from poolwright.cli.iexec.deal_chain import chain_now, read_deal, read_task
    from poolwright.cli.iexec.deal_view import task_json
    from poolwright.cli.iexec.errors import IexecError, message_of
    from poolwright.cli.iexec.pool_client import PoolClient, api_url_of
    from poolwright.poco.errors import PoolwrightError
    from poolwright.poco.types import TaskId

    wanted = hash32(task_id)
    async with run.session() as session:
        found, now = await read_task(session, wanted), await chain_now(session)
        fields: dict[str, Any] = {"onchainData": task_json(TaskId(wanted), found, now)}
        deal = (await read_deal(session, found.deal_id)).deal
        try:
            url = await api_url_of(session, deal.workerpool.pointer)
            async with PoolClient(url) as pool:
                fields["offchainData"] = await pool.task(wanted)
                if logs:
                    if run.wallet_file().address != deal.requester:
                        raise IexecError(f"Only task requester {deal.requester} can access replicates logs")
                    wallet = await session.wallet()
                    fields["appLogs"] = await pool.logs(wanted, str(session.chain.id), wallet)
        except PoolwrightError as problem:
            run.out.warn(message_of(problem))
    return Outcome(text=f"Task {wanted}", fields=fields, shown=fields)


@task.verb("claim", Shared.WALLET, Shared.CHAIN, Shared.CONFIRMS, example="iexec task claim 0x3890…0a")
@click.argument("task_id", metavar="<taskid>")
async def claim(run: Run, task_id: str) -> Outcome:
    """Get the money of a task back that was not completed in time; anybody may do that."""
    from poolwright.cli.iexec.deal_chain import chain_now, read_task
    from poolwright.cli.iexec.deal_view import check_claimable
    from poolwright.poco import calls
    from poolwright.poco.types import TaskId

    wanted = hash32(task_id)
    async with run.session() as session:
        check_claimable(await read_task(session, wanted), await chain_now(session))
        receipt = await session.send(session.hub, calls.claim(TaskId(wanted)), f"claim {wanted}")
    return Outcome(text=f"Task {wanted} claimed", fields={"txHash": str(receipt.tx_hash)})


async def _watched(session: Session, task_id: Hash32) -> tuple[OnchainTask, Timestamp]:
    """A task once it is over; a task that its scheduler did not initialize yet is waited for."""
    from poolwright.cli.iexec.deal_chain import WATCH_SECONDS, chain_now, read_task
    from poolwright.cli.iexec.deal_view import is_timed_out, span, status_name
    from poolwright.poco.records import TaskStatus

    told = ""
    while True:
        found, now = await read_task(session, task_id), await chain_now(session)
        name = status_name(found, now)
        if name != told:
            session.run.out.note(f"Task status {name}")
            told = name
        if found.status in (TaskStatus.COMPLETED, TaskStatus.FAILED) or is_timed_out(found, now):
            return found, now
        left = span(found.final_deadline - now)
        with session.run.out.working(f"Watching: task status {name}, time left {left}"):
            await asyncio.sleep(WATCH_SECONDS)
