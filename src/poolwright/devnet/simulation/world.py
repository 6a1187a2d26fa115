"""The world of a simulation: who takes part, what they trade, and when something goes wrong.

Everything is drawn from the seed: the workers and their habits, the deals and their apps, the faults. When
the last deal's time is over the faults end, every process that has not left runs again, and what is under way
is given time to end; then all that must hold at the end is checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from poolwright.chain.budget import FeeLimits
from poolwright.chain.wallet import Wallet
from poolwright.daemons.submissions import calldata
from poolwright.devnet.simulation.chain import CONFIRMATIONS, GENESIS, TX_COST, Chain, Node, Tx
from poolwright.devnet.simulation.checks import Checks
from poolwright.devnet.simulation.clock import SECOND, Clock
from poolwright.devnet.simulation.faults import Chance, Faults
from poolwright.devnet.simulation.machine import App, Habits, Honesty, Machine
from poolwright.devnet.simulation.market import MarketProcess
from poolwright.devnet.simulation.market_checks import MarketChecks
from poolwright.devnet.simulation.pool import Observer, Policy, SchedulerProcess
from poolwright.devnet.simulation.process import Disk
from poolwright.devnet.simulation.repository import Repository
from poolwright.devnet.simulation.story import Story
from poolwright.devnet.simulation.trade import (
    APP,
    CONTRACTS,
    REQUESTER,
    DealPlan,
    Trade,
    address_of,
    name_hash,
)
from poolwright.devnet.simulation.transactions import call_of
from poolwright.devnet.simulation.worker import WorkerProcess
from poolwright.market.rows import Commit
from poolwright.poco.keccak import keccak
from poolwright.poco.model import Call, ForeignContract, Poco, Registries, workerpool_info
from poolwright.poco.orders import (
    Domain,
)
from poolwright.poco.records import Category
from poolwright.poco.tags import GPU, NO_TAG, SCONE, TEE
from poolwright.poco.types import Address, NRlc, Seconds, Timestamp, Wei, WorkerAddress
from poolwright.scheduler.effects import Effect, Submission, Submit, identity
from poolwright.scheduler.events import (
    OperatorAllowedWorker,
    OperatorDrainedWorker,
    OperatorEvent,
    OperatorResumedWorker,
    PoolEvent,
)
from poolwright.scheduler.pool import Pool
from poolwright.scheduler.standing import Rules
from poolwright.wire.messages import Instruction
from poolwright.wire.statuses import MOVES, Mover, ReplicateStatus

TIMEREFS: Final = (60, 120, 300)
"""Work clocks of the categories, seconds."""
HOUR: Final = 3600 * SECOND
NOBODY: Final = Address.zero()
OWNER_KEY: Final = keccak(b"the workerpool's owner")
"""The only secret of a simulation: it signs the pool's orders and authorizations."""
RICH: Final = NRlc(10**13)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How big a world is. `deals` are made during the first `seconds`."""

    workers: int
    deals: int
    seconds: int


def size_of(seed: int) -> Size:
    """The size of a seed's world."""
    chance = Chance(seed, Faults()).of("size")
    return Size(workers=chance.randint(2, 12), deals=chance.randint(2, 14), seconds=900)


def plans(seed: int, size: Size, faults: Faults) -> tuple[DealPlan, ...]:
    """The deals of a seed; each from a stream of its own, so that leaving one out changes no other."""
    chance = Chance(seed, faults)
    return tuple(_plan(chance, number, size) for number in range(size.deals))


def _plan(chance: Chance, number: int, size: Size) -> DealPlan:
    draw = chance.of(f"deal {number}")
    faults = chance.faults
    apps = {
        App.NO_IMAGE: faults.missing_images,
        App.FLAKY_IMAGE: faults.flaky_images,
        App.NO_DATA: faults.missing_data,
        App.CRASHES: faults.crashing_apps,
        App.HANGS: faults.hanging_apps,
        App.RANDOM: faults.random_apps,
    }
    app = App.GOOD
    for kind, share in apps.items():
        if draw.random() < share:
            app = kind
    tag = NO_TAG
    if draw.random() < 0.15:
        tag = GPU
    if draw.random() < faults.enclave_deals:
        tag = TEE | SCONE
    return DealPlan(
        number=number,
        at=draw.randint(0, size.seconds * SECOND),
        tasks=draw.choice((1, 1, 2, 3, 5)),
        trust=draw.choice((0, 1, 1, 2, 3, 5, 9)),
        category=draw.randrange(len(TIMEREFS)),
        app=app,
        tag=tag,
        has_callback=draw.random() < 0.25,
    )


class World(Observer):
    """One simulation. `run` carries it out; raises AssertionError or InvariantBroken with what broke."""

    def __init__(self, seed: int, faults: Faults, size: Size, deals: tuple[DealPlan, ...]) -> None:
        self.clock = Clock()
        self.chance = Chance(seed, faults)
        self.story = Story(self.clock)
        self._deals = deals
        self._owner = Wallet(OWNER_KEY)
        self.poco = _hub(self._owner.address)
        self.pool_address = self.poco.workerpools.predict(workerpool_info(self._owner.address, "pool"))
        self.chain = Chain(self.clock, self.poco, self.chance)
        self.chain.coins[self._owner.address] = 10**9
        self.repository = Repository(self.chain, self.clock, self.chance)
        self.faults_met: Counter[str] = Counter()
        self.scheduler = SchedulerProcess(
            Disk(name=name_hash("ledger")),
            chain=self.chain,
            wallet=self._owner,
            workerpool=self.pool_address,
            repository=self.repository,
            observer=self,
            policy=self._policy(),
            **self._parts(),
        )
        self.market = MarketProcess(
            contracts=CONTRACTS,
            confirmations=self.chance.of("market").choice((0, 0, 1, 3, CONFIRMATIONS)),
            observer=self.committed,
            chain=self.chain,
            **self._parts(),
        )
        self.trade = Trade(
            chain=self.chain,
            clock=self.clock,
            chance=self.chance,
            story=self.story,
            market=self.market,
            owner=self._owner,
            workerpool=self.pool_address,
        )
        self.market_checks = MarketChecks(self.chain, self.clock, self.market, self.trade)
        self.crew = [self._worker(number) for number in range(size.workers)]
        self.processes: tuple[SchedulerProcess | WorkerProcess, ...] = (self.scheduler, *self.crew)
        supply = NRlc(87_000_000 * 10**9)
        self.checks = Checks(self.chain, self.scheduler, self.crew, self.story, supply, secret=OWNER_KEY)
        self.chain.followers.append(self.checks.after_block)
        self.ends_at = (size.seconds + 10 * max(TIMEREFS) + 120) * SECOND

    # --- the run ------------------------------------------------------------------------------------------

    def run(self) -> None:
        """From the first block to the last check."""
        self.chain.start(self.poco.apps.predict(APP), self.pool_address)
        self.scheduler.start()
        self.market.start()
        for worker in self.crew:
            self.clock.after(self.chance.of("arrivals").randint(0, 60 * SECOND), worker.start)
        for plan in self._deals:
            self.trade.make_deal(plan)
        self.trade.broke()
        self._plan_faults()
        while self.clock.now < self.ends_at:
            self.clock.step()
        self._calm_down()
        self._until_quiet()
        self.checks.at_the_end()
        self.market_checks.at_the_end()

    def _calm_down(self) -> None:
        """No more faults; whoever is dead, poor or alone comes back, and gas is cheap."""
        self.chance.is_calm = True
        self.chain.gas_price = TX_COST
        self.scheduler.set_limits(FeeLimits())
        for process in self.processes:
            self._revive(process)

    def _until_quiet(self) -> None:
        """Go on until nothing is under way, for no longer than a final deadline could need."""
        limit = self.clock.now + 3 * HOUR
        while not (self.checks.is_quiet() and self.market.is_level):
            if self.clock.now > limit:
                raise AssertionError(
                    f"three hours after the last fault: {self.checks.unrest() or 'the market lags'}"
                )
            for _ in range(200):
                self.clock.step()

    # --- who takes part -----------------------------------------------------------------------------------

    def _parts(self) -> dict[str, Any]:
        return {
            "clock": self.clock,
            "node": Node(self.chain, self.clock, self.chance),
            "chance": self.chance,
            "story": self.story,
        }

    def _policy(self) -> Policy:
        """How the operator runs the pool."""
        draw = self.chance.of("policy")
        at_once, has_limits = draw.random() < 0.6, draw.random() < 0.2
        rules = Rules(
            faults=draw.choice((0, 2, 3, 5)),
            fault_window=Seconds(draw.choice((600, 3600))),
            quarantine=Seconds(draw.choice((60, 300, 600))),
            max_quarantine=Seconds(draw.choice((600, 86_400))),
        )
        limits = [Wei(draw.randint(*span)) for span in ((3, 20), (8, 60), (20, 120))]
        each, hour, day = (limit if has_limits and draw.random() < 0.7 else None for limit in limits)
        fees = FeeLimits(per_transaction=each, per_hour=hour, per_day=day)
        return Policy(contribute_and_finalize=at_once, rules=rules, fees=fees)

    def _worker(self, number: int) -> WorkerProcess:
        draw = self.chance.of(f"worker {number}")
        faults = self.chance.faults
        honesty = Honesty.HONEST
        if draw.random() < faults.liars:
            honesty = Honesty.LIES
        if draw.random() < faults.colluders:
            honesty = Honesty.COLLUDES
        habits = Habits(
            honesty=honesty,
            is_slow=draw.random() < faults.slow_workers,
            babbles=draw.random() < faults.babblers,
            hides_seal=draw.random() < faults.lost_reveals,
            clock_skew=draw.randint(-3600, 3600) if draw.random() < faults.skewed_clocks else 0,
            slots=draw.choice((1, 1, 2, 4)),
            gpu=draw.random() < 0.3,
            enclave=faults.enclave_deals > 0 and draw.random() < 0.5,
        )
        address = WorkerAddress(address_of(f"worker {number}"))
        self.chain.coins[address] = draw.randint(1, 6) if draw.random() < faults.poor_in_gas else 10**9
        stake = NRlc(draw.randint(0, 10**6)) if draw.random() < faults.poor_in_stake else RICH
        self.poco.deposit_for(Call(address_of("deployer"), GENESIS), stake, address)
        return WorkerProcess(
            Disk(name=name_hash(f"journal {number}")),
            name=f"worker {number}",
            address=address,
            habits=habits,
            chain=self.chain,
            scheduler=self.scheduler,
            workerpool=self.pool_address,
            repository=self.repository,
            machine=Machine(self.clock),
            **self._parts(),
        )

    # --- what goes wrong ----------------------------------------------------------------------------------

    def _plan_faults(self) -> None:
        draw = self.chance.of("plan")
        self._again("scheduler_crashes", lambda: self._kill(self.scheduler))
        self._again("rpc_outages", lambda: self._cut_off(self.scheduler.node))
        self._again("full_disks", partial(self._fill_disk, self.scheduler))
        self._again("repository_outages", self._close_repository)
        self._again("gas_spikes", self._raise_gas_price)
        self._again("market_crashes", self.market.crash)
        self._again("closed_orders", self.trade.close_an_order)
        self._again("moved_purses", self.trade.move_a_purse)
        self._again("sold_apps", self.trade.sell_the_app)
        self._again("rpc_outages", lambda: self._cut_off(self.market.node))
        self._again("operator_words", self._operate)
        for worker in self.crew:
            self._again("worker_crashes", partial(self._kill, worker))
            self._again("cuts", partial(self._cut, worker))
            self._again("partitions", partial(self._part, worker))
            self._again("rpc_outages", partial(self._cut_off, worker.node))
            self._again("moved_stakes", partial(self.trade.move_stake, worker.address, worker.name))
            self._again("full_disks", partial(self._fill_disk, worker))
            self._again("full_folders", partial(self._fill_folders, worker))
            if worker.habits.babbles:
                self._babble(worker)
            if draw.random() < self.chance.faults.leavers:
                self.clock.at(draw.randint(0, self.ends_at), partial(self._leave, worker))
        self._watch_the_dead()

    def _again(self, kind: str, happen: Callable[[], None]) -> None:
        """Let it happen again and again, as its rate says, until the calm."""
        wait = self.chance.next_hit(kind)
        if wait is None:
            return

        def act() -> None:
            if not self.chance.is_calm:
                self.faults_met[kind] += 1
                happen()
                self._again(kind, happen)

        self.clock.after(wait, act)

    def _watch_the_dead(self) -> None:
        """A process that has died is started again within a while, as a supervisor does."""
        if not self.market.is_up:
            self.clock.after(self.chance.of("market").randint(1, 60) * SECOND, self.market.start)
        for process in self.processes:
            if not process.is_up and not process.is_gone and process.restarts:
                self._revive(process, within=self.chance.of("revivals").choice((5, 30, 120)) * SECOND)
        self.clock.after(20 * SECOND, self._watch_the_dead)

    def _revive(self, process: SchedulerProcess | WorkerProcess, within: int = SECOND) -> None:
        if process.is_up or process.is_gone:
            return
        is_worker = isinstance(process, WorkerProcess)
        if process.restarts and self.chance.hits("lost_disks" if is_worker else "lost_ledgers"):
            self.story.note(process.name, "loses its disk", None)
            process.lose_disk(name_hash(f"{process.name}'s disk after {process.restarts} crashes"))
            if not is_worker:
                self.checks.forget()
        self.clock.after(self.chance.of("revivals").randint(100, within), process.start)

    def _kill(self, process: SchedulerProcess | WorkerProcess) -> None:
        process.crash()

    def _cut(self, worker: WorkerProcess) -> None:
        self.story.note(worker.name, "is cut off", None)
        worker.cut()

    def _cut_off(self, node: Node) -> None:
        node.down_until = self.clock.now + self.chance.of("outages").randint(5, 300) * SECOND

    def _fill_disk(self, process: SchedulerProcess | WorkerProcess) -> None:
        self.story.note(process.name, "has a full disk", None)
        process.full_until = self.clock.now + self.chance.of("outages").randint(5, 300) * SECOND

    def _fill_folders(self, worker: WorkerProcess) -> None:
        self.story.note(worker.name, "has no room for results", None)
        worker.machine.full_until = self.clock.now + self.chance.of("outages").randint(60, 1800) * SECOND

    def _close_repository(self) -> None:
        self.story.note("repository", "is down", None)
        self.repository.down_until = self.clock.now + self.chance.of("outages").randint(5, 1200) * SECOND

    def _raise_gas_price(self) -> None:
        """Gas is dear for a while."""
        draw = self.chance.of("gas")
        self.chain.gas_price = Wei(draw.randint(2, 40))

        def end() -> None:
            self.chain.gas_price = TX_COST

        self.clock.after(draw.randint(30, 1200) * SECOND, end)

    def _operate(self) -> None:
        """The operator says something about a worker."""
        draw = self.chance.of("operator")
        worker, now = draw.choice(self.crew).address, self.scheduler.now()
        words: tuple[OperatorEvent, ...] = (
            OperatorDrainedWorker(at=now, worker=worker, reason="to be looked at"),
            OperatorResumedWorker(at=now, worker=worker),
            OperatorResumedWorker(at=now, worker=worker),
            OperatorAllowedWorker(at=now, worker=worker, is_allowed=False),
            OperatorAllowedWorker(at=now, worker=worker),
            OperatorAllowedWorker(at=now, worker=worker),
        )
        self.scheduler.command(draw.choice(words))

    def _part(self, worker: WorkerProcess) -> None:
        self.story.note(worker.name, "is parted from the scheduler", None)
        worker.offline_until = self.clock.now + self.chance.of("outages").randint(5, 600) * SECOND
        worker.cut()

    def _babble(self, worker: WorkerProcess) -> None:
        """A worker says what is not so: half of it is legal where the scheduler thinks that it is."""
        if self.chance.is_calm:
            return
        draw = self.chance.of("babble")
        self.clock.after(draw.randint(1, 40) * SECOND, partial(self._babble, worker))
        if not worker.is_up or not self.scheduler.is_up:
            return
        pool = self.scheduler.state
        its = pool.workers.get(worker.address)
        known = [
            (task_id, replicate.status)
            for task_id in sorted(its.tasks if its is not None else ())
            if (replicate := pool.tasks[task_id].replicate_of(worker.address)) is not None
        ]
        if known:
            task_id, status = draw.choice(known)
            legal = sorted(MOVES[Mover.WORKER].get(status, ()))
            worker.babble(
                task_id, draw.choice(legal if legal and draw.random() < 0.5 else list(ReplicateStatus))
            )

    def _leave(self, worker: WorkerProcess) -> None:
        if not self.chance.is_calm:
            self.story.note(worker.name, "leaves for good", None)
            worker.is_gone = True
            worker.crash()

    # --- watching the market ------------------------------------------------------------------------------

    def committed(self, commit: Commit | None) -> None:
        """The market has written something, or with None has started."""
        self.market_checks.after_commit(commit)

    # --- watching the scheduler ---------------------------------------------------------------------------

    def stepped(self, pool: Pool, event: PoolEvent, effects: Sequence[Effect]) -> None:
        self.checks.after_step(pool, event, effects)

    def told(self, worker: WorkerAddress, instruction: Instruction) -> None:
        self.checks.after_message(worker, instruction)

    def front_run(self, effect: Submit) -> None:
        """A stranger sends the same, if it is something that anybody may do."""
        if effect.submission in (Submission.INITIALIZE, Submission.CLAIM, Submission.INITIALIZE_AND_CLAIM):
            self.faults_met["front_runs"] += 1
            key = f"front run of {identity(effect)} at {self.clock.now}"
            self.chain.send(Tx(key=key, sender=address_of("stranger"), run=call_of(calldata(effect))))


def _hub(owner: Address) -> Poco:
    """A hub with its categories, an app, the pool, and money where it is needed."""
    deployer = address_of("deployer")
    signs_all = ForeignContract(accepts=lambda digest, signature: True)
    poco = Poco(
        Domain(chain_id=1337, hub=address_of("hub")),
        token=address_of("rlc"),
        owner=deployer,
        registries=Registries(
            app=address_of("apps"), dataset=address_of("datasets"), workerpool=address_of("workerpools")
        ),
        contracts=dict.fromkeys(CONTRACTS, signs_all),
        scores={WorkerAddress(address_of(f"worker {number}")): 12 * (number % 3) for number in range(60)},
    )
    call = Call(deployer, Timestamp(GENESIS))
    for timeref in TIMEREFS:
        poco.create_category(call, Category(name="", description="", timeref=Seconds(timeref)))
    poco.create_app(call, APP)
    poco.create_workerpool(call, owner, "pool")
    poco.rlc_approve(call, poco.hub, NRlc(10**16))
    for each in (owner, REQUESTER):
        poco.deposit_for(call, RICH, each)
    return poco
