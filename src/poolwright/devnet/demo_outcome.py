"""What a demo found out, as a value and as one JSON document for programs.

Amounts are decimal strings of nRLC and wei, as everywhere in our JSON; times are chain seconds UTC, and
`seconds` is the age of the deal when the demo saw something.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from poolwright.chain.sender import Receipt
from poolwright.devnet.accounting import Ledger
from poolwright.devnet.examples import Example
from poolwright.devnet.ledger import Balance, Line, Movement
from poolwright.devnet.record import NetworkRecord
from poolwright.devnet.retrieval import Result
from poolwright.devnet.timeline import Fact, Status, Timeline
from poolwright.poco.records import Deal
from poolwright.poco.types import TaskId


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Everything a successful demo found out."""

    record: NetworkRecord
    example: Example
    deal: Deal
    receipt: Receipt
    """Of the match."""
    timeline: Timeline
    results: tuple[Result, ...]
    ledger: Ledger


def document(outcome: Outcome) -> dict[str, Any]:
    """The outcome as JSON values."""
    deal, seen = outcome.deal, outcome.timeline
    results = {result.task_id: result for result in outcome.results}
    return {
        "network": outcome.record.network_id,
        "app": outcome.example.name,
        "deal": {
            "dealId": str(seen.deal_id),
            "block": outcome.receipt.block.number,
            "txHash": str(outcome.receipt.tx_hash),
            "startTime": deal.start_time,
            "tasks": deal.bot_size,
            "trust": deal.trust,
            "category": deal.category,
            "app": _resource(deal.app.pointer, deal.app.price),
            "dataset": _resource(deal.dataset.pointer, deal.dataset.price) if deal.dataset.pointer else None,
            "workerpool": _resource(deal.workerpool.pointer, deal.workerpool.price),
            "requester": str(deal.requester),
        },
        "tasks": [_task(seen, task_id, results.get(task_id)) for task_id in seen.tasks],
        "ledger": _ledger(outcome.ledger),
    }


def _resource(pointer: object, price: int) -> dict[str, str]:
    return {"address": str(pointer), "price": str(price)}


def _task(seen: Timeline, task_id: TaskId, result: Result | None) -> dict[str, Any]:
    index = seen.tasks[task_id]
    return {
        "index": index,
        "taskId": str(task_id),
        "phase": seen.phases[index].value,
        "facts": [_fact(each) for each in seen.facts(index)],
        "replicates": [
            {"worker": worker, "statuses": [_status(each) for each in life]}
            for worker, life in seen.replicates(index).items()
        ],
        "result": None if result is None else _result(result),
    }


def _fact(fact: Fact) -> dict[str, Any]:
    return {
        "name": fact.name,
        "worker": fact.worker or None,
        "block": fact.block,
        "date": fact.date,
        "txHash": str(fact.tx_hash),
        "seconds": round(fact.seconds, 3),
    }


def _status(status: Status) -> dict[str, Any]:
    return {
        "status": status.status,
        "cause": status.cause or None,
        "date": status.date,
        "seconds": round(status.seconds, 3),
    }


def _result(result: Result) -> dict[str, Any]:
    return {
        "cid": result.cid,
        "digest": str(result.digest),
        "zip": str(result.zip_path),
        "folder": str(result.folder),
        "files": [str(path) for path in result.files],
    }


def _ledger(ledger: Ledger) -> dict[str, Any]:
    return {
        "firstBlock": ledger.first_block,
        "lastBlock": ledger.last_block,
        "reconciles": not ledger.wrong,
        "discrepancies": list(ledger.wrong),
        "accounts": [_line(line) for line in ledger.lines],
        "expectedOfDeal": [_movement(each) | {"account": str(each.account)} for each in ledger.expected],
    }


def _line(line: Line) -> dict[str, Any]:
    return {
        "name": line.name,
        "role": line.role,
        "address": str(line.address),
        "before": _balance(line.before),
        "after": _balance(line.after),
        "gasWei": str(line.gas),
        "movements": [_movement(each) for each in line.movements],
    }


def _balance(balance: Balance) -> dict[str, str]:
    return {
        "wallet": str(balance.wallet),
        "stake": str(balance.stake),
        "locked": str(balance.locked),
        "ether": str(balance.ether),
    }


def _movement(movement: Movement) -> dict[str, Any]:
    return {
        "reason": movement.reason.value,
        "wallet": str(movement.wallet),
        "stake": str(movement.stake),
        "locked": str(movement.locked),
        "cause": None if movement.cause is None else str(movement.cause),
    }
