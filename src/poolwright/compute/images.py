"""Images without any hub: root file systems from Debian packages, built by the engine from scratch.

    debian_rootfs(("python3-minimal",))  ->  one tar file, cached; the second time needs no network
    build_image(tag, context)            ->  the engine builds a Dockerfile that begins FROM scratch

Packages come from the host's own package sources (Debian or Ubuntu) through apt's ordinary client, with a
state folder of our own: no root needed, nothing of the host's changed. Nothing is installed, no package
script runs: the packages' files are unpacked into one tar, without what an app does not need to run.
"""

from __future__ import annotations

import fcntl
import fnmatch
import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO

from aiodocker import DockerError

from poolwright.compute import answers
from poolwright.compute.cache import cache_folder
from poolwright.compute.docker import connect, local_image
from poolwright.compute.port import EngineUnavailable, ImageRef
from poolwright.poco.errors import InputError, Unavailable

NOT_NEEDED = (
    "usr/share/doc/*", "usr/share/man/*", "usr/share/info/*", "usr/share/locale/*", "usr/share/lintian/*",
    "usr/share/bug/*", "usr/share/binfmts/*", "usr/share/applications/*", "usr/share/pixmaps/*",
    "usr/lib/*/gconv/*", "usr/lib/locale/*", "usr/share/i18n/*", "*/__pycache__/*", "*.pyc",
    "usr/lib/python3*/test/*", "usr/lib/python3*/*/tests/*", "usr/lib/python3*/lib2to3/*",
    "usr/lib/python3*/idlelib/*", "usr/lib/python3*/pydoc_data/*", "usr/lib/python3*/ensurepip/*",
    "etc/*", "var/*", "usr/sbin/*", "sbin/*",
)  # fmt: skip
"""Left out of every root file system; patterns over paths without a leading slash."""

APT_SECONDS = 300
RECIPE = 1
"""Part of a root file system's cache key; raise it when what goes into one changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rootfs:
    """What to unpack: packages with what they depend on, but none of `without`."""

    packages: tuple[str, ...]
    without: tuple[str, ...] = ()
    """Package names that the resolution brings but the app does not need."""
    not_needed: tuple[str, ...] = NOT_NEEDED

    @property
    def key(self) -> str:
        return sha256(repr((RECIPE, self)).encode()).hexdigest()[:16]


BUSYBOX = Rootfs(packages=("busybox-static",))
"""A shell and the usual small tools in one static program of 2 MB, at /bin/busybox; for tests and no-ops."""


PYTHON = Rootfs(
    packages=("python3-minimal", "libpython3-stdlib"),
    without=(
        # What only package tools need, or modules of no use without network and terminal.
        "dpkg", "tar", "debconf", "sensible-utils", "libselinux1", "libpcre2-8-0", "libacl1", "libmd0",
        "libzstd1", "gcc-12-base", "libssl3", "libdb5.3", "libreadline8", "readline-common", "libsqlite3-0",
        "libtirpc3", "libtirpc-common", "libnsl2", "libgssapi-krb5-2", "libkrb5-3", "libk5crypto3",
        "libkrb5support0", "libkeyutils1", "libcom-err2", "krb5-locales", "libncursesw6", "libtinfo6",
        "media-types",
    ),
    not_needed=(*NOT_NEEDED, "*/lib-dynload/_test*", "*/lib-dynload/xx*", "*/libmvec.so*"),
)  # fmt: skip
"""Python with its standard library, except the modules ssl, sqlite3, readline, curses, dbm and nis."""


def debian_rootfs(wanted: Rootfs, *, cache: Path | None = None) -> Path:
    """The tar file of a root file system; made at most once per cache.

    Blocking, seconds long: call it in a thread. Raises InputError when the host has no apt, Unavailable when
    a package cannot be fetched.
    """
    folder = cache or cache_folder()
    ready = folder / "rootfs" / f"{wanted.packages[0]}-{wanted.key}.tar"
    if ready.exists():
        return ready
    with _alone(folder):
        packages = _fetch(wanted, folder)
    ready.parent.mkdir(parents=True, exist_ok=True)
    unfinished = ready.with_suffix(f".{os.getpid()}.part")
    try:
        with tarfile.open(unfinished, "w", format=tarfile.PAX_FORMAT) as out:
            _unpack_into(out, packages, wanted)
        unfinished.replace(ready)
    finally:
        unfinished.unlink(missing_ok=True)
    return ready


def context_tar(dockerfile: str, files: Iterable[tuple[str, Path]]) -> Path:
    """A build context in a temporary file beside the cache's others: the Dockerfile, and files by their name.

    The caller deletes it. Times and owners are fixed, so that the same input gives the same context.
    """
    folder = cache_folder() / "contexts"
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(suffix=".tar", dir=folder)
    with (
        os.fdopen(descriptor, "wb") as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as out,
    ):
        text = dockerfile.encode()
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(text)
        out.addfile(entry, io.BytesIO(text))
        for arcname, source in files:
            out.add(source, arcname=arcname, filter=_anonymous)
    return Path(name)


async def build_image(
    tag: str, context: Path, *, host: str | None = None, timeout_seconds: float = 600.0
) -> ImageRef:
    """Let the engine build the context's Dockerfile and name it `tag`. Steps it did before cost nothing.

    Raises InputError with the builder's own words when a step fails, EngineUnavailable when none answers.
    """
    try:
        async with connect(host) as docker:
            with context.open("rb") as stream:
                async for _ in docker.images.build(
                    fileobj=stream, encoding="identity", tag=tag, forcerm=True, stream=True
                ):
                    pass
            built = await local_image(docker, tag)
    except DockerError as problem:
        if answers.is_nobody_there(problem):
            raise EngineUnavailable(f"cannot build image {tag}", got=problem.message) from problem
        raise InputError(
            f"image {tag} cannot be built",
            code="build-failed",
            got=problem.message,
            next_step="mend its Dockerfile",
        ) from problem
    if built is None:
        raise EngineUnavailable(
            f"image {tag} is not there after its build", next_step="look at the engine's log"
        )
    return built


# -- packages --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Package:
    name: str
    path: Path


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """One download into the cache at a time, whichever process asks."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".packages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(wanted: Rootfs, cache: Path) -> list[_Package]:
    """The package files of the whole resolution, downloaded where they are not in the cache yet."""
    debs = cache / "debs"
    (debs / "partial").mkdir(parents=True, exist_ok=True)
    nothing_installed = cache / "debs" / "nothing-installed"
    nothing_installed.touch()
    common: tuple[str, ...] = (
        "apt-get", "-y", "-q", "--no-install-recommends",
        "-o", f"Dir::State::status={nothing_installed}",
        "-o", f"Dir::Cache::archives={debs}",
        "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=",
        "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=2",
    )  # fmt: skip
    own_lists = cache / "apt-lists"
    try:
        return _resolve_and_download(common, wanted, debs)
    except Unavailable:
        # The host's package lists are missing or point at packages that are gone: get lists of our own.
        (own_lists / "partial").mkdir(parents=True, exist_ok=True)
        common = (*common, "-o", f"Dir::State::lists={own_lists}")
        _apt((*common, "update"))
        return _resolve_and_download(common, wanted, debs)


def _resolve_and_download(common: Sequence[str], wanted: Rootfs, debs: Path) -> list[_Package]:
    packages = []
    for line in _apt((*common, "--simulate", "install", *wanted.packages)).splitlines():
        # Inst libc6 (2.36-9+deb12u14 Debian:12.12/stable [amd64])
        words = line.replace("(", " ").replace("[", " ").replace("]", " ").replace(")", " ").split()
        if words[:1] == ["Inst"] and words[1] not in wanted.without:
            name, version, architecture = words[1], words[2], words[-1]
            deb = debs / f"{name}_{version.replace(':', '%3a')}_{architecture}.deb"
            packages.append(_Package(name.split(":")[0], deb))
    if any(not package.path.exists() for package in packages):
        _apt((*common, "--download-only", "install", *wanted.packages))
    for package in packages:
        if not package.path.exists():
            raise Unavailable(f"package file {package.path.name} is missing after its download")
    return packages


def _apt(command: Sequence[str]) -> str:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=APT_SECONDS, check=False
        )
    except FileNotFoundError as problem:
        raise InputError(
            "cannot make a root file system",
            code="no-apt",
            expected="Debian or Ubuntu with apt-get",
            got="no apt-get on this host",
            next_step="build the image elsewhere and load it, or use an image of a registry",
        ) from problem
    except subprocess.TimeoutExpired as problem:
        raise Unavailable(f"apt-get takes longer than {APT_SECONDS} s") from problem
    if done.returncode != 0:
        raise Unavailable(
            f"apt-get {command[-1]} failed",
            got=done.stderr.strip()[-500:],
            next_step="check that this host reaches its package sources, then try again",
        )
    return done.stdout


# -- one tar of many packages ----------------------------------------------------------------------------

_MERGED = ("bin", "sbin", "lib", "lib64")
"""Top folders that are links into usr/ on every current Debian and Ubuntu; packages may still name them."""

_PASSWD = b"root:x:0:0:root:/:/bin/sh\nnonroot:x:65532:65532:nonroot:/tmp:/bin/sh\n"


def _unpack_into(out: tarfile.TarFile, packages: Sequence[_Package], wanted: Rootfs) -> None:
    seen: set[str] = set()

    def add(entry: tarfile.TarInfo, content: IO[bytes] | None = None) -> None:
        if entry.name not in seen:
            seen.add(entry.name)
            out.addfile(_anonymous(entry), content)

    for entry in _frame():
        add(entry)
    passwd = tarfile.TarInfo("etc/passwd")
    passwd.size = len(_PASSWD)
    add(passwd, io.BytesIO(_PASSWD))
    for package in packages:
        for entry, content in _files_of(package.path):
            if not any(fnmatch.fnmatch(entry.name, pattern) for pattern in wanted.not_needed):
                add(entry, content)


def _frame() -> Iterator[tarfile.TarInfo]:
    """What base packages' scripts would make: merged folders, /tmp, mount points."""
    for name, mode in (
        ("usr", 0o755),
        ("etc", 0o755),
        ("tmp", 0o1777),
        ("iexec_in", 0o755),
        ("iexec_out", 0o755),
    ):
        folder = tarfile.TarInfo(name)
        folder.type, folder.mode = tarfile.DIRTYPE, mode
        yield folder
    for name in _MERGED:
        folder = tarfile.TarInfo(f"usr/{name}")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        yield folder
        link = tarfile.TarInfo(name)
        link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
        yield link


def _files_of(deb: Path) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """The entries of a package, names without leading ./ and in their merged place."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as dpkg:
        assert dpkg.stdout is not None
        with tarfile.open(fileobj=dpkg.stdout, mode="r|") as stream:
            for entry in stream:
                entry.name = _merged(entry.name)
                if not entry.name:
                    continue
                if entry.islnk():
                    entry.linkname = _merged(entry.linkname)
                yield entry, stream.extractfile(entry) if entry.isreg() else None
    if dpkg.returncode != 0:
        raise Unavailable(f"package file {deb} cannot be read", next_step="delete it and try again")


def _merged(name: str) -> str:
    name = name.removeprefix("./").strip("/")
    top = name.split("/", 1)[0]
    return f"usr/{name}" if top in _MERGED and "/" in name else "" if top in _MERGED or name == "." else name


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    entry.pax_headers = {}
    return entry
