"""A finished task's result: downloaded through its on-chain link, proven to be the one agreed on, unpacked.

Nothing is believed because a server says it: the CID is recomputed from the bytes as they come, the digest
from the files in the zip, and the chain's consensus must be the hash of that digest with the task's id.
"""

from __future__ import annotations

import asyncio
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from poolwright.poco.errors import PeerError, Unavailable
from poolwright.poco.records import OnchainTask
from poolwright.poco.results import result_hash
from poolwright.poco.types import Hash32, TaskId
from poolwright.results.archive import ZipLimits, result_digests
from poolwright.results.cid import FileCid
from poolwright.results.errors import WrongContent
from poolwright.wire.uploads import parse_result_link

SILENCE_SECONDS = 30.0
LIMITS = ZipLimits(max_inflated_bytes=2 * 1024**3)
COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A verified and unpacked result."""

    index: int
    task_id: TaskId
    cid: str
    digest: Hash32
    zip_path: Path
    folder: Path
    """Where it was unpacked."""
    files: tuple[Path, ...]
    """What was in it, relative to the folder, sorted."""


async def retrieve(
    http: aiohttp.ClientSession, results_url: str, task_id: TaskId, task: OnchainTask, folder: Path
) -> Result:
    """Download, verify and unpack the result of a completed task into `folder`/<index>.

    Raises PeerError when the link, the CID or the digest is not what it must be, Unavailable when the
    repository does not answer.
    """
    link = parse_result_link(task.results)
    if link is None or link.cid is None:
        raise PeerError(
            f"task {task.index} has no link to a result on the chain",
            code="no-result-link",
            expected='{ "storage": "ipfs", "location": "/ipfs/<cid>" }',
            got=repr(task.results[:100]),
        )
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    zip_path = folder / f"{task.index}.zip"
    await _download(http, f"{results_url}/ipfs/{link.cid}", link.cid, zip_path)
    digest = await asyncio.to_thread(verified_digest, zip_path, task_id, task)
    target = folder / str(task.index)
    files = await asyncio.to_thread(unpack, zip_path, target)
    return Result(
        index=task.index,
        task_id=task_id,
        cid=link.cid,
        digest=digest,
        zip_path=zip_path,
        folder=target,
        files=files,
    )


def verified_digest(zip_path: Path, task_id: TaskId, task: OnchainTask) -> Hash32:
    """The digest of a result zip that is the one the chain's consensus is about. Raises PeerError."""
    try:
        digests = result_digests(zip_path, LIMITS)
    except WrongContent as problem:
        raise PeerError(
            f"the result of task {task.index} is none", code="bad-result", got=str(problem)
        ) from problem
    for digest in digests:
        if result_hash(task_id, digest) == task.consensus and digest == task.result_digest:
            return digest
    raise PeerError(
        f"the result of task {task.index} is not the one that was agreed on",
        code="wrong-digest",
        expected=f"digest {task.result_digest}, hash {task.consensus}",
        got=", ".join(f"digest {digest}, hash {result_hash(task_id, digest)}" for digest in digests),
        next_step="do not use it; ask the workerpool's manager",
    )


def unpack(zip_path: Path, folder: Path) -> tuple[Path, ...]:
    """Unpack a zip that `verified_digest` took, into an empty folder; returns the files in it.

    That judge refuses paths out of the folder, links, doubled names and too many bytes before anything here
    is written.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = []
    with zipfile.ZipFile(zip_path) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            target = folder / info.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, target.open("xb") as out:
                shutil.copyfileobj(source, out, COPY_BYTES)
            files.append(target.relative_to(folder))
    return tuple(sorted(files))


async def _download(http: aiohttp.ClientSession, url: str, cid: str, path: Path) -> None:
    patience = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE_SECONDS, sock_read=SILENCE_SECONDS)
    computed = FileCid()
    try:
        async with http.get(url, timeout=patience) as answer:
            if answer.status != 200:
                raise _unavailable(url, f"status {answer.status}")
            with path.open("wb") as out:
                async for piece in answer.content.iter_chunked(COPY_BYTES):
                    computed.update(piece)
                    out.write(piece)
    except (aiohttp.ClientError, TimeoutError) as problem:
        raise _unavailable(url, str(problem) or type(problem).__name__) from problem
    found = computed.finish()
    if found != cid:
        raise PeerError(f"the file at {url} is another one", code="wrong-cid", expected=cid, got=found)


def _unavailable(url: str, got: str) -> Unavailable:
    return Unavailable(
        f"no result at {url}", code="no-result", got=got[:300], next_step="see `poolwright logs results`"
    )
