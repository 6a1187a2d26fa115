"""How a worker proves that it holds its wallet, and the token that it gets for it.

    GET  /workers/challenge?walletAddress=0x…   -> {"nonce", "expiresAt"}
    POST /workers/login  {"walletAddress", "nonce", "expiresAt", "signature"}  -> {"token"}
    GET  /workers/connect, Authorization: Bearer <token>                        -> WebSocket

The challenge is signed as EIP-712 typed data that names the workerpool, so a signature for one pool is
worth nothing at another. Nonce and token are authenticated with a key that the scheduler keeps in its store:
nothing is remembered per worker, and both survive a restart of the scheduler.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from poolwright.poco.errors import PeerError
from poolwright.poco.signatures import recover
from poolwright.poco.typed_data import TypedDomain, typed_digest
from poolwright.poco.types import Address, Hash32, Timestamp, WorkerAddress

CHALLENGE_SECONDS: Final = 300
TOKEN_SECONDS: Final = 24 * 3600

LOGIN_STRUCT: Final = "Login(address worker,bytes32 nonce,uint256 expiresAt)"


class LoginRefused(PeerError):
    """Whoever asks has not shown who it is; ask for a new challenge and log in again."""

    http_status = 401


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What the scheduler asks a worker to sign; `expires_at` in unix seconds."""

    nonce: Hash32
    expires_at: Timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """The signed challenge."""

    wallet_address: WorkerAddress
    nonce: Hash32
    expires_at: Timestamp
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What a worker shows when it connects."""

    token: str


def login_digest(chain_id: int, workerpool: Address, worker: Address, challenge: Challenge) -> Hash32:
    """The EIP-712 digest that the worker's wallet signs."""
    domain = TypedDomain(
        name="Poolwright scheduler", version="1", chain_id=chain_id, verifying_contract=workerpool
    )
    values = {"worker": worker, "nonce": challenge.nonce, "expiresAt": challenge.expires_at}
    return typed_digest(domain, LOGIN_STRUCT, values)


def make_challenge(key: bytes, worker: Address, now: int) -> Challenge:
    """A challenge for this worker, good for five minutes. `key` is the scheduler's secret, 32 bytes."""
    expires_at = Timestamp(now + CHALLENGE_SECONDS)
    return Challenge(nonce=_nonce(key, worker, expires_at), expires_at=expires_at)


def check_challenge(key: bytes, worker: Address, challenge: Challenge, now: int) -> None:
    """Return when we made this challenge for this worker and it is still good. Raises LoginRefused."""
    if now >= challenge.expires_at:
        raise LoginRefused(
            "the login challenge has expired", code="challenge-expired", next_step="ask for a new one"
        )
    if not hmac.compare_digest(challenge.nonce, _nonce(key, worker, challenge.expires_at)):
        raise LoginRefused(
            "the login challenge is not ours", code="foreign-challenge", next_step="ask for a new one"
        )


def check_login(key: bytes, chain_id: int, workerpool: Address, login: Login, now: int) -> None:
    """Return when the worker signed a challenge that we made for it. Raises LoginRefused."""
    worker, challenge = login.wallet_address, Challenge(nonce=login.nonce, expires_at=login.expires_at)
    check_challenge(key, worker, challenge, now)
    try:
        signer = recover(login_digest(chain_id, workerpool, worker, challenge), login.signature)
    except PeerError as problem:
        raise LoginRefused(
            "login refused", code=problem.code, expected=problem.expected, got=problem.got
        ) from problem
    if signer != worker:
        raise LoginRefused("login refused", code="wrong-signer", expected=str(worker), got=str(signer))


def make_token(key: bytes, worker: Address, now: int) -> str:
    """A bearer token for this worker, good for a day."""
    claim = f"{worker}.{now + TOKEN_SECONDS}"
    return f"{claim}.{_mac(key, b'token', claim.encode()).hex()}"


def check_token(key: bytes, token: str, now: int) -> WorkerAddress:
    """The worker that the token was made for. Raises LoginRefused when it is not ours or no longer good."""
    claim, _, mac = token.rpartition(".")
    expected = _mac(key, b"token", claim.encode()).hex()
    if not claim or not hmac.compare_digest(mac.encode(), expected.encode()):  # str must be ASCII there
        raise LoginRefused("the token is not ours", code="bad-token", next_step="log in again")
    worker, _, expires_at = claim.partition(".")
    if now >= int(expires_at):
        raise LoginRefused("the token has expired", code="token-expired", next_step="log in again")
    return WorkerAddress(Address.parse(worker))


def _nonce(key: bytes, worker: Address, expires_at: Timestamp) -> Hash32:
    return Hash32(_mac(key, b"challenge", worker + expires_at.to_bytes(32, "big")))


def _mac(key: bytes, purpose: bytes, message: bytes) -> bytes:
    return hmac.new(key, purpose + b":" + message, sha256).digest()
