"""The files of a project folder, as the official client reads and writes them (reference: market-sdk.md 1.2).

Both clients work in one folder: two spaces of indentation, no newline at the end, keys that we do not know
are kept where the official client keeps them and refused where it refuses them.  A file is replaced in one
step, so a reader sees the old or the new one.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from poolwright.cli.iexec.errors import IexecError, ValidationError

IEXEC_FILE: Final = "iexec.json"
CHAIN_FILE: Final = "chain.json"
DEPLOYED_FILE: Final = "deployed.json"
ORDERS_FILE: Final = "orders.json"
WALLET_FILE: Final = "wallet.json"

RESOURCES: Final = ("app", "dataset", "workerpool")
ORDER_KINDS: Final = ("apporder", "datasetorder", "workerpoolorder", "requestorder")


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Read one of the folder's files. Raises IexecError when it is missing or no JSON object."""
    path = folder / name
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        raise IexecError(
            f'Missing "{name}" file, did you forget to run "iexec init"?', got=f"no {path}"
        ) from problem
    except OSError as problem:
        raise IexecError(f"{problem.strerror} in {name}", got=str(path)) from problem
    except ValueError as problem:
        raise IexecError(
            f"{problem} in {name}", expected="JSON", next_step=f"correct {path} at that place"
        ) from problem
    if not isinstance(content, dict):
        raise ValidationError(f"not a JSON object in {name}", got=type(content).__name__)
    return content


def write_json(folder: Path, name: str, content: Mapping[str, Any], *, mode: int | None = None) -> Path:
    """Replace one of the folder's files in one step; returns its path. Raises IexecError.

    Without a `mode` an old file keeps its own, a new one is for all to read.
    """
    return write_text(folder / name, json.dumps(content, indent=2, ensure_ascii=False), mode=mode)


def write_text(path: Path, text: str, *, mode: int | None = None) -> Path:
    """Replace a text file in one step, through a link if it is one. Raises IexecError."""
    target = path.resolve()
    try:
        if mode is None:
            mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
        handle, partial = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            os.chmod(partial, mode)
            os.replace(partial, target)
        except BaseException:
            os.unlink(partial)
            raise
    except OSError as problem:
        raise IexecError(f"{path.name} cannot be written", got=str(problem)) from problem
    return path


# --- iexec.json ---------------------------------------------------------------------------------------------


def read_project(folder: Path) -> dict[str, Any]:
    """iexec.json."""
    return read_json(folder, IEXEC_FILE)


def project_part(folder: Path, name: str) -> dict[str, Any]:
    """One part of iexec.json, such as `app`. Raises IexecError when it is missing or no object."""
    part = read_project(folder).get(name)
    if isinstance(part, dict):
        return part
    raise IexecError(
        f'Missing "{name}" in "{IEXEC_FILE}", did you forget to run "iexec {name} init"?',
        expected="a JSON object",
        got="none" if part is None else type(part).__name__,
    )


def save_project_part(folder: Path, name: str, part: Mapping[str, Any]) -> None:
    """Put one part into iexec.json, which must exist."""
    write_json(folder, IEXEC_FILE, {**read_project(folder), name: part})


# --- deployed.json ------------------------------------------------------------------------------------------


def read_deployed(folder: Path) -> dict[str, dict[str, str]]:
    """deployed.json as {kind: {chain id: address}}; empty when there is none. Raises ValidationError."""
    if not (folder / DEPLOYED_FILE).exists():
        return {}
    content = read_json(folder, DEPLOYED_FILE)
    for kind, addresses in content.items():
        if kind not in RESOURCES:
            raise ValidationError(
                f'Unknown key "{kind}" in {DEPLOYED_FILE}',
                expected=" or ".join(RESOURCES),
                next_step=f"remove it from {folder / DEPLOYED_FILE}",
            )
        for chain_id, address in _object(addresses, kind, DEPLOYED_FILE).items():
            if not isinstance(address, str):
                raise ValidationError(
                    f"{kind}.{chain_id} must be a string in {DEPLOYED_FILE}", got=json.dumps(address)
                )
    return content


def deployed_address(folder: Path, kind: str, chain_id: str | None) -> str | None:
    """Where the folder's app, dataset or workerpool was deployed last on that chain."""
    return read_deployed(folder).get(kind, {}).get(str(chain_id))


def save_deployed(folder: Path, kind: str, chain_id: str | None, address: str) -> None:
    """Remember a deployment; the last one of its kind and chain wins."""
    content = read_deployed(folder)
    write_json(folder, DEPLOYED_FILE, {**content, kind: {**content.get(kind, {}), str(chain_id): address}})


# --- orders.json --------------------------------------------------------------------------------------------


def read_orders(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """orders.json as {chain id: {order kind: signed order}}. Raises IexecError when missing or malformed."""
    content = read_json(folder, ORDERS_FILE)
    for chain_id, orders in content.items():
        for kind, order in _object(orders, chain_id, ORDERS_FILE).items():
            if kind not in ORDER_KINDS:
                raise ValidationError(
                    f'Unknown key "{kind}" in {ORDERS_FILE}',
                    expected=" or ".join(ORDER_KINDS),
                    next_step=f"remove it from {folder / ORDERS_FILE}",
                )
            _object(order, f"{chain_id}.{kind}", ORDERS_FILE)
    return content


def signed_order(folder: Path, chain_id: str | None, kind: str) -> dict[str, Any] | None:
    """The signed order of that kind for that chain, if orders.json has one."""
    return read_orders(folder).get(str(chain_id), {}).get(kind)


def save_order(folder: Path, chain_id: str | None, kind: str, order: Mapping[str, Any]) -> None:
    """Put a signed order into orders.json, made when missing; the last one of its kind and chain wins."""
    content = read_orders(folder) if (folder / ORDERS_FILE).exists() else {}
    of_chain = {**content.get(str(chain_id), {}), kind: order}
    write_json(folder, ORDERS_FILE, {**content, str(chain_id): of_chain})


def _object(value: object, path: str, file: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise ValidationError(f"{path} must be an object in {file}", got=json.dumps(value)[:100])
