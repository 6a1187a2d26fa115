"""What the chain says about orders, gathered for `preflight`; and how an order gets its signature."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from poolwright.chain.reads import CallReverted, Question
from poolwright.cli.iexec.errors import IexecError
from poolwright.cli.iexec.preflight import (
    Finding,
    KnownFacts,
    OrderFacts,
    check_order,
    check_partners,
    groups_to_ask,
    price_lines,
    require,
)
from poolwright.poco import views
from poolwright.poco.errors import PeerError
from poolwright.poco.matching import EntryKind, Orders, Policy
from poolwright.poco.orders import AppOrder, DatasetOrder, Order, RequestOrder, WorkerpoolOrder, order_hash
from poolwright.poco.tags import SCONE, TDX
from poolwright.poco.types import Address, Hash32, NRlc, OrderHash

if TYPE_CHECKING:
    from poolwright.cli.iexec.command import Run
    from poolwright.cli.iexec.session import Session

GROUP_MEMBER: Final = 4
"""ERC-734 purpose that makes an account a member of a group (hub's `groupmember_purpose`)."""


def fresh_salt() -> Hash32:
    """32 random bytes, drawn for each signature."""
    return Hash32(secrets.token_bytes(32))


# --- registries and owners ----------------------------------------------------------------------------------


async def owner_of_deployed(session: Session, kind: EntryKind, entry: Address) -> Address:
    """Who owns an app, dataset or workerpool. Raises IexecError when the registry does not hold it."""
    contracts = await session.contracts()
    registry = {
        EntryKind.APP: contracts.app_registry,
        EntryKind.DATASET: contracts.dataset_registry,
        EntryKind.WORKERPOOL: contracts.workerpool_registry,
    }[kind]
    if not await session.reader.ask(_registered(registry, entry)):
        raise IexecError(
            f"No {kind.value} deployed at address {entry}",
            expected=f"a {kind.value} of registry {registry}",
            next_step=f"deploy one with `iexec {kind.value} deploy`, or correct the address",
        )
    return await session.reader.owner_of(entry)


async def signer_of(session: Session, order: Order) -> Address:
    """Who must sign the order; all that it is about must be deployed. Raises IexecError."""
    match order:
        case AppOrder():
            return await owner_of_deployed(session, EntryKind.APP, order.app)
        case DatasetOrder():
            return await owner_of_deployed(session, EntryKind.DATASET, order.dataset)
        case WorkerpoolOrder():
            return await owner_of_deployed(session, EntryKind.WORKERPOOL, order.workerpool)
        case RequestOrder():
            await owner_of_deployed(session, EntryKind.APP, order.app)
            if order.dataset:
                await owner_of_deployed(session, EntryKind.DATASET, order.dataset)
            if order.workerpool:
                await owner_of_deployed(session, EntryKind.WORKERPOOL, order.workerpool)
            return order.requester


async def hash_of(session: Session, order: Order) -> OrderHash:
    """The order's hash on this chain's hub."""
    return order_hash(order, await session.reader.domain())


# --- preflight of one order ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """An order that passed, and who signs it."""

    signer: Address
    warnings: tuple[Finding, ...]


async def preflight(
    session: Session, order: Order, beside: Mapping[str, Order], *, skip: bool, consumed: int = 0
) -> Checked:
    """Check an order before it is signed or published. Raises IexecError.

    `beside` are the other orders of orders.json by kind. What must be deployed is looked at in any case.
    """
    signer = await signer_of(session, order)
    if skip:
        return Checked(signer=signer, warnings=())
    stake, count = await _stake_and_categories(session, signer)
    mrenclave = None
    if isinstance(order, AppOrder):
        mrenclave = (await session.reader.app(order.app)).mrenclave
    facts = OrderFacts(category_count=count, stake=stake, consumed=consumed, mrenclave=mrenclave)
    findings = [*check_order(order, facts), *await missing_secrets(session, order)]
    return Checked(signer=signer, warnings=(*require(findings), *check_partners(order, beside)))


def tell_warnings(run: Run, checked: Checked) -> None:
    """Warn people of what does not block."""
    for warning in checked.warnings:
        run.out.warn(str(warning))


def tell_prices(run: Run, order: Order) -> None:
    """Show people what the order says about money, in nRLC and in RLC."""
    run.out.note(f"{order.KIND}: {'; '.join(price_lines(order))}")


async def missing_secrets(session: Session, order: Order) -> list[Finding]:
    """What an order needs from the secret service and is not there; asks only when it needs something."""
    from poolwright.cli.iexec import secret_checks

    needs = secret_checks.needs_of(order)
    if not needs:
        return []
    framework = "tdx" if order.tag & TDX else "scone" if order.tag & SCONE else ""
    url = session.chain.sms_of(framework) or session.chain.require("sms")
    return await secret_checks.missing(url, needs)


# --- signing ------------------------------------------------------------------------------------------------


async def signed(session: Session, order: Order, signer: Address) -> Order:
    """Sign an order with the wallet, which must be `signer`. Raises IexecError."""
    who = "the requester" if isinstance(order, RequestOrder) else "the resource owner"
    chosen = session.run.wallet_file().address
    if chosen != signer:
        raise IexecError(
            f"Invalid order signer, must be {who}",
            expected=str(signer),
            got=str(chosen),
            next_step="choose the wallet with --wallet-address",
        )
    wallet = await session.wallet()
    return replace(order, sign=wallet.sign_digest(await hash_of(session, order)))


async def is_signed(session: Session, signer: Address, hash_: OrderHash, sign: bytes) -> bool:
    """Whether the hub takes the signature, a presignature or a contract wallet's word included."""
    call = views.verify_presignature_or_signature(signer, hash_, sign)
    try:
        return await session.reader.ask(
            Question(to=session.hub, call=call, read=views.decode_bool, what="verifySignature")
        )
    except CallReverted:  # no signature of a known form
        return False


# --- the facts of a match -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchFacts:
    """All that the chain says about four orders that are to match."""

    known: KnownFacts
    requester_stake: NRlc
    pool_stake: NRlc
    pool_owner: Address


async def match_facts(session: Session, orders: Orders) -> MatchFacts:
    """Gather what `preflight.check_match` and `check_money` need."""
    reader, contracts = session.reader, await session.contracts()
    domain = await reader.domain()
    entries = [
        (EntryKind.APP, contracts.app_registry, orders.app.app),
        (EntryKind.WORKERPOOL, contracts.workerpool_registry, orders.workerpool.workerpool),
    ]
    if orders.dataset.dataset:
        entries.append((EntryKind.DATASET, contracts.dataset_registry, orders.dataset.dataset))
    there = await reader.ask_all([_registered(registry, entry) for _, registry, entry in entries])
    registered = [
        (kind, entry) for (kind, _, entry), is_there in zip(entries, there, strict=True) if is_there
    ]
    owners = dict(
        zip(
            [entry for _, entry in registered],
            await asyncio.gather(*(reader.owner_of(entry) for _, entry in registered)),
            strict=True,
        )
    )
    parties: list[tuple[Order, Address]] = [(orders.request, orders.request.requester)]
    for order, entry in (
        (orders.app, orders.app.app),
        (orders.workerpool, orders.workerpool.workerpool),
        (orders.dataset, orders.dataset.dataset),
    ):
        if entry in owners:
            parties.append((order, owners[entry]))
    hashes = [order_hash(order, domain) for order, _ in parties]
    consumed = await asyncio.gather(*(reader.consumed(hash_) for hash_ in hashes))
    valid = await asyncio.gather(
        *(
            is_signed(session, signer, hash_, order.sign)
            for (order, signer), hash_ in zip(parties, hashes, strict=True)
        )
    )
    pool_owner = owners.get(orders.workerpool.workerpool, Address.zero())
    policy = Policy()
    if orders.workerpool.workerpool in owners:
        pool = await reader.workerpool(orders.workerpool.workerpool)
        policy = Policy(
            worker_stake_ratio=pool.worker_stake_ratio, scheduler_reward_ratio=pool.scheduler_reward_ratio
        )
    requester_stake, count = await _stake_and_categories(session, orders.request.requester)
    pool_stake = (await reader.account(pool_owner)).stake
    known = KnownFacts(
        categories=count,
        owners=owners,
        registered=frozenset(registered),
        pool_policy=policy,
        consumed_volumes=dict(zip(hashes, consumed, strict=True)),
        signed=frozenset(
            (signer, hash_)
            for (_, signer), hash_, is_valid in zip(parties, hashes, valid, strict=True)
            if is_valid
        ),
        members=await _members(session, orders),
    )
    return MatchFacts(
        known=known, requester_stake=requester_stake, pool_stake=pool_stake, pool_owner=pool_owner
    )


async def _members(session: Session, orders: Orders) -> frozenset[tuple[Address, Address]]:
    """Which restrictions are ERC-734 groups that hold the account; a plain account holds nobody."""

    async def holds(group: Address, account: Address) -> bool:
        call = views.key_has_purpose(account, GROUP_MEMBER)
        try:
            return await session.reader.ask(
                Question(to=group, call=call, read=views.decode_bool, what="keyHasPurpose")
            )
        except (CallReverted, PeerError):
            return False

    pairs = groups_to_ask(orders)
    held = await asyncio.gather(*(holds(*pair) for pair in pairs))
    return frozenset(pair for pair, is_member in zip(pairs, held, strict=True) if is_member)


async def _stake_and_categories(session: Session, owner: Address) -> tuple[NRlc, int]:
    questions: list[Question[Any]] = [
        Question(
            to=session.hub, call=views.view_account(owner), read=views.decode_account, what="viewAccount"
        ),
        Question(to=session.hub, call=views.count_category(), read=views.decode_uint, what="countCategory"),
    ]
    account, count = await session.reader.ask_all(questions)
    return account.stake, count


def _registered(registry: Address, entry: Address) -> Question[bool]:
    return Question(to=registry, call=views.is_registered(entry), read=views.decode_bool, what="isRegistered")
