"""Dataset and input files: downloaded once, bounded, checked, and only then visible to the app.

A file is written to `.<name>.part` and renamed when it is complete and its checksum is right, so whatever
stands in the input folder under its name is good and a download that was cut off is simply done again.

The requester chooses the URLs, and the worker's host sits in somebody's network: addresses that are not
public (loopback, private, link-local) are refused unless the owner allows them, redirects included. The
gateways are the owner's own choice and may be anywhere.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

import aiohttp

from poolwright.compute.disk import DiskUnavailable
from poolwright.compute.environment import dataset_file_name, input_file_name
from poolwright.compute.multiaddr import sources
from poolwright.compute.port import GIB
from poolwright.poco.errors import InputError
from poolwright.poco.types import Address, Hash32

CHUNK_BYTES = 1 << 16
_RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})


class DataCause(StrEnum):
    """Why the input is not complete, in the words of the replicate's story (section 9.3)."""

    DATASET_FILE_DOWNLOAD_FAILED = "DATASET_FILE_DOWNLOAD_FAILED"
    DATASET_FILE_BAD_CHECKSUM = "DATASET_FILE_BAD_CHECKSUM"
    INPUT_FILES_DOWNLOAD_FAILED = "INPUT_FILES_DOWNLOAD_FAILED"


class DataUnavailable(InputError):
    """An input of the task cannot be had; `code` is a DataCause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadPolicy:
    """The owner's bounds. Times in seconds."""

    gateways: tuple[str, ...] = ()
    """IPFS gateways, tried in order; one on this host is the best there is."""
    max_bytes: int = 10 * GIB
    connect_seconds: float = 10.0
    idle_seconds: float = 30.0
    """Longest silence in the middle of a download."""
    total_seconds: float = 3600.0
    rounds: int = 3
    """How often all sources are tried."""
    pause_seconds: float = 1.0
    """Before the second round; doubles with each."""
    public_addresses_only: bool = True


async def fetch_dataset(
    dataset: Address, location: str, checksum: Hash32, folder: Path, policy: DownloadPolicy
) -> Path | None:
    """Have the deal's dataset in the input folder; None when the deal has none.

    A dataset counts when it has an address and a location (section 9.7); one registered without a checksum
    can match nothing. Raises DataUnavailable.
    """
    if not dataset or not location.strip():
        return None
    target = folder / dataset_file_name(dataset)
    await _fetch(
        f"dataset {dataset}",
        location,
        target,
        checksum=checksum,
        cause=DataCause.DATASET_FILE_DOWNLOAD_FAILED,
        policy=policy,
    )
    return target


async def fetch_input_files(urls: Sequence[str], folder: Path, policy: DownloadPolicy) -> tuple[Path, ...]:
    """Have the request's input files in the input folder, each once. Raises DataUnavailable."""
    targets = []
    for url in urls:
        targets.append(folder / input_file_name(url))
        await _fetch(
            f"input file {url}",
            url,
            targets[-1],
            checksum=None,
            cause=DataCause.INPUT_FILES_DOWNLOAD_FAILED,
            policy=policy,
        )
    return tuple(targets)


class _Failed(Exception):
    """One try at one source; `again` when another try may do better."""

    def __init__(self, reason: str, *, again: bool, bad_checksum: bool = False) -> None:
        super().__init__(reason)
        self.again = again
        self.bad_checksum = bad_checksum


async def _fetch(
    what: str,
    location: str,
    target: Path,
    *,
    checksum: Hash32 | None,
    cause: DataCause,
    policy: DownloadPolicy,
) -> None:
    if target.exists():  # noqa: ASYNC240 - one look at a local folder
        return
    try:
        urls = list(sources(location, policy.gateways))
    except InputError as problem:
        raise _unavailable(what, cause, location, str(problem)) from problem
    target.parent.mkdir(parents=True, exist_ok=True)
    reasons: dict[str, str] = {}
    wrong_content = False
    try:
        async with (
            asyncio.timeout(policy.total_seconds),
            _session(policy, public_only=False) as owner_session,
            _session(policy, public_only=policy.public_addresses_only) as requester_session,
        ):
            for number in range(policy.rounds):
                for url in tuple(urls):
                    is_owners = url.startswith(tuple(f"{gateway}/ipfs/" for gateway in policy.gateways))
                    session = owner_session if is_owners else requester_session
                    try:
                        await _download(session, url, target, checksum, policy.max_bytes)
                        return
                    except _Failed as failure:
                        reasons[url] = str(failure)
                        wrong_content = wrong_content or failure.bad_checksum
                        if not failure.again:
                            urls.remove(url)
                if not urls:
                    break
                if number + 1 < policy.rounds:
                    await asyncio.sleep(policy.pause_seconds * 2**number)
    except TimeoutError:
        reasons["time"] = f"not complete within {policy.total_seconds:g} s"
    finally:
        _part(target).unlink(missing_ok=True)
    if wrong_content:
        cause = DataCause.DATASET_FILE_BAD_CHECKSUM
    raise _unavailable(what, cause, location, "; ".join(f"{url}: {why}" for url, why in reasons.items()))


async def _download(
    session: aiohttp.ClientSession, url: str, target: Path, checksum: Hash32 | None, max_bytes: int
) -> None:
    part = _part(target)
    digest = sha256()
    size = 0
    try:
        async with session.get(url, max_redirects=5) as answer:
            if answer.status != 200:
                raise _Failed(f"HTTP status {answer.status}", again=answer.status in _RETRIED_STATUSES)
            if (answer.content_length or 0) > max_bytes:
                raise _too_large(answer.content_length or 0, max_bytes)
            with part.open("wb") as out:
                async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                    size += len(chunk)
                    if size > max_bytes:
                        raise _too_large(size, max_bytes)
                    digest.update(chunk)
                    out.write(chunk)
                out.flush()
                await asyncio.to_thread(os.fsync, out.fileno())
    except (aiohttp.ClientError, TimeoutError) as problem:
        raise _Failed(str(problem) or type(problem).__name__, again=_may_pass(problem)) from problem
    except OSError as problem:
        raise DiskUnavailable(
            f"cannot write {part}", got=str(problem), next_step="free space in the worker's folder"
        ) from problem
    if checksum is not None and digest.digest() != checksum:
        raise _Failed(
            f"checksum 0x{digest.hexdigest()} of {size} bytes, registered is {checksum}",
            again=False,
            bad_checksum=True,
        )
    part.replace(target)


@asynccontextmanager
async def _session(policy: DownloadPolicy, *, public_only: bool) -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=policy.connect_seconds, sock_read=policy.idle_seconds
    )
    connector = aiohttp.TCPConnector(socket_factory=_public_socket if public_only else None)
    # What is stored is what was registered: no content encoding is undone, no proxy of the environment used.
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, auto_decompress=False, headers={"Accept-Encoding": "identity"}
    ) as session:
        yield session


def _public_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket for a resolved address, if the whole internet may know it; called for each connection."""
    family, kind, protocol, _, end_point = address
    if not ipaddress.ip_address(str(end_point[0])).is_global:
        raise OSError(errno.EACCES, f"address {end_point[0]} is not public and this worker refuses such")
    return socket.socket(family, kind, protocol)


def _may_pass(problem: Exception) -> bool:
    is_refused_by_us = isinstance(problem, aiohttp.ClientConnectorError) and problem.errno == errno.EACCES
    return not is_refused_by_us and not isinstance(problem, aiohttp.InvalidURL | aiohttp.TooManyRedirects)


def _too_large(size: int, max_bytes: int) -> _Failed:
    return _Failed(f"{size} bytes, more than this worker takes ({max_bytes})", again=False)


def _part(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _unavailable(what: str, cause: DataCause, location: str, got: str) -> DataUnavailable:
    if cause is DataCause.DATASET_FILE_BAD_CHECKSUM:
        return DataUnavailable(
            f"{what} is not the file that its owner registered",
            code=cause.value,
            expected=f"the registered sha256 at {location}",
            got=got,
            next_step="restore the file, or register the new one with its checksum",
        )
    return DataUnavailable(
        f"{what} cannot be downloaded",
        code=cause.value,
        expected=f"a file at {location}",
        got=got,
        next_step="check that the address answers from the internet",
    )
