"""Who asks: a wallet signs a challenge of ours, once per request that changes something (reference 4.6).

    GET /challenge                                     -> typed data to sign
    authorization: <digest>_<signature>_<address>      digest and signature of that typed data

The reference keeps one challenge per wallet, so two publications at the same time collide. Here every call
gives another challenge; each is good for one use, by the wallet and on the chain that it was made for, within
five minutes. Challenges live in this process: after a restart a client asks for a new one.
"""

from __future__ import annotations

import secrets
import string
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Final

from poolwright.market.errors import unauthorized
from poolwright.poco.errors import InputError, PeerError
from poolwright.poco.signatures import recover
from poolwright.poco.typed_data import TypedDomain, typed_digest
from poolwright.poco.types import Address, Hash32

PREFIX: Final = "Sign this message to log into iExec Gateway: "
STRUCT: Final = "Challenge(string challenge)"
GOOD_SECONDS: Final = 300.0
MOST_OPEN: Final = 200_000
"""Challenges that wait for their use, of all wallets; the oldest give way."""
MOST_OF_WALLET: Final = 2_000
_LETTERS: Final = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class _Issued:
    chain_id: int
    wallet: Address
    until: float


class Logins:
    """Challenges that were given and not used yet. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._issued: OrderedDict[Hash32, _Issued] = OrderedDict()
        self._of_wallet: dict[Address, deque[Hash32]] = {}

    def __len__(self) -> int:
        return len(self._issued)

    def challenge(self, chain_id: int, wallet: Address, now: float) -> dict[str, object]:
        """New typed data for this wallet to sign."""
        self._forget_old(now)
        text = PREFIX + "".join(secrets.choice(_LETTERS) for _ in range(32))
        digest = digest_of(chain_id, text)
        self._issued[digest] = _Issued(chain_id, wallet, now + GOOD_SECONDS)
        mine = self._of_wallet.setdefault(wallet, deque())
        mine.append(digest)
        if len(mine) > MOST_OF_WALLET:
            self._drop(mine[0])
        if len(self._issued) > MOST_OPEN:
            self._drop(next(iter(self._issued)))
        return typed_data(chain_id, text)

    def redeem(self, chain_id: int, header: str | None, now: float) -> Address:
        """The wallet that the header proves; its challenge is used up. Raises MarketRefusal, 403."""
        try:
            digest_text, signature_text, address_text = (header or "").split("_")
            digest = Hash32.parse(digest_text)
            wallet = Address.parse(address_text)
            signature = bytes.fromhex(signature_text.removeprefix("0x"))
        except (ValueError, InputError):
            raise unauthorized() from None
        issued = self._issued.get(digest)
        if issued is None or (issued.chain_id, issued.wallet) != (chain_id, wallet) or now >= issued.until:
            raise unauthorized()
        try:
            signer = recover(digest, signature)
        except PeerError:
            raise unauthorized() from None
        if signer != wallet:
            raise unauthorized()
        self._drop(digest)
        return wallet

    def _forget_old(self, now: float) -> None:
        while self._issued:
            digest, issued = next(iter(self._issued.items()))
            if issued.until > now:
                return
            self._drop(digest)

    def _drop(self, digest: Hash32) -> None:
        issued = self._issued.pop(digest)
        mine = self._of_wallet[issued.wallet]
        mine.remove(digest)
        if not mine:
            del self._of_wallet[issued.wallet]


def digest_of(chain_id: int, challenge: str) -> Hash32:
    """What a wallet signs to log in."""
    domain = TypedDomain(name="iExec Gateway", version="1", chain_id=chain_id)
    return typed_digest(domain, STRUCT, {"challenge": challenge})


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
