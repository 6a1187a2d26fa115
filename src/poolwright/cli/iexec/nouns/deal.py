"""`iexec deal`: what was agreed on the chain, how far it is, and the money back when it failed."""

from __future__ import annotations

from typing import Any

import click

from poolwright.cli.iexec.command import Noun, Outcome, Run, Shared
from poolwright.cli.iexec.nouns.order import hash32

COMMAND = deal = Noun("deal", "Deals: what was agreed, how far it is, and the money back when it failed.")


@deal.verb("show", Shared.WALLET, Shared.CHAIN, example="iexec deal show 0x3488…6d --watch")
@click.argument("deal_id", metavar="<dealid>")
@click.option("--watch", is_flag=True, help="Wait until all its tasks are over.")
async def show(run: Run, deal_id: str, watch: bool) -> Outcome:
    """Show a deal; with --watch also its tasks, once they are over."""
    from poolwright.cli.iexec.deal_chain import read_deal, watch_deals
    from poolwright.cli.iexec.deal_view import deal_json

    wanted = hash32(deal_id)
    async with run.session() as session:
        if not watch:
            shown = deal_json(await read_deal(session, wanted))
            return Outcome(text=f"Deal {wanted} details:", fields={"deal": shown}, shown=shown)
        [watched] = await watch_deals(session, [wanted])
    fields = {"deal": deal_json(watched.at), **watched.fields()}
    done = watched.progress
    return Outcome(
        text=f"Deal {wanted}: {done.completed} of {done.total} tasks completed, {done.failed} failed",
        fields=fields,
        shown=fields,
    )


@deal.verb("claim", Shared.WALLET, Shared.CHAIN, Shared.CONFIRMS, example="iexec deal claim 0x3488…6d")
@click.argument("deal_id", metavar="<dealid>")
async def claim(run: Run, deal_id: str) -> Outcome:
    """Get the money of all tasks back that were not completed in time; anybody may do that."""
    from poolwright.cli.iexec.deal_chain import look_at_deal, newest_header
    from poolwright.cli.iexec.deal_view import check_deal_claimable, claim_batches
    from poolwright.poco import calls

    wanted = hash32(deal_id)
    async with run.session() as session:
        look = await look_at_deal(session, wanted)
        check_deal_claimable(look.at)
        task_ids = look.at.task_ids
        tasks = dict(zip(task_ids, look.tasks, strict=True))
        limit = (await newest_header(session)).gas_limit
        claimed: dict[str, str] = {}
        transactions: list[dict[str, Any]] = []
        batches = claim_batches(tasks, limit)
        for number, batch in enumerate(batches, 1):
            if batch.is_initializing:
                call = calls.initialize_and_claim_array([look.at.deal_id] * len(batch.indexes), batch.indexes)
            else:
                call = calls.claim_array([task_ids[index] for index in batch.indexes])
            receipt = await session.send(session.hub, call, f"{batch.type} {number}/{len(batches)}")
            transactions.append({"txHash": str(receipt.tx_hash), "type": batch.type})
            claimed |= {str(index): str(task_ids[index]) for index in batch.indexes}
    return Outcome(
        text=f"Deal {wanted}: {len(claimed)} task{'' if len(claimed) == 1 else 's'} claimed",
        fields={"claimed": claimed, "transactions": transactions},
        shown={"claimed": claimed, "transactions": transactions},
    )
