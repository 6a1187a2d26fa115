"""Words around a result upload: who may upload, how a request says so, and the link that goes on chain.

A worker signs once, per task, that it is the one that uploads (EIP-712, so that a wallet can show it); the
signature is good until `expires_at` and only for the result repository's checks. It does not name the
bytes: the chain already does, through the result hash that the same worker contributed.

    Authorization: PoolwrightUpload 0x<worker>.<expires_at, unix seconds>.0x<signature>

A result that comes before the contribution (`contributeAndFinalize` names its place on the chain) has no
such trace yet. Then the pool's owner vouches for the worker, by the authorization that the chain will demand:

    Workerpool-Authorization: 0x<enclave challenge>.0x<signature>

The result link is the text of `reference/scheduler-worker.md` 8.4, character for character, because
clients of the network read it from the task's `results`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from poolwright.poco.errors import PeerError
from poolwright.poco.signatures import recover
from poolwright.poco.typed_data import TypedDomain, typed_digest
from poolwright.poco.types import Address, Hash32, TaskId, Timestamp, WorkerAddress

SCHEME = "PoolwrightUpload"
MAX_AUTHORIZATION_SECONDS = 3600
"""How far ahead `expires_at` may lie; workers sign a fresh one for each attempt."""
MAX_LINK_BYTES = 1024
"""`results` longer than this are callback bytes or nonsense, and are not parsed."""
IPFS = "ipfs"
"""Storage word of links that any IPFS gateway can follow."""

WORKERPOOL_AUTHORIZATION = "Workerpool-Authorization"
"""Name of the header with which a result comes before its contribution."""

UPLOAD_STRUCT = "ResultUpload(bytes32 taskId,address worker,uint256 expiresAt)"
_WORKERPOOL = re.compile(r"(0x[0-9a-fA-F]{40})\.0x((?:[0-9a-fA-F]{2}){1,256})")
_CREDENTIALS = re.compile(r"(0x[0-9a-fA-F]{40})\.(0|[1-9][0-9]{0,15})\.0x((?:[0-9a-fA-F]{2})+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadAuthorization:
    """A worker's claim to upload one task's result, as the request carries it; not yet verified."""

    worker: WorkerAddress
    expires_at: Timestamp
    """Unix seconds of the wall clock; refused from then on."""
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultLink:
    """Where a finalized task says that its result is."""

    storage: str
    location: str

    @property
    def cid(self) -> str | None:
        """The CID behind an IPFS link; None for every other storage."""
        is_ipfs = self.storage == IPFS and self.location.startswith("/ipfs/")
        return self.location.removeprefix("/ipfs/") if is_ipfs else None


def upload_digest(
    chain_id: int, hub: Address, task_id: TaskId, worker: Address, expires_at: Timestamp
) -> Hash32:
    """The EIP-712 digest that the worker's wallet signs to upload the result of `task_id`."""
    domain = TypedDomain(name="Poolwright results", version="1", chain_id=chain_id, verifying_contract=hub)
    return typed_digest(domain, UPLOAD_STRUCT, {"taskId": task_id, "worker": worker, "expiresAt": expires_at})


def authorization_header(authorization: UploadAuthorization) -> str:
    """The value of the Authorization header of `POST /v1/results/{taskId}`."""
    return f"{SCHEME} {authorization.worker}.{authorization.expires_at}.0x{authorization.signature.hex()}"


def parse_authorization(header: str) -> UploadAuthorization:
    """Read the value of an Authorization header. Raises PeerError when it has another form."""
    scheme, _, credentials = header.partition(" ")
    match = _CREDENTIALS.fullmatch(credentials)
    if scheme.lower() != SCHEME.lower() or match is None:
        raise PeerError(
            "upload authorization not readable",
            code="bad-authorization",
            expected=f"{SCHEME} 0x<worker>.<expires, unix seconds>.0x<signature>",
            got=repr(header[:40]) if header else "no Authorization header",
            next_step="sign the upload digest with the worker's wallet",
        )
    worker, expires_at, signature = match.groups()
    return UploadAuthorization(
        worker=WorkerAddress(Address.parse(worker)),
        expires_at=Timestamp(int(expires_at)),
        signature=bytes.fromhex(signature),
    )


def workerpool_header(enclave_challenge: Address, authorization: bytes) -> str:
    """The value of the Workerpool-Authorization header: what the pool's owner signed, for which enclave."""
    return f"{enclave_challenge}.0x{authorization.hex()}"


def parse_workerpool_header(header: str) -> tuple[Address, bytes]:
    """The enclave challenge and the signature. Raises PeerError when the header has another form."""
    match = _WORKERPOOL.fullmatch(header)
    if match is None:
        raise PeerError(
            "workerpool authorization not readable",
            code="bad-authorization",
            expected="0x<enclave challenge>.0x<signature of the workerpool's owner>",
            got=repr(header[:40]),
            next_step="send the authorization that came with the task",
        )
    challenge, signature = match.groups()
    return Address.parse(challenge), bytes.fromhex(signature)


def verify_authorization(
    authorization: UploadAuthorization, *, chain_id: int, hub: Address, task_id: TaskId, now: Timestamp
) -> None:
    """Check that the named worker signed this claim and that it is in force at `now` (wall clock).

    Raises PeerError with code `authorization-expired`, `authorization-too-long` or `bad-signature`.
    """
    expires_at = authorization.expires_at
    if expires_at <= now:
        raise PeerError(
            "upload authorization has expired",
            code="authorization-expired",
            expected=f"expiry after {now}",
            got=str(expires_at),
            next_step="sign a new one; if it is new, set the clock of the worker's machine",
        )
    if expires_at > now + MAX_AUTHORIZATION_SECONDS:
        raise PeerError(
            "upload authorization lives too long",
            code="authorization-too-long",
            expected=f"expiry at {now + MAX_AUTHORIZATION_SECONDS} at the latest",
            got=str(expires_at),
            next_step="sign one for minutes; if it is so, set the clock of the worker's machine",
        )
    signer = recover(
        upload_digest(chain_id, hub, task_id, authorization.worker, expires_at), authorization.signature
    )
    if signer != authorization.worker:
        raise PeerError(
            "upload authorization signed by somebody else",
            code="bad-signature",
            expected=str(authorization.worker),
            got=str(signer),
            next_step=f"sign for chain {chain_id}, hub {hub} and this task with the worker's wallet",
        )


def result_link(cid: str) -> bytes:
    """The `results` of a finalized task whose result is stored under `cid` (reference 8.4)."""
    return f'{{ "storage": "{IPFS}", "location": "/ipfs/{cid}" }}'.encode()


def parse_result_link(results: bytes) -> ResultLink | None:
    """Read a task's `results`; None when they hold no link (empty, callback bytes, foreign text).

    The plain `/ipfs/<hash>` of 3.0.x schedulers counts as a link too.
    """
    if len(results) > MAX_LINK_BYTES:
        return None
    try:
        text = results.decode()
        if text.startswith("/ipfs/"):
            return ResultLink(storage=IPFS, location=text)
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    storage, location = fields.get("storage"), fields.get("location")
    if not isinstance(storage, str) or not isinstance(location, str):
        return None
    return ResultLink(storage=storage, location=location)
