"""Random histories of the model alone: money is conserved, refusals and look-aheads leave nothing behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from blank_orders import APP_ORDER, POOL_ORDER, REQUEST_ORDER
from poolwright.poco import ids
from poolwright.poco.keccak import keccak
from poolwright.poco.matching import Orders, Policy
from poolwright.poco.model import Call, ForeignContract, Poco, Registries, workerpool_info
from poolwright.poco.orders import (
    NULL_DATASETORDER,
    Domain,
    order_hash,
)
from poolwright.poco.records import AppInfo, Category, ContributionStatus, TaskStatus
from poolwright.poco.results import result_hash, result_seal
from poolwright.poco.revert import Revert
from poolwright.poco.rewards import KITTY_ADDRESS
from poolwright.poco.types import Address, DealId, Hash32, NRlc, Seconds, TaskId, Timestamp

LONG = os.environ.get("POOLWRIGHT_HYPOTHESIS") == "long"
NOBODY = Address.zero()


def address(number: int) -> Address:
    return Address(number.to_bytes(20, "big"))


HUB, RLC, OWNER, PROVIDER, SCHEDULER, REQUESTER = (address(number) for number in range(1, 7))
WORKERS = tuple(address(number) for number in range(10, 15))
PEOPLE = (OWNER, PROVIDER, SCHEDULER, REQUESTER, *WORKERS)
WILLING = ForeignContract(accepts=lambda digest, signature: True)
"""A wallet that accepts every signature: what is signed is not the matter here."""
APP = AppInfo(owner=PROVIDER, name="app", type="DOCKER", multiaddr=b"", checksum=Hash32.zero(), mrenclave=b"")

picks = st.integers(0, 1_000)
workers = st.sampled_from(WORKERS)
letters = st.sampled_from("aaab")


def digest(letter: str) -> Hash32:
    return Hash32(keccak(letter.encode()))


class HubInvariants(RuleBasedStateMachine):
    """One rule is one operation; a refused one must leave the money as it was."""

    def __init__(self) -> None:
        super().__init__()
        self.poco = poco = Poco(
            Domain(chain_id=1, hub=HUB),
            token=RLC,
            owner=OWNER,
            registries=Registries(app=address(7), dataset=address(8), workerpool=address(9)),
            contracts=dict.fromkeys((PROVIDER, SCHEDULER, REQUESTER), WILLING),
            scores={WORKERS[0]: 51, WORKERS[1]: 14},
        )
        self.now = Timestamp(1_000)
        self.deals: list[DealId] = []
        self.tasks: list[TaskId] = []
        self.paid_out = 0
        owner = Call(OWNER, self.now)
        poco.create_category(owner, Category(name="XS", description="", timeref=Seconds(100)))
        poco.create_app(owner, APP)
        poco.create_workerpool(owner, SCHEDULER, "pool")
        self.app, self.pool = (
            poco.apps.predict(APP),
            poco.workerpools.predict(workerpool_info(SCHEDULER, "pool")),
        )
        poco.rlc_approve(owner, HUB, NRlc(10**15))
        for each in PEOPLE:
            poco.deposit_for(owner, NRlc(10**12), each)

    def call(self, caller: Address) -> Call:
        return Call(caller, self.now)

    def attempt(self, run: Callable[[], object]) -> bool:
        before = self.world()
        try:
            run()
        except Revert:
            assert self.world() == before
            return False
        return True

    def world(self) -> object:
        escrow = self.poco.escrow
        return (
            dict(escrow.balances.items()),
            dict(escrow.frozen.items()),
            [self.poco.task(task_id) for task_id in self.tasks],
            [self.poco.tally(task_id) for task_id in self.tasks],
            [self.poco.score(worker) for worker in WORKERS],
        )

    def task(self, pick: int) -> TaskId:
        return self.tasks[-1 - pick % len(self.tasks)]

    def has_tasks(self) -> bool:
        return bool(self.tasks)

    @initialize(price=st.integers(0, 10**9), trust=st.integers(0, 8))
    def first_deal(self, price: int, trust: int) -> None:
        self.deal(price, trust, 2, 35, 5)

    @precondition(lambda self: len(self.tasks) < 8)
    @rule(
        price=st.sampled_from((0, 7, 99, 25_000, 10**9, 10**13)),
        trust=st.sampled_from((0, 1, 1, 3, 5, 9)),
        volume=st.integers(1, 3),
        stake_ratio=st.sampled_from((0, 30, 120)),
        reward_ratio=st.sampled_from((0, 1, 50, 100)),
    )
    def deal(self, price: int, trust: int, volume: int, stake_ratio: int, reward_ratio: int) -> None:
        salt = Hash32(len(self.deals).to_bytes(32, "big"))
        app = replace(APP_ORDER, app=self.app, appprice=NRlc(price // 3), volume=9, salt=salt)
        pool = replace(
            POOL_ORDER, workerpool=self.pool, workerpoolprice=NRlc(price), volume=9, trust=10, salt=salt
        )
        request = replace(
            REQUEST_ORDER,
            app=self.app,
            appmaxprice=NRlc(price),
            workerpoolmaxprice=NRlc(price),
            requester=REQUESTER,
            volume=volume,
            trust=trust,
            beneficiary=REQUESTER,
            salt=salt,
        )
        self.poco.change_policy(self.call(SCHEDULER), self.pool, Policy(stake_ratio, reward_ratio))
        orders = Orders(app=app, dataset=NULL_DATASETORDER, workerpool=pool, request=request)
        if self.attempt(lambda: self.poco.match_orders(self.call(OWNER), orders)):
            deal_id = ids.deal_id(order_hash(request, self.poco.domain), 0)
            self.deals.append(deal_id)
            for index in range(volume):
                self.tasks.append(ids.task_id(deal_id, index))
                self.poco.initialize(self.call(OWNER), deal_id, index)

    @precondition(has_tasks)
    @rule(pick=picks, worker=workers, letter=letters, at_once=st.booleans())
    def contribute(self, pick: int, worker: Address, letter: str, at_once: bool) -> None:
        task_id, call = self.task(pick), self.call(worker)
        its_hash = result_hash(task_id, digest(letter))
        its_seal = result_seal(worker, task_id, digest(letter))
        if at_once and pick % 3 == 0:
            run = lambda: self.poco.contribute_and_finalize(  # noqa: E731
                call, task_id, digest(letter), b"", b"", NOBODY, b"", b""
            )
        else:
            run = lambda: self.poco.contribute(call, task_id, its_hash, its_seal, NOBODY, b"", b"")  # noqa: E731
        self.attempt(run)

    @precondition(has_tasks)
    @rule(pick=picks, letter=letters)
    def reveal_by_everybody(self, pick: int, letter: str) -> None:
        task_id = self.task(pick)
        for worker in self.poco.task(task_id).contributors[pick % 2 :]:
            self.attempt(lambda w=worker: self.poco.reveal(self.call(w), task_id, digest(letter)))

    @precondition(has_tasks)
    @rule(pick=picks, how=st.sampled_from(("finalize", "finalize", "reopen", "claim")), wait=st.booleans())
    def end(self, pick: int, how: str, wait: bool) -> None:
        """Finalize, reopen or claim; `wait` until it is time for that."""
        task_id = self.task(pick)
        if wait:
            task = self.poco.task(task_id)
            deadline = task.final_deadline if how == "claim" else task.reveal_deadline
            self.now = Timestamp(max(self.now, deadline))
        call = self.call(SCHEDULER)
        ends: dict[str, Callable[[], object]] = {
            "finalize": lambda: self.poco.finalize(call, task_id, b"", b""),
            "reopen": lambda: self.poco.reopen(call, task_id),
            "claim": lambda: self.poco.claim(call, task_id),
        }
        self.attempt(ends[how])

    @rule(seconds=st.sampled_from((1, 10, 200, 700)))
    def wait(self, seconds: int) -> None:
        self.now = Timestamp(self.now + seconds)

    @precondition(has_tasks)
    @rule(pick=picks, worker=workers)
    def look_ahead_and_return(self, pick: int, worker: Address) -> None:
        before, snapshot = self.world(), self.poco.snapshot()
        known = len(self.deals), len(self.tasks)
        self.contribute(pick, worker, "a", False)
        self.reveal_by_everybody(pick, "a")
        self.end(pick, "finalize", False)
        self.deal(99, 1, 1, 30, 1)
        del self.deals[known[0] :], self.tasks[known[1] :]
        self.poco.restore(snapshot)
        assert self.world() == before

    @invariant()
    def money_is_conserved(self) -> None:
        escrow = self.poco.escrow
        assert sum(escrow.balances.values()) == escrow.supply == self.poco.rlc.balances[HUB]
        assert escrow.balances[HUB] == sum(escrow.frozen.values())
        assert min(escrow.balances.values()) >= 0
        assert min(escrow.frozen.values(), default=0) >= 0

    @invariant()
    def frozen_money_is_what_open_tasks_hold(self) -> None:
        held = dict.fromkeys((REQUESTER, SCHEDULER, *WORKERS), 0)
        for task_id in self.tasks:
            task = self.poco.task(task_id)
            deal = self.poco.deal(task.deal_id)
            if task.status not in (TaskStatus.ACTIVE, TaskStatus.REVEALING):
                continue
            held[REQUESTER] += deal.app.price + deal.workerpool.price
            held[SCHEDULER] += deal.workerpool.price * 30 // 100
            for worker in task.contributors:
                held[worker] += deal.worker_stake
        for who, amount in held.items():
            assert self.poco.account(who).locked == amount
        assert self.poco.account(KITTY_ADDRESS).stake == 0

    @invariant()
    def counters_are_what_contributions_say(self) -> None:
        for task_id in self.tasks:
            task = self.poco.task(task_id)
            given = [self.poco.contribution(task_id, worker) for worker in task.contributors]
            assert task.reveal_counter == sum(each.status is ContributionStatus.PROVED for each in given)
            assert task.reveal_counter <= task.winner_counter <= len(given)
            assert bool(task.consensus) == (task.winner_counter > 0)
            tally = self.poco.tally(task_id)
            assert tally.total == 1 + sum(tally.groups.values())


TestHubInvariants = HubInvariants.TestCase
TestHubInvariants.settings = settings(
    max_examples=2_000 if LONG else 60,
    stateful_step_count=40,
    derandomize=not LONG,
    database=None,
    deadline=None,
)
