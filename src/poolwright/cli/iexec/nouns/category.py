"""`iexec category`: size classes of tasks, made by the hub's owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from poolwright.cli.iexec import templates
from poolwright.cli.iexec.command import Noun, Outcome, Run, Shared
from poolwright.cli.iexec.errors import IexecError, ObjectNotFoundError
from poolwright.cli.iexec.files import project_part, save_project_part
from poolwright.cli.iexec.values import number_of, text_of
from poolwright.poco import calls, views
from poolwright.poco.events import CreateCategory
from poolwright.poco.types import Seconds

if TYPE_CHECKING:
    from poolwright.cli.iexec.session import Session

COMMAND = category = Noun("category", "Size classes of tasks; made by the hub's owner.")


@category.verb("init", example="iexec category init")
def init(run: Run) -> Outcome:
    """Write a template of a category into iexec.json."""
    part = dict(templates.CATEGORY)
    save_project_part(run.folder, "category", part)
    return Outcome(
        text="Saved the category template into iexec.json; edit it, then run `iexec category create`",
        fields={"category": part},
        shown=part,
    )


@category.verb("create", Shared.WALLET, Shared.CHAIN, Shared.CONFIRMS, example="iexec category create")
async def create(run: Run) -> Outcome:
    """Create the category that iexec.json describes, as the hub's owner."""
    part = project_part(run.folder, "category")
    name, description = text_of(part.get("name"), "name"), text_of(part.get("description"), "description")
    timeref = Seconds(number_of(part.get("workClockTimeRef"), "workClockTimeRef"))
    async with run.session() as session:
        owner = await session.reader.owner_of(session.hub)
        who = run.wallet_file().address
        if owner != who:
            raise IexecError(
                f"only category owner {owner} can create new categories",
                got=str(who),
                next_step="choose that wallet with --wallet-address",
            )
        call = calls.create_category(name, description, timeref)
        receipt = await session.send(session.hub, call, "create category")
        created = [one for one in await session.sending().events(receipt) if isinstance(one, CreateCategory)]
    index = str(created[0].category)
    return Outcome(text=f"Created category {index}", fields={"catid": index, "txHash": str(receipt.tx_hash)})


@category.verb("show", Shared.CHAIN, example="iexec category show 0")
@click.argument("index")
async def show(run: Run, index: str) -> Outcome:
    """Show a category by its number."""
    number = number_of(index, "index")
    async with run.session() as session:
        count = await _count(session)
        if number >= count:
            raise ObjectNotFoundError(
                "category", str(number), session.chain.id, next_step=f"give a number from 0 to {count - 1}"
            )
        found = await session.reader.category(number)
    shown = {
        "name": found.name,
        "description": found.description,
        "workClockTimeRef": str(found.timeref),
    }
    return Outcome(text=f"Category {number}", fields={"index": str(number), "category": shown}, shown=shown)


@category.verb("count", Shared.CHAIN, example="iexec category count")
async def count(run: Run) -> Outcome:
    """Count the categories."""
    async with run.session() as session:
        found = await _count(session)
    return Outcome(text=f"The hub has {found} categories", fields={"count": str(found)})


async def _count(session: Session) -> int:
    return await session.ask(session.hub, views.count_category(), views.decode_uint, "countCategory")
