"""Throw-away PostgreSQL clusters: each with its own folder and its own port, gone with the tests."""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from poolwright.devnet.anvil import free_port
from poolwright.store.lease import LEASE_SECONDS, Candidate
from poolwright.store.postgresql import PostgresStore

INSTALL_SECONDS = 600
WAIT_SECONDS = 60
OWNER = "poolwright"


def program(name: str) -> str:
    """A program of PostgreSQL, on the path or where Debian keeps it; installed when missing and root may."""
    found = find(name)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        with (Path(tempfile.gettempdir()) / "poolwright-tests-apt.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # one at a time of the processes that run tests
            if find(name) is None:
                _install()
        found = find(name)
    assert found is not None, f"{name} not found; install the package postgresql"
    return found


def _install() -> None:
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "-y", "--no-install-recommends", "postgresql"]):
        subprocess.run(["apt-get", "-qq", *words], env=quiet, check=True, timeout=INSTALL_SECONDS)


def find(name: str) -> str | None:
    kept = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(kept[-1]) if kept else None)


class Cluster:
    """A running server; `url` is that of its first database, `database()` makes a new one."""

    def __init__(self, folder: Path, *, fsync: bool) -> None:
        self._folder = folder
        self._cluster = str(folder / "cluster")
        self._numbers = itertools.count(1)
        self._is_up = False
        self.port = free_port()
        self.url = self._url_of("postgres")
        # It refuses to run as root, so root lends it to nobody.
        self._user = (
            ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
        )
        if self._user:
            shutil.chown(folder, "nobody", "nogroup")
        self._options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
            f" -c fsync={'on' if fsync else 'off'}"
        )
        self._run(program("initdb"), "-D", self._cluster, "-U", OWNER, "-A", "trust", "--no-sync")

    def start(self) -> None:
        log = str(self._folder / "log")
        self._run(program("pg_ctl"), "-D", self._cluster, "-w", "-l", log, "-o", self._options, "start")
        self._is_up = True

    def stop(self) -> None:
        """End it as a crash does: nothing is written, connections break. Harmless when it has ended."""
        if not self._is_up:
            return
        self._is_up = False
        self._run(program("pg_ctl"), "-D", self._cluster, "-m", "immediate", "-w", "stop")

    def database(self) -> str:
        """URL of a database of one's own, empty."""
        name = f"fresh_{next(self._numbers)}"
        self._run(program("createdb"), "-h", "127.0.0.1", "-p", str(self.port), "-U", OWNER, name)
        return self._url_of(name)

    def _url_of(self, database: str) -> str:
        return f"postgresql://{OWNER}@127.0.0.1:{self.port}/{database}"

    def _run(self, *words: str) -> None:
        with (self._folder / "programs").open("ab") as output:  # a pipe would stay open in the server
            subprocess.run(
                [*self._user, *words],
                cwd=self._folder,
                check=True,
                stdout=output,
                stderr=output,
                timeout=WAIT_SECONDS,
            )


@contextmanager
def postgresql(*, fsync: bool = False, beside: Path | None = None) -> Iterator[Cluster]:
    """A fresh server, below the folder `beside` or among the temporary files."""
    folder = Path(tempfile.mkdtemp(prefix=".poolwright-pg-", dir=beside))
    try:
        cluster = Cluster(folder, fsync=fsync)
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def lead(url: str, holder: str = "test", *, lease_seconds: float = LEASE_SECONDS) -> PostgresStore:
    """The PostgreSQL store of a scheduler that leads at once."""
    candidate = await Candidate.enter(url, holder)
    term = await candidate.take()
    assert term is not None, await candidate.leader()
    await candidate.close()
    return await PostgresStore.lead(url, term, lease_seconds)
