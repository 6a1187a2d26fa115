"""Operations of money, registries, categories and the hub's configuration."""

from __future__ import annotations

from collections.abc import Sequence

from poolwright.poco.events import CreateCategory
from poolwright.poco.hub_state import Call, ForeignContract, HubState, operation
from poolwright.poco.matching import EntryKind, Policy
from poolwright.poco.records import AppInfo, Category, DatasetInfo, WorkerpoolInfo
from poolwright.poco.registry import change_policy
from poolwright.poco.revert import require
from poolwright.poco.types import Address, NRlc


class Accounts(HubState):
    """Stake and RLC, the three registries, the categories."""

    # --- money

    @operation
    def deposit(self, call: Call, amount: NRlc) -> None:
        """Turn the caller's RLC into free stake; the hub must be allowed to take it."""
        self.escrow.deposit(call.caller, call.caller, amount)

    @operation
    def deposit_for(self, call: Call, amount: NRlc, target: Address) -> None:
        """Turn the caller's RLC into free stake of somebody else."""
        self.escrow.deposit(call.caller, target, amount)

    @operation
    def deposit_for_array(self, call: Call, amounts: Sequence[NRlc], targets: Sequence[Address]) -> None:
        """Turn the caller's RLC into free stake of several accounts."""
        require(len(amounts) == len(targets), "one amount per target", "invalid-array-length")
        for amount, target in zip(amounts, targets, strict=True):
            self.escrow.deposit(call.caller, target, amount)

    @operation
    def withdraw(self, call: Call, amount: NRlc) -> None:
        """Turn free stake of the caller back into RLC."""
        self.escrow.withdraw(call.caller, call.caller, amount)

    @operation
    def withdraw_to(self, call: Call, amount: NRlc, target: Address) -> None:
        """Turn free stake of the caller into RLC of somebody else."""
        self.escrow.withdraw(call.caller, target, amount)

    @operation
    def recover(self, call: Call) -> None:
        """Give the hub's owner, as stake, the RLC that was sent to the hub without a deposit."""
        self._only_owner(call)
        surplus = self.rlc.balances[self.hub] - self.escrow.supply
        self.escrow.mint(self.owner, NRlc(surplus))

    @operation
    def transfer(self, call: Call, recipient: Address, amount: NRlc) -> None:
        """Move free stake of the caller (SRLC, on the hub)."""
        self.escrow.transfer(call.caller, recipient, amount)

    @operation
    def approve(self, call: Call, spender: Address, amount: NRlc) -> None:
        """Let somebody move free stake of the caller (SRLC, on the hub)."""
        self.escrow.approve(call.caller, spender, amount)

    @operation
    def transfer_from(self, call: Call, sender: Address, recipient: Address, amount: NRlc) -> None:
        """Move free stake of somebody who allowed it (SRLC, on the hub)."""
        self.escrow.transfer_from(call.caller, sender, recipient, amount)

    @operation
    def rlc_transfer(self, call: Call, recipient: Address, amount: NRlc) -> None:
        """Move RLC of the caller (on the token)."""
        self.rlc.transfer(call.caller, recipient, amount)

    @operation
    def rlc_approve(self, call: Call, spender: Address, amount: NRlc) -> None:
        """Let somebody, usually the hub, take RLC of the caller (on the token)."""
        self.rlc.approve(call.caller, spender, amount)

    @operation
    def rlc_approve_and_call(self, call: Call, spender: Address, amount: NRlc) -> None:
        """Allow and deposit in one transaction; only the hub is known to answer (on the token)."""
        self.rlc.approve(call.caller, spender, amount)
        require(spender == self.hub, "only the hub deposits what it is allowed")
        self.escrow.deposit(call.caller, call.caller, amount)

    # --- registries, categories, configuration

    @operation
    def create_app(self, call: Call, info: AppInfo) -> None:
        """Register an app for `info.owner` (on its registry)."""
        self.apps.create(info)

    @operation
    def create_dataset(self, call: Call, info: DatasetInfo) -> None:
        """Register a dataset for `info.owner` (on its registry)."""
        self.datasets.create(info)

    @operation
    def create_workerpool(self, call: Call, owner: Address, description: str) -> None:
        """Register a workerpool with the default policy (on its registry)."""
        self.workerpools.create(workerpool_info(owner, description))

    @operation
    def transfer_entry(
        self, call: Call, kind: EntryKind, source: Address, target: Address, entry: Address
    ) -> None:
        """Give an app, dataset or workerpool to a new owner (ERC-721 transferFrom on its registry)."""
        match kind:
            case EntryKind.APP:
                self.apps.transfer(call.caller, source, target, entry)
            case EntryKind.DATASET:
                self.datasets.transfer(call.caller, source, target, entry)
            case EntryKind.WORKERPOOL:
                self.workerpools.transfer(call.caller, source, target, entry)

    @operation
    def change_policy(self, call: Call, workerpool: Address, policy: Policy) -> None:
        """Change a pool's terms for later deals (on the workerpool)."""
        change_policy(self.workerpools, call.caller, workerpool, policy, self._emit)

    @operation
    def create_category(self, call: Call, category: Category) -> None:
        """Add a category; only the hub's owner."""
        self._only_owner(call)
        number = self.category_count()
        self._categories[number] = category
        self._emit(
            self.hub,
            CreateCategory(
                category=number,
                name=category.name,
                description=category.description,
                timeref=category.timeref,
            ),
        )

    @operation
    def set_tee_broker(self, call: Call, teebroker: Address) -> None:
        """Say who authorizes contributions with an enclave; only the hub's owner."""
        self._only_owner(call)
        self._teebroker[None] = teebroker

    def install_contract(self, address: Address, contract: ForeignContract) -> None:
        """Put somebody else's contract at an address, or change it; not an operation of the hub."""
        self._contracts[address] = contract
        self._journal.settle()


def workerpool_info(owner: Address, description: str) -> WorkerpoolInfo:
    """Return a workerpool as it is when just created, with the default policy."""
    policy = Policy()
    return WorkerpoolInfo(
        owner=owner,
        description=description,
        worker_stake_ratio=policy.worker_stake_ratio,
        scheduler_reward_ratio=policy.scheduler_reward_ratio,
    )
