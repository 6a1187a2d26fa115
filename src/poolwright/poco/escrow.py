"""The money of the hub: RLC outside, SRLC inside, and what of it is frozen.

A deposit moves RLC to the hub and mints as much SRLC, the free stake. Locking moves SRLC from its owner to
the hub's own account and counts it as frozen for the owner; seizing takes it out of that count, so that it
can be paid to somebody else. Hence the hub's own SRLC balance always equals the sum of all frozen amounts,
the kitty included, plus what somebody sent it by mistake.

Amounts are nRLC. What the contract refuses raises Revert, here as there with or without a text.
"""

from __future__ import annotations

from collections.abc import Callable

from poolwright.poco import rewards
from poolwright.poco.events import Approval, HubEvent, Lock, Reward, Seize, Transfer, Unlock
from poolwright.poco.journal import Journal, Table
from poolwright.poco.revert import PANIC_OVERFLOW, Revert, require
from poolwright.poco.types import Address, NRlc, TaskId

NOBODY = Address.zero()

Emit = Callable[[Address, HubEvent], None]
"""Writes one log: (contract that emits it, event)."""


class Token:
    """The RLC token: an ERC-20 without surprises, except that it gives no reason when it refuses."""

    def __init__(self, address: Address, journal: Journal, emit: Emit) -> None:
        self.address = address
        self.balances: Table[Address, int] = Table(journal, 0)
        self.allowances: Table[tuple[Address, Address], int] = Table(journal, 0)
        self._emit = emit

    def transfer(self, sender: Address, recipient: Address, amount: NRlc) -> None:
        """Move RLC. Raises Revert without text when the sender has less."""
        require(amount <= self.balances[sender], "the sender has less RLC than that")
        self.balances[sender] -= amount
        self.balances[recipient] += amount
        self._emit(self.address, Transfer(source=sender, target=recipient, value=amount))

    def approve(self, owner: Address, spender: Address, amount: NRlc) -> None:
        """Let the spender take up to this much, replacing what was allowed before."""
        self.allowances[owner, spender] = amount
        self._emit(self.address, Approval(owner=owner, spender=spender, value=amount))

    def transfer_from(self, spender: Address, sender: Address, recipient: Address, amount: NRlc) -> None:
        """Move RLC within an allowance. Raises Revert without text beyond allowance or balance."""
        require(amount <= self.allowances[sender, spender], "the hub may not take that much RLC: approve it")
        self.allowances[sender, spender] -= amount
        self.transfer(sender, recipient, amount)


class Escrow:
    """SRLC: what each account has in the hub, free and frozen."""

    def __init__(self, hub: Address, token: Token, journal: Journal, emit: Emit) -> None:
        self.hub = hub
        self.token = token
        self.balances: Table[Address, int] = Table(journal, 0)
        self.frozen: Table[Address, int] = Table(journal, 0)
        self.allowances: Table[tuple[Address, Address], int] = Table(journal, 0)
        self._supply: Table[None, int] = Table(journal, 0)
        self._emit = emit

    @property
    def supply(self) -> int:
        """All SRLC there is; the hub holds at least as much RLC."""
        return self._supply[None]

    @property
    def kitty(self) -> NRlc:
        """The seized pool stakes that wait to be given out with later tasks."""
        return NRlc(self.frozen[rewards.KITTY_ADDRESS])

    # From RLC to SRLC and back

    def deposit(self, payer: Address, target: Address, amount: NRlc) -> None:
        """Take RLC from the payer within its allowance and mint SRLC for the target."""
        self.token.transfer_from(self.hub, payer, self.hub, amount)
        self.mint(target, amount)

    def mint(self, account: Address, amount: NRlc) -> None:
        """Create SRLC that RLC of the hub stands behind."""
        require(account != NOBODY, "nobody can hold SRLC at zero", "ERC20: mint to the zero address")
        self._supply[None] += amount
        self.balances[account] += amount
        self._emit(self.hub, Transfer(source=NOBODY, target=account, value=amount))

    def withdraw(self, account: Address, target: Address, amount: NRlc) -> None:
        """Burn free SRLC of the account and pay the target in RLC."""
        require(amount <= self.balances[account], "the account has less free stake than that")
        self._supply[None] -= amount
        self.balances[account] -= amount
        self._emit(self.hub, Transfer(source=account, target=NOBODY, value=amount))
        self.token.transfer(self.hub, target, amount)

    # SRLC as an ERC-20 token

    def transfer(self, sender: Address, recipient: Address, amount: NRlc) -> None:
        """Move free SRLC between accounts."""
        require(sender != NOBODY, "zero holds no SRLC", "ERC20: transfer from the zero address")
        require(recipient != NOBODY, "zero holds no SRLC", "ERC20: transfer to the zero address")
        require(amount <= self.balances[sender], "the sender has less free stake than that")
        self._move(sender, recipient, amount)

    def approve(self, owner: Address, spender: Address, amount: NRlc) -> None:
        """Let the spender move up to this much of the owner's free SRLC."""
        require(owner != NOBODY, "zero holds no SRLC", "ERC20: approve from the zero address")
        require(spender != NOBODY, "zero spends no SRLC", "ERC20: approve to the zero address")
        self.allowances[owner, spender] = amount
        self._emit(self.hub, Approval(owner=owner, spender=spender, value=amount))

    def transfer_from(self, spender: Address, sender: Address, recipient: Address, amount: NRlc) -> None:
        """Move SRLC within an allowance."""
        self.transfer(sender, recipient, amount)
        allowed = self.allowances[sender, spender]
        require(amount <= allowed, "the spender is not allowed that much")
        self.approve(sender, spender, NRlc(allowed - amount))

    # What deals and tasks do with it

    def lock(self, account: Address, amount: NRlc) -> None:
        """Freeze free SRLC. Raises Revert with the escrow's text when there is too little."""
        self._pay(account, self.hub, amount)
        self.frozen[account] += amount
        self._emit(self.hub, Lock(owner=account, amount=amount))

    def unlock(self, account: Address, amount: NRlc) -> None:
        """Make frozen SRLC free again."""
        self._pay(self.hub, account, amount)
        self._thaw(account, amount)
        self._emit(self.hub, Unlock(owner=account, amount=amount))

    def reward(self, account: Address, amount: NRlc, task_id: TaskId) -> None:
        """Pay seized SRLC to an account, free."""
        self._pay(self.hub, account, amount)
        self._emit(self.hub, Reward(owner=account, amount=amount, ref=task_id))

    def seize(self, account: Address, amount: NRlc, task_id: TaskId) -> None:
        """Take frozen SRLC away; it stays with the hub until somebody is rewarded with it."""
        self._thaw(account, amount)
        self._emit(self.hub, Seize(owner=account, amount=amount, ref=task_id))

    def feed_kitty(self, amount: NRlc, task_id: TaskId) -> None:
        """Freeze seized SRLC for the kitty."""
        self.frozen[rewards.KITTY_ADDRESS] += amount
        self._emit(self.hub, Reward(owner=rewards.KITTY_ADDRESS, amount=amount, ref=task_id))
        self._emit(self.hub, Lock(owner=rewards.KITTY_ADDRESS, amount=amount))

    def _pay(self, sender: Address, recipient: Address, amount: NRlc) -> None:
        require(sender != NOBODY, "the payer is zero", "IexecEscrow: Transfer from empty address")
        require(recipient != NOBODY, "the payee is zero", "IexecEscrow: Transfer to empty address")
        if amount > self.balances[sender]:
            raise Revert(
                "IexecEscrow: Transfer amount exceeds balance",
                explanation=f"{sender} has {self.balances[sender]} nRLC free, needs {amount}: deposit more",
            )
        self._move(sender, recipient, amount)

    def _move(self, sender: Address, recipient: Address, amount: NRlc) -> None:
        self.balances[sender] -= amount
        self.balances[recipient] += amount
        self._emit(self.hub, Transfer(source=sender, target=recipient, value=amount))

    def _thaw(self, account: Address, amount: NRlc) -> None:
        if amount > self.frozen[account]:
            raise Revert(panic=PANIC_OVERFLOW, explanation=f"{account} has less than {amount} nRLC frozen")
        self.frozen[account] -= amount
