"""A workerpool's own API: what its scheduler knows of a task (reference: market-sdk.md 6.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from poolwright.cli.iexec.compass import pool_url
from poolwright.cli.iexec.errors import IexecError
from poolwright.cli.iexec.market_client import ApiError, HttpService, authorization_of
from poolwright.poco.types import Address, Hash32

if TYPE_CHECKING:
    from poolwright.chain.wallet import Wallet
    from poolwright.cli.iexec.session import Session


class WorkerpoolCallError(IexecError):
    """The workerpool's scheduler does not answer, or has trouble; try later."""

    name: ClassVar[str] = "WorkerpoolCallError"


async def api_url_of(session: Session, workerpool: Address) -> str:
    """The pool's API as the compass knows it. Raises IexecError when it does not."""
    session.chain.require("compass")
    url = await pool_url(session, workerpool)
    if url is None:
        raise IexecError(f"Impossible to resolve API url for workerpool {workerpool}")
    return url


class PoolClient(HttpService):
    """One workerpool's scheduler."""

    def __init__(self, url: str) -> None:
        super().__init__(url, "Workerpool API", WorkerpoolCallError)

    async def task(self, task_id: Hash32) -> dict[str, Any]:
        """What the scheduler knows of a task and its replicates, as `--raw` tells it."""
        return offchain_json(await self.json("GET", f"/tasks/{task_id}"))

    async def logs(self, task_id: Hash32, chain_id: str, wallet: Wallet) -> list[dict[str, str]]:
        """What the app wrote on every worker; the wallet must be the deal's requester."""
        query = {"chainId": chain_id, "address": str(wallet.address)}
        challenge = await self.json("GET", "/tasks/logs/challenge", query=query)
        authorization = authorization_of(challenge, wallet)
        try:
            answer = await self.json("GET", f"/tasks/{task_id}/logs", authorization=authorization)
        except ApiError as refusal:
            if refusal.status == 404:
                return []
            raise
        found = answer.get("computeLogsList")
        return [
            {
                "worker": str(one.get("walletAddress")),
                "stdout": str(one.get("stdout", "")),
                "stderr": str(one.get("stderr", "")),
            }
            for one in (found if isinstance(found, list) else [])
            if isinstance(one, dict)
        ]


def offchain_json(answer: dict[str, Any]) -> dict[str, Any]:
    """The scheduler's account of a task in the official client's shape. Pure."""
    replicates = answer.get("replicates")
    task = {"status": answer.get("currentStatus"), "statusHistory": answer.get("dateStatusList")}
    return {
        "task": _told(task),
        "replicates": [
            _told(
                {
                    "worker": one.get("walletAddress"),
                    "exitCode": one.get("appExitCode"),
                    "status": one.get("currentStatus"),
                    "statusHistory": one.get("statusUpdateList"),
                }
            )
            for one in (replicates if isinstance(replicates, list) else [])
            if isinstance(one, dict)
        ],
    }


def _told(values: dict[str, Any]) -> dict[str, Any]:
    """Without what the scheduler does not tell."""
    return {name: value for name, value in values.items() if value is not None}
