"""Block headers, and the one place that says "latest".

Everything else reads at a BlockStamp; `at=None` means "whatever the node has now" and is for questions
whose answer may be one block old: the nonce to start from, the gas price, a balance shown to a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from poolwright.chain.encoding import Json, quantity, read_hash, read_object, read_quantity
from poolwright.chain.rpc import Request, Rpc
from poolwright.poco.errors import InputError, Unavailable
from poolwright.poco.types import Address, BlockHash, BlockNumber, BlockStamp, Timestamp, Wei

LATEST: Final = "latest"
PENDING: Final = "pending"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What this product needs of a block header."""

    stamp: BlockStamp
    parent_hash: BlockHash
    base_fee: Wei | None
    """None on a chain without EIP-1559."""
    gas_limit: int

    @property
    def number(self) -> BlockNumber:
        return self.stamp.number


def at_block(at: BlockStamp | BlockNumber | None) -> str:
    """The JSON-RPC block parameter: the stamp's number, or the newest block for None."""
    if at is None:
        return LATEST
    return quantity(at.number if isinstance(at, BlockStamp) else at)


def header_request(number: BlockNumber | None) -> Request:
    """The request for one header without its transactions; None asks for the newest."""
    return "eth_getBlockByNumber", [at_block(number), False]


def read_header(answer: Json) -> Header | None:
    """Read a block answer; None when the node does not have that block. Raises PeerError."""
    if answer is None:
        return None
    block = read_object(answer, "block")
    base_fee = block.get("baseFeePerGas")
    return Header(
        stamp=BlockStamp(
            BlockNumber(read_quantity(block.get("number"), "block number")),
            BlockHash(read_hash(block.get("hash"), "block hash")),
            Timestamp(read_quantity(block.get("timestamp"), "block timestamp")),
        ),
        parent_hash=BlockHash(read_hash(block.get("parentHash"), "parent hash")),
        base_fee=None if base_fee is None else Wei(read_quantity(base_fee, "base fee")),
        gas_limit=read_quantity(block.get("gasLimit"), "block gas limit"),
    )


async def fetch_headers(rpc: Rpc, numbers: Sequence[BlockNumber]) -> list[Header | None]:
    """Headers of these block numbers, None for those the node does not have."""
    return [read_header(answer) for answer in await rpc.batch([header_request(number) for number in numbers])]


async def newest_header(rpc: Rpc) -> Header:
    """The newest header of the node. Raises PeerError, RpcError, Unavailable."""
    return read_newest(await rpc.call(*_flat(header_request(None))))


def read_newest(answer: Json) -> Header:
    """Read the answer to `header_request(None)`. Raises PeerError, Unavailable."""
    header = read_header(answer)
    if header is None:
        raise Unavailable("the node has no block", code="no-chain", next_step="choose another RPC URL")
    return header


def _flat(request: Request) -> tuple[str, *tuple[Json, ...]]:
    method, params = request
    return (method, *params)


async def check_chain(rpc: Rpc, chain_id: int, hub: Address) -> None:
    """Check that the node is of the chain we were told and that the hub lives there.

    Raises InputError (`wrong-chain`, `no-hub`) with what to change; RpcError and Unavailable as always.
    """
    answers = await rpc.batch([("eth_chainId", []), ("eth_getCode", [str(hub), LATEST])])
    found = read_quantity(answers[0], "chain id")
    if found != chain_id:
        raise InputError(
            f"the node at {rpc.urls[0]} is of another chain",
            code="wrong-chain",
            expected=f"chain id {chain_id}",
            got=str(found),
            next_step="correct the RPC URL or the chain id",
        )
    if answers[1] in (None, "0x", "0x0"):
        raise InputError(
            f"no contract at the hub address {hub} on chain {chain_id}",
            code="no-hub",
            expected="the PoCo hub (the diamond's address)",
            got="no code",
            next_step="correct the hub address, or the RPC URL if the hub lives on another chain",
        )
