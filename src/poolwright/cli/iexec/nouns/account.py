"""`iexec account`: RLC inside the hub."""

from __future__ import annotations

import click

from poolwright.cli.iexec.amounts import format_rlc, parse_rlc
from poolwright.cli.iexec.command import Noun, Outcome, Run, Shared
from poolwright.cli.iexec.errors import IexecError
from poolwright.cli.iexec.values import address_of
from poolwright.poco import calls
from poolwright.poco.types import NRlc

COMMAND = account = Noun(
    "account", "RLC inside the hub: the stake of pools and workers, the budget of requesters."
)


@account.verb("deposit", Shared.WALLET, Shared.CHAIN, Shared.CONFIRMS, example="iexec account deposit 10 RLC")
@click.argument("amount")
@click.argument("unit", required=False)
async def deposit(run: Run, amount: str, unit: str | None) -> Outcome:
    """Move RLC from the wallet into the hub; without a unit it is nRLC."""
    value = parse_rlc(amount, unit, "nRLC")
    if value <= 0:
        raise IexecError("Deposit amount must be greater than 0")
    async with run.session() as session:
        contracts = await session.contracts()
        have = await session.reader.rlc(contracts.token, run.wallet_file().address)
        if value > have:
            raise IexecError(
                "Deposit amount exceed wallet balance",
                expected=f"at most {_rlc(have)}",
                got=_rlc(value),
                next_step="deposit less, or send RLC to the wallet first",
            )
        call = calls.approve_and_call(session.hub, value, b"")
        receipt = await session.send(contracts.token, call, "deposit")
    return Outcome(
        text=f"Deposited {_rlc(value)} to the account",
        fields={"amount": str(value), "txHash": str(receipt.tx_hash)},
    )


@account.verb(
    "withdraw", Shared.WALLET, Shared.CHAIN, Shared.CONFIRMS, example="iexec account withdraw 10 RLC"
)
@click.argument("amount")
@click.argument("unit", required=False)
async def withdraw(run: Run, amount: str, unit: str | None) -> Outcome:
    """Move free RLC from the hub back to the wallet; without a unit it is nRLC."""
    value = parse_rlc(amount, unit, "nRLC")
    if value <= 0:
        raise IexecError("Withdraw amount must be greater than 0")
    async with run.session() as session:
        have = (await session.reader.account(run.wallet_file().address)).stake
        if value > have:
            raise IexecError(
                "Withdraw amount exceed account balance",
                expected=f"at most {_rlc(have)}",
                got=_rlc(value),
                next_step="withdraw less; locked RLC comes back when its tasks end",
            )
        receipt = await session.send(session.hub, calls.withdraw(value), "withdraw")
    return Outcome(
        text=f"Withdrew {_rlc(value)} to the wallet",
        fields={"amount": str(value), "txHash": str(receipt.tx_hash)},
    )


@account.verb("show", Shared.WALLET, Shared.CHAIN, example="iexec account show")
@click.argument("address", required=False)
async def show(run: Run, address: str | None) -> Outcome:
    """Show the free and the locked RLC of the wallet or of an address."""
    owner = run.wallet_address() if address is None else address_of(address)
    async with run.session() as session:
        found = await session.reader.account(owner)
    balance = {"stake": str(found.stake), "locked": str(found.locked)}
    return Outcome(
        text=f"Account of {owner}",
        fields={"balance": balance},
        shown={"stake": _rlc(found.stake), "locked": _rlc(found.locked)},
    )


@account.verb(
    "approve", Shared.WALLET, Shared.CHAIN, Shared.CONFIRMS, example="iexec account approve 10 0x7bd4…5f RLC"
)
@click.argument("amount")
@click.argument("spender")
@click.argument("unit", required=False)
async def approve(run: Run, amount: str, spender: str, unit: str | None) -> Outcome:
    """Let a spender use RLC of the account; without a unit it is nRLC."""
    value = parse_rlc(amount, unit, "nRLC")
    tx_hash = await _approve(run, value, spender)
    return Outcome(text=f"{spender} may now spend {_rlc(value)} of the account", fields={"txHash": tx_hash})


@account.verb(
    "allowance", Shared.WALLET, Shared.CHAIN, Shared.USER, example="iexec account allowance 0x7bd4…5f"
)
@click.argument("spender")
async def allowance(run: Run, spender: str) -> Outcome:
    """Show how much RLC of the account a spender may use."""
    who = address_of(spender, "spender")
    owner = run.wallet_address() if run.options.user is None else address_of(run.options.user)
    async with run.session() as session:
        value = await session.reader.allowance(session.hub, owner, who)
    return Outcome(text=f"{who} may spend {_rlc(value)} of {owner}", fields={"amount": bare_hex(value)})


@account.verb(
    "revoke", Shared.WALLET, Shared.CHAIN, Shared.CONFIRMS, example="iexec account revoke 0x7bd4…5f"
)
@click.argument("spender")
async def revoke(run: Run, spender: str) -> Outcome:
    """Take back what a spender may use of the account."""
    tx_hash = await _approve(run, NRlc(0), spender)
    return Outcome(text=f"{spender} may no longer spend RLC of the account", fields={"txHash": tx_hash})


async def _approve(run: Run, value: NRlc, spender: str) -> str:
    who = address_of(spender, "spender")
    async with run.session() as session:
        receipt = await session.send(session.hub, calls.approve(who, value), "approve")
    return str(receipt.tx_hash)


def bare_hex(number: int) -> str:
    """Whole bytes in hex without 0x, "00" for zero: how the official client prints its big numbers here."""
    digits = f"{number:x}"
    return digits.zfill(len(digits) + len(digits) % 2)


def _rlc(amount: int) -> str:
    return f"{format_rlc(amount)} RLC"
