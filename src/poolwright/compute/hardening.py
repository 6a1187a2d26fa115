"""The cage: the container's settings, the same for every app, as one pure function.

What an app gets                         enforced by
---------------------------------------  -----------------------------------------------------------------
no capability, none to be regained       CapDrop ALL, no-new-privileges, the engine's default seccomp filter
a user that is not root                  User; see `user_for`
its own root file system, read-only      ReadonlyRootfs; writable are /tmp (a tmpfs of bounded size) and
                                         /iexec_out
two host folders                         input read-only, output; nothing else of the host, no engine socket
no network, unless the owner allows it   NetworkMode none / bridge
bounded cpu, memory, processes           NanoCpus, Memory = MemorySwap (no swap), PidsLimit
bounded files                            RLIMIT_NOFILE, RLIMIT_FSIZE (one file cannot pass the output bound,
                                         whatever happens between two measurements), no core dumps
bounded processor time                   RLIMIT_CPU: a runaway process ends even when no worker comes back
bounded logs                             the log driver's max-size and max-file
an init as process 1                     reaps orphans, passes signals on
an end that it cannot catch              StopSignal; see `container_config`

There is no switch that turns one of these off for one app; the network is the owner's choice for all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from aiodocker.types import JSONValue

from poolwright.compute.port import IEXEC_IN, IEXEC_OUT, KIB, Limits, RunSpec

NON_ROOT_UID = 65532
"""The conventional "nonroot" account of small images; belongs to nobody on Debian and Ubuntu hosts."""

OPEN_FILES = 4096

LABEL_TASK = "poolwright.task"
LABEL_NETWORK = "poolwright.network"
LABEL_WORKER = "poolwright.worker"
LABEL_RUN = "poolwright.run"
"""Which container of its task it is; 1 is the first."""


def user_for(*, worker_uid: int, rootless: bool) -> int:
    """The user id in the container, such that the worker can read and delete whatever the app writes.

    - Rootless engine: 0, which *is* the worker's own unprivileged user outside; any other id would be one
      of its subordinate ids, whose files it cannot delete.
    - Worker that is not root: its own id.
    - Worker that is root: an id that owns nothing else. Root reads and deletes all the same, and an app that
      breaks out finds itself as nobody.

    The price: an image that must be root, or another fixed user, to read its own files fails. With all
    capabilities dropped and a read-only root file system being root would help it little.
    """
    if rootless:
        return 0
    return worker_uid or NON_ROOT_UID


def container_config(spec: RunSpec, *, labels: Mapping[str, str], user: int) -> dict[str, JSONValue]:
    """The body of the engine's create call (Docker API 1.41 and later, Podman's compatible API)."""
    limits = spec.limits
    config: dict[str, JSONValue] = {
        "Image": spec.image,
        "Env": [f"{name}={value}" for name, value in sorted(spec.env.items())],
        "Labels": dict(labels),
        "User": f"{user}:{user}",
        "AttachStdin": False,
        "OpenStdin": False,
        "Tty": False,
        # An engine that restarts stops what runs. An app that could catch that might end "well", half done.
        "StopSignal": "SIGKILL",
        "NetworkDisabled": not limits.network,
        "HostConfig": {
            "Init": True,
            "Mounts": [
                _mount(spec.input_dir, IEXEC_IN, read_only=True),
                _mount(spec.output_dir, IEXEC_OUT, read_only=False),
            ],
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "Privileged": False,
            "ReadonlyRootfs": True,
            "Tmpfs": {"/tmp": f"rw,nosuid,nodev,size={limits.tmp_bytes},mode=1777"},  # noqa: S108 - theirs
            "NetworkMode": "bridge" if limits.network else "none",
            "IpcMode": "private",
            "NanoCpus": round(limits.cpus * 1_000_000_000),
            "Memory": limits.memory_bytes,
            "MemorySwap": limits.memory_bytes,
            "PidsLimit": limits.pids,
            "Ulimits": _ulimits(limits),
            "LogConfig": {
                "Type": "json-file",
                "Config": {"max-size": str(max(64 * KIB, 2 * limits.log_bytes)), "max-file": "2"},
            },
            "RestartPolicy": {"Name": "no"},
        },
    }
    if spec.command:
        config["Cmd"] = list(spec.command)
    return config


def _mount(folder: Path, target: str, *, read_only: bool) -> dict[str, JSONValue]:
    return {"Type": "bind", "Source": str(folder.absolute()), "Target": target, "ReadOnly": read_only}


def _ulimits(limits: Limits) -> list[JSONValue]:
    bounds = {
        "core": 0,
        "nofile": OPEN_FILES,
        # One byte more than allowed: the file that was cut there shows in the measured size.
        "fsize": limits.output_bytes + 1,
        "cpu": math.ceil(limits.execution_seconds * max(1.0, limits.cpus)) + 1,
    }
    return [{"Name": name, "Soft": bound, "Hard": bound} for name, bound in bounds.items()]
