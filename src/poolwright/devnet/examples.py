"""The example apps of this repository, built into images on this machine without any hub.

Each folder below `examples/` holds an app: a Dockerfile that begins FROM scratch, the sources that it
copies, and perhaps the file that is registered as its dataset. The image's tag is a hash of all that goes
into it, so an image that is there is the right one and asking for it again costs one look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from aiodocker import DockerError

from poolwright.compute.docker import connect, local_image
from poolwright.compute.images import PYTHON, build_image, context_tar, debian_rootfs
from poolwright.compute.port import EngineUnavailable, ImageRef
from poolwright.poco.errors import InputError
from poolwright.poco.types import Hash32

ROOTFS_TAR = "rootfs.tar"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """What is needed to build an example, and to register and order it."""

    name: str
    summary: str
    sources: tuple[str, ...]
    """Files that its Dockerfile copies."""
    arguments: str
    """Worth trying as the request's iexec_args."""
    dataset: str | None = None
    """The file to register as its dataset, relative to its folder."""

    @property
    def folder(self) -> Path:
        return examples_folder() / self.name

    @property
    def dataset_path(self) -> Path | None:
        return None if self.dataset is None else self.folder / self.dataset

    def dataset_checksum(self) -> Hash32:
        """The sha256 to register with the dataset; zero when there is none."""
        path = self.dataset_path
        return Hash32.zero() if path is None else Hash32(sha256(path.read_bytes()).digest())

    def tag(self) -> str:
        """The image's name; changes with everything that goes into the image."""
        content = sha256(PYTHON.key.encode())
        for name in ("Dockerfile", *self.sources):
            content.update(b"\0" + name.encode() + b"\0" + (self.folder / name).read_bytes())
        return f"poolwright/{self.name}:{content.hexdigest()[:12]}"


EXAMPLES = {
    example.name: example
    for example in (
        Example(
            name="mandelbrot-poster",
            summary="paints a poster, one panel for each task of the bag",
            sources=("poster.py",),
            arguments="coral --colours deep-sea",
        ),
        Example(
            name="clock-history",
            summary="reports how the world has set its clocks, from the time zone database",
            sources=("clocks.py",),
            arguments="--since 1916",
            dataset="data/tzdata.zi",
        ),
    )
}


def find(name: str) -> Example:
    """The example of that name. Raises InputError with the names that there are."""
    try:
        return EXAMPLES[name]
    except KeyError:
        raise InputError(
            "no such example app", code="unknown-example", expected=" or ".join(sorted(EXAMPLES)), got=name
        ) from None


def examples_folder() -> Path:
    """`examples/` of the checkout that this package runs from. Raises InputError outside of one."""
    folder = Path(__file__).resolve().parents[3] / "examples"
    if not folder.is_dir():
        raise InputError(
            "the example apps are not here",
            code="no-checkout",
            expected=f"a checkout of the repository with {folder}",
            got="an installed package",
            next_step="clone the repository and run poolwright from there",
        )
    return folder


async def build(
    name: str, *, host: str | None = None, say: Callable[[str], None] = lambda line: None
) -> ImageRef:
    """Have an example's image on the engine's host; `say` gets a line for each slow step.

    Raises InputError outside a checkout or for an unknown name, Unavailable without engine or packages.
    """
    example = find(name)
    tag = example.tag()
    found = await _present(tag, host)
    if found is not None:
        return found
    say(f"building image {tag}")
    rootfs = await asyncio.to_thread(debian_rootfs, PYTHON)
    files = [(ROOTFS_TAR, rootfs), *((name, example.folder / name) for name in example.sources)]
    dockerfile = (example.folder / "Dockerfile").read_text()
    context = await asyncio.to_thread(context_tar, dockerfile, files)
    try:
        return await build_image(tag, context, host=host)
    finally:
        context.unlink()


async def _present(tag: str, host: str | None) -> ImageRef | None:
    try:
        async with connect(host) as docker:
            return await local_image(docker, tag)
    except DockerError as problem:
        raise EngineUnavailable(
            f"cannot look for image {tag}", got=problem.message, next_step="start the container engine"
        ) from problem
