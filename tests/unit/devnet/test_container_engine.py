"""Where an engine is looked for, and what is done on which machine when none answers."""

import dataclasses

import pytest

from poolwright.compute.hardening import LABEL_NETWORK
from poolwright.devnet import engine
from poolwright.devnet.engine import (
    Machine,
    Remedy,
    candidates,
    is_debian_like,
    lines_to_type,
    remedy_for,
    start_commands,
)
from poolwright.poco.errors import InputError

ROOT_ON_DEBIAN = Machine(is_root=True, has_dockerd=False, is_debian_like=True, has_systemd=True)
USER_ON_DEBIAN = dataclasses.replace(ROOT_ON_DEBIAN, is_root=False)


def test_docker_host_is_the_only_candidate_when_set() -> None:
    assert candidates({"DOCKER_HOST": "tcp://10.0.0.1:2375"}, 1000) == ["tcp://10.0.0.1:2375"]


def test_usual_sockets_are_docker_then_podman() -> None:
    assert candidates({}, 1000) == [
        "unix:///var/run/docker.sock",
        "unix:///run/user/1000/docker.sock",
        "unix:///run/user/1000/podman/podman.sock",
        "unix:///run/podman/podman.sock",
    ]


@pytest.mark.parametrize(
    ("machine", "remedy"),
    [
        (ROOT_ON_DEBIAN, Remedy.INSTALL),
        (dataclasses.replace(ROOT_ON_DEBIAN, has_dockerd=True), Remedy.START),
        (dataclasses.replace(ROOT_ON_DEBIAN, is_debian_like=False), Remedy.TELL),
        (USER_ON_DEBIAN, Remedy.TELL),
        (dataclasses.replace(USER_ON_DEBIAN, has_dockerd=True), Remedy.TELL),
    ],
)
def test_remedy_fits_the_machine(machine: Machine, remedy: Remedy) -> None:
    assert remedy_for(machine) is remedy


def test_engine_is_started_by_what_the_machine_has_and_by_itself_at_last() -> None:
    without_systemd = dataclasses.replace(ROOT_ON_DEBIAN, has_systemd=False)

    assert start_commands(ROOT_ON_DEBIAN, has_init_script=True) == [
        ["systemctl", "enable", "--now", "docker"],
        ["dockerd"],
    ]
    assert start_commands(without_systemd, has_init_script=True) == [
        ["service", "docker", "start"],
        ["dockerd"],
    ]
    assert start_commands(without_systemd, has_init_script=False) == [["dockerd"]]


def test_user_on_debian_gets_two_lines_that_install_and_start() -> None:
    assert lines_to_type(USER_ON_DEBIAN) == (
        "sudo apt-get install -y docker.io",
        "sudo systemctl enable --now docker && sudo usermod -aG docker $USER && newgrp docker",
    )


def test_user_with_an_engine_gets_lines_that_start_it_and_give_access() -> None:
    machine = dataclasses.replace(USER_ON_DEBIAN, has_dockerd=True, has_systemd=False)

    assert lines_to_type(machine) == (
        "sudo service docker start",
        "sudo usermod -aG docker $USER && newgrp docker",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ID=debian\n", True),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', True),
        ("ID=fedora\nID_LIKE=rhel\n", False),
        ("", False),
    ],
)
def test_debian_kin_is_recognised(text: str, expected: bool) -> None:
    assert is_debian_like(text) is expected


def test_silent_docker_host_is_named_and_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/engine.sock")

    with pytest.raises(InputError, match=r"nothing at unix:///nonexistent/engine.sock; start it, or unset"):
        engine.find()


def test_label_is_the_one_that_workers_put_on_their_containers() -> None:
    assert engine.NETWORK_LABEL == LABEL_NETWORK
