"""A completed task's result, from the IPFS gateway into a file."""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final
from urllib.parse import urljoin

import aiohttp

from poolwright.cli.iexec.errors import IexecError
from poolwright.poco.records import OnchainTask, TaskStatus
from poolwright.poco.types import Hash32
from poolwright.wire.uploads import IPFS, parse_result_link

if TYPE_CHECKING:
    from poolwright.cli.iexec.chains import ChainSettings
    from poolwright.cli.iexec.command import Run

PUBLIC_GATEWAY: Final = "https://gateway.ipfs.io"
PIECE_BYTES: Final = 256 * 1024
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
        with os.fdopen(handle, "wb") as file:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE_SECONDS)
            async with (
                aiohttp.ClientSession(timeout=timeout) as http,
                http.get(urljoin(gateway, location), headers={"accept": "application/zip"}) as answer,
            ):
                if answer.status != 200:
                    raise _refused(gateway, f"{answer.status} {answer.reason}")
                total = answer.content_length or 0
                with run.out.progress("Downloading the result", total) as told:
                    async for piece in answer.content.iter_chunked(PIECE_BYTES):
                        file.write(piece)
                        cid.update(piece)
                        told(cid.size)
        await asyncio.to_thread(os.chmod, partial, 0o644)
        await asyncio.to_thread(os.replace, partial, target)
    except (aiohttp.ClientError, TimeoutError) as problem:
        raise IpfsGatewayCallError(
            f"IPFS gateway error: Connection to {gateway} failed with a network error",
            got=str(problem) or type(problem).__name__,
            next_step="check ipfsGateway in chain.json",
        ) from problem
    except OSError as problem:
        raise IexecError(f"{target} cannot be written", got=str(problem)) from problem
    finally:
        with suppress(FileNotFoundError):  # it is the result now
            os.unlink(partial)
    linked = parse_cid(location.removeprefix("/ipfs/").strip("/"))
    if linked is not None and cid.finish() != linked:
        run.out.warn(f"the content has not the CID {linked} of the link: it was added with other settings")
    return target


def _refused(gateway: str, got: str) -> IexecError:
    return IpfsGatewayCallError(
        f"IPFS gateway error: Server at {gateway} does not give the result",
        got=got,
        next_step="try again later, or another ipfsGateway in chain.json",
    )
