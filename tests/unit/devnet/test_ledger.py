"""The demo's ledger: movements read from logs, expectation by the rules, and what does not fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hub_in_memory import HUB, NAMES, RLC, TOKEN, WHO, WRONG, HubInMemory

from poolwright.devnet.ledger import (
    EndedTask,
    Line,
    Movement,
    Reason,
    by_reason,
    discrepancies,
    expected,
    lines,
    movements,
    unexpected,
)
from poolwright.poco.rewards import KITTY_ADDRESS
from poolwright.poco.types import Address, DealId, NRlc


class Book:
    """A ledger over what a hub in memory does from now on."""

    def __init__(self, hub: HubInMemory) -> None:
        self.hub = hub
        self.before = hub.balances()
        self._first = len(hub.logs)

    def movements(self) -> tuple[Movement, ...]:
        return movements(self.hub.logs[self._first :], hub=HUB, token=TOKEN)

    def lines(self) -> tuple[Line, ...]:
        accounts = {name: (name, address) for address, name in NAMES.items()}
        return lines(accounts, self.before, self.hub.balances(), self.movements())

    def wrong(self) -> list[str]:
        return discrepancies(self.lines(), self.movements())

    def unexpected(self, deal_id: DealId, *ended: EndedTask) -> list[str]:
        deal = self.hub.poco.deal(deal_id)
        wanted = expected(deal_id, deal, ended, self.movements(), NRlc(self.before[KITTY_ADDRESS].locked))
        return unexpected(wanted, self.movements(), NAMES.__getitem__)


@pytest.fixture
def hub() -> HubInMemory:
    return HubInMemory()


def told(every: tuple[Movement, ...]) -> list[tuple[str, str, int, int, int]]:
    """Movements in short: name, reason, wallet, stake, locked."""
    return [
        (NAMES.get(each.account, "somebody"), each.reason.value, each.wallet, each.stake, each.locked)
        for each in every
    ]


def test_a_match_locks_the_price_of_all_tasks_and_the_pools_stake(hub: HubInMemory) -> None:
    book = Book(hub)
    deal_id = hub.deal(tasks=3, app_price=1_000, dataset_price=500, pool_price=25_000)

    assert told(book.movements()) == [
        ("requester", "lock", 0, -79_500, 79_500),
        ("manager", "lock", 0, -22_500, 22_500),
    ]
    assert {each.cause for each in book.movements()} == {deal_id}


def test_a_finalized_task_is_told_with_price_rewards_and_fee(hub: HubInMemory) -> None:
    deal_id = hub.deal(app_price=1_000, dataset_price=500, pool_price=25_000)
    task_id = hub.initialize(deal_id)
    book = Book(hub)
    hub.run(task_id, "worker-1")

    assert told(book.movements()) == [
        ("worker-1", "lock", 0, -7_500, 7_500),
        ("requester", "seize", 0, 0, -26_500),
        ("provider", "reward", 0, 1_000, 0),
        ("provider", "reward", 0, 500, 0),
        ("manager", "unlock", 0, 7_500, -7_500),
        ("worker-1", "unlock", 0, 7_500, -7_500),
        ("worker-1", "reward", 0, 24_750, 0),
        ("manager", "fee", 0, 250, 0),
    ]
    assert {each.cause for each in book.movements()} == {task_id}


def test_a_bag_of_tasks_reconciles_and_is_what_the_rules_say(hub: HubInMemory) -> None:
    book = Book(hub)
    deal_id = hub.deal(tasks=3, trust=4, app_price=RLC // 10, dataset_price=7, pool_price=RLC + 1)
    ended = [hub.run(hub.initialize(deal_id, index), "worker-1", "worker-2") for index in range(3)]

    assert book.wrong() == []
    assert book.unexpected(deal_id, *ended) == []


def test_a_faulty_worker_loses_its_stake_to_the_others_and_the_pool(hub: HubInMemory) -> None:
    book = Book(hub)
    deal_id = hub.deal(trust=3, pool_price=25_000)
    task_id = hub.initialize(deal_id)
    hub.contribute(task_id, "worker-4", WRONG)
    for worker in ("worker-1", "worker-2", "worker-3"):
        hub.contribute(task_id, worker)
    for worker in ("worker-1", "worker-2", "worker-3"):
        hub.reveal(task_id, worker)
    ended = hub.finalize(task_id)

    assert ("worker-4", "seize", 0, 0, -7_500) in told(book.movements())
    assert ("worker-1", "reward", 0, 10_725, 0) in told(book.movements())
    assert ("manager", "fee", 0, 325, 0) in told(book.movements())
    assert book.wrong() == []
    assert book.unexpected(deal_id, ended) == []


def test_a_reopened_task_reconciles(hub: HubInMemory) -> None:
    book = Book(hub)
    deal_id = hub.deal(pool_price=25_000)
    task_id = hub.initialize(deal_id)
    hub.contribute(task_id, "worker-1")
    hub.reopen(task_id)
    ended = hub.run(task_id, "worker-2")

    assert ("worker-1", "seize", 0, 0, -7_500) in told(book.movements())
    assert book.wrong() == []
    assert book.unexpected(deal_id, ended) == []


def test_contribute_and_finalize_pays_without_a_stake(hub: HubInMemory) -> None:
    book = Book(hub)
    deal_id = hub.deal(app_price=3, pool_price=25_001)
    ended = hub.contribute_and_finalize(hub.initialize(deal_id), "worker-2")

    assert ("manager", "fee", 0, 251, 0) in told(book.movements())
    assert book.wrong() == []
    assert book.unexpected(deal_id, ended) == []


def test_claimed_tasks_feed_the_kitty_which_a_later_task_shares_out(hub: HubInMemory) -> None:
    book = Book(hub)
    lost = hub.deal(tasks=2, pool_price=20 * RLC)
    task_ids = [hub.initialize(lost, index) for index in range(2)]
    hub.contribute(task_ids[0], "worker-1")
    claimed = hub.claim(*task_ids)
    good = hub.deal(tasks=2, pool_price=RLC)
    ended = [hub.run(hub.initialize(good, index), "worker-1") for index in range(2)]

    assert told(tuple(each for each in book.movements() if each.account == KITTY_ADDRESS)) == [
        ("kitty", "lock", 0, 0, 6 * RLC),
        ("kitty", "lock", 0, 0, 6 * RLC),
        ("kitty", "seize", 0, 0, -12 * RLC // 10),
        ("kitty", "seize", 0, 0, -108 * RLC // 100),
    ]
    assert ("manager", "bonus", 0, 12 * RLC // 10, 0) in told(book.movements())
    assert book.wrong() == []
    assert book.unexpected(lost, *claimed) == []
    assert book.unexpected(good, *ended) == []


def test_a_kitty_filled_after_the_task_gives_it_no_bonus(hub: HubInMemory) -> None:
    book = Book(hub)
    good, lost = hub.deal(), hub.deal(pool_price=20 * RLC)
    ended = hub.run(hub.initialize(good), "worker-1")
    hub.claim(hub.initialize(lost))

    assert book.unexpected(good, ended) == []


def test_a_free_task_moves_nothing_and_still_reconciles(hub: HubInMemory) -> None:
    book = Book(hub)
    deal_id = hub.deal(pool_price=0)
    ended = hub.run(hub.initialize(deal_id), "worker-1")

    assert book.movements() == ()
    assert book.wrong() == []
    assert book.unexpected(deal_id, ended) == []


def test_money_that_others_move_meanwhile_is_explained_too(hub: HubInMemory) -> None:
    book = Book(hub)
    deal_id, other = hub.deal(), hub.deal(tasks=2)
    hub.deposit("worker-1", 5)
    hub.withdraw("manager", 7)
    hub.transfer_stake("requester", Address(b"\x77" * 20), 11)
    hub.transfer_rlc("requester", "worker-2", 13)
    ended = hub.run(hub.initialize(deal_id), "worker-1")
    hub.contribute(hub.initialize(other), "worker-2")

    assert book.wrong() == []
    assert book.unexpected(deal_id, ended) == []
    short = {each for each in told(book.movements()) if each[1] in ("deposit", "withdrawal", "transfer")}
    assert {("worker-1", "deposit", -5, 0, 0), ("worker-1", "deposit", 0, 5, 0)} <= short
    assert {("manager", "withdrawal", 7, 0, 0), ("manager", "withdrawal", 0, -7, 0)} <= short
    assert {("requester", "transfer", -13, 0, 0), ("worker-2", "transfer", 13, 0, 0)} <= short
    assert ("requester", "transfer", 0, -11, 0) in short
    assert all(each.cause is None for each in book.movements() if each.reason in OUTSIDE)


OUTSIDE = (Reason.DEPOSIT, Reason.WITHDRAWAL, Reason.TRANSFER)


def test_one_nrlc_that_the_logs_do_not_explain_is_named(hub: HubInMemory) -> None:
    book = Book(hub)
    hub.deal()
    [first, *rest] = book.lines()
    after = replace(first.after, locked=NRlc(first.after.locked + 1))

    [wrong] = discrepancies([replace(first, after=after), *rest], book.movements())

    assert wrong.startswith(f"{first.name} {first.address}: locked")
    assert "expected" in wrong
    assert "got" in wrong


def test_money_that_appears_from_nowhere_in_a_task_is_named(hub: HubInMemory) -> None:
    book = Book(hub)
    deal_id = hub.deal()
    hub.run(hub.initialize(deal_id), "worker-1")
    every = book.movements()
    at = next(n for n, each in enumerate(every) if each.reason is Reason.FEE)
    forged = (*every[:at], replace(every[at], stake=every[at].stake + 2), *every[at + 1 :])

    [wrong] = discrepancies([], forged)

    assert "does not sum up: expected 0, got +2 nRLC" in wrong


def test_a_payout_that_the_rules_do_not_know_is_named_from_both_sides(hub: HubInMemory) -> None:
    book = Book(hub)
    deal_id = hub.deal(pool_price=25_000)
    ended = hub.run(hub.initialize(deal_id), "worker-1")
    wanted = expected(deal_id, hub.poco.deal(deal_id), [ended], book.movements(), NRlc(0))
    forged = [
        replace(each, stake=each.stake - 1) if each.reason is Reason.REWARD else each
        for each in book.movements()
    ]

    missing, surplus = unexpected(wanted, forged, NAMES.__getitem__)

    assert missing.startswith("expected by the rules, not on the chain: reward of worker-1, stake +24750")
    assert surplus.startswith("on the chain, not expected by the rules: reward of worker-1, stake +24749")


def test_a_line_sums_its_movements_by_reason(hub: HubInMemory) -> None:
    book = Book(hub)
    deal_id = hub.deal(tasks=2, pool_price=25_000)
    for index in range(2):
        hub.run(hub.initialize(deal_id, index), "worker-1")
    worker = next(line for line in book.lines() if line.address == WHO["worker-1"])

    assert by_reason(worker.movements) == {Reason.LOCK: 15_000, Reason.UNLOCK: 15_000, Reason.REWARD: 49_500}
    assert worker.after.total - worker.before.total == 49_500
