"""Who may contribute: the scheduler's authorization and, for TEE tasks, the enclave's signature.

Both are personal_sign signatures (EIP-191) that the hub checks in contribute and contributeAndFinalize. An
authorization binds worker, task and enclave challenge, so that a worker can neither choose its tasks nor
hand a permission to another one. The enclave challenge is the zero address for tasks without TEE.
"""

from __future__ import annotations

from poolwright.poco.errors import PeerError
from poolwright.poco.keccak import keccak
from poolwright.poco.signatures import personal_digest, recover, sign_digest
from poolwright.poco.types import Address, Hash32, TaskId


def authorization_hash(worker: Address, task_id: TaskId, enclave_challenge: Address) -> Hash32:
    """Hash of what an authorization permits, before the EIP-191 prefix (IexecPoco2 contribute)."""
    return Hash32(keccak(worker + task_id + enclave_challenge))


def authorization_digest(worker: Address, task_id: TaskId, enclave_challenge: Address) -> Hash32:
    """What the pool's owner signs (the TEE broker when there is one and the challenge is not zero)."""
    return personal_digest(authorization_hash(worker, task_id, enclave_challenge))


def sign_authorization(key: bytes, worker: Address, task_id: TaskId, enclave_challenge: Address) -> bytes:
    """Permit `worker` to contribute to a task. Raises InputError for a key that is none."""
    return sign_digest(key, authorization_digest(worker, task_id, enclave_challenge))


def verify_authorization(
    signature: bytes, *, signer: Address, worker: Address, task_id: TaskId, enclave_challenge: Address
) -> None:
    """Return when `signer` gave this permission. Raises PeerError otherwise."""
    _verify(
        f"authorization of worker {worker} for task {task_id}",
        authorization_digest(worker, task_id, enclave_challenge),
        signature,
        signer,
    )


def enclave_digest(result_hash: Hash32, result_seal: Hash32) -> Hash32:
    """What the enclave signs over its result (IexecPoco2 contribute)."""
    return personal_digest(Hash32(keccak(result_hash + result_seal)))


def verify_enclave_signature(
    signature: bytes, *, enclave_challenge: Address, result_hash: Hash32, result_seal: Hash32
) -> None:
    """Return when the enclave signed this result. Raises PeerError otherwise.

    A zero challenge stands for a task without TEE, where the hub ignores the signature: always accepted.
    """
    if enclave_challenge:
        digest = enclave_digest(result_hash, result_seal)
        _verify(f"enclave signature of result {result_hash}", digest, signature, enclave_challenge)


def _verify(what: str, digest: Hash32, signature: bytes, signer: Address) -> None:
    recovered = recover(digest, signature)
    if recovered != signer:
        raise PeerError(
            f"{what} refused", code="wrong-signer", expected=f"signer {signer}", got=str(recovered)
        )
