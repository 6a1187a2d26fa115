"""Serving a stored file: whole or one range of it, with a name that never changes for these bytes."""

from __future__ import annotations

import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from poolwright.poco.errors import InputError
from poolwright.results.cid import parse_cid
from poolwright.results.errors import NotFound
from poolwright.results.storage import Storage

_ONE_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))")


class RangeOutside(InputError):
    """Ask for bytes that the file has."""

    def __init__(self, size: int, got: str) -> None:
        super().__init__(
            "range outside the file", expected=f"a start below {size}", got=got, next_step="ask for less"
        )
        self.size = size


class _StoredFile(FileResponse):
    chunk_size = 256 * 1024


def serve(storage: Storage, text: str, request: Request) -> Response:
    """Answer `GET` or `HEAD /ipfs/{text}`. Raises NotFound, RangeOutside.

    Only a single well-formed range is honoured; for any other Range header the whole file is the answer,
    as RFC 9110 14.2 allows.
    """
    cid = parse_cid(text)
    path = storage.path(cid) if cid is not None else None
    if cid is None or path is None:
        raise NotFound(
            f"no file under /ipfs/{text[:80]}",
            expected="the CID of a result stored here",
            next_step="take it from the task's result link, or ask another IPFS gateway",
        )
    headers = {
        "ETag": f'"{cid}"',
        "Cache-Control": "public, max-age=31536000, immutable",
        "X-Content-Type-Options": "nosniff",
        "X-Ipfs-Path": f"/ipfs/{cid}",
    }
    if _knows(request.headers.get("if-none-match", ""), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    status = path.stat()
    _check_range(request, status.st_size)
    is_zip = _starts_as_zip(path)
    return _StoredFile(
        path,
        headers=headers,
        media_type="application/zip" if is_zip else "application/octet-stream",
        filename=f"{cid}.zip" if is_zip else cid,
        stat_result=status,
    )


def _knows(if_none_match: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or tags == ["*"]


def _check_range(request: Request, size: int) -> None:
    """Refuse a range that has no byte, and take from the request one that is not to be honoured."""
    header = request.headers.get("range")
    if header is None:
        return
    match = _ONE_RANGE.fullmatch(header.strip())
    start, end, last = match.groups() if match else (None, None, None)
    if match is None or (start and end and int(end) < int(start)):
        kept = [(name, value) for name, value in request.scope["headers"] if name != b"range"]
        request.scope["headers"] = kept
    elif (start and int(start) >= size) or (last and (int(last) == 0 or size == 0)):
        raise RangeOutside(size, header)


def _starts_as_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
