"""`iexec workerpool`: groups of workers, registered by the owner of their scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolwright.cli.iexec import publishing
from poolwright.cli.iexec.command import Noun, Outcome, Run, Shared
from poolwright.cli.iexec.resources import Creation, Found, Part, Resource, add_verbs, write_template
from poolwright.cli.iexec.values import address_of, text_of
from poolwright.poco import calls, views
from poolwright.poco.types import Address

if TYPE_CHECKING:
    from poolwright.cli.iexec.session import Session

COMMAND = workerpool = Noun("workerpool", "Describe, deploy, show and transfer workerpools.")


@workerpool.verb("init", Shared.WALLET, example="iexec workerpool init")
def init(run: Run) -> Outcome:
    """Write a template of a workerpool into iexec.json."""
    return write_template(run, "workerpool")


def read(part: Part) -> Creation:
    """The calldata of a workerpool's description. Raises ValidationError."""
    values = (address_of(part.get("owner"), "owner"), text_of(part.get("description"), "description"))
    return Creation(create=calls.create_workerpool(*values), predict=views.predict_workerpool(*values))


async def find(session: Session, address: Address) -> Found:
    """Read a registered workerpool, with the URL of its scheduler when the compass knows one."""
    from poolwright.cli.iexec.compass import pool_url

    record = await session.reader.workerpool(address)
    url = await pool_url(session, address)
    fields = {
        "schedulerRewardRatioPolicy": str(record.scheduler_reward_ratio),
        "workerStakeRatioPolicy": str(record.worker_stake_ratio),
        "workerpoolDescription": record.description,
    }
    beside = {} if url is None else {"apiUrl": url}
    return Found(owner=record.owner, fields=fields, shown=fields, beside=beside)


RESOURCE = Resource(kind="workerpool", registry=lambda hub: hub.workerpool_registry, read=read, find=find)
add_verbs(workerpool, RESOURCE)
publishing.add_verbs(workerpool, "workerpool")
