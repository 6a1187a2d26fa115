"""What Docker says by status and Podman in words is read as the same thing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from aiodocker import DockerError

from poolwright.compute import answers

NAME_IN_USE = 'creating container storage: the container name "worker-1-0xae" is already in use by 1aba.'
NOT_RUNNING = "can only kill running containers. debb is in state exited: container state improper"
NOTHING_TO_START = "container create: no command or entrypoint provided, and no CMD or ENTRYPOINT from image"


@pytest.mark.parametrize(
    ("reading", "docker", "podman"),
    [
        (answers.is_name_taken, DockerError(409, "Conflict."), DockerError(500, NAME_IN_USE)),
        (answers.is_not_running, DockerError(409, "is not running"), DockerError(500, NOT_RUNNING)),
        (
            answers.is_image_unfit,
            DockerError(400, "no command"),
            DockerError(500, NOTHING_TO_START),
        ),
    ],
)
def test_both_engines_are_understood(
    reading: Callable[[DockerError], bool], docker: DockerError, podman: DockerError
) -> None:
    assert reading(docker)
    assert reading(podman)


@pytest.mark.parametrize(
    "reading",
    [
        answers.is_name_taken,
        answers.is_not_running,
        answers.is_image_unfit,
        answers.is_unknown_image,
        answers.is_image_missing,
        answers.is_nobody_there,
    ],
)
def test_an_engine_with_another_problem_is_not_misread(reading: Callable[[DockerError], bool]) -> None:
    assert not reading(DockerError(500, "no space left on device"))
