"""The hub in memory with a small cast, as a source of real logs and balances for the demo's pure parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from blank_orders import APP_ORDER, DATASET_ORDER, POOL_ORDER, REQUEST_ORDER
from poolwright.devnet.ledger import Balance, EndedTask, Ending
from poolwright.poco import ids
from poolwright.poco.authorization import sign_authorization
from poolwright.poco.events import Log, OrdersMatched, encode_event
from poolwright.poco.keccak import keccak
from poolwright.poco.matching import Orders
from poolwright.poco.model import Call, Emitted, Poco, Registries, workerpool_info
from poolwright.poco.orders import (
    NULL_DATASETORDER,
    Domain,
    Order,
    order_hash,
)
from poolwright.poco.records import AppInfo, Category, DatasetInfo
from poolwright.poco.results import result_hash, result_seal
from poolwright.poco.rewards import KITTY_ADDRESS
from poolwright.poco.signatures import address_of_key, sign_digest
from poolwright.poco.types import (
    Address,
    BlockHash,
    BlockNumber,
    BlockStamp,
    DealId,
    Hash32,
    NRlc,
    Seconds,
    TaskId,
    Timestamp,
    TxHash,
    Wei,
)

RLC = 10**9
START = 1_000_000
TIMEREF = Seconds(300)
NOBODY = Address.zero()
HUB, TOKEN = Address(b"\x01" * 20), Address(b"\x02" * 20)
REGISTRIES = Registries(
    app=Address(b"\x03" * 20), dataset=Address(b"\x04" * 20), workerpool=Address(b"\x05" * 20)
)
KEYS = {
    name: keccak(name.encode())
    for name in (
        "deployer",
        "requester",
        "provider",
        "manager",
        "worker-1",
        "worker-2",
        "worker-3",
        "worker-4",
    )
}
WHO = {name: address_of_key(key) for name, key in KEYS.items()}
NAMES = {address: name for name, address in WHO.items()} | {KITTY_ADDRESS: "kitty"}
DOMAIN = Domain(chain_id=31337, hub=HUB)
APP = AppInfo(
    owner=WHO["provider"],
    name="app",
    type="DOCKER",
    multiaddr=b"app:1",
    checksum=Hash32.zero(),
    mrenclave=b"",
)
DATASET = DatasetInfo(
    owner=WHO["provider"], name="sky", multiaddr=b"/ipfs/Qm", checksum=Hash32(keccak(b"file"))
)
RIGHT, WRONG = Hash32(keccak(b"right")), Hash32(keccak(b"wrong"))


class HubInMemory:
    """Plays deals and tasks; every operation is a transaction in a block of its own."""

    def __init__(self) -> None:
        self.poco = Poco(DOMAIN, token=TOKEN, owner=WHO["deployer"], registries=REGISTRIES)
        self.logs: list[Log] = []
        self.now = Timestamp(START)
        self._block = 0
        self._salt = 0
        deployer = self._call("deployer")
        self.poco.create_category(deployer, Category(name="XS", description="", timeref=TIMEREF))
        self.poco.create_app(deployer, APP)
        self.poco.create_dataset(deployer, DATASET)
        self.poco.create_workerpool(deployer, WHO["manager"], "pool")
        self.app, self.dataset = self.poco.apps.predict(APP), self.poco.datasets.predict(DATASET)
        self.pool = self.poco.workerpools.predict(workerpool_info(WHO["manager"], "pool"))
        for name in ("requester", "manager", "worker-1", "worker-2", "worker-3", "worker-4"):
            self.poco.rlc_transfer(deployer, WHO[name], NRlc(1_000 * RLC))
            self.poco.rlc_approve(self._call(name), HUB, NRlc(1_000 * RLC))
            self.poco.deposit(self._call(name), NRlc(500 * RLC))

    def balances(self) -> dict[Address, Balance]:
        """What everybody has now."""
        return {address: self._balance(address) for address in NAMES}

    def deal(
        self,
        *,
        tasks: int = 1,
        trust: int = 1,
        app_price: int = 0,
        dataset_price: int | None = None,
        pool_price: int = RLC,
    ) -> DealId:
        """Match orders for so many tasks; prices in nRLC per task, no dataset without a dataset price."""
        self._salt += 1
        salt = Hash32(self._salt.to_bytes(32, "big"))
        same = {"volume": tasks, "salt": salt}
        app = replace(APP_ORDER, app=self.app, appprice=NRlc(app_price), **same)
        dataset = NULL_DATASETORDER
        if dataset_price is not None:
            dataset = replace(DATASET_ORDER, dataset=self.dataset, datasetprice=NRlc(dataset_price), **same)
        price = NRlc(pool_price)
        pool = replace(POOL_ORDER, workerpool=self.pool, workerpoolprice=price, trust=trust, **same)
        request = replace(
            REQUEST_ORDER,
            app=self.app,
            appmaxprice=NRlc(app_price),
            dataset=dataset.dataset,
            datasetmaxprice=dataset.datasetprice,
            workerpoolmaxprice=price,
            requester=WHO["requester"],
            trust=trust,
            beneficiary=WHO["requester"],
            **same,
        )
        orders = Orders(
            app=replace(app, sign=_signed("provider", app)),
            dataset=dataset if not dataset.dataset else replace(dataset, sign=_signed("provider", dataset)),
            workerpool=replace(pool, sign=_signed("manager", pool)),
            request=replace(request, sign=_signed("requester", request)),
        )
        logs = self._mined(self.poco.match_orders(self._call("requester"), orders))
        (matched,) = (each.event for each in logs if isinstance(each.event, OrdersMatched))
        return matched.deal_id

    def initialize(self, deal_id: DealId, index: int = 0) -> TaskId:
        self._mined(self.poco.initialize(self._call("manager"), deal_id, index))
        return ids.task_id(deal_id, index)

    def contribute(self, task_id: TaskId, worker: str, digest: Hash32 = RIGHT) -> None:
        who = WHO[worker]
        self._mined(
            self.poco.contribute(
                self._call(worker),
                task_id,
                result_hash(task_id, digest),
                result_seal(who, task_id, digest),
                NOBODY,
                b"",
                sign_authorization(KEYS["manager"], who, task_id, NOBODY),
            )
        )

    def reveal(self, task_id: TaskId, worker: str, digest: Hash32 = RIGHT) -> None:
        self._mined(self.poco.reveal(self._call(worker), task_id, digest))

    def reopen(self, task_id: TaskId) -> None:
        """Let the time to reveal pass without a reveal."""
        self.now = Timestamp(self.now + 2 * TIMEREF)
        self._mined(self.poco.reopen(self._call("manager"), task_id))

    def finalize(self, task_id: TaskId, results: bytes = b"link") -> EndedTask:
        self._mined(self.poco.finalize(self._call("manager"), task_id, results, b""))
        return self._ended(task_id, Ending.FINALIZED)

    def contribute_and_finalize(self, task_id: TaskId, worker: str) -> EndedTask:
        sign = sign_authorization(KEYS["manager"], WHO[worker], task_id, NOBODY)
        self._mined(
            self.poco.contribute_and_finalize(
                self._call(worker), task_id, RIGHT, b"link", b"", NOBODY, b"", sign
            )
        )
        return self._ended(task_id, Ending.FAST)

    def claim(self, *task_ids: TaskId) -> list[EndedTask]:
        """Let the time of a category pass, then claim in one transaction."""
        self.now = Timestamp(self.now + 10 * TIMEREF)
        self._mined(self.poco.claim_array(self._call("requester"), task_ids))
        return [self._ended(task_id, Ending.CLAIMED) for task_id in task_ids]

    def run(self, task_id: TaskId, *workers: str) -> EndedTask:
        """The happy path of an initialized task."""
        for worker in workers:
            self.contribute(task_id, worker)
        for worker in workers:
            self.reveal(task_id, worker)
        return self.finalize(task_id)

    def transfer_stake(self, source: str, target: Address, amount: int) -> None:
        self._mined(self.poco.transfer(self._call(source), target, NRlc(amount)))

    def transfer_rlc(self, source: str, target: str, amount: int) -> None:
        self._mined(self.poco.rlc_transfer(self._call(source), WHO[target], NRlc(amount)))

    def deposit(self, name: str, amount: int) -> None:
        self._mined(self.poco.deposit(self._call(name), NRlc(amount)))

    def withdraw(self, name: str, amount: int) -> None:
        self._mined(self.poco.withdraw(self._call(name), NRlc(amount)))

    def _ended(self, task_id: TaskId, ending: Ending) -> EndedTask:
        contributors: Sequence[Address] = self.poco.task(task_id).contributors
        return EndedTask(
            task_id=task_id,
            ending=ending,
            contributions=tuple((who, self.poco.contribution(task_id, who)) for who in contributors),
        )

    def _call(self, name: str) -> Call:
        return Call(WHO[name], self.now)

    def _mined(self, emitted: tuple[Emitted, ...]) -> tuple[Emitted, ...]:
        self._block += 1
        self.now = Timestamp(self.now + 1)
        stamp = BlockStamp(BlockNumber(self._block), BlockHash(Hash32(bytes(32))), self.now)
        tx_hash = TxHash(Hash32(keccak(b"tx" + self._block.to_bytes(4, "big"))))
        for index, each in enumerate(emitted):
            topics, data = encode_event(each.event)
            self.logs.append(
                Log(
                    address=each.address,
                    topics=topics,
                    data=data,
                    block=stamp,
                    tx_hash=tx_hash,
                    log_index=index,
                )
            )
        return emitted

    def _balance(self, address: Address) -> Balance:
        account = self.poco.account(address)
        return Balance(
            wallet=NRlc(self.poco.rlc.balances[address]),
            stake=account.stake,
            locked=account.locked,
            ether=Wei(0),
        )


def _signed(name: str, order: Order) -> bytes:
    return sign_digest(KEYS[name], order_hash(order, DOMAIN))
