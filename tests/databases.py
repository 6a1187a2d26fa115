"""A throw-away PostgreSQL cluster: its own folder, its own port, gone with the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from poolwright.devnet.anvil import free_port

INSTALL_SECONDS = 600
WAIT_SECONDS = 60


def program(name: str) -> str:
    """A program of PostgreSQL, on the path or where Debian keeps it; installed when missing and root may."""
    found = find(name)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "-y", "--no-install-recommends", "postgresql"]):
            subprocess.run(["apt-get", "-qq", *words], env=quiet, check=True, timeout=INSTALL_SECONDS)
        found = find(name)
    assert found is not None, f"{name} not found; install the package postgresql"
    return found


def find(name: str) -> str | None:
    kept = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(kept[-1]) if kept else None)


@contextmanager
def postgresql() -> Iterator[str]:
    """URL of a fresh server; it refuses to run as root, so root lends it to nobody."""
    folder = Path(tempfile.mkdtemp(prefix="poolwright-pg-"))
    user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
    if user:
        shutil.chown(folder, "nobody", "nogroup")
    port = free_port()

    def run(*words: str) -> None:
        with (folder / "programs").open("ab") as output:  # a pipe would stay open in the server
            subprocess.run(
                [*user, *words], cwd=folder, check=True, stdout=output, stderr=output, timeout=WAIT_SECONDS
            )

    cluster = str(folder / "cluster")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    try:
        run(program("initdb"), "-D", cluster, "-U", "market", "-A", "trust", "--no-sync")
        run(program("pg_ctl"), "-D", cluster, "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql://market@127.0.0.1:{port}/postgres"
        finally:
            run(program("pg_ctl"), "-D", cluster, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
