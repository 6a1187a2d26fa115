"""What a submission means on the chain: whether it still makes sense, its call, and calls for many at once.

The contract has calls that do the same for many tasks, all or none: `initializeArray`, `claimArray`,
`initializeAndClaimArray`. A task costs a fifth less gas in such a call, and many tasks fit one transaction.
Whom a call is for can be read from the call itself, so nothing else has to be remembered of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final, assert_never

from poolwright.chain.budget import Priority
from poolwright.poco import calls, ids
from poolwright.poco.abi import decode_call, selector
from poolwright.poco.deadlines import is_claimable, is_finalizable, is_reopenable
from poolwright.poco.errors import PeerError
from poolwright.poco.keccak import keccak
from poolwright.poco.records import OnchainTask, TaskStatus
from poolwright.poco.types import TaskId, Timestamp
from poolwright.scheduler.effects import Submission, Submit, identity

GAS_EACH: Final[Mapping[Submission, int]] = {
    Submission.INITIALIZE: 180_000,
    Submission.CLAIM: 170_000,
    Submission.INITIALIZE_AND_CLAIM: 240_000,
}
"""Gas of one task in a call for many, before our own receipts tell it (reference `poco.md` 12)."""
BLOCK_SHARE: Final = Fraction(1, 5)
"""Of a block's gas that one call for many tasks may use: others need room, and a bigger one saves nothing."""
MOST_TOGETHER: Final = 200
_INITIALIZE_ARRAY: Final = "initializeArray(bytes32[],uint256[])"
_CLAIM_ARRAY: Final = "claimArray(bytes32[])"
_INITIALIZE_AND_CLAIM_ARRAY: Final = "initializeAndClaimArray(bytes32[],uint256[])"


def is_satisfied(submission: Submission, task: OnchainTask) -> bool:
    """Whether the chain already is where the transaction would bring it."""
    match submission:
        case Submission.INITIALIZE:
            return task.status is not TaskStatus.UNSET
        case Submission.FINALIZE:
            return task.status is TaskStatus.COMPLETED
        case Submission.REOPEN:
            return task.status is TaskStatus.ACTIVE
        case Submission.CLAIM | Submission.INITIALIZE_AND_CLAIM:
            return task.status is TaskStatus.FAILED
        case _:
            assert_never(submission)


def obstacle_to(submission: Submission, task: OnchainTask, now: Timestamp) -> str:
    """Why the contract would refuse it now; empty when it would not (IexecPoco2, reference `poco.md` 7)."""
    match submission:
        case Submission.INITIALIZE:
            possible = task.status is TaskStatus.UNSET
        case Submission.FINALIZE:
            possible = is_finalizable(task, now)
        case Submission.REOPEN:
            possible = is_reopenable(task, now)
        case Submission.CLAIM:
            possible = is_claimable(task, now)
        case Submission.INITIALIZE_AND_CLAIM:
            possible = task.status is TaskStatus.UNSET or is_claimable(task, now)
        case _:
            assert_never(submission)
    return "" if possible else f"{submission} is not possible: the task is {task.status.name} at {now}"


def priority_of(
    submission: Submission, task: OnchainTask | None = None, now: Timestamp | None = None
) -> Priority:
    """What a limit on fees means for a transaction, at last when the task's last work clock unit has begun.

    `finalize` and `reopen` keep the pool's stake, which is lost when their time has passed, and `finalize`
    earns the price of the work: they save more than they cost. `initialize` commits us to more; a claim gives
    others their money back, at any time later as well, but not ours.
    """
    match submission:
        case Submission.INITIALIZE | Submission.CLAIM | Submission.INITIALIZE_AND_CLAIM:
            return Priority.ORDINARY
        case Submission.FINALIZE | Submission.REOPEN:
            if task is None or now is None:
                return Priority.SAVING
            ends = task.final_deadline if submission is Submission.FINALIZE else task.contribution_deadline
            return Priority.URGENT if now >= ends - task.timeref else Priority.SAVING
        case _:
            assert_never(submission)


def calldata(effect: Submit) -> bytes:
    """The call of the hub that the effect stands for."""
    match effect.submission:
        case Submission.INITIALIZE:
            return calls.initialize(effect.deal_id, effect.index)
        case Submission.FINALIZE:
            return calls.finalize(effect.task_id, effect.results.encode(), effect.callback)
        case Submission.REOPEN:
            return calls.reopen(effect.task_id)
        case Submission.CLAIM:
            return calls.claim(effect.task_id)
        case Submission.INITIALIZE_AND_CLAIM:
            return calls.initialize_and_claim_array([effect.deal_id], [effect.index])
        case _:
            assert_never(effect.submission)


def calldata_of_many(submission: Submission, effects: Sequence[Submit]) -> bytes:
    """One call for many tasks. `submission` is one of `GAS_EACH`."""
    if submission is Submission.CLAIM:
        return calls.claim_array([effect.task_id for effect in effects])
    deals, indexes = [effect.deal_id for effect in effects], [effect.index for effect in effects]
    if submission is Submission.INITIALIZE:
        return calls.initialize_array(deals, indexes)
    return calls.initialize_and_claim_array(deals, indexes)


def key_of_many(submission: Submission, effects: Sequence[Submit]) -> str:
    """The name of a call for many, for ever: another set of attempts has another one."""
    names = "\n".join(sorted(identity(effect) for effect in effects))
    return f"{submission}_ARRAY:{keccak(names.encode()).hex()}"


def members_of(data: bytes) -> Sequence[tuple[Submission, TaskId]]:
    """Whom a call for many is for, as its call data say; nothing for any other call."""
    try:
        if data[:4] == selector(_CLAIM_ARRAY):
            [task_ids] = decode_call(_CLAIM_ARRAY, data)
            return [(Submission.CLAIM, TaskId(task_id)) for task_id in task_ids]
        for submission, signature in (
            (Submission.INITIALIZE, _INITIALIZE_ARRAY),
            (Submission.INITIALIZE_AND_CLAIM, _INITIALIZE_AND_CLAIM_ARRAY),
        ):
            if data[:4] == selector(signature):
                deals, indexes = decode_call(signature, data)
                pairs = zip(deals, indexes, strict=True)
                return [(submission, ids.task_id(deal_id, index)) for deal_id, index in pairs]
    except PeerError:
        return []  # not one of ours
    return []


def most_together(gas_each: int, block_gas_limit: int) -> int:
    """How many tasks one call may be for, so that it uses no more than its share of a block."""
    return min(max(int(block_gas_limit * BLOCK_SHARE) // max(gas_each, 1), 1), MOST_TOGETHER)
