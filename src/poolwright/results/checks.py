"""Whether a result may be stored: decided from chain facts and from what the zip holds, by values.

The chain decides, not the uploader. A worker that revealed has published the digest of its result, so
anybody can tell the revealed result from any other: the digest recomputed from the zip, hashed with the
task id, must be the result hash of that worker's contribution.

    task         uploader    from when to when                   what
    REVEALING    revealed    until the final deadline            the result, once
    COMPLETED    revealed    for ever                            the result that the finalized link names,
                                                                 if it is not here
    ACTIVE       authorized  until the contribution deadline,    any result: its contributeAndFinalize will
                 by the pool of a trust-1 task without a         name it, or not
                             contribution
    any other    -           -                                   refused

The third row is for `contributeAndFinalize`, which puts the result's place on the chain in the very
transaction that contributes it. Until then nothing on the chain tells one result from another, so the owner
of the deal's workerpool vouches for the worker, as it does before the contract. Such results stand beside
each other, one of each worker; the task's result is the one that the chain names in the end.

The second row is not in the reference. It exists because a finalized task is paid and cannot be computed
again: when its file was lost with a disk, or the link went on chain before the file was safe, the worker
that still has the file can bring it back. It can bring nothing else: the digest must fit, and if the task's
on-chain link names an IPFS address, the CID must be that one.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from poolwright.poco.authorization import verify_authorization
from poolwright.poco.errors import PeerError
from poolwright.poco.records import ContributionStatus, TaskStatus
from poolwright.poco.results import result_hash
from poolwright.poco.types import Address, Hash32, TaskId, Timestamp, WorkerAddress
from poolwright.results.cid import parse_cid
from poolwright.results.errors import NotAllowed, TooEarly, WrongContent
from poolwright.wire.uploads import parse_result_link

COMPUTED_JSON = "computed.json"
OUTPUT_ROOT = PurePosixPath("/iexec_out")
"""Where the app writes, inside its container; the zip holds what is below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainFacts:
    """What the chain says about one task and one worker, all read at the same block."""

    now: Timestamp
    """Time of that block."""
    task_status: TaskStatus
    final_deadline: Timestamp
    results: bytes
    """The task's on-chain results; empty before finalize."""
    contribution_status: ContributionStatus
    result_hash: Hash32
    contribution_deadline: Timestamp = Timestamp(0)  # noqa: RUF009  # a number
    contributors: int = 0
    trust: int = 0
    """The deal's; read while the task is ACTIVE."""
    workerpool_owner: Address = field(default_factory=Address.zero)
    """The deal's; read while the task is ACTIVE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLeave:
    """The pool owner's authorization of a worker, as the contract will demand it; not yet verified."""

    challenge: Address
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """What an app says about its own result in computed.json."""

    output: PurePosixPath | None
    """Its deterministic output, relative to the root of the zip; `.` for all of it."""
    callback: bytes | None


def check_uploader(
    task_id: TaskId, worker: WorkerAddress, facts: ChainFacts, leave: PoolLeave | None = None
) -> bool:
    """Check that `worker` may upload a result of `task_id` now, with the pool's leave or by the chain.

    Returns whether it comes early: before any contribution. Raises NotAllowed, TooEarly.
    """
    if leave is not None and facts.task_status is TaskStatus.ACTIVE:
        _check_early(task_id, worker, facts, leave)
        return True
    match facts.task_status:
        case TaskStatus.COMPLETED:
            pass
        case TaskStatus.REVEALING:
            _check_final_deadline(task_id, facts)
        case TaskStatus.FAILED:
            raise NotAllowed(
                f"task {task_id} has failed",
                code="task-failed",
                expected="a task that is REVEALING or COMPLETED",
                got="FAILED",
                next_step="nothing to do; nobody is paid for this task",
            )
        case TaskStatus.UNSET | TaskStatus.ACTIVE:
            raise TooEarly(
                f"task {task_id} does not take its result yet",
                code="task-not-revealing",
                expected="REVEALING",
                got="not initialized" if facts.task_status is TaskStatus.UNSET else facts.task_status.name,
                next_step="upload once your reveal is mined; check the task id and the chain if it is",
            )
    _check_contribution(task_id, worker, facts)
    return False


def check_content(task_id: TaskId, facts: ChainFacts, digests: Collection[Hash32], cid: str) -> None:
    """Check that a zip with these digests and this CID is the revealed result. Raises WrongContent."""
    if not any(result_hash(task_id, digest) == facts.result_hash for digest in digests):
        raise WrongContent(
            "the zip is not the result that the worker revealed",
            code="digest-mismatch",
            expected=f"a digest whose result hash for this task is {facts.result_hash}",
            got=", ".join(str(digest) for digest in digests),
            next_step="upload the iexec_out folder of the run that was contributed, unchanged",
        )
    link = parse_result_link(facts.results) if facts.task_status is TaskStatus.COMPLETED else None
    if link is not None and link.cid is not None and link.cid != cid:
        raise WrongContent(
            "the task is finalized with the address of other bytes",
            code="link-mismatch",
            expected=link.location,
            got=f"/ipfs/{cid}",
            next_step="upload the very same zip as the first time",
        )


def named_cid(results: bytes) -> str | None:
    """The file that a task's on-chain results name, by its CID as this repository writes it, if any."""
    link = parse_result_link(results)
    return None if link is None or link.cid is None else parse_cid(link.cid.partition("/")[0])


def read_computed(content: bytes) -> Computed:
    """Read computed.json, as the app wrote it (reference 8.3).

    Callback data beside a usable output path, or the other way round, may be anything: which of the two a
    deal needs is not known here. Raises WrongContent when neither is usable.
    """
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as problem:
        raise _bad_computed("a JSON object", repr(content[:60])) from problem
    if not isinstance(fields, dict):
        raise _bad_computed("a JSON object", repr(content[:60]))
    output = _output_path(fields.get("deterministic-output-path"))
    callback = _callback(fields.get("callback-data"))
    if output is None and callback is None:
        raise _bad_computed(
            f"a deterministic-output-path below {OUTPUT_ROOT}, or callback-data in hex",
            repr({str(key)[:40]: str(value)[:60] for key, value in list(fields.items())[:5]}),
        )
    return Computed(output=output, callback=callback)


def _check_early(task_id: TaskId, worker: WorkerAddress, facts: ChainFacts, leave: PoolLeave) -> None:
    """Source: contract `contributeAndFinalize`, what it requires."""
    if facts.trust != 1 or facts.contributors or facts.now >= facts.contribution_deadline:
        raise NotAllowed(
            f"task {task_id} does not take its result before the contribution",
            code="not-early",
            expected="trust 1, no contribution, and time left to contribute",
            got=f"trust {facts.trust}, {facts.contributors} contributions, block time {facts.now}, "
            f"contributions until {facts.contribution_deadline}",
            next_step="contribute and reveal, then upload",
        )
    try:
        verify_authorization(
            leave.signature,
            signer=facts.workerpool_owner,
            worker=worker,
            task_id=task_id,
            enclave_challenge=leave.challenge,
        )
    except PeerError as problem:
        raise NotAllowed(
            problem.what,
            code="not-authorized-by-pool",
            expected=problem.expected,
            got=problem.got,
            next_step="send the authorization that the scheduler gave for this task",
        ) from problem


def _check_final_deadline(task_id: TaskId, facts: ChainFacts) -> None:
    if facts.now >= facts.final_deadline:
        raise NotAllowed(
            f"the final deadline of task {task_id} has passed",
            code="final-deadline-passed",
            expected=f"an upload before {facts.final_deadline}",
            got=f"block time {facts.now}",
            next_step="nothing to do; the task can only be claimed now",
        )


def _check_contribution(task_id: TaskId, worker: WorkerAddress, facts: ChainFacts) -> None:
    match facts.contribution_status:
        case ContributionStatus.PROVED:
            return
        case ContributionStatus.CONTRIBUTED if facts.task_status is TaskStatus.REVEALING:
            raise TooEarly(
                f"worker {worker} has not revealed task {task_id}",
                code="not-revealed",
                expected="a revealed contribution",
                got="CONTRIBUTED",
                next_step="upload once your reveal is mined",
            )
        case other:
            raise NotAllowed(
                f"worker {worker} has no say in task {task_id}",
                code="not-a-revealer",
                expected="a worker whose contribution is revealed on chain",
                got="no contribution" if other is ContributionStatus.UNSET else other.name,
                next_step="check the wallet, the task id and the chain",
            )


def _output_path(text: object) -> PurePosixPath | None:
    path = PurePosixPath(text) if isinstance(text, str) else None
    if path is None or ".." in path.parts or not path.is_relative_to(OUTPUT_ROOT):
        return None
    return path.relative_to(OUTPUT_ROOT)


def _callback(text: object) -> bytes | None:
    try:
        return (bytes.fromhex(text.removeprefix("0x")) or None) if isinstance(text, str) else None
    except ValueError:
        return None


def _bad_computed(expected: str, got: str) -> WrongContent:
    return WrongContent(
        f"the zip's {COMPUTED_JSON} does not say what the result is",
        code="bad-computed-json",
        expected=expected,
        got=got,
        next_step="let the app name its deterministic output there",
    )
