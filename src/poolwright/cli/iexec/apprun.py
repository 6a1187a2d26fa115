"""`iexec app run` and `iexec app request-execution`: from words on the command line to a result.

`run` buys at the market's price now: a fresh free order for what the caller owns, the best order of the book
for what others own, a request with exactly these prices, and one `matchOrders`. `request-execution` publishes
a request with price caps and leaves the match to others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from poolwright.cli.iexec.command import Noun, Outcome, Run, Shared
from poolwright.cli.iexec.execution_words import ExecutionWords
from poolwright.cli.iexec.words import let_amounts_be_two_words, let_option_be_a_list

_COMMON = (
    click.option("--dataset", metavar='<address|"deployed">', help="Dataset to give to the app."),
    click.option("--workerpool", metavar='<address|"deployed">', help="Workerpool to use [any]."),
    click.option("--args", metavar="<string>", help="Arguments of the app."),
    click.option("--input-files", metavar="<url,url…>", help="Input files, separated by commas."),
    click.option("--secret", multiple=True, metavar="<n=name…>", help="Requester secrets (TEE only)."),
    click.option("--category", metavar="<id>", help="Category of the task."),
    click.option("--tag", metavar="<tag>", help="Tags, such as tee,tdx."),
    click.option("--storage-provider", metavar="<ipfs|dropbox>", help="Where the result goes [ipfs]."),
    click.option("--callback", metavar="<address>", help="Contract that receives the result."),
    click.option("--encrypt-result", is_flag=True, help="Encrypt the result for the beneficiary (TEE only)."),
    click.option("--trust", metavar="<integer>", help="Confidence that the result must reach."),
    click.option("--beneficiary", metavar="<address>", help="Who gets the result [the wallet]."),
    click.option("--params", metavar="<json>", help="Params as JSON; the other options go on top."),
    click.option("--skip-preflight-check", is_flag=True, help="Skip preflight checks; tasks may fail."),
    click.option("--watch", is_flag=True, help="Wait until the tasks are over."),
)
_PRICES = ("--app-price", "--dataset-price", "--workerpool-price")


def add_verbs(app: Noun) -> None:
    """Add `run` and `request-execution` to the noun `app`."""
    wallet = (Shared.WALLET, Shared.CHAIN, Shared.FORCE)
    example = "iexec app run 0x59c9…00 --args 'Hello' --watch"
    app.verb("run", *wallet, Shared.CONFIRMS, example=example)(
        _options(_COMMON)(click.argument("address", metavar="[appAddress]", required=False)(run_app))
    )
    let_option_be_a_list(app.commands["run"], "--secret")
    caps = [click.option(name, metavar="<amount unit>", help="At most; in nRLC [0].") for name in _PRICES]
    volume = click.option("--volume", metavar="<integer>", default="1", help="How many tasks [1].")
    example = "iexec app request-execution 0x59c9…00 --workerpool-price 0.1 RLC --args 'Hello'"
    app.verb("request-execution", *wallet, example=example)(
        _options((*caps, volume, *_COMMON))(
            click.argument("address", metavar="<appAddress>")(request_execution)
        )
    )
    let_option_be_a_list(app.commands["request-execution"], "--secret")
    let_amounts_be_two_words(app.commands["request-execution"], *_PRICES)


async def run_app(
    run: Run, address: str | None, watch: bool, skip_preflight_check: bool, **words: Any
) -> Outcome:
    """Run an app now at market price; without an address the app deployed last."""
    from poolwright.cli.iexec.buying import buy_execution

    async with run.session() as session:
        made = await buy_execution(
            run, session, address, ExecutionWords(**words), skip_preflight=skip_preflight_check
        )
        fields: dict[str, Any] = {"deals": [made.fields()]}
        text = f"Deal submitted with dealid {made.deal_id}"
        if not watch:
            return Outcome(text=text, fields=fields)
        return await _watched(session, [made.deal_id], fields, text)


async def request_execution(
    run: Run, address: str, watch: bool, skip_preflight_check: bool, **words: Any
) -> Outcome:
    """Publish a request for an app at limit prices, for somebody to match."""
    from poolwright.cli.iexec.buying import publish_request, wait_for_deals

    caps = {name: words.pop(f"{name}_price") for name in ("app", "dataset", "workerpool")}
    volume = words.pop("volume")
    async with run.session() as session:
        published = await publish_request(
            run, session, address, ExecutionWords(**words), caps, volume, skip_preflight=skip_preflight_check
        )
        fields: dict[str, Any] = {"orderHash": str(published)}
        text = f"Request order published with orderHash {published}"
        if not watch:
            return Outcome(text=text, fields=fields)
        run.out.note(text)
        deal_ids = await wait_for_deals(session, published)
        fields["deals"] = [{"dealid": str(deal_id)} for deal_id in deal_ids]
        return await _watched(session, deal_ids, fields, text)


async def _watched(session: Any, deal_ids: Sequence[Any], fields: dict[str, Any], text: str) -> Outcome:
    """Watch deals to their end; an outcome that is not ok when a task failed."""
    from poolwright.cli.iexec.deal_chain import watch_deals

    looks = await watch_deals(session, deal_ids)
    tasks = [task for look in looks for task in look.tasks_json()]
    failed = [task for look in looks for task in look.failed_json()]
    total = sum(look.progress.total for look in looks)
    completed = sum(look.progress.completed for look in looks)
    fields = {**fields, "tasks": tasks}
    for task in tasks:
        if task["statusName"] == "COMPLETED":
            session.run.out.note(f"get its result with `iexec task show {task['taskid']} --download`")
    if completed < total:
        fields["failedTasks"] = failed
    return Outcome(
        text=f"{text}\n  {completed} of {total} tasks completed",
        fields=fields,
        ok=completed == total,
    )


def _options(options: Sequence[Any]) -> Any:
    def add(work: Any) -> Any:
        for option in reversed(options):
            work = option(work)
        return work

    return add
