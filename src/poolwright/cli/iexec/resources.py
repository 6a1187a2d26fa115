"""What apps, datasets and workerpools have in common: init, deploy, show, count, transfer.

Each is an entry of a registry, an NFT whose id is its address.  A `Resource` says what is particular to a
kind: how iexec.json describes it, which calls make it, and how it is shown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from poolwright.cli.iexec import templates
from poolwright.cli.iexec.command import Noun, Outcome, Run, Shared
from poolwright.cli.iexec.errors import IexecError, ObjectNotFoundError
from poolwright.cli.iexec.files import deployed_address, project_part, save_deployed, save_project_part
from poolwright.cli.iexec.values import address_of, number_of, require
from poolwright.poco import calls, views
from poolwright.poco.types import Address

if TYPE_CHECKING:
    from poolwright.chain.reads import HubContracts
    from poolwright.cli.iexec.session import Session

Part = Mapping[str, Any]
"""A part of iexec.json."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """A description as calldata for the registry."""

    create: bytes
    predict: bytes
    """Asks the registry for the address that `create` gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One entry of a registry, as it is shown."""

    owner: Address
    fields: Mapping[str, str]
    """As the official client names them in `--raw`."""
    shown: Mapping[str, str]
    """The same for people."""
    beside: Mapping[str, str] = field(default_factory=dict)
    """What `--raw` tells beside the entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What is particular to one kind of registry entry."""

    kind: str
    """"app", "dataset" or "workerpool": the key in iexec.json and deployed.json."""
    registry: Callable[[HubContracts], Address]
    read: Callable[[Part], Creation]
    """Checks a part of iexec.json. Raises ValidationError."""
    find: Callable[[Session, Address], Awaitable[Found]]
    """Reads a registered entry."""


def add_verbs(noun: Noun, resource: Resource) -> None:
    """Add the five verbs to a noun."""
    kind = resource.kind

    async def deploy(run: Run) -> Outcome:
        return await _deploy(run, resource)

    async def show(run: Run, address_or_index: str | None) -> Outcome:
        return await _show(run, resource, address_or_index)

    async def count(run: Run) -> Outcome:
        return await _count(run, resource)

    async def transfer(run: Run, address: str) -> Outcome:
        return await _transfer(run, resource, address)

    deploy.__doc__ = f"Deploy the {kind} that iexec.json describes; deployed.json remembers its address."
    show.__doc__ = (
        f"Show a {kind}: by address, by its number among those of the owner, or the one deployed last."
    )
    count.__doc__ = f"Count the {kind}s of the wallet or of --user."
    transfer.__doc__ = f"Give a {kind} to another owner; only its owner can."
    on_chain = (Shared.WALLET, Shared.CHAIN)
    noun.verb("deploy", *on_chain, Shared.CONFIRMS, example=f"iexec {kind} deploy")(deploy)
    noun.verb("show", *on_chain, Shared.USER, example=f"iexec {kind} show 0")(
        click.argument("address_or_index", metavar="[addressOrIndex]", required=False)(show)
    )
    noun.verb("count", *on_chain, Shared.USER, example=f"iexec {kind} count")(count)
    noun.verb(
        "transfer",
        *(*on_chain, Shared.CONFIRMS, Shared.FORCE, Shared.TO),
        example=f"iexec {kind} transfer 0x59c9…00 --to 0x7bd4…5f",
    )(click.argument("address", metavar=f"<{kind}Address>")(transfer))


def write_template(run: Run, kind: str) -> Outcome:
    """`init`: put a template into iexec.json; the wallet is the owner."""
    part = templates.resource(kind, str(run.wallet_address()))
    save_project_part(run.folder, kind, part)
    return Outcome(
        text=f"Saved the {kind} template into iexec.json; edit it, then run `iexec {kind} deploy`",
        fields={kind: part},
        shown=part,
    )


async def deployed_or(run: Run, kind: str, given: str | None, chain_id: str | None) -> Address:
    """The given address, or that of the entry deployed last. Raises IexecError when there is none."""
    if given is not None:
        return address_of(given)
    found = deployed_address(run.folder, kind, chain_id)
    if found is None:
        raise IexecError(
            f'Missing {kind}Address and no {kind} found in "deployed.json" for chain {chain_id}',
            next_step=f"give the address, or deploy one with `iexec {kind} deploy`",
        )
    return address_of(found, f'"{kind}" of deployed.json:')


async def is_registered(session: Session, resource: Resource, entry: Address) -> bool:
    """Whether the kind's registry has this entry."""
    registry = resource.registry(await session.contracts())
    return await session.ask(registry, views.is_registered(entry), views.decode_bool, "isRegistered")


async def _deploy(run: Run, resource: Resource) -> Outcome:
    creation = resource.read(project_part(run.folder, resource.kind))
    run.wallet_file()
    async with run.session() as session:
        registry = resource.registry(await session.contracts())
        predicted = await session.ask(registry, creation.predict, views.decode_address, "predict")
        if await is_registered(session, resource, predicted):
            raise IexecError(
                f"{resource.kind.capitalize()} already deployed at address {predicted}",
                next_step=f'change something of "{resource.kind}" in iexec.json, its name for example',
            )
        receipt = await session.send(registry, creation.create, f"deploy {resource.kind}")
        chain_id = session.chain.id
    save_deployed(run.folder, resource.kind, chain_id, str(predicted))
    return Outcome(
        text=f"Deployed new {resource.kind} at address {predicted}",
        fields={"address": str(predicted), "txHash": str(receipt.tx_hash)},
    )


async def _show(run: Run, resource: Resource, address_or_index: str | None) -> Outcome:
    async with run.session() as session:
        entry = await _entry(run, session, resource, address_or_index)
        if not await is_registered(session, resource, entry):
            raise ObjectNotFoundError(resource.kind, str(entry), session.chain.id)
        found = await resource.find(session, entry)
        registry = resource.registry(await session.contracts())
    common = {"owner": str(found.owner), "registry": str(registry)}
    return Outcome(
        text=f"{resource.kind.capitalize()} {entry}",
        fields={"address": str(entry), resource.kind: {**found.fields, **common}, **found.beside},
        shown={**found.shown, **common, **found.beside},
    )


async def _entry(run: Run, session: Session, resource: Resource, given: str | None) -> Address:
    """The entry that an address, an index or nothing means. Raises IexecError."""
    if given is None or not given.isdigit():
        return await deployed_or(run, resource.kind, given, session.chain.id)
    owner, index = _owner(run), number_of(given, "index")
    registry = resource.registry(await session.contracts())
    have = await _held(session, registry, owner)
    if index >= have:
        raise IexecError(
            f"{resource.kind} not deployed",
            expected=f"a number below {have}, which is how many {owner} has",
            got=str(index),
        )
    return await session.ask(
        registry, views.token_of_owner_by_index(owner, index), views.decode_entry, "tokenOfOwnerByIndex"
    )


async def _count(run: Run, resource: Resource) -> Outcome:
    owner = _owner(run)
    async with run.session() as session:
        count = await _held(session, resource.registry(await session.contracts()), owner)
    plural = "" if count == 1 else "s"
    return Outcome(text=f"{owner} has {count} {resource.kind}{plural}", fields={"count": str(count)})


async def _transfer(run: Run, resource: Resource, address: str) -> Outcome:
    kind = resource.kind
    entry, to = address_of(address), address_of(require(run.options.to, "--to"))
    who = run.wallet_file().address
    async with run.session() as session:
        if not await is_registered(session, resource, entry):
            raise IexecError(f"Invalid {kind} address", expected=f"a registered {kind}", got=str(entry))
        owner = await session.reader.owner_of(entry)
        if owner != who:
            raise IexecError(
                f"Only {kind} owner can transfer {kind} ownership", expected=str(owner), got=str(who)
            )
        run.confirm(f"Give {kind} {entry} to {to}? This cannot be undone by you.")
        registry = resource.registry(await session.contracts())
        call = calls.transfer_entry(owner, to, entry)
        receipt = await session.send(registry, call, f"transfer {kind}")
    return Outcome(
        text=f"{kind.capitalize()} {entry} now belongs to {to}",
        fields={"address": str(entry), "to": str(to), "txHash": str(receipt.tx_hash)},
    )


def _owner(run: Run) -> Address:
    return run.wallet_address() if run.options.user is None else address_of(run.options.user)


async def _held(session: Session, registry: Address, owner: Address) -> int:
    return await session.ask(registry, views.balance_of(owner), views.decode_uint, "balanceOf")
