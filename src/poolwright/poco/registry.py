"""The three registries: who owns which app, dataset and workerpool, and each pool's terms.

An entry is a small contract whose address follows from its content and its first owner (CREATE2), so the
same content for the same owner cannot be created twice. Ownership is an ERC-721 token of the registry: a
transfer moves the app with all rights, and orders signed by the former owner count no more. Approvals of
the ERC-721 standard are not modelled: only the owner moves an entry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Generic, TypeVar

from poolwright.poco import abi
from poolwright.poco.events import EntryApproval, EntryTransfer, HubEvent, PolicyUpdate
from poolwright.poco.journal import Journal, Table
from poolwright.poco.keccak import keccak
from poolwright.poco.matching import EntryKind, Policy
from poolwright.poco.records import AppInfo, DatasetInfo, WorkerpoolInfo
from poolwright.poco.revert import require
from poolwright.poco.types import Address, Hash32

NOBODY = Address.zero()
DEFAULT_POLICY = Policy()

Info = TypeVar("Info", AppInfo, DatasetInfo, WorkerpoolInfo)
Emit = Callable[[Address, HubEvent], None]


class Registry(Generic[Info]):
    """One registry. `proxy_code_hash` is its `proxyCodeHash()`; any value gives stable addresses."""

    def __init__(
        self,
        kind: EntryKind,
        address: Address,
        proxy_code_hash: Hash32,
        nothing: Info,
        journal: Journal,
        emit: Emit,
    ) -> None:
        self.kind = kind
        self.address = address
        self.proxy_code_hash = proxy_code_hash
        self.entries: Table[Address, Info] = Table(journal, nothing)
        self._emit = emit

    def predict(self, info: Info) -> Address:
        """Return the address that an entry of this content and owner has or would have."""
        salt = keccak(_initializer(info) + info.owner)
        return Address(keccak(b"\xff" + self.address + salt + self.proxy_code_hash)[12:])

    def create(self, info: Info) -> Address:
        """Create an entry for `info.owner`, whoever asks. Raises Revert when it exists already."""
        entry = self.predict(info)
        require(
            entry not in self.entries,
            "this owner has an entry of this very content",
            "Create2: Failed on deploy",
        )
        require(info.owner != NOBODY, "an entry needs an owner", "ERC721: mint to the zero address")
        self.entries[entry] = info
        self._emit(self.address, EntryTransfer(source=NOBODY, target=info.owner, entry=entry))
        return entry

    def transfer(self, caller: Address, source: Address, target: Address, entry: Address) -> None:
        """Give an entry to a new owner. Raises Revert with the texts of the ERC-721 library."""
        require(
            entry in self.entries,
            "there is no such entry",
            "ERC721: operator query for nonexistent token",
        )
        info = self.entries[entry]
        require(
            caller == info.owner,
            "only its owner gives an entry away",
            "ERC721: transfer caller is not owner nor approved",
        )
        require(
            source == info.owner, "the entry has another owner", "ERC721: transfer of token that is not own"
        )
        require(target != NOBODY, "an entry needs an owner", "ERC721: transfer to the zero address")
        self.entries[entry] = replace(info, owner=target)
        self._emit(self.address, EntryApproval(owner=source, approved=NOBODY, entry=entry))
        self._emit(self.address, EntryTransfer(source=source, target=target, entry=entry))


def change_policy(
    pools: Registry[WorkerpoolInfo], caller: Address, workerpool: Address, policy: Policy, emit: Emit
) -> None:
    """Change a pool's terms for later deals. Raises Revert unless the owner asks for a ratio up to 100."""
    before = pools.entries[workerpool]
    require(caller == before.owner, "only the pool's owner sets its policy", "caller is not the owner")
    require(policy.scheduler_reward_ratio <= 100, "the owner can keep at most 100 percent")
    pools.entries[workerpool] = replace(
        before,
        worker_stake_ratio=policy.worker_stake_ratio,
        scheduler_reward_ratio=policy.scheduler_reward_ratio,
    )
    emit(
        workerpool,
        PolicyUpdate(
            old_worker_stake_ratio=before.worker_stake_ratio,
            new_worker_stake_ratio=policy.worker_stake_ratio,
            old_scheduler_reward_ratio=before.scheduler_reward_ratio,
            new_scheduler_reward_ratio=policy.scheduler_reward_ratio,
        ),
    )


def _initializer(info: AppInfo | DatasetInfo | WorkerpoolInfo) -> bytes:
    """Return the calldata with which the registry initializes an entry; its hash makes the address."""
    match info:
        case AppInfo():
            return abi.selector("initialize(string,string,bytes,bytes32,bytes)") + abi.encode(
                ["string", "string", "bytes", "bytes32", "bytes"],
                [info.name, info.type, info.multiaddr, info.checksum, info.mrenclave],
            )
        case DatasetInfo():
            return abi.selector("initialize(string,bytes,bytes32)") + abi.encode(
                ["string", "bytes", "bytes32"], [info.name, info.multiaddr, info.checksum]
            )
        case WorkerpoolInfo():
            return abi.selector("initialize(string)") + abi.encode(["string"], [info.description])
