"""Signed transactions, with eth-account as oracle."""

from __future__ import annotations

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from poolwright.chain.gas import Fees
from poolwright.chain.wallet import Transaction, Wallet
from poolwright.poco.errors import InputError
from poolwright.poco.keccak import keccak
from poolwright.poco.signatures import recover
from poolwright.poco.types import Address, Hash32, Wei

KEY = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
WALLET = Wallet(KEY)

amounts = st.integers(min_value=0, max_value=2**128)
recipients = st.one_of(st.none(), st.just(Address.zero()), st.binary(min_size=20, max_size=20).map(Address))


@st.composite
def transactions(draw: st.DrawFn) -> Transaction:
    max_fee = draw(amounts)
    tip = draw(st.one_of(st.none(), st.integers(min_value=0, max_value=max_fee)))
    return Transaction(
        chain_id=draw(st.integers(min_value=1, max_value=2**32)),
        nonce=draw(st.integers(min_value=0, max_value=2**40)),
        to=draw(recipients),
        data=draw(st.binary(max_size=200)),
        value=Wei(draw(amounts)),
        gas_limit=draw(st.integers(min_value=21_000, max_value=30_000_000)),
        fees=Fees(max_fee=Wei(max_fee), tip=None if tip is None else Wei(tip)),
    )


@given(transactions())
def test_every_transaction_is_signed_as_the_oracle_signs_it(tx: Transaction) -> None:
    oracle: dict[str, object] = {
        "chainId": tx.chain_id,
        "nonce": tx.nonce,
        "to": b"" if tx.to is None else bytes(tx.to),
        "data": tx.data,
        "value": tx.value,
        "gas": tx.gas_limit,
    }
    if tx.fees.tip is None:
        oracle["gasPrice"] = tx.fees.max_fee
    else:
        oracle |= {"type": 2, "maxFeePerGas": tx.fees.max_fee, "maxPriorityFeePerGas": tx.fees.tip}
    expected = Account.sign_transaction(oracle, KEY)
    signed = WALLET.sign_transaction(tx)
    assert signed.raw == bytes(expected.raw_transaction)
    assert signed.tx_hash == bytes(expected.hash)


def test_a_digest_is_signed_by_the_wallets_address() -> None:
    digest = Hash32(keccak(b"anything"))
    assert recover(digest, WALLET.sign_digest(digest)) == WALLET.address


def test_a_wallet_shows_its_address_and_never_its_key() -> None:
    assert repr(WALLET) == str(WALLET) == "Wallet(0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266)"


@pytest.mark.parametrize("key", [b"", bytes(32), b"\xff" * 32, b"\x01" * 31])
def test_what_is_no_key_is_refused(key: bytes) -> None:
    with pytest.raises(InputError):
        Wallet(key)
