"""Every operation of the hub, its token and its registries, on both sides at once."""

from __future__ import annotations

from collections.abc import Sequence

from side_by_side import Pair

from poolwright.poco import calls
from poolwright.poco.matching import EntryKind, Orders, Policy
from poolwright.poco.model import Emitted, workerpool_info
from poolwright.poco.orders import AppOrder, DatasetOrder, Order, RequestOrder, WorkerpoolOrder, order_hash
from poolwright.poco.records import AppInfo, Category, DatasetInfo, OrderOperation
from poolwright.poco.revert import Revert
from poolwright.poco.types import Address, DealId, Hash32, NRlc, TaskId, Timestamp

Result = tuple[Emitted, ...] | Revert


class HubPair(Pair):
    """The pair with one method per operation: named as in the model, `caller` first, `at` the block time."""

    # --- money

    def deposit(self, caller: Address, amount: int) -> Result:
        return self.do(
            caller, self.hub, calls.deposit(NRlc(amount)), lambda c: self.poco.deposit(c, NRlc(amount))
        )

    def deposit_for(self, caller: Address, amount: int, target: Address) -> Result:
        return self.do(
            caller,
            self.hub,
            calls.deposit_for(NRlc(amount), target),
            lambda c: self.poco.deposit_for(c, NRlc(amount), target),
        )

    def deposit_for_array(
        self, caller: Address, amounts: Sequence[int], targets: Sequence[Address]
    ) -> Result:
        nrlc = [NRlc(amount) for amount in amounts]
        return self.do(
            caller,
            self.hub,
            calls.deposit_for_array(nrlc, targets),
            lambda c: self.poco.deposit_for_array(c, nrlc, targets),
        )

    def withdraw(self, caller: Address, amount: int) -> Result:
        return self.do(
            caller, self.hub, calls.withdraw(NRlc(amount)), lambda c: self.poco.withdraw(c, NRlc(amount))
        )

    def withdraw_to(self, caller: Address, amount: int, target: Address) -> Result:
        return self.do(
            caller,
            self.hub,
            calls.withdraw_to(NRlc(amount), target),
            lambda c: self.poco.withdraw_to(c, NRlc(amount), target),
        )

    def recover(self, caller: Address) -> Result:
        return self.do(caller, self.hub, calls.recover(), self.poco.recover)

    def transfer(self, caller: Address, recipient: Address, amount: int) -> Result:
        return self.do(
            caller,
            self.hub,
            calls.transfer(recipient, NRlc(amount)),
            lambda c: self.poco.transfer(c, recipient, NRlc(amount)),
        )

    def approve(self, caller: Address, spender: Address, amount: int) -> Result:
        return self.do(
            caller,
            self.hub,
            calls.approve(spender, NRlc(amount)),
            lambda c: self.poco.approve(c, spender, NRlc(amount)),
        )

    def transfer_from(self, caller: Address, sender: Address, recipient: Address, amount: int) -> Result:
        return self.do(
            caller,
            self.hub,
            calls.transfer_from(sender, recipient, NRlc(amount)),
            lambda c: self.poco.transfer_from(c, sender, recipient, NRlc(amount)),
        )

    def rlc_transfer(self, caller: Address, recipient: Address, amount: int) -> Result:
        return self.do(
            caller,
            self.rlc,
            calls.transfer(recipient, NRlc(amount)),
            lambda c: self.poco.rlc_transfer(c, recipient, NRlc(amount)),
        )

    def rlc_approve(self, caller: Address, spender: Address, amount: int) -> Result:
        return self.do(
            caller,
            self.rlc,
            calls.approve(spender, NRlc(amount)),
            lambda c: self.poco.rlc_approve(c, spender, NRlc(amount)),
        )

    def rlc_approve_and_call(self, caller: Address, amount: int) -> Result:
        return self.do(
            caller,
            self.rlc,
            calls.approve_and_call(self.hub, NRlc(amount), b""),
            lambda c: self.poco.rlc_approve_and_call(c, self.hub, NRlc(amount)),
        )

    # --- registries, categories, configuration

    def create_app(self, caller: Address, info: AppInfo) -> Result:
        payload = calls.create_app(
            info.owner, info.name, info.type, info.multiaddr, info.checksum, info.mrenclave
        )
        self.entries.append((EntryKind.APP, self.poco.apps.predict(info)))
        return self.do(caller, self.deployment.app_registry, payload, lambda c: self.poco.create_app(c, info))

    def create_dataset(self, caller: Address, info: DatasetInfo) -> Result:
        payload = calls.create_dataset(info.owner, info.name, info.multiaddr, info.checksum)
        self.entries.append((EntryKind.DATASET, self.poco.datasets.predict(info)))
        return self.do(
            caller, self.deployment.dataset_registry, payload, lambda c: self.poco.create_dataset(c, info)
        )

    def create_workerpool(self, caller: Address, owner: Address, description: str) -> Result:
        entry = self.poco.workerpools.predict(workerpool_info(owner, description))
        self.entries.append((EntryKind.WORKERPOOL, entry))
        return self.do(
            caller,
            self.deployment.workerpool_registry,
            calls.create_workerpool(owner, description),
            lambda c: self.poco.create_workerpool(c, owner, description),
        )

    def transfer_entry(
        self, caller: Address, kind: EntryKind, source: Address, target: Address, entry: Address
    ) -> Result:
        registry = {
            EntryKind.APP: self.deployment.app_registry,
            EntryKind.DATASET: self.deployment.dataset_registry,
            EntryKind.WORKERPOOL: self.deployment.workerpool_registry,
        }[kind]
        return self.do(
            caller,
            registry,
            calls.transfer_entry(source, target, entry),
            lambda c: self.poco.transfer_entry(c, kind, source, target, entry),
        )

    def change_policy(self, caller: Address, workerpool: Address, policy: Policy) -> Result:
        return self.do(
            caller,
            workerpool,
            calls.change_policy(policy.worker_stake_ratio, policy.scheduler_reward_ratio),
            lambda c: self.poco.change_policy(c, workerpool, policy),
        )

    def create_category(self, caller: Address, category: Category) -> Result:
        return self.do(
            caller,
            self.hub,
            calls.create_category(category.name, category.description, category.timeref),
            lambda c: self.poco.create_category(c, category),
        )

    def set_tee_broker(self, caller: Address, teebroker: Address) -> Result:
        return self.do(
            caller,
            self.hub,
            calls.set_tee_broker(teebroker),
            lambda c: self.poco.set_tee_broker(c, teebroker),
        )

    # --- orders and deals

    def manage_order(
        self, caller: Address, order: Order, operation: OrderOperation, sign: bytes = b""
    ) -> Result:
        match order:
            case AppOrder():
                payload = calls.manage_app_order(order, operation, sign)
            case DatasetOrder():
                payload = calls.manage_dataset_order(order, operation, sign)
            case WorkerpoolOrder():
                payload = calls.manage_workerpool_order(order, operation, sign)
            case RequestOrder():
                payload = calls.manage_request_order(order, operation, sign)
        self.watch(order_hash(order, self.domain))
        return self.do(caller, self.hub, payload, lambda c: self.poco.manage_order(c, order, operation, sign))

    def match(self, caller: Address, orders: Orders, *, at: Timestamp | None = None) -> Result:
        payload = calls.match_orders(orders.app, orders.dataset, orders.workerpool, orders.request)
        return self.do(caller, self.hub, payload, lambda c: self.poco.match_orders(c, orders), at=at)

    def sponsor_match(self, caller: Address, orders: Orders) -> Result:
        payload = calls.sponsor_match_orders(orders.app, orders.dataset, orders.workerpool, orders.request)
        return self.do(caller, self.hub, payload, lambda c: self.poco.sponsor_match_orders(c, orders))

    # --- tasks

    def initialize(
        self, caller: Address, deal_id: DealId, index: int, *, at: Timestamp | None = None
    ) -> Result:
        return self.do(
            caller,
            self.hub,
            calls.initialize(deal_id, index),
            lambda c: self.poco.initialize(c, deal_id, index),
            at=at,
        )

    def initialize_array(self, caller: Address, deal_ids: Sequence[DealId], indexes: Sequence[int]) -> Result:
        return self.do(
            caller,
            self.hub,
            calls.initialize_array(deal_ids, indexes),
            lambda c: self.poco.initialize_array(c, deal_ids, indexes),
        )

    def contribute(
        self,
        caller: Address,
        task_id: TaskId,
        result_hash: Hash32,
        result_seal: Hash32,
        enclave: Address,
        enclave_sign: bytes,
        authorization: bytes,
        *,
        at: Timestamp | None = None,
    ) -> Result:
        arguments = (task_id, result_hash, result_seal, enclave, enclave_sign, authorization)
        return self.do(
            caller,
            self.hub,
            calls.contribute(*arguments),
            lambda c: self.poco.contribute(c, *arguments),
            at=at,
        )

    def contribute_and_finalize(
        self,
        caller: Address,
        task_id: TaskId,
        digest: Hash32,
        results: bytes,
        results_callback: bytes,
        enclave: Address,
        enclave_sign: bytes,
        authorization: bytes,
        *,
        at: Timestamp | None = None,
    ) -> Result:
        arguments = (task_id, digest, results, results_callback, enclave, enclave_sign, authorization)
        return self.do(
            caller,
            self.hub,
            calls.contribute_and_finalize(*arguments),
            lambda c: self.poco.contribute_and_finalize(c, *arguments),
            at=at,
        )

    def reveal(
        self, caller: Address, task_id: TaskId, digest: Hash32, *, at: Timestamp | None = None
    ) -> Result:
        return self.do(
            caller,
            self.hub,
            calls.reveal(task_id, digest),
            lambda c: self.poco.reveal(c, task_id, digest),
            at=at,
        )

    def reopen(self, caller: Address, task_id: TaskId, *, at: Timestamp | None = None) -> Result:
        return self.do(caller, self.hub, calls.reopen(task_id), lambda c: self.poco.reopen(c, task_id), at=at)

    def finalize(
        self,
        caller: Address,
        task_id: TaskId,
        results: bytes,
        callback: bytes = b"",
        *,
        at: Timestamp | None = None,
    ) -> Result:
        return self.do(
            caller,
            self.hub,
            calls.finalize(task_id, results, callback),
            lambda c: self.poco.finalize(c, task_id, results, callback),
            at=at,
        )

    def claim(self, caller: Address, task_id: TaskId, *, at: Timestamp | None = None) -> Result:
        return self.do(caller, self.hub, calls.claim(task_id), lambda c: self.poco.claim(c, task_id), at=at)

    def claim_array(self, caller: Address, task_ids: Sequence[TaskId]) -> Result:
        return self.do(
            caller, self.hub, calls.claim_array(task_ids), lambda c: self.poco.claim_array(c, task_ids)
        )

    def initialize_and_claim_array(
        self, caller: Address, deal_ids: Sequence[DealId], indexes: Sequence[int]
    ) -> Result:
        return self.do(
            caller,
            self.hub,
            calls.initialize_and_claim_array(deal_ids, indexes),
            lambda c: self.poco.initialize_and_claim_array(c, deal_ids, indexes),
        )
