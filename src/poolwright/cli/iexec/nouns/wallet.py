"""`iexec wallet`: make and show wallets, send RLC and ether."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from poolwright.cli.iexec import wallets
from poolwright.cli.iexec.amounts import decimal, format_ether, format_rlc, parse_ether, parse_rlc
from poolwright.cli.iexec.command import Noun, Outcome, Run, Shared
from poolwright.cli.iexec.errors import IexecError
from poolwright.cli.iexec.new_wallets import ask_before_clear_wallet, make_wallet
from poolwright.cli.iexec.values import address_of, require
from poolwright.poco import calls
from poolwright.poco.errors import PoolwrightError
from poolwright.poco.types import Address, Wei

if TYPE_CHECKING:
    from poolwright.cli.iexec.session import Session

COMMAND = wallet = Noun("wallet", "Make and show wallets, send RLC and ether.")


@wallet.verb("create", Shared.NEW_WALLET, Shared.FORCE, example="iexec wallet create --keystoredir ./keys")
def create(run: Run) -> Outcome:
    """Make a wallet: a keystore under a password, or with --unencrypted ./wallet.json."""
    return _make(run, None)


@wallet.verb("import", Shared.NEW_WALLET, Shared.FORCE, example="iexec wallet import 0x4c08…18")
@click.argument("private-key", metavar="<privateKey>")
def import_key(run: Run, private_key: str) -> Outcome:
    """Make a wallet of a private key that you have."""
    return _make(run, wallets.parse_key(private_key))


def _make(run: Run, key: bytes | None) -> Outcome:
    ask_before_clear_wallet(run)
    made = make_wallet(run, key)
    return Outcome(
        text=f"Saved wallet {made.address} in {made.file_name}",
        fields={"wallet": made.content, "fileName": made.file_name, "address": str(made.address)},
    )


@wallet.verb("show", Shared.WALLET, Shared.CHAIN, example="iexec wallet show")
@click.option("--show-private-key", is_flag=True, help="Show the key too; asks for the password.")
@click.argument("address", required=False)
async def show(run: Run, show_private_key: bool, address: str | None) -> Outcome:
    """Show address and balances of the wallet, or the balances of an address."""
    if address is not None and show_private_key:
        raise IexecError("--show-private-key is for your own wallet only", got=f"the address {address}")
    who = run.wallet_file().address if address is None else address_of(address)
    own: dict[str, Any] = {"address": str(who)}
    if show_private_key:
        own = wallets.clear_json(run.key())
    async with run.session() as session:
        ether = await session.reader.ether(who)
        rlc = await session.reader.rlc((await session.contracts()).token, who)
    balance = {"ether": decimal(ether, 18), "RLC": decimal(rlc, 9), "nRLC": str(rlc), "wei": str(ether)}
    shown = {
        **(own if address is None else {}),
        "ether": format_ether(ether),
        "RLC": format_rlc(rlc),
    }
    return Outcome(
        text=f"Wallet of {who}",
        fields={"balance": balance, **({"wallet": own} if address is None else {})},
        shown=shown,
    )


_MONEY = (Shared.WALLET, Shared.CHAIN, Shared.CONFIRMS, Shared.FORCE, Shared.TO)


@wallet.verb("send-ether", *_MONEY, example="iexec wallet send-ether 0.1 --to 0x7bd4…5f")
@click.argument("amount")
@click.argument("unit", required=False)
async def send_ether(run: Run, amount: str, unit: str | None) -> Outcome:
    """Send ether to an address; without a unit it is ether."""
    value = parse_ether(amount, unit, "ether")
    to = _receiver(run)
    who = run.wallet_file().address
    async with run.session() as session:
        _check_balance(value, await session.reader.ether(who), format_ether, "ether")
        run.confirm(f"Send {format_ether(value)} ether to {to}?")
        receipt = await session.send(to, b"", "send ether", value=value)
    return _sent(value, f"{format_ether(value)} ether", who, to, str(receipt.tx_hash))


@wallet.verb("send-RLC", *_MONEY, example="iexec wallet send-RLC 10 --to 0x7bd4…5f")
@click.argument("amount")
@click.argument("unit", required=False)
async def send_rlc(run: Run, amount: str, unit: str | None) -> Outcome:
    """Send RLC to an address; without a unit it is RLC."""
    value = parse_rlc(amount, unit, "RLC")
    to = _receiver(run)
    who = run.wallet_file().address
    async with run.session() as session:
        token = (await session.contracts()).token
        _check_balance(value, await session.reader.rlc(token, who), format_rlc, "RLC")
        run.confirm(f"Send {format_rlc(value)} RLC to {to}?")
        receipt = await session.send(token, calls.transfer(to, value), "send RLC")
    return _sent(value, f"{format_rlc(value)} RLC", who, to, str(receipt.tx_hash))


@wallet.verb("sweep", *_MONEY, example="iexec wallet sweep --to 0x7bd4…5f")
async def sweep(run: Run) -> Outcome:
    """Send all RLC and then all ether to an address; it must be no contract."""
    to = _receiver(run)
    who = run.wallet_file().address
    fields: dict[str, Any] = {"from": str(who), "to": str(to)}
    errors: list[str] = []
    async with run.session() as session:
        await _refuse_contract(session, to)
        await session.sending().fix_gas_price()
        run.confirm(f"Send everything that {who} has to {to}?")
        await session.wallet()  # a wrong password is a failure of the whole, not of a part
        for key, send in (("sendERC20TxHash", _sweep_rlc), ("sendNativeTxHash", _sweep_ether)):
            try:
                tx_hash = await send(session, who, to)
            except PoolwrightError as problem:
                errors.append(f"{key.removesuffix('TxHash')}: {problem}")
                break  # without its RLC the wallet is to keep its gas
            if tx_hash is not None:
                fields[key] = tx_hash
    if errors:
        fields["errors"] = errors
        return Outcome(ok=False, text=f"Wallet {who} is not empty", fields=fields, shown=fields)
    return Outcome(text=f"Wallet {who} swept to {to}", fields=fields, shown=fields)


async def _sweep_rlc(session: Session, who: Address, to: Address) -> str | None:
    token = (await session.contracts()).token
    value = await session.reader.rlc(token, who)
    if not value:
        return None
    receipt = await session.send(token, calls.transfer(to, value), "sweep RLC")
    return str(receipt.tx_hash)


async def _sweep_ether(session: Session, who: Address, to: Address) -> str | None:
    """All ether but the most that the sending can cost; what the block charges less, stays."""
    gas_limit = await session.sending().transfer_gas(who, to)
    value = Wei(await session.reader.ether(who) - gas_limit * await session.sending().fix_gas_price())
    if value <= 0:
        return None
    receipt = await session.send(to, b"", "sweep ether", value=value, gas_limit=gas_limit)
    return str(receipt.tx_hash)


async def _refuse_contract(session: Session, to: Address) -> None:
    if await session.code(to):
        raise IexecError(
            "Cannot sweep to a contract", expected="the address of a wallet", got=f"the contract {to}"
        )


def _receiver(run: Run) -> Address:
    return address_of(require(run.options.to, "--to"))


def _check_balance(value: int, have: int, shown: Any, unit: str) -> None:
    if value > have:
        raise IexecError(
            "Amount to send exceed wallet balance",
            expected=f"at most {shown(have)} {unit}",
            got=f"{shown(value)} {unit}",
        )


def _sent(value: int, shown: str, who: Address, to: Address, tx_hash: str) -> Outcome:
    return Outcome(
        text=f"Sent {shown} from {who} to {to}",
        fields={"amount": str(value), "from": str(who), "to": str(to), "txHash": tx_hash},
    )
