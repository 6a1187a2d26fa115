"""How a transaction ends: a receipt in a confirmed block, or one of two refusals."""

from __future__ import annotations

from dataclasses import dataclass, replace

from poolwright.chain.encoding import Json, read_address, read_hash, read_object, read_quantity
from poolwright.chain.journal import TxPhase, TxRecord
from poolwright.poco.errors import InputError, InvariantBroken, PoolwrightError
from poolwright.poco.types import Address, BlockHash, BlockNumber, BlockStamp, TxHash, Wei


class TxReverted(PoolwrightError):
    """The contract refuses the transaction; look at the chain's state before trying again."""

    def __init__(self, reason: str, *, key: str, tx_hash: TxHash | None = None) -> None:
        self.reason = reason
        self.tx_hash = tx_hash
        where = "and was not sent" if tx_hash is None else f"in {tx_hash}"
        super().__init__(
            f"transaction {key} reverts {where}", code="tx-reverted", got=reason or "no reason given"
        )


class OutOfGas(InputError):
    """The wallet cannot pay for the transaction; send coins to it."""

    def __init__(self, balance: Wei, needed: Wei, *, wallet: Address) -> None:
        self.balance = balance
        self.needed = needed
        super().__init__(
            f"wallet {wallet} cannot pay for gas",
            code="out-of-gas",
            expected=f"at least {needed} wei",
            got=f"{balance} wei",
            next_step="send the chain's coin to this wallet",
        )


class JournalFailed(PoolwrightError):
    """The journal does not take records; nothing is broadcast that is not written down."""

    def __init__(self, problem: Exception) -> None:
        super().__init__(
            "the transaction journal cannot be written",
            code="journal-failed",
            got=str(problem)[:300],
            next_step="make room or repair its store, then start again",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A transaction that was executed in a confirmed block."""

    tx_hash: TxHash
    block: BlockStamp
    gas_used: int
    fee: Wei
    contract: Address | None = None
    """The contract that it created."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundReceipt:
    """A receipt as the node tells it."""

    tx_hash: TxHash
    block_number: BlockNumber
    block_hash: BlockHash
    succeeded: bool
    gas_used: int
    gas_price: Wei | None
    contract: Address | None


def read_receipt(answer: Json) -> FoundReceipt:
    """Read a receipt. Raises PeerError."""
    receipt = read_object(answer, "receipt")
    price, contract = receipt.get("effectiveGasPrice"), receipt.get("contractAddress")
    return FoundReceipt(
        tx_hash=TxHash(read_hash(receipt.get("transactionHash"), "receipt's transaction hash")),
        block_number=BlockNumber(read_quantity(receipt.get("blockNumber"), "receipt's block number")),
        block_hash=BlockHash(read_hash(receipt.get("blockHash"), "receipt's block hash")),
        succeeded=read_quantity(receipt.get("status"), "receipt's status") == 1,
        gas_used=read_quantity(receipt.get("gasUsed"), "receipt's gas"),
        gas_price=None if price is None else Wei(read_quantity(price, "receipt's gas price")),
        contract=None if contract is None else read_address(contract, "receipt's contract"),
    )


def executed(record: TxRecord, found: FoundReceipt, block: BlockStamp) -> TxRecord:
    """The record of a transaction whose receipt stands in the confirmed `block`."""
    price = record.max_fee if found.gas_price is None else found.gas_price
    return replace(
        record,
        tx_hash=found.tx_hash,
        earlier=tuple(one for one in record.versions if one != found.tx_hash),
        phase=TxPhase.MINED if found.succeeded else TxPhase.REVERTED,
        block_number=block.number,
        block_hash=block.hash,
        block_timestamp=block.timestamp,
        gas_used=found.gas_used,
        fee=Wei(found.gas_used * price),
        contract=found.contract,
    )


def receipt_of(record: TxRecord) -> Receipt:
    """The receipt of a record that is through. Raises TxReverted for a reverted one."""
    if record.phase is TxPhase.REVERTED:
        raise TxReverted(record.reason, key=record.key, tx_hash=record.tx_hash)
    block = record.block
    if block is None or record.gas_used is None or record.fee is None:
        raise InvariantBroken(f"transaction {record.key} is {record.phase.value} without a block")
    return Receipt(
        tx_hash=record.tx_hash,
        block=block,
        gas_used=record.gas_used,
        fee=record.fee,
        contract=record.contract,
    )
