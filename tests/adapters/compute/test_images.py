"""Images without a hub: from Debian packages to a running container."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from poolwright.compute.images import BUSYBOX, Rootfs, build_image, context_tar, debian_rootfs
from poolwright.poco.errors import InputError

pytestmark = pytest.mark.engine


def test_root_file_system_is_made_once_and_then_needs_neither_apt_nor_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = debian_rootfs(BUSYBOX)
    monkeypatch.setenv("PATH", "")
    assert debian_rootfs(BUSYBOX) == first


def test_root_file_system_has_merged_folders_mount_points_and_no_owner() -> None:
    with tarfile.open(debian_rootfs(BUSYBOX)) as tar:
        entries = {entry.name: entry for entry in tar}
    assert entries["bin"].linkname == "usr/bin"
    assert entries["usr/bin/busybox"].mode & 0o111
    assert entries["tmp"].mode == 0o1777
    assert entries["iexec_in"].isdir()
    assert entries["iexec_out"].isdir()
    assert {(entry.uid, entry.gid, entry.mtime) for entry in entries.values()} == {(0, 0, 0)}
    assert not [name for name in entries if name.startswith("usr/share/doc/")]


def test_host_without_apt_is_told_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="Debian or Ubuntu with apt-get"):
        debian_rootfs(Rootfs(packages=("busybox-static",)), cache=tmp_path)
    assert not list(tmp_path.rglob("*.tar"))


async def test_dockerfile_that_is_wrong_is_answered_with_the_builders_words() -> None:
    context = context_tar("FROM scratch\nCOPY missing /\n", [])
    with pytest.raises(InputError, match="missing") as caught:
        await build_image("127.0.0.1:9/poolwright/test-broken:1", context)
    assert caught.value.code == "build-failed"
    context.unlink()


def test_same_input_gives_the_same_context(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    contexts = [context_tar("FROM scratch\n", [("file", tmp_path / "file")]) for _ in range(2)]
    assert contexts[0].read_bytes() == contexts[1].read_bytes()
    for context in contexts:
        context.unlink()
