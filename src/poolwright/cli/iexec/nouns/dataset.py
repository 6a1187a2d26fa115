"""`iexec dataset`: files that apps read, registered with their address and checksum."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from poolwright.cli.iexec import publishing
from poolwright.cli.iexec.command import Noun, Outcome, Run, Shared
from poolwright.cli.iexec.dataset_files import ENCRYPTED, KEYS, ORIGINALS, Folders, encrypt_file
from poolwright.cli.iexec.multiaddr import stored
from poolwright.cli.iexec.resources import Creation, Found, Part, Resource, add_verbs, write_template
from poolwright.cli.iexec.values import address_of, hash_of, text_of
from poolwright.compute.multiaddr import location_of
from poolwright.poco import calls, views
from poolwright.poco.types import Address

if TYPE_CHECKING:
    from poolwright.cli.iexec.session import Session

COMMAND = dataset = Noun("dataset", "Describe, encrypt, deploy, show and transfer datasets.")

WorkT = TypeVar("WorkT", bound=Callable[..., Any])


def _folder_options(work: WorkT) -> WorkT:
    decorated: Any = work
    for option, default, text in (
        ("--encrypted-dataset-dir", ENCRYPTED, "Folder of the encrypted files"),
        ("--original-dataset-dir", ORIGINALS, "Folder of the files to encrypt"),
        ("--dataset-keystoredir", KEYS, "Folder of the keys"),
    ):
        decorated = click.option(option, default=str(default), metavar="<path>", help=f"{text} [{default}].")(
            decorated
        )
    typed: WorkT = decorated
    return typed


def _folders(run: Run, dirs: dict[str, str]) -> Folders:
    def at(name: str) -> Path:
        return run.folder / Path(dirs[name]).expanduser()

    return Folders(
        originals=at("original_dataset_dir"),
        encrypted=at("encrypted_dataset_dir"),
        keys=at("dataset_keystoredir"),
    )


@dataset.verb("init", Shared.WALLET, example="iexec dataset init --encrypted")
@click.option("--encrypted", is_flag=True, help="Make the folders that `iexec dataset encrypt` works in.")
@click.option("--tee", is_flag=True, help="The same as --encrypted, as older scripts have it.")
@_folder_options
def init(run: Run, encrypted: bool, tee: bool, **dirs: str) -> Outcome:
    """Write a template of a dataset into iexec.json."""
    outcome = write_template(run, "dataset")
    if encrypted or tee:
        folders = _folders(run, dirs)
        folders.make()
        run.out.note(f"Put the files to encrypt into {folders.originals}")
    return outcome


@dataset.verb("encrypt", Shared.FORCE, example="iexec dataset encrypt")
@_folder_options
def encrypt(run: Run, **dirs: str) -> Outcome:
    """Encrypt each file of the original folder under a key of its own (AES-256-CBC).

    Keep the keys: nobody can read the files without them.
    """
    folders = _folders(run, dirs)
    files = folders.files()
    folders.make()
    for original in files:
        key = folders.key_of(original)
        if key.exists():
            run.confirm(f'"{key.name}" already exists, replace it with a new one?')
    made = []
    for original in files:
        with run.out.progress(f"Encrypting {original.name}", original.stat().st_size) as told:
            made.append(encrypt_file(original, folders, told))
    listed = [
        {
            "original": str(one.original),
            "encrypted": str(one.encrypted),
            "key": str(one.key),
            "checksum": str(one.checksum),
        }
        for one in made
    ]
    return Outcome(
        text=f"Encrypted {len(made)} file{'' if len(made) == 1 else 's'} into {folders.encrypted}",
        fields={
            "encryptedDatasetFolderPath": str(folders.encrypted),
            "secretPath": str(folders.keys),
            "encryptedFiles": listed,
        },
        shown=listed,
    )


def read(part: Part) -> Creation:
    """The calldata of a dataset's description. Raises ValidationError."""
    values = (
        address_of(part.get("owner"), "owner"),
        text_of(part.get("name"), "name"),
        stored(text_of(part.get("multiaddr"), "multiaddr"), "multiaddr"),
        hash_of(part.get("checksum"), "checksum"),
    )
    return Creation(create=calls.create_dataset(*values), predict=views.predict_dataset(*values))


async def find(session: Session, address: Address) -> Found:
    """Read a registered dataset. The official client shows /ipfs/ as /p2p/; `--raw` keeps that."""
    record = await session.reader.dataset(address)
    location = location_of(record.multiaddr)
    rest = {"datasetName": record.name}
    checksum = {"datasetChecksum": str(record.checksum)}
    raw_location = location.replace("/ipfs/", "/p2p/", 1) if location.startswith("/ipfs/") else location
    return Found(
        owner=record.owner,
        fields={**checksum, "datasetMultiaddr": raw_location, **rest},
        shown={**checksum, "datasetMultiaddr": location, **rest},
    )


RESOURCE = Resource(kind="dataset", registry=lambda hub: hub.dataset_registry, read=read, find=find)
add_verbs(dataset, RESOURCE)
publishing.add_verbs(dataset, "dataset")
