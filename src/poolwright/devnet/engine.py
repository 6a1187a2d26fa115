"""The container engine of this machine: found where it answers, installed where that is ours to do.

Any engine that speaks Docker's API will do. It is looked for at $DOCKER_HOST, else at the usual sockets of
Docker and Podman. When none answers, root on Debian or Ubuntu gets `docker.io` from the distribution,
installed and started; everybody else gets the two lines to type.

Also here, because only the network as a whole may do it: the removal of every container that carries the
network's label.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from poolwright.devnet.toolchain import Say
from poolwright.poco.errors import InputError, Unavailable

NETWORK_LABEL = "poolwright.network"
"""Label on every container that a worker of a local network makes; its value is the network's id. Written
again here, and held to `compute.hardening` by a test: importing that would double the start of `up`."""

START_SECONDS = 30
"""Longest time that a freshly started engine may take to answer, seconds."""

DOCKERD_LOG = Path("/var/log/poolwright-dockerd.log")


class Remedy(Enum):
    """What can be done on a machine where no engine answers."""

    START = "the engine is installed and we are root: start it"
    INSTALL = "Debian or Ubuntu and we are root: install docker.io and start it"
    TELL = "not ours to do: say the two lines to type"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What decides the remedy."""

    is_root: bool
    has_dockerd: bool
    is_debian_like: bool
    has_systemd: bool

    @classmethod
    def this(cls) -> Machine:
        return cls(
            is_root=os.geteuid() == 0,
            has_dockerd=shutil.which("dockerd") is not None,
            is_debian_like=shutil.which("apt-get") is not None and is_debian_like(_os_release()),
            has_systemd=Path("/run/systemd/system").is_dir(),
        )


def remedy_for(machine: Machine) -> Remedy:
    """Which remedy fits the machine."""
    if machine.is_root and machine.has_dockerd:
        return Remedy.START
    if machine.is_root and machine.is_debian_like:
        return Remedy.INSTALL
    return Remedy.TELL


def lines_to_type(machine: Machine) -> tuple[str, str]:
    """The two commands that bring an engine to a machine on which we may not do it."""
    install = (
        "sudo apt-get install -y docker.io"
        if machine.is_debian_like
        else "install Docker or Podman with the package manager of this system"
    )
    start = "sudo systemctl enable --now docker" if machine.has_systemd else "sudo service docker start"
    if machine.has_dockerd:
        return start, "sudo usermod -aG docker $USER && newgrp docker"
    return install, f"{start} && sudo usermod -aG docker $USER && newgrp docker"


def is_debian_like(os_release: str) -> bool:
    """Whether the text of /etc/os-release is that of Debian, Ubuntu or one of their kin."""
    fields = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    names = f"{fields.get('ID', '')} {fields.get('ID_LIKE', '')}".replace('"', "").split()
    return bool({"debian", "ubuntu"} & set(names))


def candidates(environment: Mapping[str, str], user_id: int) -> list[str]:
    """Where an engine may answer, in order: $DOCKER_HOST alone when it is set, else the usual sockets."""
    if chosen := environment.get("DOCKER_HOST"):
        return [chosen]
    runtime = environment.get("XDG_RUNTIME_DIR") or f"/run/user/{user_id}"
    sockets = [
        "/var/run/docker.sock",
        f"{runtime}/docker.sock",
        f"{runtime}/podman/podman.sock",
        "/run/podman/podman.sock",
    ]
    return [f"unix://{path}" for path in sockets]


def find() -> str | None:
    """The address of the first engine that answers, in the form of DOCKER_HOST; None when none does.

    Raises InputError when $DOCKER_HOST names one that does not answer: the user's choice is not bent.
    """
    for host in candidates(os.environ, os.getuid()):
        if is_answering(host):
            return host
    if chosen := os.environ.get("DOCKER_HOST"):
        raise InputError(
            "the container engine of DOCKER_HOST does not answer",
            code="engine-unavailable",
            expected="an engine with Docker's API (unix:// or tcp://)",
            got=f"nothing at {chosen}",
            next_step="start it, or unset DOCKER_HOST to use the local one",
        )
    return None


def require() -> str:
    """Like `find`, but raises InputError with the way out when no engine answers."""
    host = find()
    if host is None:
        raise _no_engine(Machine.this())
    return host


def ensure(say: Say) -> str:
    """The address of an answering engine, installed and started first where that is ours to do.

    Raises InputError with the lines to type where it is not, Unavailable when the installation fails.
    """
    host = find()
    if host is not None:
        return host
    machine = Machine.this()
    match remedy_for(machine):
        case Remedy.TELL:
            raise _no_engine(machine)
        case Remedy.INSTALL:
            _install(say)
        case Remedy.START:
            pass
    return _start(Machine.this(), say)


def is_answering(host: str) -> bool:
    """Whether an engine answers its ping at `host`."""
    try:
        return _ask(host, "GET", "/_ping", timeout_seconds=5)[0] == 200
    except (OSError, http.client.HTTPException, InputError):
        return False


def remove_containers(host: str, network_id: str) -> int:
    """Remove every container labelled with this network's id, running or not; returns how many.

    Raises Unavailable when the engine does not answer.
    """
    wanted = quote(json.dumps({"label": [f"{NETWORK_LABEL}={network_id}"]}))
    try:
        _, body = _ask(host, "GET", f"/containers/json?all=1&filters={wanted}", timeout_seconds=20)
        found = [container["Id"] for container in json.loads(body)]
        for identity in found:
            _ask(host, "DELETE", f"/containers/{identity}?force=1&v=1", timeout_seconds=60)
    except (OSError, http.client.HTTPException) as problem:
        raise Unavailable(
            f"the container engine at {host} does not answer", code="engine-unavailable", got=str(problem)
        ) from problem
    return len(found)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._socket_path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._socket_path)


def _ask(host: str, method: str, path: str, *, timeout_seconds: float) -> tuple[int, Any]:
    parts = urlsplit(host)
    connection: http.client.HTTPConnection
    if parts.scheme == "unix":
        connection = _UnixConnection(parts.path, timeout_seconds)
    elif parts.scheme in ("tcp", "http") and parts.hostname:
        connection = http.client.HTTPConnection(parts.hostname, parts.port or 2375, timeout=timeout_seconds)
    else:
        raise InputError(
            "DOCKER_HOST has a form that is not supported",
            expected="unix:///path or tcp://host:port",
            got=host,
        )
    try:
        connection.request(method, path, headers={"Host": "localhost"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _no_engine(machine: Machine) -> InputError:
    first, second = lines_to_type(machine)
    return InputError(
        "no container engine answers on this machine",
        code="engine-missing",
        expected="Docker or Podman at DOCKER_HOST or its usual socket",
        next_step=f"type, then try again:\n  {first}\n  {second}",
    )


def _install(say: Say) -> None:
    say("No container engine answers; installing docker.io with apt-get ...")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "-qq", "update"],
        ["apt-get", "-qq", "install", "-y", "--no-install-recommends", "docker.io", "iptables"],
    ):
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode != 0:
            raise Unavailable(
                f"`{' '.join(command)}` ended with exit code {done.returncode}",
                code="engine-not-installed",
                got="\n  ".join(done.stdout.strip().splitlines()[-5:]),
                next_step="install Docker or Podman by hand and run `poolwright setup` again",
            )


def start_commands(machine: Machine, *, has_init_script: bool) -> list[list[str]]:
    """The ways to start the engine on this machine, the most proper first; dockerd by itself is the last."""
    commands = []
    if machine.has_systemd:
        commands.append(["systemctl", "enable", "--now", "docker"])
    elif has_init_script:
        commands.append(["service", "docker", "start"])
    return [*commands, ["dockerd"]]


def _start(machine: Machine, say: Say) -> str:
    """Start the engine, one way after the other, until it answers. In a container, for example, the init
    script may say that all went well while dockerd ended at once."""
    for command in start_commands(machine, has_init_script=Path("/etc/init.d/docker").exists()):
        say(f"Starting the container engine: {' '.join(command)} ...")
        if command == ["dockerd"]:
            with DOCKERD_LOG.open("ab") as log:
                subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
        elif subprocess.run(command, capture_output=True).returncode != 0:
            continue
        if host := _answering_within(START_SECONDS):
            return host
    raise Unavailable(
        "the container engine was started but does not answer",
        code="engine-silent",
        expected=f"an answer within {START_SECONDS} s",
        next_step=f"read its log (journalctl -u docker, or {DOCKERD_LOG})",
    )


def _answering_within(seconds: float) -> str | None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if host := find():
            return host
        time.sleep(0.2)
    return None


def _os_release() -> str:
    try:
        return Path("/etc/os-release").read_text()
    except OSError:
        return ""
