"""The people of the contract tests: fixed keys, so that every run signs the same bytes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from poolwright.poco.authorization import enclave_digest, sign_authorization
from poolwright.poco.keccak import keccak
from poolwright.poco.orders import (
    AppOrder,
    DatasetOrder,
    Domain,
    RequestOrder,
    WorkerpoolOrder,
    operation_hash,
    order_hash,
)
from poolwright.poco.records import OrderOperation
from poolwright.poco.signatures import address_of_key, sign_digest
from poolwright.poco.types import Address, Hash32, TaskId

AnyOrder = TypeVar("AnyOrder", AppOrder, DatasetOrder, WorkerpoolOrder, RequestOrder)


@dataclass(frozen=True)
class Person:
    """Somebody with a key."""

    name: str
    key: bytes
    address: Address

    def signed(self, order: AnyOrder, domain: Domain) -> AnyOrder:
        return replace(order, sign=sign_digest(self.key, order_hash(order, domain)))

    def operation(
        self,
        order: AppOrder | DatasetOrder | WorkerpoolOrder | RequestOrder,
        operation: OrderOperation,
        domain: Domain,
    ) -> bytes:
        return sign_digest(self.key, operation_hash(order, operation, domain))

    def authorize(self, worker: Address, task_id: TaskId, enclave: Address) -> bytes:
        return sign_authorization(self.key, worker, task_id, enclave)

    def attest(self, result_hash: Hash32, result_seal: Hash32) -> bytes:
        return sign_digest(self.key, enclave_digest(result_hash, result_seal))


def person(name: str) -> Person:
    key = keccak(f"poolwright contract tests: {name}".encode())
    return Person(name, key, address_of_key(key))


PROVIDER = person("provider")
"""Owns app and dataset."""
SCHEDULER = person("scheduler")
"""Owns the workerpool."""
REQUESTER = person("requester")
SPONSOR = person("sponsor")
STRANGER = person("stranger")
BROKER = person("tee broker")
ENCLAVES = (person("enclave 0"), person("enclave 1"))
WORKERS = tuple(person(f"worker {number}") for number in range(5))
WORKER_SCORES = dict(zip((worker.address for worker in WORKERS), (0, 0, 14, 51, 300), strict=True))

EVERYBODY = (PROVIDER, SCHEDULER, REQUESTER, SPONSOR, STRANGER, BROKER, *WORKERS)
SIGNERS = {each.address: each for each in (*EVERYBODY, *ENCLAVES)}
