"""Where every nRLC went: the movements that the chain's logs tell, and whether they explain the balances.

Each account has RLC in three places: its *wallet* (the token), its free *stake* in the hub, and what is
*locked* there. The hub's logs say what moved:

    Transfer            free stake from one account to another; together with the log that follows it
      + Lock, Unlock    between the owner's free and locked stake
      + Reward          from what was seized to the owner's free stake
    Seize               out of the owner's locked stake
    Lock alone          into the kitty, which has no free stake
    Transfer of the RLC token   between wallets, one of which may be the hub's

`movements` reads them in the chain's order, `discrepancies` holds them against the balances read from the
chain, to the last nRLC; `expected` says by the rules of the protocol what one deal moves, and `unexpected`
compares. Everything here is pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from poolwright.poco import rewards
from poolwright.poco.events import (
    HubEvent,
    Lock,
    Log,
    OrdersMatched,
    Reward,
    Seize,
    TaskClaimed,
    TaskContribute,
    TaskFinalize,
    Transfer,
    Unlock,
    decode_log,
)
from poolwright.poco.records import Contribution, Deal
from poolwright.poco.types import Address, DealId, Hash32, NRlc, TaskId, TxHash, Wei


class Reason(StrEnum):
    """Why money moved."""

    LOCK = "lock"
    UNLOCK = "unlock"
    SEIZE = "seize"
    """Taken from locked stake: what the requester pays, or a lost stake."""
    REWARD = "reward"
    """Paid to a worker or to the owner of app or dataset."""
    FEE = "fee"
    """The pool owner's part of price and lost stakes."""
    BONUS = "bonus"
    """From the kitty to the pool's owner."""
    TRANSFER = "transfer"
    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """One change of one account, in nRLC; `cause` is the deal or task that it belongs to."""

    account: Address
    reason: Reason
    wallet: int = 0
    stake: int = 0
    locked: int = 0
    cause: Hash32 | None = None

    @property
    def total(self) -> int:
        return self.wallet + self.stake + self.locked


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What an account has at one block."""

    wallet: NRlc
    """RLC outside the hub."""
    stake: NRlc
    """Free, in the hub."""
    locked: NRlc
    ether: Wei

    @property
    def total(self) -> int:
        """All its RLC."""
        return self.wallet + self.stake + self.locked


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One account of the ledger."""

    name: str
    role: str
    address: Address
    before: Balance
    after: Balance
    movements: tuple[Movement, ...]
    """All of this account's between the two blocks, in order."""

    @property
    def gas(self) -> Wei:
        """Ether spent between the two blocks."""
        return Wei(self.before.ether - self.after.ether)


def by_reason(moved: Iterable[Movement]) -> dict[Reason, int]:
    """How much each reason moved, as one positive number per reason, in the order of Reason."""
    sums: Counter[Reason] = Counter()
    for each in moved:
        sums[each.reason] += max(abs(each.wallet), abs(each.stake), abs(each.locked))
    return {reason: sums[reason] for reason in Reason if sums[reason]}


class Ending(StrEnum):
    """How a task ended."""

    FINALIZED = "finalize"
    FAST = "contributeAndFinalize"
    CLAIMED = "claim"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedTask:
    """What the protocol's rules need to share out one task."""

    task_id: TaskId
    ending: Ending
    contributions: tuple[tuple[Address, Contribution], ...]
    """In the order in which they came."""


# --- from logs to movements ---------------------------------------------------------------------------------


def movements(logs: Iterable[Log], *, hub: Address, token: Address) -> tuple[Movement, ...]:
    """All movements of all accounts that these logs tell; `logs` are complete blocks in chain order.

    What the hub holds for others is no account here. Raises PeerError for a log that cannot be read.
    """
    found: list[Movement] = []
    transaction: TxHash | None = None
    events: list[HubEvent] = []
    for log in logs:
        if log.address not in (hub, token):
            continue
        if log.tx_hash != transaction:
            found += _of_transaction(events, hub)
            transaction, events = log.tx_hash, []
        event = decode_log(log)
        if log.address == hub:
            if event is not None:
                events.append(event)
        elif isinstance(event, Transfer):
            found += _token_transfer(event, hub)
    found += _of_transaction(events, hub)
    return tuple(found)


def _of_transaction(events: Sequence[HubEvent], hub: Address) -> list[Movement]:
    """The movements of one transaction's hub events.

    The hub logs a task's or a deal's money first and then what it was about, so money waits for that.
    """
    done: list[Movement] = []
    waiting: list[Movement] = []
    position = 0
    while position < len(events):
        event = events[position]
        following = events[position + 1] if position + 1 < len(events) else None
        position += 1
        match event:
            case Transfer():
                pair = _paired(event, following, hub)
                if pair is None:
                    done += _stake_transfer(event, hub)
                    continue
                waiting.append(_after_kitty(pair, events, position - 2))
                position += 1
            case Seize(owner=owner, amount=amount):
                waiting.append(Movement(account=owner, reason=Reason.SEIZE, locked=-amount))
            case Lock(owner=owner, amount=amount):
                waiting.append(Movement(account=owner, reason=Reason.LOCK, locked=amount))
            case Unlock(owner=owner, amount=amount):
                waiting.append(Movement(account=owner, reason=Reason.UNLOCK, locked=-amount))
            case OrdersMatched(deal_id=cause) | TaskClaimed(task_id=cause):
                done += _caused(waiting, cause)
                waiting = []
            case TaskContribute(task_id=cause) | TaskFinalize(task_id=cause):
                done += _caused(_with_fee(waiting), cause)
                waiting = []
            case _:
                pass
    return [each for each in (*done, *waiting) if each.total or each.stake or each.locked]


def _paired(transfer: Transfer, following: HubEvent | None, hub: Address) -> Movement | None:
    """The movement that a Transfer and the event after it tell together."""
    source, target, value = transfer.source, transfer.target, transfer.value
    match following:
        case Lock(owner=owner, amount=amount) if (owner, hub, value) == (source, target, amount):
            return Movement(account=owner, reason=Reason.LOCK, stake=-value, locked=value)
        case Unlock(owner=owner, amount=amount) if (hub, owner, value) == (source, target, amount):
            return Movement(account=owner, reason=Reason.UNLOCK, stake=value, locked=-value)
        case Reward(owner=owner, amount=amount) if (hub, owner, value) == (source, target, amount):
            return Movement(account=owner, reason=Reason.REWARD, stake=value)
        case _:
            return None


def _after_kitty(pair: Movement, events: Sequence[HubEvent], before: int) -> Movement:
    """A reward right after the kitty was seized is the kitty's bonus."""
    if pair.reason is Reason.REWARD and before >= 0:
        previous = events[before]
        if isinstance(previous, Seize) and previous.owner == rewards.KITTY_ADDRESS:
            return replace(pair, reason=Reason.BONUS)
    return pair


def _with_fee(money: list[Movement]) -> list[Movement]:
    """The hub pays the pool's owner last; what a mere contribution moves has no reward in it."""
    for position in range(len(money) - 1, -1, -1):
        if money[position].reason is Reason.REWARD:
            fee = replace(money[position], reason=Reason.FEE)
            return [*money[:position], fee, *money[position + 1 :]]
    return money


def _caused(money: Iterable[Movement], cause: Hash32) -> list[Movement]:
    return [replace(each, cause=cause) for each in money]


def _stake_transfer(transfer: Transfer, hub: Address) -> list[Movement]:
    reason = Reason.TRANSFER
    if not transfer.source:
        reason = Reason.DEPOSIT
    elif not transfer.target:
        reason = Reason.WITHDRAWAL
    sides = ((transfer.source, -transfer.value), (transfer.target, transfer.value))
    return [
        Movement(account=account, reason=reason, stake=change)
        for account, change in sides
        if account and account != hub
    ]


def _token_transfer(transfer: Transfer, hub: Address) -> list[Movement]:
    reason = Reason.TRANSFER
    if transfer.target == hub:
        reason = Reason.DEPOSIT
    elif transfer.source == hub:
        reason = Reason.WITHDRAWAL
    sides = ((transfer.source, -transfer.value), (transfer.target, transfer.value))
    return [
        Movement(account=account, reason=reason, wallet=change)
        for account, change in sides
        if account and account != hub and change
    ]


# --- what the protocol's rules say --------------------------------------------------------------------------


def expected(
    deal_id: DealId, deal: Deal, ended: Sequence[EndedTask], observed: Sequence[Movement], kitty: NRlc
) -> tuple[Movement, ...]:
    """What a deal and its ended tasks must have moved, by `poco.rewards`.

    `kitty` is what the kitty held before `observed`, whose movements of the kitty by other deals count too:
    the bonus of a task depends on what the kitty holds at that moment.
    """
    price, stake = rewards.task_price(deal), rewards.pool_stake(deal.workerpool.price)
    volume, pool_owner = deal.bot_size, deal.workerpool.owner
    found = [_lock(deal.sponsor, price * volume, deal_id), _lock(pool_owner, stake * volume, deal_id)]
    for task in ended:
        held = NRlc(kitty + kitty_change(observed, task.task_id))
        found += _of_task(deal, task, held)
    return tuple(each for each in found if each.stake or each.locked)


def kitty_change(observed: Sequence[Movement], until: TaskId) -> int:
    """How much the kitty gained before task `until` ended; contributions, which only lock, do not end it."""
    change = 0
    for each in observed:
        if each.cause == until and each.reason is not Reason.LOCK:
            break
        if each.account == rewards.KITTY_ADDRESS:
            change += each.locked
    return change


def _of_task(deal: Deal, task: EndedTask, kitty: NRlc) -> list[Movement]:
    cause, pool_owner, payer = task.task_id, deal.workerpool.owner, deal.sponsor
    payout = _payout(deal, task, kitty)
    found = [_lock(one.worker, one.stake, cause) for one in payout.workers]
    if task.ending is Ending.CLAIMED:
        found += [
            _unlock(payer, payout.sponsor_locked, cause),
            _seize(pool_owner, payout.pool_stake, cause),
            Movement(
                account=rewards.KITTY_ADDRESS, reason=Reason.LOCK, locked=payout.pool_stake, cause=cause
            ),
        ]
    else:
        found += [
            _seize(payer, payout.sponsor_locked, cause),
            _paid(deal.app.owner, payout.app, cause),
            _paid(deal.dataset.owner, payout.dataset, cause),
            _unlock(pool_owner, payout.pool_stake, cause),
            _seize(rewards.KITTY_ADDRESS, payout.kitty_bonus, cause),
            _paid(pool_owner, payout.kitty_bonus, cause, Reason.BONUS),
            _paid(pool_owner, payout.scheduler, cause, Reason.FEE),
        ]
    for one in payout.workers:
        found.append((_seize if one.is_faulty else _unlock)(one.worker, one.stake, cause))
        found.append(_paid(one.worker, one.reward, cause))
    return found


def _payout(deal: Deal, task: EndedTask, kitty: NRlc) -> rewards.Payout:
    workers = [worker for worker, _ in task.contributions]
    match task.ending:
        case Ending.FINALIZED:
            return rewards.finalize_payout(deal, task.contributions, kitty)
        case Ending.FAST:
            return rewards.fast_payout(deal, workers[0], kitty)
        case Ending.CLAIMED:
            return rewards.claim_payout(deal, workers)


def _lock(account: Address, amount: int, cause: Hash32) -> Movement:
    return Movement(account=account, reason=Reason.LOCK, stake=-amount, locked=amount, cause=cause)


def _unlock(account: Address, amount: int, cause: Hash32) -> Movement:
    return Movement(account=account, reason=Reason.UNLOCK, stake=amount, locked=-amount, cause=cause)


def _seize(account: Address, amount: int, cause: Hash32) -> Movement:
    return Movement(account=account, reason=Reason.SEIZE, locked=-amount, cause=cause)


def _paid(account: Address, amount: int, cause: Hash32, reason: Reason = Reason.REWARD) -> Movement:
    return Movement(account=account, reason=reason, stake=amount, cause=cause)


# --- what does not fit --------------------------------------------------------------------------------------


def discrepancies(lines: Sequence[Line], every: Sequence[Movement]) -> list[str]:
    """What is wrong with a ledger whose movements are `every`; empty when it reconciles.

    Each line's balances must differ by exactly its movements, place by place, and what each deal and each
    task moved, over all accounts, must sum up to nothing.
    """
    wrong = []
    for line in lines:
        for place in ("wallet", "stake", "locked"):
            moved = sum(getattr(each, place) for each in line.movements)
            before, after = getattr(line.before, place), getattr(line.after, place)
            if before + moved != after:
                wrong.append(
                    f"{line.name} {line.address}: {place} {before} before and {moved:+d} by the logs, "
                    f"expected {before + moved} after, got {after} nRLC"
                )
    sums: Counter[Hash32] = Counter()
    for each in every:
        if each.cause is not None:
            sums[each.cause] += each.total
    wrong += [
        f"the money of {cause} does not sum up: expected 0, got {amount:+d} nRLC"
        for cause, amount in sums.items()
        if amount
    ]
    return wrong


def unexpected(
    wanted: Sequence[Movement], observed: Sequence[Movement], name_of: Callable[[Address], str]
) -> list[str]:
    """How a deal's observed movements differ from the wanted ones, in any order; empty when they do not."""
    causes = {each.cause for each in wanted}
    want = Counter(wanted)
    have = Counter(each for each in observed if each.cause in causes)
    missing = [f"expected by the rules, not on the chain: {_words(each, name_of)}" for each in want - have]
    surplus = [f"on the chain, not expected by the rules: {_words(each, name_of)}" for each in have - want]
    return missing + surplus


def _words(movement: Movement, name_of: Callable[[Address], str]) -> str:
    return (
        f"{movement.reason} of {name_of(movement.account)}, stake {movement.stake:+d}, "
        f"locked {movement.locked:+d} nRLC, for {movement.cause}"
    )


def lines(
    accounts: Mapping[str, tuple[str, Address]],
    before: Mapping[Address, Balance],
    after: Mapping[Address, Balance],
    every: Sequence[Movement],
) -> tuple[Line, ...]:
    """The ledger of these accounts (name -> role and address), each with its own movements."""
    return tuple(
        Line(
            name=name,
            role=role,
            address=address,
            before=before[address],
            after=after[address],
            movements=tuple(each for each in every if each.account == address),
        )
        for name, (role, address) in accounts.items()
    )
