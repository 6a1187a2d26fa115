"""Who asks: a wallet signs a challenge of ours, once per request that changes something (reference 4.6).

    GET /challenge                                     -> typed data to sign
    authorization: <digest>_<signature>_<address>      digest and signature of that typed data

The reference keeps one challenge per wallet, so two publications at the same time collide. Here every call
gives another challenge; each is good for one use, by the wallet and on the chain that it was made for, within
five minutes. Where several processes are one market, challenges live in their database (`challenges`), and
one that a process gave is good at any of them; a single process keeps them in memory.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol, TypeAlias

from poolwright.market.errors import unauthorized
from poolwright.poco.errors import InputError, PeerError
from poolwright.poco.signatures import recover
from poolwright.poco.typed_data import TypedDomain, typed_digest
from poolwright.poco.types import Address, Hash32

PREFIX: Final = "Sign this message to log into iExec Gateway: "
STRUCT: Final = "Challenge(string challenge)"
MOST_SIGNATURE_BYTES: Final = 4096
Verify: TypeAlias = Callable[[Address, Hash32, bytes], Awaitable[bool]]
"""Whether the contract at an address says that it signed a digest."""


async def no_contract(wallet: Address, digest: Hash32, signature: bytes) -> bool:
    """Where only keys sign."""
    return False


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a wallet was asked to sign."""

    digest: Hash32
    chain_id: int
    wallet: Address


class Challenges(Protocol):
    """Challenges that were given and not used yet; the oldest give way when there are too many."""

    async def give(self, challenge: Challenge) -> None:
        """Keep it until it is used or too old. Raises Unavailable."""

    async def use(self, challenge: Challenge) -> bool:
        """Use it up; False when it was not given, is used or too old. Raises Unavailable."""


class Logins:
    """Gives challenges and takes them back signed."""

    def __init__(self, challenges: Challenges) -> None:
        self._challenges = challenges

    async def challenge(self, chain_id: int, wallet: Address) -> str:
        """New typed data for this wallet to sign, as JSON."""
        text = PREFIX + secrets.token_hex(16)
        await self._challenges.give(Challenge(digest_of(chain_id, text), chain_id, wallet))
        before, after = _around(chain_id)
        return f"{before}{text}{after}"

    async def redeem(self, chain_id: int, header: str | None, by_contract: Verify = no_contract) -> Address:
        """The wallet that the header proves; its challenge is used up. Raises MarketRefusal, 403.

        A signature that is not of the wallet's key may be one that the wallet, a contract, says is its own
        (ERC-1271); `by_contract` asks the chain, once per challenge. Raises what it raises too.
        """
        try:
            digest_text, signature_text, address_text = (header or "").split("_")
            digest = Hash32.parse(digest_text)
            wallet = Address.parse(address_text)
            signature = bytes.fromhex(signature_text.removeprefix("0x"))
        except (ValueError, InputError):
            raise unauthorized() from None
        if wallet == Address.zero() or len(signature) > MOST_SIGNATURE_BYTES:
            raise unauthorized()
        if not await self._challenges.use(Challenge(digest, chain_id, wallet)):
            raise unauthorized()
        if signer_of(digest, signature) != wallet and not await by_contract(wallet, digest, signature):
            raise unauthorized()
        return wallet


def signer_of(digest: Hash32, signature: bytes) -> Address | None:
    """Whose key signed; None for what is no signature of a key."""
    try:
        return recover(digest, signature)
    except PeerError:
        return None


def digest_of(chain_id: int, challenge: str) -> Hash32:
    """What a wallet signs to log in."""
    return typed_digest(_domain(chain_id), STRUCT, {"challenge": challenge})


@lru_cache(maxsize=64)
def _domain(chain_id: int) -> TypedDomain:
    return TypedDomain(name="iExec Gateway", version="1", chain_id=chain_id)


@lru_cache(maxsize=64)
def _around(chain_id: int) -> tuple[str, str]:
    """The JSON of a chain's typed data, before and after the text, which needs no escaping."""
    before, _, after = json.dumps(typed_data(chain_id, PREFIX)).partition(PREFIX)
    return before, after


def typed_data(chain_id: int, challenge: str) -> dict[str, object]:
    """The challenge as clients pass it to a wallet."""
    return {
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
            ],
            "Challenge": [{"name": "challenge", "type": "string"}],
        },
        "domain": {"name": "iExec Gateway", "version": "1", "chainId": str(chain_id)},
        "primaryType": "Challenge",
        "message": {"challenge": challenge},
    }
