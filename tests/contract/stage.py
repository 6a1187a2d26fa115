"""A small market on both sides: an app, a dataset, a workerpool, money, and short ways to use them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from cast import (
    EVERYBODY,
    PROVIDER,
    REQUESTER,
    SCHEDULER,
    SIGNERS,
    STRANGER,
    Person,
)
from hub_pair import HubPair, Result

from blank_orders import APP_ORDER, DATASET_ORDER, POOL_ORDER, REQUEST_ORDER
from poolwright.devnet import toolchain
from poolwright.devnet.contracts import Deployment
from poolwright.devnet.node import Node
from poolwright.poco import abi, ids
from poolwright.poco.keccak import keccak
from poolwright.poco.matching import Orders, Policy
from poolwright.poco.model import ForeignContract, workerpool_info
from poolwright.poco.orders import NULL_DATASETORDER
from poolwright.poco.records import AppInfo, DatasetInfo
from poolwright.poco.results import result_hash, result_seal
from poolwright.poco.revert import Revert
from poolwright.poco.types import Address, DealId, Hash32, NRlc, TaskId, Timestamp

NOBODY = Address.zero()
RLC_EACH = 1_000 * 10**9
STAKE_EACH = 500 * 10**9
WALLET_WORD = bytes.fromhex("ff9e2a6b4198d3d0c6899bfc25f98d2d31182536279fdd763a54510f2a8b120c")
"""What the official ERC-1271 mock takes for a valid signature."""

APP = AppInfo(
    owner=PROVIDER.address,
    name="app",
    type="DOCKER",
    multiaddr=b"example/app:1",
    checksum=Hash32(keccak(b"app")),
    mrenclave=b"",
)
DATASET = DatasetInfo(
    owner=PROVIDER.address, name="dataset", multiaddr=b"/ipfs/dataset", checksum=Hash32(keccak(b"dataset"))
)
POLICY = Policy(worker_stake_ratio=35, scheduler_reward_ratio=5)


def callback_bytes(letter: str) -> bytes:
    """What hashes to the digest of this letter, as a task with callback needs it."""
    return f"result {letter}".encode()


def digest(letter: str) -> Hash32:
    return Hash32(keccak(callback_bytes(letter)))


class Stage(HubPair):
    """The pair with everything set up, and the usual steps of a deal and its tasks."""

    def __init__(self, node: Node, deployment: Deployment) -> None:
        self.wallet = _create(node, deployment, "ERC1271Mock")
        self.group = _create(node, deployment, "ERC734Mock")
        self.client = _create(node, deployment, "TestClient")
        wallet = ForeignContract(accepts=lambda _, sign: sign[:32].ljust(32, b"\0") == WALLET_WORD)
        super().__init__(node, deployment, {self.wallet: wallet, self.client: ForeignContract()})
        self.app = self.poco.apps.predict(APP)
        self.dataset = self.poco.datasets.predict(DATASET)
        self.pool = self.poco.workerpools.predict(workerpool_info(SCHEDULER.address, "pool"))
        self._join_group()
        self._salt = 0
        for each in EVERYBODY:
            self.rlc_transfer(deployment.deployer, each.address, RLC_EACH)
            self.rlc_approve(each.address, self.hub, RLC_EACH)
            self.deposit(each.address, STAKE_EACH)
        self.create_app(STRANGER.address, APP)
        self.create_dataset(STRANGER.address, DATASET)
        self.create_workerpool(SCHEDULER.address, SCHEDULER.address, "pool")
        self.change_policy(SCHEDULER.address, self.pool, POLICY)

    def _join_group(self) -> None:
        """Make app, dataset, pool and requester members of the ERC-734 contract, on both sides."""
        members = (self.app, self.dataset, self.pool, REQUESTER.address)
        for member in members:
            payload = abi.encode_call("setKeyHasPurpose(bytes32,uint256)", Hash32(bytes(12) + member), 4)
            _transact(self.node, self.deployment.deployer, self.group, payload)
        self.poco.install_contract(self.group, ForeignContract(members=frozenset(members)))
        self.now = Timestamp(int(self.node.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16))

    # --- time travel

    @contextmanager
    def rewound(self) -> Iterator[Stage]:
        """Let anything happen inside and take it back afterwards, on both sides."""
        restore = self.checkpoint()
        try:
            yield self
        finally:
            restore()

    def checkpoint(self) -> Any:
        """Remember both worlds; returns the function that takes them back."""
        chain, model = self.node.call("evm_snapshot"), self.poco.snapshot()
        counts = len(self.deals), len(self.tasks), len(self.order_hashes), len(self.entries)
        now, salt = self.now, self._salt

        def restore() -> None:
            assert self.node.call("evm_revert", chain)
            self.poco.restore(model)
            for known, count in zip(
                (self.deals, self.tasks, self.order_hashes, self.entries), counts, strict=True
            ):
                del known[count:]
            self.now, self._salt = now, salt

        return restore

    # --- orders and deals

    def salt(self) -> Hash32:
        self._salt += 1
        return Hash32(self._salt.to_bytes(32, "big"))

    def usual(self, changes: dict[str, Any] | None, **usual: Any) -> dict[str, Any]:
        """What an order has here unless a test changes it."""
        return {"volume": 10, "salt": self.salt(), **usual, **(changes or {})}

    def orders(
        self,
        *,
        with_dataset: bool = True,
        app: dict[str, Any] | None = None,
        dataset: dict[str, Any] | None = None,
        workerpool: dict[str, Any] | None = None,
        request: dict[str, Any] | None = None,
    ) -> Orders:
        """Four signed orders that match, but for the given fields; `sign` given replaces the signature."""
        app_order = replace(APP_ORDER, **self.usual(app, app=self.app, appprice=NRlc(1000)))
        dataset_order = NULL_DATASETORDER
        if with_dataset:
            dataset_order = replace(
                DATASET_ORDER, **self.usual(dataset, dataset=self.dataset, datasetprice=NRlc(500))
            )
        pool_order = replace(
            POOL_ORDER,
            **self.usual(workerpool, workerpool=self.pool, workerpoolprice=NRlc(25_000), trust=100),
        )
        request_order = replace(
            REQUEST_ORDER,
            **self.usual(
                request,
                app=app_order.app,
                appmaxprice=NRlc(max(app_order.appprice, 1000)),
                dataset=dataset_order.dataset,
                datasetmaxprice=NRlc(max(dataset_order.datasetprice, 500)),
                workerpoolmaxprice=NRlc(max(pool_order.workerpoolprice, 25_000)),
                requester=REQUESTER.address,
                trust=1,
                volume=3,
                beneficiary=REQUESTER.address,
                params='{"iexec_args":"x"}',
            ),
        )
        if not app_order.sign:
            app_order = self.owner_of(app_order.app).signed(app_order, self.domain)
        if with_dataset and not dataset_order.sign:
            dataset_order = self.owner_of(dataset_order.dataset).signed(dataset_order, self.domain)
        if not pool_order.sign:
            pool_order = self.owner_of(pool_order.workerpool).signed(pool_order, self.domain)
        if not request_order.sign:
            request_order = SIGNERS.get(request_order.requester, STRANGER).signed(request_order, self.domain)
        return Orders(app=app_order, dataset=dataset_order, workerpool=pool_order, request=request_order)

    def owner_of(self, entry: Address) -> Person:
        """Who can sign for this entry now; the stranger when nobody of ours can."""
        with suppress(Revert):
            return SIGNERS.get(self.poco.owner_of(entry), STRANGER)
        return STRANGER

    def scheduler_of(self, task: TaskId) -> Person:
        """Who runs this task: the pool's owner at the match."""
        return SIGNERS[self.poco.deal(self.poco.task(task).deal_id).workerpool.owner]

    def authorizer_of(self, task: TaskId, challenge: Address) -> Person:
        """Who permits contributions: the TEE broker when there is one and an enclave is named."""
        broker = self.poco.teebroker()
        return SIGNERS[broker] if broker and challenge else self.scheduler_of(task)

    def deal(self, **changes: Any) -> DealId:
        """Make a deal of `orders(**changes)`."""
        done = self.match(STRANGER.address, self.orders(**changes))
        assert not isinstance(done, Exception), done
        return self.deals[-1]

    def task(self, index: int = 0, **changes: Any) -> TaskId:
        """Make a deal of `orders(**changes)` and open one of its tasks."""
        deal_id = self.deal(**changes)
        self.initialize(STRANGER.address, deal_id, index)
        return ids.task_id(deal_id, index)

    # --- the honest steps of a task

    def contribute_as(
        self, worker: Person, task: TaskId, letter: str = "a", *, enclave: Person | None = None, **more: Any
    ) -> Result:
        """Contribute the digest of this letter, with everything as it should be."""
        its_hash = result_hash(task, digest(letter))
        its_seal = result_seal(worker.address, task, digest(letter))
        challenge = enclave.address if enclave else NOBODY
        return self.contribute(
            worker.address,
            task,
            its_hash,
            its_seal,
            challenge,
            enclave.attest(its_hash, its_seal) if enclave else b"",
            self.authorizer_of(task, challenge).authorize(worker.address, task, challenge),
            **more,
        )

    def reveal_as(self, worker: Person, task: TaskId, letter: str = "a", **more: Any) -> Result:
        return self.reveal(worker.address, task, digest(letter), **more)

    def finalize_it(self, task: TaskId, results: bytes = b"result", **more: Any) -> Result:
        return self.finalize(self.scheduler_of(task).address, task, results, **more)

    def stake_of(self, who: Address) -> int:
        return self.poco.account(who).stake


def _create(node: Node, deployment: Deployment, name: str) -> Address:
    code = "0x" + toolchain.artifact(name).creation_hex
    receipt = node.call(
        "eth_sendTransactionSync", {"from": str(deployment.deployer), "data": code, "gas": hex(3_000_000)}
    )
    assert receipt["status"] == "0x1"
    return Address.parse(receipt["contractAddress"])


def _transact(node: Node, caller: Address, target: Address, payload: bytes) -> None:
    receipt = node.call(
        "eth_sendTransactionSync",
        {"from": str(caller), "to": str(target), "data": "0x" + payload.hex(), "gas": hex(1_000_000)},
    )
    assert receipt["status"] == "0x1"
