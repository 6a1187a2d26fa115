"""A completed task's result, from the IPFS gateway into a file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final
from urllib.parse import urljoin

from poolwright.chain.carrier import AnswerTooLong
from poolwright.cli.iexec.errors import IexecError
from poolwright.cli.iexec.http import OK, Http, Request, Take
from poolwright.poco.records import OnchainTask, TaskStatus
from poolwright.poco.types import Hash32
from poolwright.wire.uploads import IPFS, parse_result_link

if TYPE_CHECKING:
    from poolwright.cli.iexec.chains import ChainSettings
    from poolwright.cli.iexec.command import Run

PUBLIC_GATEWAY: Final = "https://gateway.ipfs.io"
SILENCE_SECONDS: Final = 60.0
"""A gateway that sends nothing for so long is given up."""


class IpfsGatewayCallError(IexecError):
    """The gateway does not give the result; check `ipfsGateway` of chain.json, or try later."""

    name: ClassVar[str] = "IpfsGatewayCallError"


def result_path(folder: Path, task_id: Hash32, name: str) -> Path:
    """Where the result is saved: `<name>.zip` in the folder, the task's id if no name is given. Pure."""
    stem = name or str(task_id)
    return folder / (stem if stem.endswith(".zip") else f"{stem}.zip")


def location_of(task: OnchainTask) -> str:
    """The gateway's path of a task's result. Raises IexecError when there is none to download. Pure."""
    if task.status is not TaskStatus.COMPLETED:
        raise IexecError("Task is not completed", expected="status COMPLETED", got=task.status.name)
    link = parse_result_link(task.results)
    if link is None:
        raise IexecError("No result uploaded for this task")
    if link.storage != IPFS:
        raise IexecError(f"Task result stored on {link.storage}, download not supported", expected=IPFS)
    return link.location


async def download_result(
    run: Run, chain: ChainSettings, task_id: Hash32, task: OnchainTask, name: str
) -> Path:
    """Save a task's result; returns its path. Raises IexecError, IpfsGatewayCallError.

    The file appears when it is whole. Its content is compared with the CID of the link.
    """
    from poolwright.results.cid import FileCid, parse_cid

    location = location_of(task)
    gateway = chain.ipfs_gateway or PUBLIC_GATEWAY
    target = result_path(run.folder, task_id, name)
    cid = FileCid()
    handle, partial = tempfile.mkstemp(prefix=".result-", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file, run.out.progress("Downloading the result") as told:

            def take(piece: bytes, total: int) -> None:
                cid.update(piece)
                with _writing(target):
                    file.write(piece)
                told(cid.size, total)

            await _fetch(gateway, urljoin(gateway, location), take)
        with _writing(target):
            os.chmod(partial, 0o644)
            os.replace(partial, target)
    finally:
        with suppress(FileNotFoundError):  # it is the result now
            os.unlink(partial)
    linked = parse_cid(location.removeprefix("/ipfs/").strip("/"))
    if linked is not None and cid.finish() != linked:
        run.out.warn(f"the content has not the CID {linked} of the link: it was added with other settings")
    return target


async def _fetch(gateway: str, url: str, take: Take) -> None:
    """Get all of a file, piece by piece. Raises IpfsGatewayCallError."""
    http = Http()
    request = Request(
        method="GET",
        url=url,
        headers={"accept": "application/zip"},
        silence_seconds=SILENCE_SECONDS,
        take=take,
    )
    try:
        answer = await http.exchange(request)
    except (OSError, AnswerTooLong) as problem:
        raise IpfsGatewayCallError(
            f"IPFS gateway error: Connection to {gateway} failed with a network error",
            got=str(problem) or type(problem).__name__,
            next_step="check ipfsGateway in chain.json",
        ) from problem
    finally:
        await http.close()
    if answer.status != OK:
        raise IpfsGatewayCallError(
            f"IPFS gateway error: Server at {gateway} does not give the result",
            got=f"{answer.status} {answer.reason}",
            next_step="try again later, or another ipfsGateway in chain.json",
        )


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise IexecError(f"{target} cannot be written", got=str(problem)) from problem
