"""Random histories: whatever is done to the official contracts and to the model, they stay equal.

One Hypothesis rule is one transaction or a jump in time. `Pair.do` compares outcome, revert data, logs and
the whole state after each, so the rules only choose what to try: mostly what makes sense, so that histories
get far, and often enough something wrong. Each history starts from the same market and is taken back.

The default run is the same each time and stops at the first difference. POOLWRIGHT_HYPOTHESIS=long tries
many more, at random, and reduces a history that fails to its shortest form.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
from cast import (
    BROKER,
    ENCLAVES,
    EVERYBODY,
    REQUESTER,
    SCHEDULER,
    SIGNERS,
    SPONSOR,
    STRANGER,
    WORKERS,
    Person,
)
from hub_pair import Result
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from rejections import REJECTIONS
from stage import NOBODY, STAKE_EACH, Stage, callback_bytes, digest

from poolwright.poco.matching import EntryKind, Orders, Policy
from poolwright.poco.orders import Order
from poolwright.poco.records import Category, ContributionStatus, OnchainTask, OrderOperation, TaskStatus
from poolwright.poco.results import result_hash, result_seal
from poolwright.poco.revert import UINT256_MAX, Revert
from poolwright.poco.rewards import KITTY_ADDRESS
from poolwright.poco.tags import GPU, NO_TAG, SCONE, TDX, TEE, Tag
from poolwright.poco.types import Address, DealId, NRlc, Seconds, TaskId, Timestamp

pytestmark = pytest.mark.chain

LONG = os.environ.get("POOLWRIGHT_HYPOTHESIS") == "long"
RUNS, HISTORIES, STEPS = (100, 10, 120) if LONG else (6, 8, 36)
"""Many short runs: from the eleventh example on Hypothesis mostly repeats parts of earlier ones."""

EFFORT = settings(
    max_examples=HISTORIES,
    stateful_step_count=STEPS,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=list(Phase) if LONG else [Phase.generate],
    print_blob=True,
)

WORKER_PRICES = (0, 1, 7, 99, 1_000, 25_000, 33_333, 10**9, 3 * 10**9)
MONEY_MOVES = (
    "deposit",
    "deposit_for",
    "deposit_for_array",
    "rlc_approve_and_call",
    "withdraw",
    "withdraw_to",
)
MONEY_MOVES += ("transfer", "rlc_transfer", "approve", "transfer_from", "recover")
OPEN = (TaskStatus.ACTIVE, TaskStatus.REVEALING)
MOST_DEALS = 6
"""In one history; more would only make each comparison longer."""

ANY = st.integers(min_value=0, max_value=1_000)
"""Picks something from whatever there is, by remainder."""

people = st.sampled_from(EVERYBODY)
workers = st.sampled_from(WORKERS)
letters = st.sampled_from("aaaaaabbc")
crews = st.lists(workers, min_size=2, max_size=6)
amounts = st.sampled_from((0, 1, 8_750, 10**9, STAKE_EACH - 8_749, STAKE_EACH, 2 * STAKE_EACH, UINT256_MAX))
rejections = st.sampled_from(
    [(number, way) for number, ways in REJECTIONS.items() for way in range(len(ways))]
)


def mostly(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    """The usual thing four times out of five."""
    return st.sampled_from([usual] * 4 * len(others) + list(others))


@dataclass(frozen=True)
class Terms:
    """What a deal is about."""

    with_dataset: bool
    appprice: int
    datasetprice: int
    workerpoolprice: int
    trust: int
    volume: int
    category: int
    tag: Tag
    callback: str
    requester: Person
    sponsor: Person | None


terms = st.builds(
    Terms,
    with_dataset=st.booleans(),
    appprice=st.sampled_from((0, 1, 1_000, 10**9)),
    datasetprice=st.sampled_from((0, 500, 10**9)),
    workerpoolprice=st.sampled_from(WORKER_PRICES),
    trust=st.sampled_from((0, 1, 1, 2, 3, 4, 5, 8, 17)),
    volume=st.sampled_from((1, 2, 5)),
    category=st.integers(0, 4),
    tag=mostly(NO_TAG, TEE, TEE | SCONE, TEE | TDX, GPU),
    callback=mostly("none", "client", "account"),
    requester=mostly(REQUESTER, WORKERS[0], SCHEDULER),
    sponsor=mostly(None, SPONSOR, REQUESTER, STRANGER),
)


class HubBesideModel(RuleBasedStateMachine):
    """What is tried; see `Pair` for what is compared."""

    stage: ClassVar[Stage]

    def __init__(self) -> None:
        super().__init__()
        self.take_back: Callable[[], None] = self.stage.checkpoint()
        self.orders: list[Orders] = []

    def teardown(self) -> None:
        try:
            self.stage.compare(everything=True)
        finally:
            self.take_back()

    # --- picking

    def a_task(self, pick: int, *statuses: TaskStatus) -> TaskId:
        """One of the tasks; seven times out of eight one in these statuses, if there is one."""
        tasks = self.stage.tasks
        liked = [task_id for task_id in tasks if self.onchain(task_id).status in statuses]
        pool = liked if liked and pick % 8 else tasks
        return pool[-1 - pick // 8 % len(pool)]

    def wait_until(self, moment: int) -> None:
        """Let the next block be at this moment, if that is still to come."""
        self.stage.now = Timestamp(max(self.stage.now, moment - 1))

    def a_deal(self, pick: int) -> DealId:
        return self.stage.deals[-1 - pick % len(self.stage.deals)]

    def onchain(self, task_id: TaskId) -> OnchainTask:
        return self.stage.poco.task(task_id)

    def open_tasks(self) -> list[TaskId]:
        return [task_id for task_id in self.stage.tasks if self.onchain(task_id).status in OPEN]

    def has_tasks(self) -> bool:
        return bool(self.stage.tasks)

    def has_open_tasks(self) -> bool:
        return bool(self.open_tasks())

    def has_active_tasks(self) -> bool:
        return any(self.onchain(task_id).status is TaskStatus.ACTIVE for task_id in self.stage.tasks)

    def has_revealing_tasks(self) -> bool:
        return any(self.onchain(task_id).status is TaskStatus.REVEALING for task_id in self.stage.tasks)

    def has_deals(self) -> bool:
        return bool(self.stage.deals)

    def has_orders(self) -> bool:
        return bool(self.orders)

    # --- deals

    @initialize(deals=st.lists(terms, min_size=1, max_size=3))
    def open_the_market(self, deals: list[Terms]) -> None:
        for each in deals:
            self.make_a_deal(each)

    def has_room(self) -> bool:
        return len(self.stage.deals) < MOST_DEALS

    @precondition(has_room)
    @rule(terms=terms)
    def make_a_deal(self, terms: Terms) -> None:
        callbacks = {"none": NOBODY, "client": self.stage.client, "account": STRANGER.address}
        orders = self.stage.orders(
            with_dataset=terms.with_dataset,
            app={"appprice": NRlc(terms.appprice), "tag": terms.tag},
            dataset={"datasetprice": NRlc(terms.datasetprice)},
            workerpool={
                "workerpoolprice": NRlc(terms.workerpoolprice),
                "tag": terms.tag,
                "category": terms.category,
            },
            request={
                "trust": terms.trust,
                "volume": terms.volume,
                "category": terms.category,
                "requester": terms.requester.address,
                "callback": callbacks[terms.callback],
            },
        )
        self.orders.append(orders)
        known = len(self.stage.deals)
        self.match(orders, terms.sponsor)
        for deal_id in self.stage.deals[known:]:
            self.stage.initialize(STRANGER.address, deal_id, 0)

    @rule(rejection=rejections, sponsor=mostly(None, SPONSOR))
    def try_orders_that_do_not_match(self, rejection: tuple[int, int], sponsor: Person | None) -> None:
        number, way = rejection
        self.match(REJECTIONS[number][way](self.stage), sponsor)

    @precondition(lambda self: self.has_orders() and self.has_room())
    @rule(
        app=ANY,
        dataset=ANY,
        workerpool=ANY,
        request=ANY,
        sponsor=mostly(None, SPONSOR),
        unsigned=mostly(0, 1, 2, 4, 8),
    )
    def match_known_orders_again(
        self, app: int, dataset: int, workerpool: int, request: int, sponsor: Person | None, unsigned: int
    ) -> None:
        known = [self.orders[-1 - pick % len(self.orders)] for pick in (app, dataset, workerpool, request)]
        orders = Orders(
            app=known[0].app,
            dataset=known[1].dataset,
            workerpool=known[2].workerpool,
            request=known[3].request,
        )
        for bit, name in enumerate(("app", "dataset", "workerpool", "request")):
            if unsigned >> bit & 1:
                orders = replace(orders, **{name: replace(getattr(orders, name), sign=b"")})
        self.match(orders, sponsor)

    def match(self, orders: Orders, sponsor: Person | None) -> None:
        if sponsor is None:
            self.stage.match(STRANGER.address, orders)
        else:
            self.stage.sponsor_match(sponsor.address, orders)

    @precondition(has_orders)
    @rule(
        pick=ANY,
        which=st.sampled_from(("app", "dataset", "workerpool", "request")),
        operation=st.sampled_from(OrderOperation),
        how=st.sampled_from(("owner", "owner", "signature", "other operation", "stranger", "malformed")),
    )
    def presign_or_close_an_order(self, pick: int, which: str, operation: OrderOperation, how: str) -> None:
        order: Order = getattr(self.orders[-1 - pick % len(self.orders)], which)
        resource = getattr(order, "requester" if which == "request" else which)
        owner = SIGNERS.get(resource) if which == "request" else self.stage.owner_of(resource)
        owner = owner or STRANGER
        caller, sign = STRANGER, b""
        if how == "owner":
            caller = owner
        elif how == "signature":
            sign = owner.operation(order, operation, self.stage.domain)
        elif how == "other operation":
            sign = owner.operation(order, OrderOperation(1 - operation), self.stage.domain)
        elif how == "stranger":
            sign = STRANGER.operation(order, operation, self.stage.domain)
        self.stage.manage_order(caller.address, order, operation, sign)

    # --- tasks

    @precondition(has_deals)
    @rule(pick=ANY, index=st.sampled_from((0, 0, 0, 1, 1, 2, 4, 5)), caller=people)
    def initialize_one(self, pick: int, index: int, caller: Person) -> None:
        deal_id = self.a_deal(pick)
        self.stage.initialize(caller.address, deal_id, self.stage.poco.deal(deal_id).bot_first + index)

    @precondition(has_deals)
    @rule(
        picks=st.lists(st.tuples(ANY, st.integers(0, 2)), max_size=3), short=mostly(0, 1), claim=st.booleans()
    )
    def initialize_many(self, picks: list[tuple[int, int]], short: int, claim: bool) -> None:
        deal_ids = [self.a_deal(pick) for pick, _ in picks]
        indexes = [index for _, index in picks][short:]
        if claim:
            self.stage.initialize_and_claim_array(STRANGER.address, deal_ids, indexes)
        else:
            self.stage.initialize_array(STRANGER.address, deal_ids, indexes)

    @precondition(has_open_tasks)
    @rule(who=crews, letter=letters)
    def carry_the_oldest_open_task_on(self, who: list[Person], letter: str) -> None:
        self.carry_on(self.open_tasks()[0], who, letter)

    @precondition(has_open_tasks)
    @rule(who=crews, letter=letters)
    def carry_the_newest_open_task_on(self, who: list[Person], letter: str) -> None:
        self.carry_on(self.open_tasks()[-1], who, letter)

    @precondition(has_open_tasks)
    @rule(pick=ANY, who=crews, letter=letters)
    def carry_some_open_task_on(self, pick: int, who: list[Person], letter: str) -> None:
        self.carry_on(self.a_task(pick, *OPEN), who, letter)

    def carry_on(self, task_id: TaskId, who: list[Person], letter: str) -> None:
        """Take honest steps as the task's status asks for, so that histories get far."""
        for worker in who:
            if isinstance(self.take_an_honest_step(task_id, worker, letter), Revert):
                return

    def take_an_honest_step(self, task_id: TaskId, worker: Person, letter: str) -> Result:
        task, stage = self.onchain(task_id), self.stage
        deal = stage.poco.deal(task.deal_id)
        if task.status is TaskStatus.ACTIVE:
            enclave = ENCLAVES[0] if deal.tag & TEE else None
            return stage.contribute_as(worker, task_id, letter, enclave=enclave)
        for contributor in task.contributors:
            contribution = stage.poco.contribution(task_id, contributor)
            if contribution.status is not ContributionStatus.CONTRIBUTED:
                continue
            for each in "abc":
                if contribution.result_hash == result_hash(task_id, digest(each)) == task.consensus:
                    return stage.reveal(contributor, task_id, digest(each))
        callback = b"".join(
            callback_bytes(each) for each in "abc" if deal.callback and digest(each) == task.result_digest
        )
        return stage.finalize(deal.workerpool.owner, task_id, b"result", callback)

    @precondition(has_active_tasks)
    @rule(
        pick=ANY,
        worker=workers,
        letter=letters,
        seal=mostly("right", "wrong"),
        enclave=mostly(None, *ENCLAVES),
        attest=mostly("right", "another", "malformed"),
        authorization=mostly(
            "right", "owner", "stranger", "another worker", "another enclave", "malformed", "compact"
        ),
        at_once=mostly(False, True, True),
        callback=mostly("fitting", "empty", "another"),
    )
    def contribute(
        self,
        pick: int,
        worker: Person,
        letter: str,
        seal: str,
        enclave: Person | None,
        attest: str,
        authorization: str,
        at_once: bool,
        callback: str,
    ) -> None:
        stage, task_id = self.stage, self.a_task(pick, TaskStatus.ACTIVE)
        the_digest = digest(letter)
        its_hash = result_hash(task_id, the_digest)
        its_seal = result_seal(worker.address, task_id, the_digest if seal == "right" else its_hash)
        challenge = enclave.address if enclave else NOBODY
        attestation = b""
        if attest == "right" and enclave:
            attestation = enclave.attest(its_hash, its_seal)
        elif attest == "another":
            attestation = ENCLAVES[1].attest(its_hash, its_seal)
        permission = self.authorization(authorization, worker.address, task_id, challenge)
        if not at_once:
            stage.contribute(worker.address, task_id, its_hash, its_seal, challenge, attestation, permission)
            return
        has_callback = bool(stage.poco.deal(self.onchain(task_id).deal_id).callback)
        given = callback_bytes(letter) if has_callback or callback == "another" else b""
        stage.contribute_and_finalize(
            worker.address,
            task_id,
            the_digest,
            b"link",
            b"" if callback == "empty" else given,
            challenge,
            attestation,
            permission,
        )

    def authorization(self, how: str, worker: Address, task_id: TaskId, challenge: Address) -> bytes:
        signer = self.stage.authorizer_of(task_id, challenge)
        if how == "owner":
            signer = self.stage.scheduler_of(task_id)
        elif how == "stranger":
            signer = STRANGER
        elif how == "another worker":
            worker = WORKERS[0].address
        elif how == "another enclave":
            challenge = ENCLAVES[1].address
        elif how == "malformed":
            return bytes(20)
        sign = signer.authorize(worker, task_id, challenge)
        if how == "compact":
            s = int.from_bytes(sign[32:64], "big") | (sign[64] - 27) << 255
            return sign[:32] + s.to_bytes(32, "big")
        return sign

    @precondition(has_active_tasks)
    @rule(pick=ANY, worker=workers, late=mostly(False, True))
    def do_it_all_at_once(self, pick: int, worker: Person, late: bool) -> None:
        """contributeAndFinalize as it should be, for a task that allows it if there is one."""
        stage, tasks = self.stage, self.stage.tasks
        fresh = [
            task_id
            for task_id in tasks
            if stage.poco.deal(self.onchain(task_id).deal_id).trust == 1
            and self.onchain(task_id).status is TaskStatus.ACTIVE
            and not self.onchain(task_id).contributors
        ]
        task_id = fresh[pick % len(fresh)] if fresh else self.a_task(pick)
        task = self.onchain(task_id)
        deal = stage.poco.deal(task.deal_id)
        enclave = ENCLAVES[pick % 2] if deal.tag & TEE else None
        challenge = enclave.address if enclave else NOBODY
        its_hash = result_hash(task_id, digest("a"))
        its_seal = result_seal(worker.address, task_id, digest("a"))
        stage.contribute_and_finalize(
            worker.address,
            task_id,
            digest("a"),
            b"link",
            callback_bytes("a") if deal.callback else b"",
            challenge,
            enclave.attest(its_hash, its_seal) if enclave else b"",
            stage.authorizer_of(task_id, challenge).authorize(worker.address, task_id, challenge),
            at=Timestamp(max(stage.now + 1, task.contribution_deadline)) if late else None,
        )

    @precondition(has_revealing_tasks)
    @rule(pick=ANY, worker=workers, letter=letters)
    def reveal(self, pick: int, worker: Person, letter: str) -> None:
        task_id = self.a_task(pick, TaskStatus.REVEALING)
        contributors = self.onchain(task_id).contributors
        who = contributors[pick // 8 % len(contributors)] if contributors and pick % 4 else worker.address
        self.stage.reveal(who, task_id, digest(letter))

    @precondition(has_revealing_tasks)
    @rule(pick=ANY, by_stranger=mostly(False, True), wait=mostly(0, None, -1))
    def reopen(self, pick: int, by_stranger: bool, wait: int | None) -> None:
        """Reopen, usually at the reveal deadline or a second beside it, preferably where nobody revealed."""
        unrevealed = [
            task_id
            for task_id in self.stage.tasks
            if self.onchain(task_id).status is TaskStatus.REVEALING
            and not self.onchain(task_id).reveal_counter
        ]
        task_id = unrevealed[pick % len(unrevealed)] if unrevealed else self.a_task(pick)
        if wait is not None and unrevealed:
            self.wait_until(self.onchain(task_id).reveal_deadline + wait)
        caller = STRANGER if by_stranger else self.stage.scheduler_of(task_id)
        self.stage.reopen(caller.address, task_id)

    @precondition(has_revealing_tasks)
    @rule(
        pick=ANY,
        by_stranger=mostly(False, True),
        callback=mostly(b"", callback_bytes("a")),
        wait=st.sampled_from((None, None, None, -1, 0)),
    )
    def finalize(self, pick: int, by_stranger: bool, callback: bytes, wait: int | None) -> None:
        task_id = self.a_task(pick, TaskStatus.REVEALING)
        if wait is not None:
            self.wait_until(self.onchain(task_id).reveal_deadline + wait)
        caller = STRANGER if by_stranger else self.stage.scheduler_of(task_id)
        self.stage.finalize(caller.address, task_id, b"result", callback)

    @precondition(has_open_tasks)
    @rule(picks=st.lists(ANY, min_size=1, max_size=3), wait=st.sampled_from((None, None, None, -1, 0)))
    def claim(self, picks: list[int], wait: int | None) -> None:
        task_ids = [self.a_task(pick, *OPEN) for pick in picks]
        if wait is not None:
            self.wait_until(self.onchain(task_ids[0]).final_deadline + wait)
        if len(task_ids) == 1:
            self.stage.claim(STRANGER.address, task_ids[0])
        else:
            self.stage.claim_array(STRANGER.address, task_ids)

    @precondition(has_open_tasks)
    @rule(
        pick=ANY,
        what=st.sampled_from(("10", "300", "contribution", "reveal", "final")),
        offset=st.integers(-2, 1),
    )
    def wait(self, pick: int, what: str, offset: int) -> None:
        """Let some seconds pass, or all until about a deadline of an open task."""
        if what.isdigit():
            self.wait_until(self.stage.now + int(what))
        else:
            task = self.onchain(self.a_task(pick, *OPEN))
            self.wait_until(getattr(task, f"{what}_deadline") + offset)

    # --- money and owners

    @rule(
        what=st.sampled_from(MONEY_MOVES),
        caller=mostly(SPONSOR, *EVERYBODY),
        amount=amounts,
        recipient=mostly(SPONSOR.address, NOBODY, "hub", "kitty"),
    )
    def move_money(self, what: str, caller: Person, amount: int, recipient: Any) -> None:
        stage = self.stage
        to = {"hub": stage.hub, "kitty": KITTY_ADDRESS}.get(recipient, recipient)
        match what:
            case "deposit" | "withdraw" | "rlc_approve_and_call":
                getattr(stage, what)(caller.address, amount)
            case "deposit_for" | "withdraw_to":
                getattr(stage, what)(caller.address, amount, to)
            case "deposit_for_array":
                stage.deposit_for_array(caller.address, [amount, NRlc(1)], [to, caller.address])
            case "transfer" | "rlc_transfer" | "approve":
                getattr(stage, what)(caller.address, to, amount)
            case "transfer_from":
                stage.transfer_from(SPONSOR.address, caller.address, to, amount)
            case "recover":
                stage.recover(caller.address if amount else stage.deployment.deployer)

    @rule(
        what=st.sampled_from(
            ("app", "dataset", "workerpool", "policy", "policy", "broker", "broker", "category")
        ),
        by_stranger=mostly(False, True),
        recipient=mostly(SCHEDULER.address, WORKERS[0].address, STRANGER.address, NOBODY),
        stake_ratio=mostly(35, 0, 7, 250, UINT256_MAX),
        reward_ratio=st.sampled_from((0, 1, 33, 100, 101)),
    )
    def change_owners_or_rules(
        self, what: str, by_stranger: bool, recipient: Address, stake_ratio: int, reward_ratio: int
    ) -> None:
        stage = self.stage
        hub_owner = STRANGER.address if by_stranger else stage.deployment.deployer
        match what:
            case "app" | "dataset" | "workerpool":
                entry = {"app": stage.app, "dataset": stage.dataset, "workerpool": stage.pool}[what]
                caller = (STRANGER if by_stranger else stage.owner_of(entry)).address
                stage.transfer_entry(caller, EntryKind(what), caller, recipient, entry)
            case "policy":
                caller = (STRANGER if by_stranger else stage.owner_of(stage.pool)).address
                stage.change_policy(caller, stage.pool, Policy(stake_ratio, reward_ratio))
            case "broker":
                stage.set_tee_broker(hub_owner, NOBODY if reward_ratio else BROKER.address)
            case "category":
                timeref = UINT256_MAX if reward_ratio == 100 else reward_ratio
                category = Category(name="new", description="", timeref=Seconds(timeref))
                stage.create_category(hub_owner, category)


@pytest.mark.parametrize("run", range(RUNS))
def test_contracts_and_model_agree_after_every_step(own_market: Stage, run: int) -> None:
    machine = type("HubBesideModelOnAnvil", (HubBesideModel,), {"stage": own_market})
    if not LONG:
        machine = seed(run)(machine)
    run_state_machine_as_test(machine, settings=EFFORT)
