"""Who may read the logs of a task: its requester, who shows it with a signed challenge.

    GET /tasks/logs/challenge?address=0x…   -> EIP-712 typed data, as wallets and the official client sign it
    GET /tasks/{taskId}/logs                   Authorization: <digest>_<signature>_<address>

The challenge of an address is the same for an hour and made from the scheduler's key: nothing is remembered
for those who ask and never come back. Source: reference `scheduler-worker.md` 1.10, `market-sdk.md` 6.3.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from poolwright.poco.errors import InputError, PeerError
from poolwright.poco.signatures import recover
from poolwright.poco.typed_data import TypedDomain, typed_digest
from poolwright.poco.types import Address, Hash32
from poolwright.wire.login import LoginRefused

WINDOW_SECONDS: Final = 3600
MAX_CHARACTERS: Final = 100_000
"""What is kept of each of stdout and stderr: the last ones (reference 1.8)."""
MAX_BODY_BYTES: Final = 6 * 2 * MAX_CHARACTERS + 1024
"""Both at their longest, every character escaped."""
CHALLENGE_STRUCT: Final = "Challenge(string challenge)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeLogs:
    """What an app printed on one worker: the last characters of each stream."""

    stdout: str
    stderr: str

    def bounded(self) -> ComputeLogs:
        return ComputeLogs(stdout=self.stdout[-MAX_CHARACTERS:], stderr=self.stderr[-MAX_CHARACTERS:])


def challenge_of(key: bytes, address: Address, now: int) -> str:
    """What this address signs in this hour; `key` is the scheduler's secret."""
    window = now // WINDOW_SECONDS
    return b64encode(hmac.new(key, b"logs:" + address + window.to_bytes(8, "big"), sha256).digest()).decode()


def typed_challenge(chain_id: int, challenge: str) -> dict[str, object]:
    """The challenge as typed data in JSON."""
    domain = (("name", "string"), ("version", "string"), ("chainId", "uint256"))
    return {
        "types": {
            "EIP712Domain": [{"name": name, "type": type_} for name, type_ in domain],
            "Challenge": [{"name": "challenge", "type": "string"}],
        },
        "primaryType": "Challenge",
        "domain": {"name": "iExec Core", "version": "1", "chainId": chain_id},
        "message": {"challenge": challenge},
    }


def challenge_digest(chain_id: int, challenge: str) -> Hash32:
    """The EIP-712 digest of the challenge."""
    domain = TypedDomain(name="iExec Core", version="1", chain_id=chain_id)
    return typed_digest(domain, CHALLENGE_STRUCT, {"challenge": challenge})


def reader_of(key: bytes, chain_id: int, authorization: str, now: int) -> Address:
    """Who signed the challenge of this hour or the last. Raises LoginRefused."""
    parts = authorization.split("_")
    if len(parts) != 3:
        raise LoginRefused(
            "no access to the logs",
            code="bad-logs-token",
            expected="Authorization: <digest>_<signature>_<address>",
            got=f"{len(parts)} part(s)",
            next_step="sign the challenge of GET /tasks/logs/challenge",
        )
    try:
        digest, address = Hash32.parse(parts[0]), Address.parse(parts[2])
        signature = bytes.fromhex(parts[1].removeprefix("0x"))
        signer = recover(digest, signature)
    except (InputError, PeerError, ValueError) as problem:
        raise LoginRefused(
            "no access to the logs", code="bad-logs-token", got=str(problem)[:200]
        ) from problem
    known = [challenge_digest(chain_id, challenge_of(key, address, at)) for at in (now, now - WINDOW_SECONDS)]
    if digest not in known or signer != address:
        raise LoginRefused(
            "no access to the logs",
            code="bad-logs-token",
            expected=f"a fresh challenge signed by {address}",
            got=f"signer {signer}",
            next_step="sign the challenge of GET /tasks/logs/challenge",
        )
    return address
