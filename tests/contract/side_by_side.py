"""The official contracts on anvil and the model, made to do the same things and compared after each one.

`Pair.do` runs one transaction on both sides at the same block time: both accept or both revert with the
same data, and when they accept, the logs are equal byte for byte and in order. Then everything that the
hub knows about everybody involved is read from the chain, in one batch, and compared with the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from cast import EVERYBODY, WORKER_SCORES, WORKERS

from poolwright.devnet.contracts import CATEGORIES, Deployment
from poolwright.devnet.node import Node
from poolwright.poco import abi, views
from poolwright.poco.events import OrdersMatched, TaskInitialize, encode_event
from poolwright.poco.keccak import keccak
from poolwright.poco.matching import EntryKind
from poolwright.poco.model import Call, Emitted, ForeignContract, Poco, Registries
from poolwright.poco.orders import Domain
from poolwright.poco.records import Category
from poolwright.poco.revert import Revert
from poolwright.poco.rewards import KITTY_ADDRESS
from poolwright.poco.types import Address, DealId, Hash32, OrderHash, TaskId, Timestamp

GAS = hex(8_000_000)
STORAGE_BASE = 0x5862653C6982C162832160CF30593645E8487B257E44D77CDD6B51EEE2651B00
TALLIES_SLOT, SCORES_SLOT = 16, 18


def word(value: int | bytes) -> bytes:
    return value.to_bytes(32, "big") if isinstance(value, int) else bytes(32 - len(value)) + value


def mapping_slot(key: bytes, slot: int | bytes) -> bytes:
    return keccak(word(key) + word(slot))


@dataclass(frozen=True)
class Read:
    """One fact: how to ask the chain for it, and what the model says."""

    what: tuple[object, ...]
    method: str
    params: tuple[Any, ...]
    decode: Callable[[bytes], object]
    expected: object


class Pair:
    """Both sides, everything they were told so far, and the time of the last block."""

    def __init__(self, node: Node, deployment: Deployment, contracts: dict[Address, ForeignContract]) -> None:
        self.node = node
        self.deployment = deployment
        self.hub, self.rlc = deployment.hub, deployment.rlc
        self.domain = Domain(chain_id=int(node.call("eth_chainId"), 16), hub=self.hub)
        code_hash = self._view(deployment.app_registry, abi.encode_call("proxyCodeHash()"))
        self.poco = Poco(
            self.domain,
            token=self.rlc,
            owner=deployment.deployer,
            registries=Registries(
                app=deployment.app_registry,
                dataset=deployment.dataset_registry,
                workerpool=deployment.workerpool_registry,
                proxy_code_hash=Hash32(code_hash),
            ),
            contracts=contracts,
            scores=WORKER_SCORES,
        )
        for name, timeref in CATEGORIES:
            category = Category(name=name, description='""', timeref=timeref)
            self.poco.create_category(Call(deployment.deployer, Timestamp(0)), category)
        self.people = [each.address for each in EVERYBODY]
        self.people += [deployment.deployer, KITTY_ADDRESS, self.hub, *contracts]
        self.deals: list[DealId] = []
        self.tasks: list[TaskId] = []
        self.order_hashes: list[OrderHash] = []
        self.entries: list[tuple[EntryKind, Address]] = []
        self.now = Timestamp(int(node.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16))
        self._seen: dict[tuple[Any, ...], tuple[str, object]] = {}
        for worker, score in WORKER_SCORES.items():
            slot = mapping_slot(worker, STORAGE_BASE + SCORES_SLOT)
            node.call("anvil_setStorageAt", str(self.hub), "0x" + slot.hex(), "0x" + word(score).hex())
        node.call("anvil_autoImpersonateAccount", True)
        for address in self.people:
            node.call("anvil_setBalance", str(address), hex(10**24))

    # --- one transaction on both sides

    def do(
        self,
        caller: Address,
        target: Address,
        payload: bytes,
        run: Callable[[Call], tuple[Emitted, ...]],
        *,
        at: Timestamp | None = None,
    ) -> tuple[Emitted, ...] | Revert:
        """Send the payload and run the model, at time `at` or one second after the last block."""
        now = Timestamp(self.now + 1) if at is None else at
        result: tuple[Emitted, ...] | Revert
        try:
            result = run(Call(caller, now))
            expected: object = [(each.address, *encode_event(each.event)) for each in result]
        except Revert as revert:
            result, expected = revert, f"revert with 0x{revert.data.hex()}"
        got = self._send(caller, target, payload, now)
        assert got == expected, f"chain and model differ at {now}\nchain: {got}\nmodel: {result}"
        self.now = now
        if not isinstance(result, Revert):
            self._note(result)
        self.compare()
        return result

    def _send(self, caller: Address, target: Address, payload: bytes, now: Timestamp) -> object:
        self.node.call("evm_setNextBlockTimestamp", now)
        transaction = {"from": str(caller), "to": str(target), "data": "0x" + payload.hex(), "gas": GAS}
        receipt = self.node.call("eth_sendTransactionSync", transaction)
        if receipt["status"] == "0x1":
            return [
                (
                    Address.parse(log["address"]),
                    tuple(Hash32.parse(topic) for topic in log["topics"]),
                    bytes.fromhex(log["data"][2:]),
                )
                for log in receipt["logs"]
                if Address.parse(log["address"]) in self._speakers()
            ]
        trace = self.node.call("debug_traceTransaction", receipt["transactionHash"], {"tracer": "callTracer"})
        return f"revert with {trace.get('output', '0x')}"

    def _speakers(self) -> set[Address]:
        """Whose logs are compared: ours, not what a callback contract says."""
        where = self.deployment
        registries = {where.app_registry, where.dataset_registry, where.workerpool_registry}
        return {self.hub, self.rlc, *registries, *(entry for _, entry in self.entries)}

    def _note(self, logs: Sequence[Emitted]) -> None:
        for event in (each.event for each in logs):
            if isinstance(event, OrdersMatched):
                self.deals.append(event.deal_id)
                for its_hash in (
                    event.app_hash,
                    event.dataset_hash,
                    event.workerpool_hash,
                    event.request_hash,
                ):
                    self.watch(its_hash)
            elif isinstance(event, TaskInitialize):
                self.tasks.append(event.task_id)

    def watch(self, its_hash: OrderHash) -> None:
        if its_hash not in self.order_hashes:
            self.order_hashes.append(its_hash)

    # --- comparing the worlds

    def compare(self, *, everything: bool = False) -> None:
        """Read everything from the chain in one batch and compare it with the model.

        What can never change again, a deal, is read only when it is new, or when `everything` is asked for.
        """
        reads = list(self._reads(everything))
        answers = self.node.batch([(read.method, read.params) for read in reads])
        for read, answer in zip(reads, answers, strict=True):
            if self._seen.get(read.what) == (answer, read.expected):
                continue
            got = read.decode(bytes.fromhex(answer[2:]))
            assert got == read.expected, f"{read.what}\nchain: {got}\nmodel: {read.expected}"
            self._seen[read.what] = (answer, read.expected)

    def _reads(self, everything: bool) -> Iterator[Read]:
        poco = self.poco
        for who in self.people:
            yield self._hub_read(
                ("account", who), views.view_account(who), views.decode_account, poco.account(who)
            )
            yield self._read(
                ("RLC of", who), self.rlc, views.balance_of(who), views.decode_uint, poco.rlc.balances[who]
            )
        yield self._hub_read(("SRLC supply",), views.total_supply(), views.decode_uint, poco.escrow.supply)
        for worker in (each.address for each in EVERYBODY):
            yield self._hub_read(
                ("score of", worker), views.view_score(worker), views.decode_uint, poco.score(worker)
            )
        for deal_id in self.deals if everything else self.deals[-1:]:
            yield self._hub_read(
                ("deal", deal_id), views.view_deal(deal_id), views.decode_deal, poco.deal(deal_id)
            )
        for task_id in self.tasks:
            yield from self._task_reads(task_id)
        for its_hash in self.order_hashes:
            yield self._hub_read(
                ("consumed of", its_hash),
                views.view_consumed(its_hash),
                views.decode_uint,
                poco.consumed(its_hash),
            )
            yield self._hub_read(
                ("presigned of", its_hash),
                views.view_presigned(its_hash),
                views.decode_address,
                poco.presigned(its_hash),
            )
        for kind, entry in self.entries:
            yield self._entry_read(kind, entry)

    def _task_reads(self, task_id: TaskId) -> Iterator[Read]:
        poco = self.poco
        task = poco.task(task_id)
        yield self._hub_read(("task", task_id), views.view_task(task_id), views.decode_task, task)
        for worker in {*task.contributors, *(each.address for each in WORKERS)}:
            yield self._hub_read(
                ("contribution", worker, task_id),
                views.view_contribution(task_id, worker),
                views.decode_contribution,
                poco.contribution(task_id, worker),
            )
        tally = poco.tally(task_id)
        slot = mapping_slot(task_id, STORAGE_BASE + TALLIES_SLOT)
        total = word(int.from_bytes(slot, "big") + 1)
        yield self._slot_read(("total of", task_id), total, tally.total if task.status else 0)
        for result_hash, weight in tally.groups.items():
            group = mapping_slot(result_hash, slot)
            yield self._slot_read(("group", result_hash, task_id), group, weight)

    def _entry_read(self, kind: EntryKind, entry: Address) -> Read:
        what = (kind.value, entry)
        match kind:
            case EntryKind.APP:
                return self._hub_read(what, views.view_app(entry), views.decode_app, self.poco.app(entry))
            case EntryKind.DATASET:
                return self._hub_read(
                    what, views.view_dataset(entry), views.decode_dataset, self.poco.dataset(entry)
                )
            case EntryKind.WORKERPOOL:
                return self._hub_read(
                    what, views.view_workerpool(entry), views.decode_workerpool, self.poco.workerpool(entry)
                )

    def _hub_read(
        self, what: tuple[object, ...], payload: bytes, decode: Callable[[bytes], object], expected: object
    ) -> Read:
        return self._read(what, self.hub, payload, decode, expected)

    def _read(
        self,
        what: tuple[object, ...],
        target: Address,
        payload: bytes,
        decode: Callable[[bytes], object],
        expected: object,
    ) -> Read:
        return Read(what, "eth_call", _call_params(target, payload), decode, expected)

    def _slot_read(self, what: tuple[object, ...], slot: bytes, expected: int) -> Read:
        params = (str(self.hub), "0x" + slot.hex(), "latest")
        return Read(what, "eth_getStorageAt", params, lambda raw: int.from_bytes(raw, "big"), expected)

    def _view(self, target: Address, payload: bytes) -> bytes:
        answer = self.node.call("eth_call", {"to": str(target), "data": "0x" + payload.hex()}, "latest")
        return bytes.fromhex(answer[2:])


@cache
def _call_params(target: Address, payload: bytes) -> tuple[Any, ...]:
    return {"to": str(target), "data": "0x" + payload.hex()}, "latest"
