"""Containers of one network are removed by its label, and no others."""

import http.client
import io
import json
import socket
import tarfile
import uuid
from collections.abc import Iterator

import pytest

from poolwright.devnet import engine

pytestmark = pytest.mark.engine


class Engine:
    """Just enough of the engine's API to make a container that never runs."""

    def __init__(self, host: str) -> None:
        self.path = host.removeprefix("unix://")

    def ask(
        self, method: str, path: str, body: bytes = b"", kind: str = "application/json"
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.connect(self.path)
        connection.request(method, path, body, {"Content-Type": kind})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content

    def create(self, image: str, label: str) -> str:
        wanted = {"Image": image, "Cmd": ["/none"], "Labels": {engine.NETWORK_LABEL: label}}
        status, content = self.ask("POST", "/containers/create", json.dumps(wanted).encode())
        assert status == 201, content
        identity: str = json.loads(content)["Id"]
        return identity

    def exists(self, container: str) -> bool:
        return self.ask("GET", f"/containers/{container}/json")[0] == 200


@pytest.fixture
def host() -> str:
    found = engine.require()
    assert found.startswith("unix://"), "this test speaks to a socket"
    return found


@pytest.fixture
def image(host: str) -> Iterator[str]:
    name = f"poolwright-test-{uuid.uuid4().hex[:8]}"
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("empty"))
    status, content = Engine(host).ask(
        "POST", f"/images/create?fromSrc=-&repo={name}", archive.getvalue(), "application/x-tar"
    )
    assert status == 200, content
    yield name
    Engine(host).ask("DELETE", f"/images/{name}?force=1")


def test_only_the_networks_own_containers_are_removed(host: str, image: str) -> None:
    ours, theirs = uuid.uuid4().hex[:8], uuid.uuid4().hex[:8]
    mine = [Engine(host).create(image, ours) for _ in range(2)]
    other = Engine(host).create(image, theirs)

    assert engine.remove_containers(host, ours) == 2

    assert not any(Engine(host).exists(container) for container in mine)
    assert Engine(host).exists(other)
    assert engine.remove_containers(host, theirs) == 1
