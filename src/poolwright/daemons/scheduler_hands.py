"""The scheduler's hands: transactions of the workerpool's owner, and questions to the result repository.

Before a transaction is sent the chain is asked whether it still makes sense: what is there already, by
anybody's doing, is *satisfied* and needs nothing more (its log is on the way to the mind); what can no longer
be is *invalidated* and comes back as SubmissionFailed. Tasks of a bag share transactions (`batches`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, assert_never

import aiohttp

from poolwright.chain.reads import HubReader
from poolwright.chain.sender import OverBudget, Priority, TxSender
from poolwright.chain.wallet import Wallet
from poolwright.daemons.batches import Batches
from poolwright.daemons.mailbox import Mailboxes
from poolwright.daemons.sessions import lane_of
from poolwright.daemons.submissions import priority_of
from poolwright.poco.authorization import authorization_digest
from poolwright.poco.errors import InvariantBroken, PoolwrightError, Unavailable
from poolwright.poco.types import Address, BlockStamp, Timestamp
from poolwright.scheduler.effects import (
    Effect,
    Submission,
    Submit,
    TellWorker,
    TellWorkerAbort,
    TellWorkerComplete,
    TellWorkerReveal,
    TellWorkerStart,
    TellWorkerUpload,
    VerifyUpload,
    identity,
)
from poolwright.scheduler.events import PoolEvent
from poolwright.scheduler.outcomes import given_up, submission_failed, upload_checked
from poolwright.store.port import EffectId
from poolwright.wire.messages import Abort, Complete, Instruction, Reveal, Start, Upload
from poolwright.wire.uploads import result_link

TX_LANE: Final = "transactions"
SAVING_LANE: Final = "saving-transactions"
"""Apart from the others, which may fill their lane while a limit on fees holds them."""
RESULTS_LANE: Final = "results"
LANES: Final = {TX_LANE: 512, SAVING_LANE: 512, RESULTS_LANE: 32}
"""How many are carried out side by side; the sender pipelines the transactions."""
HELD_SECONDS: Final = 15.0
"""How long a transaction that a limit on fees holds waits before it is tried again."""
RESULTS_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)


class SchedulerHands:
    """Carries out what the pool asks for."""

    def __init__(
        self,
        *,
        hub: HubReader,
        hub_address: Address,
        sender: TxSender,
        mailboxes: Mailboxes[TellWorker],
        http: aiohttp.ClientSession,
        results_url: str,
        chain_now: Callable[[], Timestamp],
        head_now: Callable[[], Timestamp],
        confirmed: Callable[[], BlockStamp | None],
        is_wanted: Callable[[Effect], bool],
    ) -> None:
        """`chain_now` dates events, by the logs that the mind knows; `head_now` judges what is possible.

        `confirmed` is the newest block that counts; `is_wanted` tells whether the mind still wants an effect.
        """
        self._batches = Batches(hub, hub_address, sender, head_now, confirmed)
        self._mailboxes = mailboxes
        self._http = http
        self._results_url = results_url
        self._chain_now = chain_now
        self._is_wanted = is_wanted

    def lane_of(self, effect: Effect) -> str:
        match effect:
            case Submit():
                return tx_lane_of(effect.submission)
            case VerifyUpload():
                return RESULTS_LANE
            case _:
                return lane_of(effect.worker)

    def key_of(self, effect: Effect) -> str:
        return identity(effect)

    def post(self, effect: Effect, number: EffectId) -> None:
        """Put a committed instruction into its worker's mailbox."""
        if isinstance(effect, Submit | VerifyUpload):
            raise InvariantBroken(f"{type(effect).__name__} is not a message")
        self._mailboxes.of(lane_of(effect.worker)).post(number, effect)

    async def carry_out(self, effect: Effect, effect_id: EffectId) -> Sequence[PoolEvent]:
        """Do it; the events returned are its outcome. Raises Unavailable when it should be tried again."""
        match effect:
            case Submit():
                return await self._submit(effect)
            case VerifyUpload():
                return await self._verify(effect)
            case _:
                raise InvariantBroken(f"{type(effect).__name__} is a message and is not carried out")

    def gave_up(self, effect: Effect, error: PoolwrightError) -> Sequence[PoolEvent]:
        """The outcome of an effect that stayed unavailable for too long."""
        return [given_up(effect, error, self._chain_now())]

    async def _submit(self, effect: Submit) -> Sequence[PoolEvent]:
        while True:
            try:
                failure = await self._batches.submit(effect)
            except OverBudget as problem:
                await asyncio.sleep(HELD_SECONDS)
                if not self._is_wanted(effect):
                    return [submission_failed(effect, str(problem), self._chain_now())]
            else:
                return [submission_failed(effect, failure, self._chain_now())] if failure else []

    async def _verify(self, effect: VerifyUpload) -> Sequence[PoolEvent]:
        at = self._chain_now()
        url = f"{self._results_url}/v1/results/{effect.task_id}/ipfshash"
        try:
            async with self._http.get(url, timeout=RESULTS_TIMEOUT) as answer:
                cid = (await answer.text()).strip() if answer.status == 200 else None
                if answer.status not in (200, 404):
                    raise Unavailable(
                        "result repository", expected="200 or 404", got=str(answer.status), code="results"
                    )
        except (aiohttp.ClientError, TimeoutError) as problem:
            raise Unavailable(
                f"result repository at {self._results_url}: {problem}", code="results"
            ) from problem
        link = None if cid is None else result_link(cid).decode()
        return [upload_checked(effect, link, at)]


def tx_lane_of(submission: Submission) -> str:
    """The lane of a transaction."""
    return TX_LANE if priority_of(submission) is Priority.ORDINARY else SAVING_LANE


def instruction_of(effect: TellWorker, owner: Wallet, *, contribute_and_finalize: bool = True) -> Instruction:
    """The message for an instruction; `owner` of the workerpool signs the authorization.

    `contribute_and_finalize`: whether the operator lets workers end a task in one transaction.
    """
    match effect:
        case TellWorkerStart():
            challenge = Address.zero()
            return Start(
                task_id=effect.task_id,
                deal_id=effect.deal_id,
                index=effect.index,
                enclave_challenge=challenge,
                authorization=owner.sign_digest(
                    authorization_digest(effect.worker, effect.task_id, challenge)
                ),
                block=effect.block,
                contribute_and_finalize=effect.contribute_and_finalize and contribute_and_finalize,
            )
        case TellWorkerReveal():
            return Reveal(task_id=effect.task_id, block=effect.block, deadline=effect.deadline)
        case TellWorkerUpload():
            return Upload(task_id=effect.task_id)
        case TellWorkerComplete():
            return Complete(task_id=effect.task_id)
        case TellWorkerAbort():
            return Abort(task_id=effect.task_id, cause=effect.cause)
        case _:
            assert_never(effect)
