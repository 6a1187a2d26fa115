"""What an engine's refusals mean: Docker says it by status, Podman answers 500 and says it in words.

The words are those of Podman 4.3 (Debian 12).
"""

from __future__ import annotations

from typing import Final

from aiodocker.exceptions import DockerError

NO_CONNECTION: Final = 900
"""The client's own status: nothing answered."""
_REFUSED: Final = 400
_GONE: Final = 404
_CONFLICT: Final = 409


def is_gone(problem: DockerError) -> bool:
    """There is nothing of that name."""
    return bool(problem.status == _GONE)


def is_unknown_image(problem: DockerError) -> bool:
    """No such image here, or a name that cannot be one."""
    return problem.status in (_REFUSED, _GONE)


def is_image_missing(problem: DockerError) -> bool:
    """A container cannot be made for want of its image."""
    return is_gone(problem) and "image" in problem.message.lower()


def is_name_taken(problem: DockerError) -> bool:
    """A container of that name exists, or is being removed at this moment."""
    return problem.status == _CONFLICT or "already in use" in problem.message


def is_not_running(problem: DockerError) -> bool:
    """Nothing to kill: the container ended, or never was."""
    return problem.status in (_GONE, _CONFLICT) or "can only kill running" in problem.message


def is_image_unfit(problem: DockerError) -> bool:
    """The image can never run: nothing to start, or files where the folders must be mounted."""
    return problem.status == _REFUSED or "no command or entrypoint" in problem.message


def is_nobody_there(problem: DockerError) -> bool:
    """The engine did not answer at all."""
    return bool(problem.status == NO_CONNECTION)
